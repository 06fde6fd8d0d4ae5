"""The Jinja environment of all pages: text is escaped, and a name that a template does not get is an error."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from transect.errors import InputError

if TYPE_CHECKING:
    from jinja2 import Template


def load_template(
    package: str,
    name: str,
    *,
    filters: Mapping[str, Callable[..., Any]] | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
) -> "Template":
    """The template `name` in the folder `templates` of `package`, with its own filters and functions.

    It may include the style sheets of all pages, which are in the folder `sheets` beside this module.

    Jinja2 is imported here and not with the module, because the detector's image is without it: that image neither
    promotes nor counts.
    """
    require_jinja()
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "templates"), PackageLoader("transect.pages", "sheets")]),
        autoescape=True,
        undefined=StrictUndefined,
        lstrip_blocks=True,
    )
    environment.filters |= filters or {}
    environment.globals |= functions or {}
    return environment.get_template(name)


def require_jinja() -> None:
    """Raise InputError without Jinja2. Long work that ends in a page calls this before it begins."""
    if find_spec("jinja2") is None:
        raise InputError(
            "The HTML page of the result needs Jinja2; install Transect with an extra that has it: "
            "pip install 'transect[train]'."
        )
