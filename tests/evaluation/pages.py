"""What an HTML page consists of, read as a browser reads it."""

from __future__ import annotations

from html.parser import HTMLParser

SCRIPT = '"\'><script>alert(1)</script><img src=x onerror=alert(1)><!-- --></style></script></title>'


class Elements(HTMLParser):
    """names: (element, attribute) of everything in the page; scripts: the texts of its script elements that are no data."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[tuple[str, str]] = set()
        self.scripts: list[str] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.names |= {(tag, ""), *((tag, name) for name, _ in attrs)}
        self.inside = tag == "script" and dict(attrs).get("type") != "application/json"
        self.scripts += [""] if self.inside else []

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.scripts[-1] += data


def assert_harmless(page: str, known: str) -> None:
    """A page holds no element, attribute or script that the known page does not hold."""
    found, ours = Elements(page), Elements(known)
    assert found.names <= ours.names, found.names - ours.names
    assert found.scripts == ours.scripts
