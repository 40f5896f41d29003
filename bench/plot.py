"""Axes and curves as SVG by hand: small, and the same to the byte for the same figures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT = 420, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 28, 40
COLOURS = ("#d0574a", "#e39b28", "#3f93b5", "#7a9a3a")
"""In the order of the series; each is told from paper, light or dark."""
# Its own paper, so that it is readable also where a page's theme is not the system's.
STYLE = (
    ".p{fill:#fff}text{font:11px sans-serif;fill:#333}.t{font-weight:bold;font-size:12px}"
    ".g{stroke:#ddd;stroke-width:1}.e{text-anchor:end}.m{text-anchor:middle}.h{fill:#fff}"
    "@media(prefers-color-scheme:dark){.p,.h{fill:#161b22}text{fill:#d0d7de}.g{stroke:#3a424d}}"
)


@dataclass(frozen=True, slots=True)
class Axis:
    """A logarithmic axis, or a linear one from 0; it ends at its outer ticks."""

    label: str
    ticks: tuple[float, ...]
    logarithmic: bool = True

    def share(self, value: float) -> float:
        """Return how far along the axis a value is, from 0 to 1; beyond it is at its end."""
        low, high = self.ticks[0], self.ticks[-1]
        value = min(max(value, low), high)
        if self.logarithmic:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)


@dataclass(frozen=True, slots=True)
class Curve:
    """Points in the order of x; `hollow` ones are marked as special."""

    name: str
    points: Sequence[tuple[float, float]]
    hollow: frozenset[int] = frozenset()
    colour: int = 0
    dashed: bool = False


def document(width: int, height: int, parts: Sequence[str]) -> str:
    """Return an SVG document."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
    paper = f'<style>{STYLE}</style><rect class="p" width="{width}" height="{height}"/>'
    return "\n".join((head, paper, *parts, "</svg>", ""))


def panels(found: Sequence[str], *, across: int, legend: Sequence[str], note: str) -> str:
    """Return an SVG document of panels, the colours' names below, and a remark beside them."""
    width, height = across * WIDTH, math.ceil(len(found) / across) * HEIGHT + 28
    parts = [
        f'<g transform="translate({n % across * WIDTH},{n // across * HEIGHT})">{one}</g>'
        for n, one in enumerate(found)
    ]
    return document(
        width, height, (*parts, *key(legend, height - 10), text(note, 420, height - 10))
    )


def key(names: Sequence[str], y: int, *, step: int = 130) -> list[str]:
    """Return a row that names the colours."""
    parts = []
    for number, name in enumerate(names):
        x = 20 + number * step
        parts.append(f'<circle cx="{x}" cy="{y - 4}" r="4" fill="{COLOURS[number]}"/>')
        parts.append(text(name, x + 9, y))
    return parts


def text(words: str, x: float, y: float, kind: str = "") -> str:
    """Return words at a place; `kind` is a class of `STYLE`."""
    chosen = f' class="{kind}"' if kind else ""
    return f'<text{chosen} x="{x:.1f}" y="{y:.1f}">{words}</text>'


def panel(title: str, x: Axis, y: Axis, curves: Sequence[Curve]) -> str:
    """Return one panel: a title, a grid with its values, and the curves."""
    parts = [text(title, LEFT, 17, "t")]
    for tick in y.ticks:
        at = _y(y, tick)
        parts.append(f'<path class="g" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(text(f"{tick:g}", LEFT - 5, at + 4, "e"))
    for tick in x.ticks:
        at = _x(x, tick)
        parts.append(f'<path class="g" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        parts.append(text(f"{tick:g}", at, HEIGHT - BOTTOM + 14, "m"))
    parts.append(text(x.label, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "m"))
    parts.append(
        f'<text class="m" transform="translate(14,{(TOP + HEIGHT - BOTTOM) / 2:.1f}) rotate(-90)">'
        f"{y.label}</text>"
    )
    return "\n".join((*parts, *(_curve(one, x, y) for one in curves)))


def _curve(curve: Curve, x: Axis, y: Axis) -> str:
    places = [(_x(x, across), _y(y, up)) for across, up in curve.points]
    colour = COLOURS[curve.colour]
    line = " ".join(f"{across:.1f},{up:.1f}" for across, up in places)
    dashes = ' stroke-dasharray="5 3"' if curve.dashed else ""
    dots = "".join(
        f'<circle cx="{across:.1f}" cy="{up:.1f}" r="3"'
        + (f' class="h" stroke="{colour}"/>' if number in curve.hollow else f' fill="{colour}"/>')
        for number, (across, up) in enumerate(places)
    )
    return (
        f"<g><title>{curve.name}</title>"
        f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"{dashes}/>'
        f"{dots}</g>"
    )


def _x(axis: Axis, value: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * axis.share(value)


def _y(axis: Axis, value: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - axis.share(value))


def bars(title: str, rows: Sequence[tuple[str, Sequence[float]]], *, legend: Sequence[str]) -> str:
    """Return an SVG document of stacked bars, one below the other, on a linear scale from 0."""
    width, left, step = 2 * WIDTH, 170, 34
    height = 60 + step * len(rows) + 28
    most = max(sum(values) for _, values in rows)
    unit = (width - left - 60) / most
    parts = [text(title, left, 20, "t")]
    for number, (name, values) in enumerate(rows):
        y, x = 36 + step * number, float(left)
        parts.append(text(name, left - 8, y + 15, "e"))
        for colour, value in zip(COLOURS, values, strict=True):
            size = f'width="{value * unit:.1f}" height="22"'
            parts.append(f'<rect x="{x:.1f}" y="{y}" {size} fill="{colour}"/>')
            x += value * unit
        parts.append(text(f"{sum(values):.1f}", x + 6, y + 15))
    return document(width, height, (*parts, *key(legend, height - 12, step=205)))
