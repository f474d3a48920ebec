"""The flow of a curation as an SVG Sankey: a band that loses a strand at each step, figures on the left, panels on the right.

Knows counts alone. Figures and panels have a scale of their own; where figures are cut into panels the band goes over from one
to the other.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

BAND, TOP, NODE, FALL = 150, 46, 8, 42
"""px: height of a full band, where it starts, width of a node, how far below the band a strand ends."""
STAY, DROPPED, NODES = "#9dbcd4", "#e0b3a4", "#2f4a63"


@dataclass(frozen=True, slots=True)
class FlowStep:
    """One step: what it counts (figures or panels), how many come in, how many it drops for which reasons."""

    name: str
    unit: str
    before: int
    reasons: Sequence[tuple[str, int]] = ()

    @property
    def dropped(self) -> int:
        return sum(n for _, n in self.reasons)


def sankey(steps: Sequence[FlowStep], pairs: int, width: int = 1040) -> str:
    """The picture, `width` px wide in its own measure. `pairs`: what is left at the end."""
    full = {s.unit: max(1, next(t.before for t in steps if t.unit == s.unit)) for s in steps}
    gap = (width - 90) / len(steps)
    deepest = max((BAND * s.dropped / full[s.unit] + 15 * len(s.reasons) for s in steps), default=0.0)
    height = TOP + BAND + FALL + max(30.0, deepest) + 16
    parts = [
        f'<svg viewBox="0 0 {width} {height:.0f}" width="100%" role="img" aria-label="kept and dropped at each step" '
        'font-family="system-ui,sans-serif">'
    ]
    for n, step in enumerate(steps):
        x, scale = 2 + n * gap, BAND / full[step.unit]
        band, drop = step.before * scale, step.dropped * scale
        following = steps[n + 1] if n + 1 < len(steps) else FlowStep("", step.unit, pairs)
        end = following.before * BAND / full[following.unit]
        parts.append(_flow(x + NODE, x + gap, band - drop, end, crosses=following.unit != step.unit))
        if step.dropped:
            parts.append(_strand(x + NODE, gap, (TOP + band - drop, TOP + band), step.reasons, drop))
        new_unit = n == 0 or step.unit != steps[n - 1].unit
        parts.append(_node(x, band, step.name, f"{step.before} {step.unit}" if new_unit else str(step.before)))
    x = 2 + len(steps) * gap
    parts.append(_node(x, pairs * BAND / full[steps[-1].unit], "kept", f"{pairs} pairs", bold=True))
    return "".join(parts) + "</svg>"


def _node(x: float, band: float, name: str, count: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<rect x="{x:.1f}" y="{TOP}" width="{NODE}" height="{max(band, 1.5):.1f}" rx="1.5" fill="{NODES}"/>'
        f'<text x="{x:.1f}" y="{TOP - 24}" font-size="14" fill="#222"{weight}>{html.escape(name)}</text>'
        f'<text x="{x:.1f}" y="{TOP - 8}" font-size="12" fill="#555"{weight}>{html.escape(count)}</text>'
    )


def _flow(x1: float, x2: float, start: float, end: float, *, crosses: bool) -> str:
    """What stays: a band, or, where the unit changes, a lighter one that goes over into the new scale."""
    start, end, mid = max(start, 0.7), max(end, 0.7), (x1 + x2) / 2
    lower = f"L{x2:.1f},{TOP + end:.1f} C{mid:.1f},{TOP + end:.1f} {mid:.1f},{TOP + start:.1f} {x1:.1f},{TOP + start:.1f} Z"
    shape = f'<path d="M{x1:.1f},{TOP} L{x2:.1f},{TOP} {lower}" fill="{STAY}" opacity="{0.45 if crosses else 1}"/>'
    note = f'<text x="{mid:.1f}" y="{TOP + 14}" font-size="11" fill="#345" text-anchor="middle">cut into panels</text>'
    return shape + (note if crosses else "")


def _strand(x: float, gap: float, start: tuple[float, float], reasons: Sequence[tuple[str, int]], drop: float) -> str:
    """What a step drops: a strand from the band's lower edge down to its end, its reasons written below."""
    drop = max(drop, 1.0)
    y, stop, mid = TOP + BAND + FALL, x + gap * 0.52, x + gap * 0.26
    there = f"M{x:.1f},{start[0]:.1f} C{mid:.1f},{start[0]:.1f} {mid:.1f},{y:.1f} {stop:.1f},{y:.1f}"
    back = f"L{stop:.1f},{y + drop:.1f} C{mid - 10:.1f},{y + drop:.1f} {mid - 10:.1f},{start[1]:.1f} {x:.1f},{start[1]:.1f} Z"
    lines = [f'<path d="{there} {back}" fill="{DROPPED}"/>']
    for n, (reason, count) in enumerate(reasons):
        words = f"−{count} {reason.replace('_', ' ')}"
        lines.append(
            f'<text x="{x:.1f}" y="{y + drop + 15 * (n + 1):.1f}" font-size="12" fill="#8a3b22">{html.escape(words)}</text>'
        )
    return "".join(lines)
