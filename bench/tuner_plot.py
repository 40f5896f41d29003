"""Draws the curves as SVG by hand: small, the same to the byte for the same figures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bench.plot import document, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.tuner_points import Compared, Point

WIDTH, HEIGHT = 300, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 26, 36
ACROSS = 3
MOST = 16
LEAST = 0.0005
"""The lowest share that is told from none."""
CURVES = (
    ("fixed", "#c0392b", "so many containers, always"),
    ("idle", "#e39b28", "so many idle ones, always"),
    ("tuner", "#3f93b5", "the tuner, by PGEXEC_POOL_MIN_IDLE"),
)


def draw(compared: Sequence[Compared]) -> str:
    """Return an SVG document with a panel for each trace."""
    across = min(ACROSS, max(2, len(compared)))
    width, rows = across * WIDTH, math.ceil(len(compared) / across)
    height = rows * HEIGHT + 30
    parts = []
    for number, one in enumerate(compared):
        at = f"translate({number % across * WIDTH},{number // across * HEIGHT})"
        parts.append(f'<g transform="{at}">{_panel(one)}</g>')
    for number, (_, colour, name) in enumerate(CURVES):
        x, y = 20 + number * 200, height - 12
        parts.append(f'<circle cx="{x}" cy="{y - 4}" r="4" fill="{colour}"/>')
        parts.append(text(name, x + 9, y))
    return document(width, height, parts)


def _panel(one: Compared) -> str:
    parts = [text(one.name, LEFT, 16, "t")]
    for share in (0.001, 0.01, 0.1, 1.0):
        y = _y(share)
        parts.append(f'<path class="g" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(text(f"{share * 100:g} %", LEFT - 4, y + 4, "e"))
    for many in range(0, MOST + 1, 4):
        x = _x(many)
        parts.append(text(str(many), x, HEIGHT - 20, "m"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    label = "containers, on average (y: requests that waited)"
    parts.append(text(label, middle, HEIGHT - 6, "m"))
    parts += [_curve(getattr(one, name), colour) for name, colour, _ in CURVES]
    return "\n".join(parts)


def _curve(points: Sequence[Point], colour: str) -> str:
    places = [(_x(one.containers), _y(one.cold_ratio)) for one in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in places)
    return (
        f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        f'<g fill="{colour}">{dots}</g>'
    )


def _x(containers: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * min(containers, MOST) / MOST


def _y(share: float) -> float:
    height = math.log10(max(share, LEAST) / LEAST) / math.log10(1 / LEAST)
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - height)
