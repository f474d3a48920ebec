"""Training the panel detector on composed figures: `pathasst train panels`.

Knows `compose`, which draws the figures, and `pathasst.nn.detector`, which learns. Pictures come from a table of `read_items`
(with its split, so that no picture of a test figure was trained on) or from a folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import field_validator

from pathasst.core.errors import BadDataset
from pathasst.core.settings import Field, Settings
from pathasst.curate.compose import Composer, ComposeSettings, Rect, read_layouts
from pathasst.nn.detector.settings import DetectorSettings, DetectorTraining

if TYPE_CHECKING:
    import numpy as np

    from pathasst.nn.detector.data import Labelled

CLASSES = ("panel", "letter")
SPLITS = ("train", "val", "test")
SEED = 7


class PanelsRecipe(Settings):
    """`recipes/<recipe>/panels.yaml`: the figures, how many of each split, and the detector's training."""

    room: ClassVar[str] = "panels"

    compose: ComposeSettings = ComposeSettings()
    figures: dict[str, int] = Field(
        default={"train": 5000, "val": 80, "test": 300}, description="Composed figures of each split."
    )
    leave: tuple[str, ...] = Field(default=(), description="Sources of the table that are no single pictures.")
    training: DetectorTraining = DetectorTraining(model=DetectorSettings(classes=CLASSES))

    @field_validator("figures")
    @classmethod
    def _splits(cls, figures: dict[str, int]) -> dict[str, int]:
        if set(figures) != set(SPLITS):
            raise ValueError(f"figures are counted for {', '.join(SPLITS)}")
        return figures

    @field_validator("training", mode="before")
    @classmethod
    def _of_panels(cls, training: Any) -> Any:
        """The classes are given."""
        if isinstance(training, dict):
            return {**training, "model": {"classes": list(CLASSES), **training.get("model", {})}}
        return training


def read_pictures(path: Path | str, leave: Sequence[str] = (), seed: int = SEED) -> dict[str, list[np.ndarray]]:
    """Pictures by split, 360 px at most. Raises BadDataset when a split has none."""
    import cv2

    from pathasst.nn.classifier import read_items, split_items
    from pathasst.nn.classifier.items import read_picture

    split: dict[str, list[np.ndarray]] = {name: [] for name in SPLITS}
    for item in split_items(read_items(Path(path)), 0.1, 0.2, seed):
        if item.source in leave:
            continue
        picture = read_picture(item)
        scale = 360 / max(picture.shape[:2])
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else picture
        split[item.split].append(small)
    if empty := [name for name, pictures in split.items() if not pictures]:
        raise BadDataset(f"{path} has no pictures for {', '.join(empty)}")
    return split


def draw(composer: Composer, number: int, seed: int) -> np.ndarray:
    """Figure `number` of a set as H×W×3 uint8 RGB; the same every time."""
    import numpy as np

    return composer(np.random.default_rng((seed, number))).picture


def composed_figures(composer: Composer, count: int, seed: int) -> list[Labelled]:
    """`count` composed figures as the detector's trainer takes them: drawn anew each time, boxes known."""
    import numpy as np

    from pathasst.nn.detector.data import Labelled

    pictures = []
    for n in range(count):
        figure = composer(np.random.default_rng((seed, n)))
        letters = [b for b in figure.letters if b]
        boxes = np.array([*figure.panels, *letters], np.float32).reshape(-1, 4)
        labels = np.array([0] * len(figure.panels) + [1] * len(letters), np.int64)
        pictures.append(Labelled(f"{seed}-{n}", partial(draw, composer, n, seed), boxes, labels, f"{seed}-{n}"))
    return pictures


def train_panels(
    pictures: Mapping[str, Sequence[np.ndarray]],
    out: Path | str,
    recipe: PanelsRecipe,
    layouts: Sequence[Sequence[Rect]] = (),
    log: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Train on figures composed of `pictures` (by split); writes what `panels.load_detector` reads, returns the scores by split.

    Interrupted trainings resume.
    """
    from pathasst.nn.detector.train import train

    sets = {}
    for k, name in enumerate(SPLITS):
        some = [r for n, r in enumerate(layouts) if (n % 10 == 0) == (name == "test")]  # layouts are kept apart, too
        composer = Composer(pictures[name], some, recipe.compose)
        sets[name] = composed_figures(composer, recipe.figures[name], SEED + k)
    return train(recipe.training, Path(out), pictures=sets, log=log)


def layouts_of(path: Path | str | None) -> list[list[Rect]]:
    """Layouts of PanelSeg's table, or none."""
    return read_layouts(path) if path else []
