"""What the demo says about each face, and each person of a video, as HTML."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from html import escape

import cv2

from src.inference.cards import UNSURE, class_color, face_color
from src.inference.people import People
from src.inference.results import FacePrediction, Image, Prediction
from src.utils.errors import ConfigError

RADIUS = 60
MAX_CARDS = 30


# Of JPEGs, from 0 to 100.
QUALITY = 92


def image_html(image: Image, alt: str) -> str:
    """Return an annotated image, RGB (H, W, 3), with what it shows in words."""
    done, content = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise ConfigError(f"OpenCV does not encode {image.shape} pixels as JPEG.")
    return f'<img alt="{escape(alt)}" src="data:image/jpeg;base64,{base64.b64encode(content.tobytes()).decode()}">'


def faces_html(prediction: Prediction) -> str:
    """Return a card for each face of an image: its class, a bar for each class, valence and arousal where trained."""
    numbered = enumerate(prediction.faces[:MAX_CARDS], start=1)
    return _grid([_face_card(number, face) for number, face in numbered], len(prediction.faces))


def notice(text: str, kind: str = "status") -> str:
    """Return a line above the result.

    Args:
        text: Plain text.
        kind: `status`, or `alert` for what went wrong.
    """
    return f'<div role="{kind}" class="notice {kind}">{escape(text)}</div>' if text else ""


def people_html(people: People) -> str:
    """Return the timelines of a video's people, and a card for each, its numbers the means over time."""
    names = people.class_names
    rows = sorted(people.rows(""), key=lambda row: -row["frames"])
    cards = []
    for row in rows[:MAX_CARDS]:
        seen = f"{row['first']:.1f} to {row['last']:.1f} s"
        if "prediction" not in row:
            cards.append(_card(row["track"], "unknown", seen, _css(UNSURE), {}, (None, None), unsure=True))
            continue
        color = _css(class_color(row["prediction"], names))
        fractions = {name: row[name] for name in names}
        cards.append(_card(row["track"], row["prediction"], seen, color, fractions, (row["valence"], row["arousal"])))
    return _timelines(people) + _grid(cards, len(rows))


def _timelines(people: People) -> str:
    figure = people.draw()
    if figure is None:
        return ""
    with io.BytesIO() as file:
        figure.savefig(file, format="png", dpi=110)
        pixels = base64.b64encode(file.getvalue()).decode()
    text = "Each person's classes as bands over time, and valence and arousal where they are known"
    # It scrolls where there is little room, by keys, too.
    return (
        f'<div class="timelines" role="region" aria-label="Timelines" tabindex="0">'
        f'<img src="data:image/png;base64,{pixels}" alt="{text}"></div>'
    )


def _grid(cards: Sequence[str], total: int) -> str:
    hidden = total - MAX_CARDS
    more = f'<p class="faint">and {hidden} more</p>' if hidden > 0 else ""
    return f'<div class="faces">{"".join(cards)}{more}</div>'


def _face_card(number: int, face: FacePrediction) -> str:
    said = face.remark.capitalize() or f"{face.probability:.0%}"
    color, affect = _css(face_color(face)), (face.valence, face.arousal)
    return _card(number, face.expression, said, color, face.probabilities, affect, unsure=bool(face.reasons))


def _card(
    number: int,
    expression: str,
    said: str,
    color: str,
    probabilities: Mapping[str, float],
    affect: tuple[float | None, float | None],
    *,
    unsure: bool = False,
) -> str:
    """Return a card.

    Args:
        number: The face's or the person's.
        expression: Its class.
        said: What stands beside it.
        color: Color of both.
        probabilities: Bars by class.
        affect: Valence and arousal.
        unsure: Whether it is grayed.
    """
    bars = "".join(_bar(name, fraction, name == expression, color) for name, fraction in probabilities.items())
    circle = "" if affect[0] is None or affect[1] is None else _circumplex(affect[0], affect[1], color)
    return (
        f'<article class="{"face unsure" if unsure else "face"}"><header>'
        f'<span class="number" style="background:{color};color:{_ink(color)}">{number}</span>'
        f'<strong class="expression">{escape(expression)}</strong>'
        f'<strong class="said">{escape(said)}</strong></header>'
        f'<div class="body"><div class="bars">{bars}</div>{circle}</div></article>'
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


def _ink(color: str) -> str:
    """Return black or white, whichever stands out more: WCAG 2.1, relative luminance and contrast ratio."""
    parts = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    luminance = sum(w * part for w, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return "#fff" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "#000"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")
