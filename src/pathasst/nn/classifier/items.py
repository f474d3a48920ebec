"""Labelled pictures: an image folder, or a CSV or Parquet table; and their split by group. Knows no network.

A table has the columns `path` (or `image`, `file`, `filename`) and `label` (or `class`), and may have `group`, `split` (train,
val, test), `source`, and a box `xmin, ymin, xmax, ymax` in px of what is to be classified; paths are relative to the table. In a
folder each class is a sub-folder, below train, val and test where the folder has these. A group (patient, slide, original) never
lies on two sides. What cannot be used is left out, with a warning.
"""

from __future__ import annotations

import csv
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pathasst.core.errors import BadDataset, BadInput
from pathasst.core.tables import first, read_table
from pathasst.imaging.annotations import IMAGE, LABEL, warn_left_out
from pathasst.imaging.pictures import SUFFIXES, widen
from pathasst.nn.classifier.settings import PictureSource

SPLITS = ("train", "val", "test")
_SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True, slots=True, eq=False)
class ClassifierItem:
    """One labelled picture: a file, or H×W×3 uint8 RGB pixels."""

    image: Path | np.ndarray
    label: str
    group: str  # what must stay on one side of the split
    split: str = ""  # train | val | test; empty: to be drawn
    source: str = ""  # data set, for balanced sampling and tables of scores
    box: tuple[float, float, float, float] | None = None  # x1 y1 x2 y2 px; what lies beyond the picture's edge is mirrored

    def with_picture(self, picture: np.ndarray) -> ClassifierItem:
        """The same item with its pixels in memory, H×W×3 uint8 RGB, in place of a file or of what is in its box."""
        return replace(self, image=picture, box=None)


def read_source(source: PictureSource) -> list[ClassifierItem]:
    """Items of one source of a recipe, with its margin around boxes and its named splits.

    Raises BadDataset when the table has no such column or a named group is not there, since a typing error
    would leak test into training.
    """
    items = read_items(Path(source.path), source.group)
    split = {group: name for name in SPLITS for group in getattr(source, name)}
    if missing := set(split) - {i.group for i in items}:
        raise BadDataset(f"{source.path} has no group {', '.join(sorted(missing))}")
    return [
        replace(
            item,
            source=source.name or item.source or Path(source.path).stem,
            group=f"{source.name}/{item.group}",
            label=source.classes.get(item.label, item.label),
            split=split.get(item.group, item.split),
            box=None if item.box is None else widen(item.box, source.margin),
        )
        for item in items
    ]


def read_items(path: Path, group: str = "") -> list[ClassifierItem]:
    """Items of a folder of folders, or of a `.csv` or `.parquet` table. Raises BadDataset when nothing usable is there.

    `group` names the table's column of groups; by default `group`, `original`, or each picture for itself.
    """
    left_out = Counter[str]()
    items = _of_folder(path, left_out) if path.is_dir() else _of_table(path, group, left_out)
    if len({i.label for i in items}) < 2:
        reasons = "".join(f", {n} {reason}" for reason, n in left_out.items())
        raise BadDataset(f"{path} holds {len(items)} pictures of fewer than two classes{reasons}.")
    warn_left_out(path, left_out, "pictures")
    return items


def _of_folder(path: Path, left_out: Counter[str]) -> list[ClassifierItem]:
    classes: list[tuple[str, Path]] = [("", folder) for folder in _folders(path)]
    if classes and all(folder.name.lower() in _SPLIT_NAMES for _, folder in classes):
        classes = [(_SPLIT_NAMES[part.name.lower()], folder) for _, part in classes for folder in _folders(part)]
    items = [
        ClassifierItem(image, folder.name, str(image.relative_to(path)), split)
        for split, folder in classes
        for image in sorted(folder.rglob("*"))
        if image.suffix.lower() in SUFFIXES and not image.name.startswith(".")
    ]
    in_none = [p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and not _hidden(p.relative_to(path))]
    if len(in_none) > len(items):
        left_out["in no class's folder"] = len(in_none) - len(items)
    return items


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not _hidden(p.relative_to(path)))


