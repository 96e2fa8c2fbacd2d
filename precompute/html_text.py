"""HTML to text: the visible text, with paragraphs, lists, tables and code kept apart."""

import re
import warnings

from bs4 import BeautifulSoup, Tag, UnusualUsageWarning
from bs4.element import NavigableString, PreformattedString

_DROPPED = "title script style noscript template svg nav head iframe canvas object"
_BLOCKS = """p div section article header footer main aside ul ol dl dt dd table blockquote pre figure
figcaption form fieldset hr address details summary caption h1 h2 h3 h4 h5 h6 body html"""
DROPPED = frozenset(_DROPPED.split())
BLOCKS = frozenset(_BLOCKS.split())
LINES = frozenset({"li", "tr", "br", "option"})
SPACE = re.compile(r"\s+")


def html_text(data: bytes) -> tuple[str | None, str]:
    """Title and text of a page, decoded by its byte order mark, its declaration, or a guess.

    >>> html_text(b"<title>T</title><p>one <b>two</b></p><ul><li>three<li>four</ul>")
    ('T', 'one two\\n\\n- three\\n- four')
    """
    with warnings.catch_warnings():
        # XHTML read as HTML, or a page of one word: both are intended here.
        warnings.simplefilter("ignore", UnusualUsageWarning)
        page = BeautifulSoup(data, "html.parser")
    heading = page.find("title") or page.find("h1")
    title = SPACE.sub(" ", heading.get_text()).strip() if heading else None
    text = _Text()
    _walk(page, text, preformatted=False)
    return title or None, "".join(text.parts).strip()


class _Text:
    """Text under construction: breaks and bullets are held back until text follows."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self._breaks = 0
        self._bullet = ""

    def add(self, text: str) -> None:
        at_start = self._breaks or self._bullet or not self.parts or self.parts[-1].endswith((" ", "\n"))
        text = SPACE.sub(" ", text)
        self.add_verbatim(text.lstrip() if at_start else text)

    def add_verbatim(self, text: str) -> None:
        if not text:
            return
        if self._breaks and self.parts:
            self.parts[-1] = self.parts[-1].rstrip()
            self.parts.append("\n" * self._breaks)
        self.parts.append(self._bullet + text)
        self._breaks, self._bullet = 0, ""

    def break_lines(self, count: int) -> None:
        if not self._bullet:  # a paragraph at the start of a list item stays on the bullet's line
            self._breaks = max(self._breaks, count)

    def hold_bullet(self, bullet: str) -> None:
        self._bullet = bullet


def _walk(node: Tag, text: _Text, preformatted: bool) -> None:
    for child in node.children:
        if isinstance(child, Tag):
            if child.name not in DROPPED:
                _walk_tag(child, text, preformatted)
        elif isinstance(child, PreformattedString):
            continue  # comments, doctypes and the like
        elif isinstance(child, NavigableString):
            (text.add_verbatim if preformatted else text.add)(str(child))


def _walk_tag(tag: Tag, text: _Text, preformatted: bool) -> None:
    breaks = 2 if tag.name in BLOCKS else 1 if tag.name in LINES else 0
    text.break_lines(breaks)
    if tag.name == "li":
        text.hold_bullet("- ")
    elif tag.name in ("td", "th") and tag.find_previous_sibling(["td", "th"]):
        text.add(" | ")
    _walk(tag, text, preformatted or tag.name == "pre")
    if tag.name == "li":
        text.hold_bullet("")  # an empty item has no bullet
    text.break_lines(breaks)
