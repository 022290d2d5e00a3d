"""Writes the page of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from rich.console import Console

from src.runs.finished import Run
from src.utils.atomic_files import write_text
from studies.study import Study


def write_page(page: Path, package: str, study: Study, figure: Figure, **values: Any) -> Path:
    """Write a page from the template of a study's package, its figure beside it, and say where.

    Args:
        page: File to write; the figure goes to `images/` beside it.
        package: Package that holds `page.md.jinja`.
        study: The runs.
        figure: The figure.
        **values: What the template shows, beside what every study has.

    Returns:
        The page.
    """
    image = page.parent / "images" / f"{page.stem}.png"
    image.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(image, dpi=110)
    environment = Environment(
        loader=PackageLoader(package, "."), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    first: Run = next(iter(study.cells.values()))[0]
    text = environment.get_template("page.md.jinja").render(
        n=f"{len(study.labels):,}",
        split=study.split,
        figure=f"images/{image.name}",
        git_sha=first.provenance.get("git_sha"),
        backbone=first.config["backbone"]["name"],
        missing=[title for condition, title in study.titles.items() if condition not in study.conditions],
        **values,
    )
    write_text(page, text)
    Console(stderr=True, markup=False).print(f"Page: {page}", soft_wrap=True, highlight=False)
    return page
