"""Self-contained HTML pages: text, tables and figures in one file that needs no network."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from jinja2 import Environment, FileSystemLoader, Template
from markupsafe import Markup
from matplotlib.figure import Figure


@dataclass
class Section:
    """A part of a page.

    Attributes:
        heading: Its heading; "" for none.
        parts: Pieces of HTML, from the functions of this module; a plain string is text and escaped.
    """

    heading: str
    parts: list[str] = field(default_factory=list)


def render_page(title: str, sections: Sequence[Section]) -> str:
    """Return a page as HTML.

    Args:
        title: Title and main heading.
        sections: Its sections, in order.
    """
    return _template().render(title=title, sections=sections, version=_version())


def note(text: str) -> Markup:
    """Return a paragraph of explanation."""
    return Markup('<p class="note">{}</p>').format(text)


def table(frame: pd.DataFrame, best: Sequence[int] = (), digits: int = 4) -> Markup:
    """Return a table; text stands left, numbers right, missing values are dashes.

    Args:
        frame: Its rows; the index is not shown.
        best: Positions of rows to set off.
        digits: Decimals of real numbers.
    """
    text = [not pd.api.types.is_numeric_dtype(frame.iloc[:, i]) for i in range(frame.shape[1])]
    return Markup(
        _environment()
        .from_string(
            '<div class="scroll"><table><thead><tr>'
            "{% for name, t in head %}<th{% if t %} class=text{% endif %}>{{ name }}</th>{% endfor %}"
            "</tr></thead><tbody>"
            "{% for row in rows %}<tr{% if loop.index0 in best %} class=best{% endif %}>"
            "{% for cell, t in row %}<td{% if t %} class=text{% endif %}>{{ cell }}</td>{% endfor %}</tr>{% endfor %}"
            "</tbody></table></div>"
        )
        .render(
            head=list(zip(frame.columns, text, strict=True)),
            rows=[
                [(_cell(value, digits), t) for value, t in zip(row, text, strict=True)]
                for row in frame.itertuples(index=False, name=None)
            ],
            best=set(best),
        )
    )


def facts(entries: dict[str, Any]) -> Markup:
    """Return names and values as a table of two columns; empty values are left out."""
    kept = {key: value for key, value in entries.items() if value not in (None, "", [], {})}
    rows = [Markup('<tr><th class="text">{}</th><td class="text">{}</td></tr>').format(k, v) for k, v in kept.items()]
    return Markup('<div class="scroll"><table>{}</table></div>').format(Markup("").join(rows))


def figure(drawn: Figure, alt: str) -> Markup:
    """Return a matplotlib figure as an embedded SVG image.

    Args:
        drawn: The figure.
        alt: What it shows, for those who do not see it.
    """
    buffer = io.BytesIO()
    # Text as text keeps the file small; a fixed salt and no date make equal figures equal bytes.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "emonet-fer"}):
        drawn.savefig(buffer, format="svg", metadata={"Date": None})
    return _embedded(buffer.getvalue(), "image/svg+xml", alt)


def image(path: Path, alt: str) -> Markup:
    """Return a PNG file as an embedded image."""
    return _embedded(path.read_bytes(), "image/png", alt)


def side_by_side(*parts: Markup) -> Markup:
    """Return parts next to each other where the window is wide enough."""
    return Markup('<div class="row">{}</div>').format(Markup("").join(parts))


def folded(summary: str, content: Markup) -> Markup:
    """Return a part that is shown on a click."""
    return Markup("<details><summary>{}</summary>{}</details>").format(summary, content)


def code(text: str) -> Markup:
    """Return preformatted text."""
    return Markup("<pre>{}</pre>").format(text)


def _embedded(content: bytes, kind: str, alt: str) -> Markup:
    data = base64.b64encode(content).decode("ascii")
    return Markup('<figure><img src="data:{};base64,{}" alt="{}"></figure>').format(kind, data, alt)


def _cell(value: Any, digits: int) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


@cache
def _environment() -> Environment:
    return Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)


@cache
def _template() -> Template:
    return _environment().get_template("page.html")


def _version() -> str:
    try:
        return version("emonet-fer")
    except PackageNotFoundError:
        return ""
