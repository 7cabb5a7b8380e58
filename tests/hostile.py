"""Files from strangers: every value replaced by one of another kind, and what a page made of them consists of."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

SCRIPT = '"\'><script>ran=1</script><img src=x onerror=ran=1><svg onload=ran=1><!-- --></style></script></title></caption>'


def places(value: Any, at: tuple = ()) -> Iterator[tuple]:
    """The address of every value of a JSON document; of a list only those of its first element."""
    yield from [at] if at else []
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*at, key))


def changed(data: Any, place: str | tuple, value: Any) -> Any:
    """A copy in which one value is another; `...` takes it away. place: an address, or its parts with dots between them."""
    if isinstance(place, str):
        place = tuple(int(key) if key.isdecimal() else key for key in place.split("."))
    copied = copy.deepcopy(data)
    owner = copied
    for key in place[:-1]:
        owner = owner[key]
    if value is ...:
        del owner[place[-1]]
    else:
        owner[place[-1]] = value
    return copied


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


elements = functools.cache(Elements)


def assert_harmless(page: str, known: str) -> None:
    """A page holds no element, attribute or script that the known page does not hold."""
    found, ours = elements(page), elements(known)
    assert found.names <= ours.names, found.names - ours.names
    assert found.scripts == ours.scripts
