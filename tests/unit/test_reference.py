"""The reference pages are what the code says: a change of an interface is a change of a file."""

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import reference

import transect
from transect.api import LimitsMethod

PROMISED = {
    *("__version__", "count_parts", "estimate", "load_registry", "open_detector", "open_model", "run_census"),
    "search_shard",
}


@pytest.fixture(scope="module")
def pages() -> dict[Path, str]:
    return reference.pages()


@pytest.mark.parametrize("path", [reference.API, reference.CLI, reference.OPENAPI, reference.PACKAGE], ids=str)
def test_a_page_is_what_the_code_says(pages: dict[Path, str], path: Path) -> None:
    assert (reference.ROOT / path).read_text(encoding="utf-8") == pages[path], "run: make reference"


def test_the_public_functions_are_those_that_are_promised() -> None:
    assert set(transect.__all__) == PROMISED
    assert all(callable(getattr(transect, name)) for name in PROMISED - {"__version__"})
    with pytest.raises(AttributeError, match="no attribute 'count'"):
        getattr(transect, "count")  # noqa: B009 - what is not there, as a variable would ask


def test_importing_transect_imports_nothing_heavy() -> None:
    program = "import sys, transect; print([m for m in ('mlflow', 'torch', 'numpy', 'cv2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_estimate_reads_tables(tmp_path: Path) -> None:
    transects, strata = tmp_path / "transects.csv", tmp_path / "strata.csv"
    transects.write_text(
        "stratum,transect,species,area_km2,count\n"
        + "".join(f"north,{k},impala,1.0,{count}\n" for k, count in enumerate((3, 5, 4, 8)))
    )
    strata.write_text("stratum,area_km2\nnorth,40\n")
    (found,) = transect.estimate(transects, strata, method="jolly2")
    # Jolly's method II by hand: 20 animals on 4 km2 of 40.
    assert (found.species, found.stratum, found.estimate.estimate) == ("impala", "north", 200.0)
    assert transect.estimate(transects, strata, species="impala", method="jolly2") == [found]
    with pytest.raises(transect.errors.InputError, match="has no kudu; it has impala"):
        transect.estimate(transects, strata, species=["kudu"])


def test_a_word_that_is_no_choice_is_refused(tmp_path: Path) -> None:
    # As a script passes it, which no type checker sees.
    word: Any = "jolly"
    with pytest.raises(transect.errors.InputError, match="method='jolly' is not usable: give one of bootstrap, "):
        transect.estimate(tmp_path, tmp_path, method=word)
    with pytest.raises(transect.errors.InputError, match="log='jolly' is not usable: give one of full, summary, none"):
        transect.run_census(tmp_path, log=word)


def test_the_methods_are_those_of_the_estimates() -> None:
    # The room of the estimates takes a second to import, which the command line does not wait for.
    from transect.census.estimates.estimate import METHODS

    assert get_args(LimitsMethod) == METHODS


def test_completion_finds_the_public_functions() -> None:
    program = "import transect; print(set(transect.__all__) <= set(dir(transect)))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "True"
