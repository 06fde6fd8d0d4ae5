import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from transect.errors import InputError
from transect.pages.templates import load_template, require_jinja


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "a_room" / "templates").mkdir(parents=True)
    (tmp_path / "a_room" / "__init__.py").touch()
    (tmp_path / "a_room" / "templates" / "page.html.j2").write_text(
        "  {% if title %}<h1>{{ title | upper_case }} {{ twice(2) }}</h1>{% endif %}"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "a_room"
    sys.modules.pop("a_room", None)


def test_a_page_is_escaped_and_has_its_own_filters_and_functions(package: str) -> None:
    template = load_template(
        package, "page.html.j2", filters={"upper_case": str.upper}, functions={"twice": lambda value: 2 * value}
    )
    assert template.render(title="<b>") == "<h1>&lt;B&gt; 4</h1>"


def test_a_name_that_the_template_does_not_get_is_an_error(package: str) -> None:
    template = load_template(package, "page.html.j2", filters={"upper_case": str.upper})
    with pytest.raises(UndefinedError, match="title"):
        template.render()


def test_without_jinja_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    require_jinja()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InputError, match=r"pip install 'transect\[train\]'"):
        require_jinja()
