"""Labelled pictures from a CSV, a COCO JSON, a YOLO folder or other programs' exports; their split by group. Knows no network."""

from __future__ import annotations

import hashlib
import json
import math
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pathasst.core.errors import BadDataset, BadInput
from pathasst.core.tables import read_text
from pathasst.imaging.annotation_files import picture_path, read_annotations
from pathasst.imaging.annotations import group_of, read_marks, warn_left_out
from pathasst.imaging.label_coordinates import boxes_on_picture
from pathasst.imaging.pictures import SUFFIXES, Header, load, read_header
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
    _cached: np.ndarray | None = field(default=None, repr=False)

    def pixels(self) -> np.ndarray:
        """H×W×3 uint8 RGB. Raises BadDataset when the file cannot be read."""
        if self._cached is not None:
            return self._cached
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
        if not callable(picture.source) and picture._cached is None:
            picture._cached = picture.pixels()
            limit -= picture._cached.nbytes


def read(data: DetectorData, classes: Sequence[str]) -> list[Labelled]:
    """The pictures of one source, sorted by name. Raises BadDataset for a file or folder that is not as described."""
    file = Path(data.boxes)
    if not file.exists():
        raise BadDataset(f"there is no {file}: give a CSV of boxes, a COCO JSON, or the data.yaml of a YOLO folder.")
    reader = _from_export if file.is_dir() else _READERS.get(file.suffix.lower())
    if reader is None:
        raise BadDataset(
            f"{file.name}: boxes come as .csv, .json (COCO, Label Studio, LabelMe), .geojson (QuPath), .xml (CVAT), .yaml (YOLO) "
            "or as a folder of Pascal VOC's .xml or LabelMe's .json."
        )
    root = Path(data.images) if data.images else file.parent
    entries = reader(file, root)
    pictures: list[Labelled] = []
    left_out, unusable = Counter[str](), Counter[str]()
    for path, entry in sorted(entries.items()):
        selected = [r for r in entry.rows if data.classes.get(r[4], r[4] if not data.classes else "") in classes]
        labels = np.array([list(classes).index(data.classes.get(r[4], r[4])) for r in selected], np.int64)
        try:
            header = entry.header or read_header(path)
        except BadInput:
            unusable["that cannot be read"] += 1
            continue
        boxes = boxes_on_picture(np.array([r[:4] for r in selected]).reshape(-1, 4), entry.drawn_on, header)
        if boxes is None:
            unusable["of another size than the labels say"] += 1
            continue
        solid = (boxes[:, 2:] > boxes[:, :2]).all(1)  # even public sets hold boxes without width or height
        inside = boxes.clip(0, (header.width, header.height) * 2)
        on_it = (inside[:, 2:] > inside[:, :2]).all(1)
        left_out["without width or height"] += int((~solid).sum())
        left_out["outside of the picture"] += int((solid & ~on_it).sum())
        boxes, labels = inside[on_it].astype(np.float32), labels[on_it]
        split = data.splits.get(entry.split, entry.split)
        pictures.append(Labelled(path.name, path, boxes, labels, group_of(path.name, data.group), split))
    if not pictures:
        reasons = ", ".join(f"{n} {reason}" for reason, n in unusable.items())
        raise BadDataset(f"{file} names no pictures{f' but {reasons}' if reasons else ''}.")
    warn_left_out(file, +left_out)
    warn_left_out(file, unusable, "pictures")
    return pictures


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
    if not any(len(p.boxes) for p in parts["train"]):
        raise BadDataset(
            f"none of the {len(parts['train'])} training pictures has a box of {', '.join(classes)}; check the labels' classes."
        )
    return parts


def _draw(group: str, salt: str) -> float:
    """A number 0…1 that depends on the group's name alone: other pictures coming or going move nobody."""
    return int.from_bytes(hashlib.blake2b(f"{salt}:{group}".encode(), digest_size=8).digest(), "big") / 2**64


@dataclass(slots=True)
class _Entry:
    """What a file of labels says of one picture. `drawn_on`: width, height px of the picture that was labelled, where stated."""

    split: str
    rows: list[Row]
    drawn_on: tuple[float, float] | None = None
    header: Header | None = None


Labels = dict[Path, _Entry]


