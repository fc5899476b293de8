"""Pictures of samples: line charts as SVG in one HTML page, without scripts or anything from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final

Series = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 900, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 20, 10, 30
_TICKS: Final = 4
_MOST_POINTS: Final = 1_500
_COLORS: Final = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5f5f5f", "#8c510a",
)  # fmt: skip
_STYLE: Final = (
    "body{font:14px sans-serif;max-width:60em;margin:2em auto;color:#222;background:#fff}"
    "svg{width:100%;height:auto}svg text{font:11px sans-serif;fill:#444}"
    ".key{display:inline-block;margin-right:1em}.key i{display:inline-block;width:1em;height:.3em;"
    "vertical-align:middle;margin-right:.4em}"
)


def chart(title: str, series: Mapping[str, Series], unit: str) -> str:
    """Return a chart with its title and the names of its lines, as HTML."""
    thinned = {name: _thinned(points) for name, points in series.items() if points}
    times = [time for points in thinned.values() for time, _ in points]
    if not times:
        return ""
    first, last = min(times), max(times)
    top = _round_up(max(value for points in thinned.values() for _, value in points))
    lines = [
        f'<polyline fill="none" stroke="{_COLORS[index % len(_COLORS)]}" stroke-width="1.5" '
        f'points="{" ".join(_point(time, value, first, last, top) for time, value in points)}"/>'
        for index, points in enumerate(thinned.values())
    ]
    keys = "".join(
        f'<span class="key"><i style="background:{_COLORS[index % len(_COLORS)]}"></i>{escape(name)}</span>'
        for index, name in enumerate(thinned)
    )
    picture = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title, quote=True)}">{_grid(first, last, top, unit)}{"".join(lines)}</svg>'
    )
    return f"<h2>{escape(title)}</h2>{picture}<p>{keys}</p>"


def page(title: str, charts: Sequence[str]) -> str:
    """Return a whole HTML page."""
    body = "\n".join(item for item in charts if item) or "<p>Nothing was measured.</p>"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def _thinned(points: Series) -> Series:
    """Return at most so many points as a screen shows; of each stretch the highest, which matters most."""
    step = -(-len(points) // _MOST_POINTS)
    if step <= 1:
        return points
    return [
        max(points[start : start + step], key=lambda point: point[1]) for start in range(0, len(points), step)
    ]


def _point(time: float, value: float, first: float, last: float, top: float) -> str:
    x = _LEFT + (time - first) / ((last - first) or 1.0) * (_WIDTH - _LEFT - _RIGHT)
    y = _HEIGHT - _BOTTOM - value / top * (_HEIGHT - _TOP - _BOTTOM)
    return f"{x:.1f},{y:.1f}"


def _grid(first: float, last: float, top: float, unit: str) -> str:
    parts = []
    for number in range(_TICKS + 1):
        share = number / _TICKS
        y = _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)
        x = _LEFT + share * (_WIDTH - _LEFT - _RIGHT)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        label = escape(_amount(share * top, unit))
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
        moment = datetime.fromtimestamp(first + share * (last - first), UTC).strftime("%H:%M:%S")
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 10}" text-anchor="middle">{moment}</text>')
    return "".join(parts)


def _amount(value: float, unit: str) -> str:
    if not unit.startswith("B"):
        return f"{value:.4g} {unit}".strip()
    for prefix in ("", "Ki", "Mi", "Gi"):
        if value < 1024:
            return f"{value:.4g} {prefix}{unit}"
        value /= 1024
    return f"{value:.4g} Ti{unit}"


def _round_up(value: float) -> float:
    """Return the next value of the form 1, 2, 5 times a power of ten, and never 0."""
    if value <= 0:
        return 1.0
    scale = 1.0
    while scale * 10 <= value:
        scale *= 10
    while scale > value:
        scale /= 10
    return next((step * scale for step in (1, 2, 5, 10) if step * scale >= value), value)
