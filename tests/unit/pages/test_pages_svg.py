from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment

from transect.pages.svg import Markup, element

# What XML can hold at all.
TEXTS = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"))


def test_attributes_keep_their_order_and_a_float_has_one_decimal() -> None:
    drawn = element("line", x1=110.04, x2=2, class_="grid", stroke_width="1.6", viewBox="0 0 5 5", aria_label="a")
    assert drawn == '<line x1="110.0" x2="2" class="grid" stroke-width="1.6" viewBox="0 0 5 5" aria-label="a"/>'


def test_text_is_escaped_and_an_element_is_not() -> None:
    inner = element("title", "<A> & B")
    assert element("rect", inner, " <", fill="#fff") == '<rect fill="#fff"><title>&lt;A&gt; &amp; B</title> &lt;</rect>'
    # Elements that were joined by hand are text again: nothing escapes unseen.
    assert "&lt;title&gt;" in element("rect", "".join([inner, inner]))


@given(TEXTS, TEXTS)
def test_any_text_can_be_read_back(label: str, words: str) -> None:
    root = ElementTree.fromstring(element("text", words, aria_label=label))
    assert (root.text or "") == words
    assert root.get("aria-label") == label


@pytest.mark.parametrize(("given", "shown"), [(element("g"), "<g/>"), (Markup(), ""), ("<g/>", "&lt;g/&gt;")])
def test_a_template_escapes_what_is_no_element(given: str, shown: str) -> None:
    assert Environment(autoescape=True).from_string("{{ drawn }}").render(drawn=given) == shown
