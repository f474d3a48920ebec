"""Labelled pictures from a CSV, a COCO JSON or a YOLO folder, and their split by group. Knows no network."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pathasst.core.errors import BadDataset, BadInput
from pathasst.imaging.annotations import group_of, read_marks
from pathasst.imaging.pictures import load, read_header
from pathasst.nn.detector.settings import DetectorData

CACHE_BYTES = 1_000_000_000
"""Decoded pictures are kept in memory up to this; more are decoded again each time."""
Row = tuple[float, float, float, float, str]


@dataclass(slots=True)
class Labelled:
    """One picture with its boxes. `boxes` n×4 float32 xyxy px, `labels` n int64 class ids."""

    name: str
    source: Path | Callable[[], np.ndarray]  # a file, or what gives H×W×3 uint8 RGB (drawn pictures)
    boxes: np.ndarray
    labels: np.ndarray
    group: str = ""
    split: str = ""
    _kept: np.ndarray | None = field(default=None, repr=False)

    def pixels(self) -> np.ndarray:
        """H×W×3 uint8 RGB. Raises BadDataset when the file cannot be read."""
        if self._kept is not None:
            return self._kept
        if callable(self.source):
            return self.source()
        try:
            return load(self.source)
        except BadInput as error:
            raise BadDataset(str(error)) from error


def keep_in_memory(pictures: Sequence[Labelled], limit: int = CACHE_BYTES) -> None:
    """Decode the files once, up to `limit` bytes; drawn pictures are left alone."""
    for picture in pictures:
        if limit <= 0:
            return
        if not callable(picture.source) and picture._kept is None:
            picture._kept = picture.pixels()
            limit -= picture._kept.nbytes


def read(data: DetectorData, classes: Sequence[str]) -> list[Labelled]:
    """The pictures of one source, sorted by name. Raises BadDataset for a file or folder that is not as described."""
    file = Path(data.boxes)
    if not file.exists():
        raise BadDataset(f"there is no {file}: give a CSV of boxes, a COCO JSON, or the data.yaml of a YOLO folder.")
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise BadDataset(f"{file.name}: boxes come as .csv, .json (COCO) or .yaml (YOLO).")
    root = Path(data.images) if data.images else file.parent
    found = []
    for path, (split, rows) in sorted(reader(file, root).items()):
        chosen = [r for r in rows if data.classes.get(r[4], r[4] if not data.classes else "") in classes]
        boxes = np.array([r[:4] for r in chosen], np.float32).reshape(-1, 4)
        labels = np.array([list(classes).index(data.classes.get(r[4], r[4])) for r in chosen], np.int64)
        solid = (boxes[:, 2:] > boxes[:, :2]).all(1)  # even public sets hold boxes without width or height
        boxes, labels = boxes[solid], labels[solid]
        found.append(Labelled(path.name, path, boxes, labels, group_of(path.name, data.group), data.splits.get(split, split)))
    if not found:
        raise BadDataset(f"{file} names no pictures.")
    return found


def split(pictures: Sequence[Labelled], data: DetectorData) -> dict[str, list[Labelled]]:
    """Pictures by `train`, `val`, `test`; groups of pictures without a split are drawn, whole and reproducibly."""
    parts: dict[str, list[Labelled]] = {"train": [], "val": [], "test": []}
    for picture in pictures:
        name = picture.split or ("test" if _draw(picture.group, f"test{data.seed}") < data.test else "train")
        if name in ("valid", "validation"):
            name = "val"
        if name not in parts:
            raise BadDataset(f"{picture.name} is of the split {name!r}; map it to train, val or test with `splits`.")
        if name == "train" and _draw(picture.group, f"validation{data.seed}") < data.val:
            name = "val"
        parts[name].append(picture)
    groups = {k: {p.group for p in v} for k, v in parts.items()}
    if shared := groups["train"] & (groups["test"] | groups["val"]):
        raise BadDataset(f"the groups {sorted(shared)[:5]} lie on both sides of the split.")
    return parts


def gather(sources: Sequence[DetectorData], classes: Sequence[str]) -> dict[str, list[Labelled]]:
    """All sources' pictures by split. Raises BadDataset when nothing is left to train on."""
    parts: dict[str, list[Labelled]] = {"train": [], "val": [], "test": []}
    for data in sources:
        for name, pictures in split(read(data, classes), data).items():
            parts[name] += pictures
    if not parts["train"]:
        raise BadDataset("no picture is left for training; check the recipe's data and splits.")
    return parts


def _draw(group: str, salt: str) -> float:
    """A number 0…1 that depends on the group's name alone: other pictures coming or going move nobody."""
    return int.from_bytes(hashlib.blake2b(f"{salt}:{group}".encode(), digest_size=8).digest(), "big") / 2**64


Found = dict[Path, tuple[str, list[Row]]]


def _from_csv(file: Path, root: Path) -> Found:
    marks = read_marks(file, ("xmin", "ymin", "xmax", "ymax"))
    return {root / image: (split, [(*box, label) for box, label in rows]) for image, (split, rows) in marks.items()}  # type: ignore[misc]


def _from_coco(file: Path, root: Path) -> Found:
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        names = {c["id"]: c["name"] for c in content["categories"]}
        boxes = defaultdict(list)
        for a in content["annotations"]:
            x, y, w, h = a["bbox"]
            if not a.get("iscrowd"):
                boxes[a["image_id"]].append((x, y, x + w, y + h, names[a["category_id"]]))
        return {root / i["file_name"]: (i.get("split", ""), boxes[i["id"]]) for i in content["images"]}
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise BadDataset(f"{file} is no COCO JSON (images, categories, annotations with bbox): {error!r}") from error


def _from_yolo(file: Path, root: Path) -> Found:
    import yaml

    content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    names = content.get("names")
    if not names:
        raise BadDataset(f"{file} lacks `names`.")
    names = dict(enumerate(names)) if isinstance(names, list) else names
    found: dict[Path, tuple[str, list[Row]]] = {}
    for part in ("train", "val", "test"):
        if not content.get(part):
            continue
        for picture in sorted(
            p for p in (root / content.get("path", "") / content[part]).rglob("*") if p.suffix.lower() in _PICTURES
        ):
            size = read_header(picture)
            width, height = size.width, size.height
            label = Path(*["labels" if p == "images" else p for p in picture.parts]).with_suffix(".txt")
            lines = label.read_text(encoding="utf-8").splitlines() if label.is_file() else []
            found[picture] = (part, [_yolo_row(line, names, width, height, label) for line in lines if line.strip()])
    return found


def _yolo_row(line: str, names: dict[int, str], width: int, height: int, file: Path) -> Row:
    try:
        kind, cx, cy, w, h = line.split()[:5]
        x, y, half_w, half_h = float(cx) * width, float(cy) * height, float(w) * width / 2, float(h) * height / 2
        return x - half_w, y - half_h, x + half_w, y + half_h, names[int(kind)]
    except (ValueError, KeyError) as error:
        raise BadDataset(f"{file}: {line!r} is no line `class cx cy w h`: {error!r}") from error


_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
_READERS: dict[str, Callable[[Path, Path], Found]] = {
    ".csv": _from_csv,
    ".json": _from_coco,
    ".yaml": _from_yolo,
    ".yml": _from_yolo,
}
