"""report.html: templates/ holds its markup, static/ its style and script; the modules here prepare what the templates show.

Every value is escaped where it is written: a name of a class, a file, a run or a domain cannot become markup.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rein_jax.reporting.page.charts import label, shares, ticks
from rein_jax.reporting.tables import number

SERIES = 8  # colours --s0 ... --s7 of the style sheet


def render(template: str, **values: Any) -> str:
    """A file of templates/ filled with values. Raises jinja2.UndefinedError for a value that the template misses."""
    return ENVIRONMENT.get_template(template).render(values)


def static(name: str) -> Markup:
    """The text of a file of static/, which is ours and therefore written as it is."""
    return Markup(files(__package__).joinpath("static", name).read_text(encoding="utf-8"))


def series(index: int) -> str:
    """CSS colour of a data series."""
    return f"var(--s{index % SERIES})"


def rgb(colour: tuple[int, int, int]) -> str:
    """CSS colour of a class."""
    return "rgb({},{},{})".format(*map(int, colour))


ENVIRONMENT = Environment(loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                          lstrip_blocks=True)
ENVIRONMENT.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
ENVIRONMENT.globals |= {"static": static, "series": series, "shares": shares, "ticks": ticks}
ENVIRONMENT.filters |= {"number": number, "label": label, "rgb": rgb}