def _located(file: Path, root: Path, entries: dict[str, _Entry]) -> Labels:
    """The entries by their picture's file. Those whose picture is not there, or is another's, are left out with a warning.

    Raises BadDataset when none is there.
    """
    located: Labels = {}
    absent = []
    for name, entry in entries.items():
        try:
            path = picture_path(root, name)
        except BadInput:
            absent.append(name)
            continue
        if path in located:
            absent.append(name)
        else:
            located[path] = entry
    if absent and not located:
        raise BadDataset(f"{file.name}: none of its {len(absent)} pictures is in {root}, such as {absent[0]!r}.")
    warn_left_out(file, Counter({f"that are not there: {', '.join(absent[:5])}": len(absent)} if absent else {}), "pictures")
    return located


def _from_csv(file: Path, root: Path) -> Labels:
    marks = read_marks(file, ("xmin", "ymin", "xmax", "ymax"))
    entries = {
        image: _Entry(split, [(*box, label) for box, label in rows])  # type: ignore[misc]
        for image, (split, rows) in marks.items()
    }
    return _located(file, root, entries)


def _from_export(file: Path, root: Path) -> Labels:
    """Boxes of an export of another program, around the shapes that were drawn there."""
    annotated = read_annotations(file)
    if annotated is None:
        if file.suffix.lower() == ".xml":
            raise BadDataset(f"{file.name} is no export of CVAT (`annotations`) and no Pascal VOC file (`annotation`).")
        return _from_coco(file, root)
    warn_left_out(file, annotated.left_out)
    entries = {
        name: _Entry(annotated.splits.get(name, ""), [(*s.box, s.label) for s in shapes], annotated.sizes.get(name))
        for name, shapes in annotated.pictures.items()
    }
    return _located(file, root, entries)


def _from_coco(file: Path, root: Path) -> Labels:
    """Boxes of a COCO JSON; from the outline where an annotation has no box. An odd annotation or image is left out and said."""
    try:
        content: dict[str, Any] = json.loads(read_text(file))
        names = {
            str(c["id"]): str(c["name"]) for c in content["categories"] if isinstance(c, dict) and {"id", "name"} <= c.keys()
        }
        boxes: dict[str, list[Row]] = defaultdict(list)
        odd: list[str] = []
        images = {str(i["id"]): i for i in content["images"] if _is_coco_image(i)}
        for a in content["annotations"]:
            fault, row = _coco_row(a, names, images)
            if row is not None and row in boxes[str(a["image_id"])]:
                fault, row = "duplicate", None
            if row is None:
                odd.append(f"{a.get('id') if isinstance(a, dict) else a!r} ({fault})")
            else:
                boxes[str(a["image_id"])].append(row)
        if odd:
            warnings.warn(f"{file.name}: {len(odd)} annotations are left out: {', '.join(odd[:5])}", stacklevel=2)
        if strange := len(content["images"]) - len(images):
            warn_left_out(file, Counter({"without an id of their own and a file name": strange}), "images")
        entries: dict[str, _Entry] = {}
        for id_, image in images.items():
            size = (float(image["width"]), float(image["height"])) if image.get("width") and image.get("height") else None
            entry = entries.setdefault(image["file_name"].replace("\\", "/"), _Entry(str(image.get("split") or ""), [], size))
            entry.rows += [r for r in boxes[id_] if r not in entry.rows]  # several images of one name are one
        return _located(file, root, entries)
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadDataset(f"{file} is no COCO JSON (images, categories, annotations with bbox): {error!r}") from error


def _is_coco_image(image: Any) -> bool:
    return isinstance(image, dict) and "id" in image and isinstance(image.get("file_name"), str) and bool(image["file_name"])


def _coco_row(annotation: Any, names: dict[str, str], images: Collection[str]) -> tuple[str, Row | None]:
    """Why an annotation is left out, or its row."""
    if not isinstance(annotation, dict):
        return "no object", None
    if annotation.get("iscrowd"):
        return "crowd", None
    name = names.get(str(annotation.get("category_id")))
    if name is None:
        return "unknown category", None
    if str(annotation.get("image_id")) not in images:
        return "unknown image", None
    try:
        box = _coco_box(annotation)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError):
        box = None
    if box is None or not all(map(math.isfinite, box)):
        return "no box", None
    return "", (*box, name)


