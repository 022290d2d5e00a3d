"""What the demo says about each face, as HTML."""

from __future__ import annotations

import math
from html import escape

from src.inference.cards import class_color
from src.inference.results import FacePrediction, Prediction

RADIUS = 60
MAX_CARDS = 30


def faces_html(prediction: Prediction) -> str:
    """Return a card for each face of an image: its class, a bar for each class, valence and arousal where trained."""
    cards = "".join(_card(number, face) for number, face in enumerate(prediction.faces[:MAX_CARDS], start=1))
    hidden = len(prediction.faces) - MAX_CARDS
    more = f'<p class="faint">and {hidden} more</p>' if hidden > 0 else ""
    return f'<div class="faces">{cards}{more}</div>'


def notice(text: str, kind: str = "status") -> str:
    """Return a line above the result.

    Args:
        text: Plain text.
        kind: `status`, or `alert` for what went wrong.
    """
    return f'<div role="{kind}" class="notice {kind}">{escape(text)}</div>' if text else ""


def _card(number: int, face: FacePrediction) -> str:
    classes = list(face.probabilities)
    color = _css(class_color(face.expression, classes))
    bars = "".join(
        _bar(name, fraction, name == face.expression, color) for name, fraction in face.probabilities.items()
    )
    affect = ""
    if face.valence is not None and face.arousal is not None:
        affect = _circumplex(face.valence, face.arousal, color)
    return (
        f'<article class="face"><header><span class="number" style="background:{color}">{number}</span>'
        f'<strong class="expression">{escape(face.expression)}</strong>'
        f'<strong style="color:{color}">{face.probability:.0%}</strong></header>'
        f'<div class="body"><div class="bars">{bars}</div>{affect}</div></article>'
    )


def _bar(name: str, fraction: float, top: bool, color: str) -> str:
    fill = f'<i style="width:{100 * fraction:.1f}%{f";background:{color}" if top else ""}"></i>'
    kind = "bar top" if top else "bar"
    return f'<div class="{kind}"><span>{escape(name)}</span><b>{fill}</b><em>{fraction:.0%}</em></div>'


def _circumplex(valence: float, arousal: float, color: str) -> str:
    """Draw valence to the right and arousal upwards, each from -1 to 1; points outside the circle lie on its edge."""
    inside = RADIUS / max(1.0, math.hypot(valence, arousal))
    x, y, size = valence * inside, -arousal * inside, RADIUS + 4
    label = f"valence {_signed(valence)}, arousal {_signed(arousal)}"
    return (
        f'<figure class="circumplex"><svg viewBox="{-size} {-size} {2 * size} {2 * size}" role="img" '
        f'aria-label="{label}"><circle r="{RADIUS}" class="rim"/>'
        f'<path d="M{-RADIUS} 0H{RADIUS}M0 {-RADIUS}V{RADIUS}" class="axes"/>'
        f'<text x="{RADIUS - 4}" y="-4" text-anchor="end">valence</text><text x="4" y="{12 - RADIUS}">arousal</text>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5.5" fill="{color}" class="point"/></svg>'
        f"<figcaption>{label.replace(', ', '<br>')}</figcaption></figure>"
    )


def _css(color: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")
