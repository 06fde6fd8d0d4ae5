import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import transect

PACKAGES = ("transect", "transect.registry")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_of_the_stub_can_be_imported(package: str) -> None:
    face = import_module(package)
    assert len(face.__all__) == len(set(face.__all__)) > 5
    for name in face.__all__:
        assert getattr(face, name) is not None
        # Kept once it is found: the next access asks no function.
        assert name in vars(face)
    assert set(face.__all__) <= set(dir(face))


@pytest.mark.parametrize("package", PACKAGES)
def test_an_unknown_name_is_an_attribute_error(package: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'count'"):
        getattr(import_module(package), "count")  # noqa: B009 - what is not there, as a variable would ask


def test_every_stub_is_the_list_of_a_package_that_reads_it() -> None:
    root = Path(transect.__file__).parent
    stubs = {".".join(["transect", *path.parent.relative_to(root).parts]) for path in root.rglob("*.pyi")}
    assert stubs == set(PACKAGES)


def test_the_registry_is_imported_without_mlflow() -> None:
    program = "import sys, transect.registry as r; print('promote' in dir(r), 'mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "True False"