def _coco_box(annotation: dict[str, Any]) -> tuple[float, float, float, float] | None:
    box, outline = annotation.get("bbox"), annotation.get("segmentation")
    if isinstance(box, dict):  # as some programs write it
        box = [
            box.get("x", box.get("left")),
            box.get("y", box.get("top")),
            *(box.get(k, box.get(k[0])) for k in ("width", "height")),
        ]
    if isinstance(box, list) and len(box) == 4:
        x, y, w, h = map(float, box)
        return x, y, x + w, y + h
    if isinstance(outline, dict) and outline.get("size"):  # run-length encoding
        from pycocotools import mask

        height, width = map(int, outline["size"])
        counts = outline.get("counts")
        if isinstance(counts, list) and sum(map(int, counts)) != height * width:
            raise ValueError("the run lengths do not fill the picture")  # pycocotools would read beyond them
        rle = mask.frPyObjects(outline, height, width) if isinstance(counts, list) else outline
        x, y, w, h = mask.toBbox(rle)
        return float(x), float(y), float(x + w), float(y + h)
    points = [float(v) for part in outline for v in part] if isinstance(outline, list) else []
    return (min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])) if len(points) >= 6 else None


def _from_yolo(file: Path, root: Path) -> Labels:
    """Boxes of a YOLO folder, as Ultralytics, Roboflow and others lay it out. Raises BadDataset when no label file is found."""
    content, names = _yolo_names(file)
    pictures: Labels = {}
    searched: list[str] = []
    unlabelled = 0
    left_out, unusable = Counter[str](), Counter[str]()
    fault = ""
    for part, picture in _yolo_parts(content, root, searched, unusable):
        label = _yolo_label(picture)
        try:
            header = read_header(picture)  # its size as shown, which labels are of
        except BadInput:
            unusable["that cannot be read"] += 1
            continue
        unlabelled += label is None
        rows, odd = _yolo_rows(label, names, header, with_points=bool(content.get("kpt_shape")))
        if odd:
            fault = fault or f"{label}: {odd[0]!r} is no line `class cx cy w h`, or of no class of {file.name}."
            left_out["not of the form `class cx cy w h`, or of no class of the file"] += len(odd)
        pictures.setdefault(picture, _Entry(part, rows, header=header))
    if not pictures:
        reasons = f" ({', '.join(f'{n} {reason}' for reason, n in unusable.items())})" if unusable else ""
        places = ", ".join(dict.fromkeys(searched)) or "no folder: no train, val or test"
        raise BadDataset(f"{file} names no pictures{reasons}; looked in {places}.")
    if fault and not any(entry.rows for entry in pictures.values()):
        raise BadDataset(fault)
    warn_left_out(file, left_out)
    warn_left_out(file, unusable, "pictures")
    if unlabelled == len(pictures):
        raise BadDataset(f"{file}: none of its {unlabelled} pictures has a label file beside it or in a folder labels.")
    if unlabelled:
        warnings.warn(
            f"{file.name}: {unlabelled} of {len(pictures)} pictures have no label file and count as empty.", stacklevel=2
        )
    return pictures


def _yolo_parts(content: dict[str, Any], root: Path, searched: list[str], unusable: Counter[str]) -> Iterator[tuple[str, Path]]:
    """(split, picture) of data.yaml. What is not there is counted in `unusable`; `searched`: where it was looked for."""
    for part in ("train", "val", "valid", "test"):
        entries = content.get(part) or []
        for entry in entries if isinstance(entries, list) else [entries]:
            pictures = _yolo_pictures(root, str(content.get("path") or ""), str(entry), searched)
            unusable[f"of {part} ({entry}), where none is"] += not pictures
            unusable["that are not there"] += sum(not p.is_file() for p in pictures)
            yield from ((part, p) for p in pictures if p.is_file())


def _yolo_names(file: Path) -> tuple[dict[str, Any], dict[int, str]]:
    """What a data.yaml holds, and its classes by number. Raises BadDataset for one without classes."""
    import yaml

    from pathasst.core import yaml_text

    try:
        content = yaml_text.load(read_text(file))
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        raise BadDataset(f"{file} is no YAML: {error}") from error
    names = content.get("names") if isinstance(content, dict) else None
    names = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(names, dict) or not names or not all(str(k).strip().isdecimal() for k in names):
        raise BadDataset(f"{file} lacks `names`, a list of its classes or a mapping of their numbers.")
    return content, {int(k): str(name) for k, name in names.items()}


