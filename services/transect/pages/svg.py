"""Elements of an SVG as text, escaped, for charts and maps inside a page. Without a library, pure."""

from html import escape


class Markup(str):
    """Text that is markup already. A template with autoescape, and `element`, take it as it is."""

    __slots__ = ()

    def __html__(self) -> str:
        """The convention of Jinja and others for text that needs no escaping."""
        return self


def element(name: str, *inside: str, **attributes: str | float) -> Markup:
    """One element with its attributes, in their order. All text inside that is not Markup is escaped.

    `text_anchor` becomes `text-anchor` and `class_` becomes `class`. A float is written to a tenth of a unit, which is
    finer than a screen or a printer shows.
    """
    words = "".join(f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"' for key, value in attributes.items())
    content = "".join(one if isinstance(one, Markup) else escape(one) for one in inside)
    return Markup(f"<{name}{words}>{content}</{name}>" if content else f"<{name}{words}/>")


def _value(value: str | float) -> str:
    return f"{value:.1f}" if isinstance(value, float) else escape(str(value))
