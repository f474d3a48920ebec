"""The look as the tools' guard, each laboratory left out in turn: which right pictures it declines, and which wrong ones.

    PATHASST_DATA=… python benchmarks/tools_guard.py [--cache FILE.npy] [--json FILE]

The heads and the distance are fitted without one source at a time (a source: a laboratory's set) and asked of that source's
pictures, as the tools do. Temperature and limits are those of the shipped look, which folds over all sources chose. Strange
pictures: those of scikit-image and scikit-learn that show no stained tissue, and drawn noise and charts. Intervals: 95 %, by
bootstrap over groups (cases, slides, originals).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from measured import command_line, save

from pathasst.core import weights
from pathasst.core.errors import BadInput
from pathasst.core.statistics import Interval, mean_interval
from pathasst.nn.look import fit
from pathasst.nn.look.model import Looker
from pathasst.nn.multiscale import pooled
from pathasst.tools import guard
from pathasst.tools.registry import tool_class

TOOLS = ("blood_cells", "lbc_classify", "he_nuclei", "ki67_cells")
"""One tool of each kind of picture that is asked for."""


def strange() -> list[np.ndarray]:
    """Photographs, charts and noise, H×W×3 uint8 RGB."""
    import matplotlib as mpl
    from skimage import color, data, util

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = (
        "astronaut",
        "coffee",
        "chelsea",
        "rocket",
        "coins",
        "camera",
        "text",
        "page",
        "clock",
        "moon",
        "brick",
        "grass",
        "gravel",
    )
    pictures = []
    for name in names:
        picture = util.img_as_ubyte(getattr(data, name)())
        pictures.append(picture if picture.ndim == 3 else util.img_as_ubyte(color.gray2rgb(picture)))
    pictures += [p[: p.shape[0] // 2, : p.shape[1] // 2] for p in pictures]
    rng = np.random.default_rng(0)
    pictures += [rng.integers(0, 256, (300, 300, 3)).astype(np.uint8) for _ in range(5)]
    for n in range(12):
        figure, axes = plt.subplots(figsize=(4, 4), dpi=80)
        [axes.plot, axes.bar][n % 2](range(8), rng.random(8))
        figure.canvas.draw()
        pictures.append(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy())  # type: ignore[attr-defined]
        plt.close(figure)
    return pictures


def declined(look: Looker, features: np.ndarray, wanted: tuple[str, tuple[str, ...]]) -> np.ndarray:
    """Whether a tool that wants this kind declines each picture."""

    def of(view: Any) -> bool:
        try:
            guard.judged(view, *wanted, "The tool")
        except BadInput:
            return True
        return False

    return np.array([of(view) for view in look.read(features)])


def main() -> None:
    """Fit, ask, print."""
    parser = command_line(__doc__)
    parser.add_argument("--cache", type=Path, help="file of the pictures' features")
    options = parser.parse_args()
    settings = fit.LookSettings.load("embedded")
    items = fit.read_items(settings, Path(os.environ["PATHASST_DATA"]))
    if options.cache and options.cache.is_file():
        features = np.load(options.cache)
    else:
        features = fit.features_of(items, print)
        if options.cache:
            np.save(options.cache, features)
    shipped = Looker.load(weights.path(guard.WEIGHTS))
    groups, sources = np.array([i.group for i in items]), np.array([i.source for i in items])
    wanted = {name: tool_class(name).wanted for name in TOOLS}
    declines = {name: np.zeros(len(items), bool) for name in TOOLS}
    for source in sorted(set(sources.tolist())):
        rest, own = sources != source, sources == source
        tensors = fit.tensors_of(settings, [i for i, kept in zip(items, rest, strict=True) if kept], features[rest])
        look = Looker(tensors, shipped.config)
        for name in TOOLS:
            declines[name][own] = declined(look, features[own], wanted[name])
        print(
            f"{source}: n {own.sum()}, declined by { ({n: round(float(declines[n][own].mean()), 3) for n in TOOLS}) }", flush=True
        )
    others = pooled(strange())
    values: dict[str, Any] = {}
    for name in TOOLS:
        question, accepted = wanted[name]
        answers = np.array([i.answers.get(question, "") for i in items])
        right, wrong = np.isin(answers, accepted), (answers != "") & ~np.isin(answers, accepted)
        odd = declined(shipped, others, wanted[name])
        values[name] = {
            "right": int(right.sum()),
            "right declined": share(declines[name][right], groups[right]),
            "right declined, by source": {
                str(s): float(declines[name][right & (sources == s)].mean()) for s in sorted(set(sources[right]))
            },
            "wrong": int(wrong.sum()),
            "wrong declined": share(declines[name][wrong], groups[wrong]),
            "strange": len(odd),
            "strange declined": float(odd.mean()),
        }
        print(name, {k: str(v) for k, v in values[name].items()})
    save(options.json, values)


def share(flags: np.ndarray, groups: np.ndarray) -> Interval:
    """A share with its interval over groups."""
    return mean_interval(flags.astype(float).tolist(), groups.tolist())


if __name__ == "__main__":
    main()