def _yolo_pictures(root: Path, base: str, entry: str, searched: list[str]) -> list[Path]:
    """The pictures of one entry of data.yaml: a folder, a picture, or a .txt of pictures, from wherever its paths are counted.

    Those of a .txt may be absent.
    """
    for place in _yolo_places(root, base, entry):
        searched.append(str(place))
        if place.is_dir():
            return sorted(p for p in place.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
        if place.suffix.lower() == ".txt" and place.is_file():
            lines = [line.strip() for line in read_text(place).splitlines() if line.strip()]
            options = [[place.parent / n.replace("\\", "/"), *_yolo_places(root, base, n)] for n in lines]
            return [next((p for p in paths if p.is_file()), paths[0]) for paths in options]
        if place.is_file() and place.suffix.lower() in SUFFIXES:
            return [place]
    return []


def _yolo_places(root: Path, base: str, entry: str) -> list[Path]:
    """What a path of data.yaml may mean: from the base that is stated, from data.yaml, and of a full path of another machine the
    end of it that is here."""
    entry = entry.replace("\\", "/")
    bare = re.sub(r"^(?:\.{1,2}/)+", "", entry)  # Roboflow writes ../train/images though train/ lies beside data.yaml
    places = [root / base / entry, root / entry, root / bare, root.parent / bare, root / "images" / bare]
    if re.match(r"/|[A-Za-z]:/", entry):
        parts = [p for p in entry.split("/") if p]
        places += [root / Path(*parts[n:]) for n in range(1, len(parts))]
    return places


def _yolo_label(picture: Path) -> Path | None:
    """The label file of a picture: in `labels` for the last `images` of its path, else beside it; its suffix in any case."""
    folders = [picture.parent]
    at = max((n for n, part in enumerate(picture.parts[:-1]) if part.lower() == "images"), default=-1)
    if at >= 0:
        folders.insert(0, Path(*picture.parts[:at], "labels", *picture.parts[at + 1 : -1]))
        folders.append(Path(*picture.parts[:at], "Labels", *picture.parts[at + 1 : -1]))
    tries = (folder / f"{picture.stem}{suffix}" for folder in folders for suffix in (".txt", ".TXT", ".Txt"))
    return next((p for p in tries if p.is_file()), None)


def _yolo_rows(label: Path | None, names: dict[int, str], header: Header, *, with_points: bool) -> tuple[list[Row], list[str]]:
    """The boxes of a label file, and its lines that are none."""
    rows: list[Row] = []
    odd: list[str] = []
    for line in filter(str.strip, read_text(label).splitlines() if label else []):
        try:
            rows.append(_yolo_row(line, names, header.width, header.height, with_points=with_points))
        except (ValueError, KeyError):
            odd.append(line)
    return rows, odd


def _yolo_row(line: str, names: dict[int, str], width: int, height: int, *, with_points: bool) -> Row:
    """`class cx cy w h`, perhaps with a score or, `with_points`, with key points; or `class x1 y1 x2 y2 x3 y3 …`, an outline,
    whose box is taken. Raises ValueError, KeyError.
    """
    kind, *values = (line.replace(",", " ") if re.search(r",\s|\A\S+\Z", line.strip()) else line).split()
    numbers = [float(v) for v in values]
    if not all(map(math.isfinite, numbers)) or len(numbers) < 4:
        raise ValueError("too few numbers")
    if max(map(abs, numbers if len(numbers) != 5 and not with_points else numbers[:4])) > 1 + _ROUNDED:
        raise ValueError("px, not shares of the picture")
    if not with_points and len(numbers) >= 6 and len(numbers) % 2 == 0:
        x1, y1, x2, y2 = min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])
    else:
        cx, cy, w, h = numbers[:4]
        x1, y1, x2, y2 = cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
    return x1 * width, y1 * height, x2 * width, y2 * height, names[int(float(kind))]


_ROUNDED = 0.02
"""By how much a share of the picture may lie beyond its edge: what rounding and outlines drawn over the edge make."""
_READERS: dict[str, Callable[[Path, Path], Labels]] = {
    ".csv": _from_csv,
    ".geojson": _from_export,
    ".json": _from_export,
    ".xml": _from_export,
    ".yaml": _from_yolo,
    ".yml": _from_yolo,
}
