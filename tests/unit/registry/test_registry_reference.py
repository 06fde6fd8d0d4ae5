import pytest
from hypothesis import given
from hypothesis import strategies as st

from transect.errors import RegistryError
from transect.registry import Reference, parse_reference

_NAMES = st.from_regex(r"[A-Za-z0-9_.-]{1,20}", fullmatch=True)
_ALIASES = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,19}", fullmatch=True)
_VERSIONS = st.integers(min_value=1).map(str)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("models:/sheep@production", Reference("sheep", alias="production")),
        ("models:/sheep/3", Reference("sheep", version="3")),
        ("sheep@candidate", Reference("sheep", alias="candidate")),
        ("sheep/12", Reference("sheep", version="12")),
        ("@production", Reference("detector", alias="production")),
        ("production", Reference("detector", alias="production")),
        (" 7 ", Reference("detector", version="7")),
    ],
)
def test_every_form_is_understood(text: str, meaning: Reference) -> None:
    assert parse_reference(text, "detector") == meaning


@pytest.mark.parametrize(
    "text",
    ["", "models:/detector/Production", "models:/detector", "a@b@c", "detector/0", "detector/-1", "a/b@c", "two words",
     "runs:/0123/model", "models:/@production", "detector@", "0"],
)  # fmt: skip
def test_anything_else_is_refused_with_the_forms_that_work(text: str) -> None:
    with pytest.raises(RegistryError, match=r"models:/detector@production or models:/detector/3") as caught:
        parse_reference(text, "detector")
    assert repr(text) in str(caught.value)


@given(name=_NAMES, alias=_ALIASES)
def test_what_is_written_is_read_back(name: str, alias: str) -> None:
    reference = Reference(name, alias=alias)
    assert parse_reference(str(reference), "other") == reference


@given(name=_NAMES, version=_VERSIONS)
def test_versions_are_read_back(name: str, version: str) -> None:
    reference = Reference(name, version=version)
    assert parse_reference(str(reference), "other") == reference
