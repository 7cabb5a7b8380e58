"""Small helpers to write HTML and SVG safely."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable
from typing import Any

SERIES = 8  # colours --s0 ... --s7 of the style sheet


def tag(name: str, *children: str, **attributes: Any) -> str:
    """<name attributes>children</name>; children are markup, attribute values are escaped; class_ means class, a_b means a-b."""
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"' for key, value in attributes.items() if value is not None
    )
    return f"<{name}{pairs}>{''.join(children)}</{name}>"


def text(value: Any) -> str:
    """Escaped text."""
    return html.escape(str(value))


def section(title: str, *children: str, anchor: str) -> str:
    """A titled part of the page."""
    return tag("section", tag("h2", text(title)), *children, id=anchor)


def note(words: str) -> str:
    """A small explanation."""
    return tag("p", text(words), class_="note")


def data_uri(data: bytes, kind: str) -> str:
    """A file as a data: address."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def json_script(value: Any, anchor: str) -> str:
    """Data for the page's script; "<" is escaped so that no value can end the element."""
    body = json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="{html.escape(anchor)}">{body}</script>'


def series(index: int) -> str:
    """CSS colour of a data series."""
    return f"var(--s{index % SERIES})"


def legend(names: Iterable[str], colours: Iterable[str] | None = None) -> str:
    """Coloured names in a row."""
    names = list(names)
    colours = list(colours) if colours is not None else [series(i) for i in range(len(names))]
    items = (tag("li", tag("i", style=f"background:{colour}"), text(name)) for name, colour in zip(names, colours, strict=True))
    return tag("ul", *items, class_="legend")


def tabs(parts: dict[str, str], group: str) -> str:
    """Parts of which one is shown at a time; all of them without a script or in print."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    buttons = "".join(tag("button", text(name), type="button", role="tab", aria_selected="true" if i == 0 else "false")
                      for i, name in enumerate(parts))
    panes = "".join(tag("div", tag("h3", text(name)), part, class_="pane", role="tabpanel") for name, part in parts.items())
    return tag("div", tag("div", buttons, class_="tabs", role="tablist"), panes, class_="tabbed", id=group)
