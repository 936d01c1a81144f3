"""A rate against its limit over time: as plain SVG, and as a line of characters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from judge import Judge

WIDTH, HEIGHT, MARGIN = 800, 240, 44
XML = 'xmlns="http://www.w3.org/2000/svg"'
FONT = 'font-family="sans-serif" font-size="12"'
BARS = "▁▂▃▄▅▆▇█"
POINTS_MAX = 240  # of a curve
CHARACTERS = 60  # of a line

Limits = Sequence[tuple[float, float]]  # from when on how many calls a second


def rates(judge: Judge, seconds: float, *, spans: int, admitted: bool = True) -> list[float]:
    """Return how many calls a second came in each of so many equal spans."""
    span = max(seconds, 1.0) / spans
    counted = [0.0] * spans
    for arrival in judge.arrivals:
        if arrival.admitted is admitted and arrival.at < seconds:
            counted[min(int(arrival.at / span), spans - 1)] += 1 / span
    return counted


def sparkline(judge: Judge, seconds: float) -> str:
    """Draw the rate as a line of characters, the highest one being the peak."""
    counted = rates(judge, seconds, spans=CHARACTERS)
    peak = max(counted) or 1.0
    places = (min(int(rate / peak * len(BARS)), len(BARS) - 1) for rate in counted)
    return "".join(BARS[place] for place in places)


def svg(title: str, judge: Judge, seconds: float, limits: Limits) -> str:
    """Draw admitted and refused calls a second, and the limit."""
    spans = max(1, min(POINTS_MAX, math.ceil(seconds)))
    admitted = rates(judge, seconds, spans=spans)
    refused = rates(judge, seconds, spans=spans, admitted=False)
    most = max(*admitted, *refused, *(rate for _, rate in limits), 1.0)

    def x(at: float) -> float:
        return MARGIN + at / max(seconds, 1.0) * (WIDTH - 2 * MARGIN)

    def y(rate: float) -> float:
        return HEIGHT - MARGIN - rate / most * (HEIGHT - 2 * MARGIN)

    def line(points: Sequence[tuple[float, float]], colour: str, *, dashed: bool = False) -> str:
        places = " ".join(f"{x(at):.1f},{y(rate):.1f}" for at, rate in points)
        dash = ' stroke-dasharray="6 4"' if dashed else ""
        return f'<polyline points="{places}" fill="none" stroke="{colour}"{dash}/>'

    def curve(counted: Sequence[float]) -> list[tuple[float, float]]:
        return [((n + 0.5) * seconds / spans, rate) for n, rate in enumerate(counted)]

    ends = [*(since for since, _ in limits[1:]), seconds]
    steps = (
        [
            point
            for (since, rate), until in zip(limits, ends, strict=True)
            for point in ((since, rate), (until, rate))
        ]
        if limits
        else []
    )
    texts = [
        (MARGIN, 20, title),
        (MARGIN, HEIGHT - 12, "0 s"),
        (WIDTH - 2 * MARGIN, HEIGHT - 12, f"{seconds:.0f} s"),
        (4, MARGIN, f"{most:.1f}/s"),
    ]
    return "\n".join(
        [
            f'<svg {XML} viewBox="0 0 {WIDTH} {HEIGHT}" {FONT}>',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
            line([(0, 0), (seconds, 0)], "black"),
            line(steps, "grey", dashed=True),
            line(curve(admitted), "steelblue"),
            line(curve(refused), "firebrick"),
            *(f'<text x="{a:.0f}" y="{b:.0f}">{escape(said)}</text>' for a, b, said in texts),
            "</svg>\n",
        ]
    )