def _hidden(path: Path) -> bool:
    """What programs put beside the pictures: .ipynb_checkpoints, macOS's __MACOSX and ._a.png."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _of_table(path: Path, group: str, left_out: Counter[str]) -> list[ClassifierItem]:
    items: list[ClassifierItem] = []
    seen: set[tuple[Path | str | None, ...]] = set()
    for row in _rows(path, group):
        try:
            item = _from_row(row, path, group)
        except (ValueError, TypeError, KeyError):
            left_out["in rows without a picture, or with something else where a number should be"] += 1
            continue
        identity = (str(item.image), item.label, str(item.box))
        if not item.label:
            left_out["without a label"] += 1
        elif identity in seen:
            left_out["listed twice"] += 1
        elif isinstance(item.image, Path) and not item.image.is_file():
            left_out["that are not there"] += 1
        else:
            seen.add(identity)
            items.append(item)
    return items


def _rows(path: Path, group: str) -> list[dict[str, Any]]:
    try:
        names, rows = _table(path)
    except (OSError, ValueError, csv.Error) as error:  # pyarrow's errors are ValueErrors
        raise BadDataset(f"{path} is neither a folder of folders nor a CSV or Parquet table: {error}") from error
    if not set(LABEL) & set(names) or not set(IMAGE) & set(names):
        raise BadDataset(
            f"{path} needs the columns path and label, and may have group, split, source; it has {', '.join(names)}."
        )
    if group and group.lower() not in names:
        raise BadDataset(f"{path} has no column {group!r} to group by; it has {', '.join(names)}.")
    return rows


def _table(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """(columns in lower case, rows); empty cells of a CSV are None, as in Parquet."""
    if path.suffix.lower() == ".parquet":
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        return [n.lower() for n in table.column_names], [{k.lower(): v for k, v in row.items()} for row in table.to_pylist()]
    names, rows = read_table(path)
    return [n.lower() for n in names], [{k: v if v != "" else None for k, v in row.items()} for _, row in rows]


def _from_row(row: dict[str, Any], table: Path, column: str) -> ClassifierItem:
    """Raises KeyError, TypeError or ValueError for a row that is none, BadDataset for a split that is none."""
    name = first(row, ("path", *IMAGE)).replace("\\", "/")
    if not name:
        raise KeyError("path")
    image = table.parent / name
    group = (row.get(column.lower()) if column else row.get("group") or row.get("original")) or name
    box = None if row.get("xmin") is None else tuple(float(row[k]) for k in ("xmin", "ymin", "xmax", "ymax"))
    split = str(row.get("split") or "")
    split = _SPLIT_NAMES.get(split.lower(), split)
    if split not in ("", *SPLITS):
        raise BadDataset(f"{table}: the split {split!r} of {image.name} is none of {', '.join(SPLITS)}.")
    return ClassifierItem(image, first(row, LABEL), str(group), split, str(row.get("source") or ""), box)  # type: ignore[arg-type]


def split_items(items: Sequence[ClassifierItem], val: float, test: float, seed: int = 0) -> list[ClassifierItem]:
    """The items with a split each: given ones stay, the others are drawn by group, classes alike as far as groups allow.

    Where some name a split test and none a split val, that one alone is drawn, out of the training split.
    """
    split_of_group = {i.group: i.split for i in items if i.split}
    split = [split_of_group.get(i.group, "") for i in items]
    free = [n for n, name in enumerate(split) if not name]
    if not free and "val" not in split:
        free = [n for n, name in enumerate(split) if name == "train"]
        test = 0.0
    if free:
        tested = set(_part(items, free, test, seed)) if test else set()
        rest = [n for n in free if n not in tested]
        assigned = {**dict.fromkeys(free, "train"), **dict.fromkeys(tested, "test")}
        assigned |= dict.fromkeys(_part(items, rest, val / (1 - test), seed + 1), "val")
        split = [assigned.get(n, name) for n, name in enumerate(split)]
    return [replace(i, split=name) for i, name in zip(items, split, strict=True)]


def _part(items: Sequence[ClassifierItem], among: Sequence[int], share: float, seed: int) -> list[int]:
    """About `share` of the items at the indices `among`, whole groups, stratified by class."""
    from sklearn.model_selection import StratifiedGroupKFold

    folds = min(max(round(1 / share), 2), len({items[n].group for n in among}))
    if folds < 2:
        raise BadDataset("all pictures are of one group; they cannot be split. Name more groups, or give the column split.")
    labels, groups = [items[n].label for n in among], [items[n].group for n in among]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer pictures than folds
        cut = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, groups)
        return [among[k] for k in next(iter(cut))[1]]


def parts(items: Iterable[ClassifierItem]) -> dict[str, list[ClassifierItem]]:
    """Items by split."""
    split: dict[str, list[ClassifierItem]] = {name: [] for name in SPLITS}
    for item in items:
        split[item.split].append(item)
    return split


def read_picture(item: ClassifierItem) -> np.ndarray:
    """The item's picture (what is in its box) as H×W×3 uint8 RGB. Raises BadInput for a file that cannot be read."""
    image = item.image if isinstance(item.image, np.ndarray) else _decode(item.image)
    return image if item.box is None else cut(image, item.box)


def cut(picture: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """The pixels of a box x1 y1 x2 y2, mirrored beyond the picture's edges. Raises BadInput for a box outside of the picture."""
    import cv2

    height, width = picture.shape[:2]
    x1, y1, x2, y2 = (round(v) for v in box)
    if x2 <= x1 or y2 <= y1 or x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        raise BadInput(f"the box {box} does not lie in the picture of {width}×{height} px")
    inside = picture[max(y1, 0) : y2, max(x1, 0) : x2]
    top, bottom, left, right = max(-y1, 0), max(y2 - height, 0), max(-x1, 0), max(x2 - width, 0)
    if not top + bottom + left + right:
        return inside
    return np.asarray(cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_REFLECT))


@lru_cache(maxsize=2)  # many boxes lie in one picture
def _decode(path: Path) -> np.ndarray:
    from pathasst.imaging.pictures import load

    return load(path)
