"""The one look of every plot: size, colours, axes. Knows matplotlib and numbers alone."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#1b6ca8", "#c0392b", "#27864a", "#8e44ad", "#b9770e", "#555555", "#0b7a75", "#a61e4d")
"""Of the first, second … thing in a plot."""


def plot(width: float, height: float, panels: int = 1) -> list[Axes]:
    """The axes of a new plot of `width` × `height` inches, side by side."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.rcsetup import cycler

    style: dict[Any, Any] = {"axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "grey", "font.size": 9}
    with rc_context({**style, "axes.prop_cycle": cycler(color=COLOURS)}):
        return list(Figure(figsize=(width, height), dpi=110, layout="constrained").subplots(1, panels, squeeze=False)[0])


def png(axes: Axes) -> bytes:
    """The plot that these axes are part of, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    out, figure = io.BytesIO(), axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    FigureCanvasAgg(figure).print_png(out)
    return out.getvalue()
