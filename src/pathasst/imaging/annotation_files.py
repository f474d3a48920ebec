"""Annotations as other programs write them: QuPath's GeoJSON, CVAT's XML, Label Studio's JSON; folders with one Pascal VOC XML or
LabelMe JSON a picture. Knows files, no training.

Each gives `AnnotatedShape`s by picture: a label and points in px of the picture. Whoever wants boxes takes `box`, whoever wants
points takes `centre`. What holds no shape, or no label, is counted with its reason and left out.
"""

from __future__ import annotations

import glob
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from lxml import etree

from pathasst.core.errors import BadDataset, BadInput
from pathasst.core.tables import read_text
from pathasst.imaging.pictures import SUFFIXES as _PICTURES

SUFFIXES = (".geojson", ".json", ".xml")


@dataclass(frozen=True, slots=True)
class AnnotatedShape:
    """One annotated thing: its label, and its outline or corners or place, in px of the picture."""

    label: str
    points: tuple[tuple[float, float], ...]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x1 y1 x2 y2 around the points."""
        xs, ys = zip(*self.points, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the box: of a point the point itself."""
        x1, y1, x2, y2 = self.box
        return (x1 + x2) / 2, (y1 + y2) / 2


@dataclass(slots=True)
class Annotated:
    """Picture name → its shapes, pictures without any included; and what was left out: reason → how many."""

    pictures: dict[str, list[AnnotatedShape]] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)  # CVAT: picture → subset
    sizes: dict[str, tuple[float, float]] = field(default_factory=dict)  # width, height px of the picture that was labelled
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, picture: str, shape: AnnotatedShape) -> None:
        """One more shape; the same one a second time is left out as a duplicate."""
        shapes = self.pictures.setdefault(picture, [])
        if shape in shapes:
            self.left_out["duplicate"] += 1
        else:
            shapes.append(shape)


def read_annotations(file: Path) -> Annotated | None:
    """The annotations of a QuPath, CVAT or Label Studio export, of a Pascal VOC or LabelMe file, or of a folder of such files.

    None for a file of another kind.

    Raises BadDataset for a file of these kinds that cannot be read, and for a folder without one.
    """
    if file.is_dir():
        return _folder(file)
    suffix = file.suffix.lower()
    try:
        if suffix == ".xml":
            return _of_xml(file)
        if suffix not in SUFFIXES:
            return None
        content = json.loads(read_text(file))
        if _is_geojson(content):
            return _qupath(content, file)
        if isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content:
            return _labelme(content, file)
        return _label_studio(content) if _is_label_studio(content) else None
    except (OSError, ValueError, RecursionError, etree.XMLSyntaxError) as error:
        raise BadDataset(f"{file.name} cannot be read: {error}") from error
    except (AttributeError, TypeError, KeyError) as error:  # a list where an object should be
        raise BadDataset(f"{file.name} is not laid out as an export: {error}") from error


def _is_geojson(content: Any) -> bool:
    if isinstance(content, list):
        return bool(content) and all(isinstance(c, dict) and c.get("type") == "Feature" for c in content[:5])
    return isinstance(content, dict) and content.get("type") in ("FeatureCollection", "Feature")


def _qupath(content: Any, file: Path) -> Annotated:
    """QuPath exports one file a picture, of the picture's name; the export names no picture."""
    annotated = Annotated()
    picture = _picture_beside(file)
    annotated.pictures[picture] = []
    features = content if isinstance(content, list) else content.get("features", [content])
    for feature in features if isinstance(features, list) else []:
        properties = feature.get("properties") if isinstance(feature, dict) else None
        named = (properties or {}).get("classification") if isinstance(properties, dict) else None
        label = named.get("name") or "/".join(map(str, named.get("names") or ())) if isinstance(named, dict) else named
        if not isinstance(label, str) or not label:
            annotated.left_out["without a class"] += 1
            continue
        parts = list(_parts(feature.get("geometry")))
        if not parts:
            annotated.left_out["without a shape"] += 1
        for points in parts:
            annotated.add(picture, AnnotatedShape(label, points))
    return annotated


def _folder(folder: Path) -> Annotated:
    """One Annotated of all files of a folder that are of one picture each."""
    annotated = Annotated()
    files = 0
    for file in sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")):
        try:
            one = read_annotations(file)
        except BadDataset:
            annotated.left_out["whole files, which cannot be read"] += 1
            continue
        if one is None:
            continue
        files += 1
        for name, shapes in one.pictures.items():
            annotated.pictures.setdefault(name, [])
            for shape in shapes:
                annotated.add(name, shape)
        annotated.splits |= one.splits
        annotated.sizes |= one.sizes
        annotated.left_out += one.left_out
    if not files:
        raise BadDataset(f"{folder} holds no file of annotations (Pascal VOC's .xml, LabelMe's .json, QuPath's .geojson).")
    return annotated


def _own_picture(file: Path, name: str) -> str:
    """Where the picture of a file lies that tells of one picture: by the name it gives, else by the file's own."""
    tail = name.replace("\\", "/").rpartition("/")[2]
    folders = (file.parent, *(file.parent.parent / n for n in ("", "images", "JPEGImages", "Images")))
    stems = dict.fromkeys((tail, *(f"{file.stem}{x}" for x in (*_PICTURES, *map(str.upper, _PICTURES)))))
    return next((str(f / n) for n in stems if n for f in folders if (f / n).is_file()), name or file.name)


def _labelme(content: dict[str, Any], file: Path) -> Annotated:
    """LabelMe: `shapes` of one picture."""
    annotated = Annotated()
    name = _own_picture(file, str(content["imagePath"]))
    annotated.pictures[name] = []
    annotated.sizes[name] = _size(content.get("imageWidth"), content.get("imageHeight"))
    for shape in content["shapes"]:
        points = _numbers(shape.get("points")) if isinstance(shape, dict) else ()
        if not points:
            annotated.left_out["without a shape"] += 1
            continue
        if shape.get("shape_type") == "circle" and len(points) == 2:
            (x, y), edge = points[0], math.dist(*points)
            points = ((x - edge, y - edge), (x + edge, y + edge))
        if not (label := str(shape.get("label") or "")):
            annotated.left_out["without a class"] += 1
            continue
        annotated.add(name, AnnotatedShape(label, points))
    return annotated


def _size(width: Any, height: Any) -> tuple[float, float]:
    """Width and height as they are stated; zeros where they are not."""
    try:
        return float(width), float(height)
    except (TypeError, ValueError):
        return 0.0, 0.0


def _voc(root: Any, file: Path) -> Annotated:
    """Pascal VOC: `object` elements of one picture."""
    annotated = Annotated()
    name = _own_picture(file, (root.findtext("filename") or "").strip())
    annotated.pictures[name] = []
    annotated.sizes[name] = _size(root.findtext("size/width"), root.findtext("size/height"))
    for thing in root.iter("object"):
        corners = [thing.findtext(f"bndbox/{n}") for n in ("xmin", "ymin", "xmax", "ymax")]
        points = _numbers([corners[:2], corners[2:]])
        label = (thing.findtext("name") or "").strip()
        if not points or not label:
            annotated.left_out["without a shape" if label else "without a class"] += 1
            continue
        annotated.add(name, AnnotatedShape(label, points))
    return annotated


def _picture_beside(file: Path) -> str:
    stem = file.name.removesuffix(file.suffix)
    suffixes = (*_PICTURES, ".ome.tif", ".ome.tiff")
    for name in (stem, *(f"{stem}{s}" for s in suffixes), *(f"{stem}{s.upper()}" for s in suffixes)):
        for folder in ("", "images/"):
            path = file.parent / f"{folder}{name}"
            if path.suffix.lower() in _PICTURES and path.is_file():
                return f"{folder}{name}"
    raise BadDataset(f"{file.name}: QuPath names no picture, and there is no {stem}.png, .jpg or .tif beside it.")


Points = tuple[tuple[float, float], ...]


def _parts(geometry: Any) -> Iterator[Points]:
    """The outer outlines, or the points, of a GeoJSON geometry."""
    if not isinstance(geometry, dict):
        return
    kind, places = geometry.get("type"), geometry.get("coordinates")
    if kind == "GeometryCollection":
        for one in geometry.get("geometries") or ():
            yield from _parts(one)
        return
    lists: dict[str, list[Any]] = {
        "Point": [[places]],
        "LineString": [places],
        "Polygon": [(places or [None])[0]] if isinstance(places, list) else [],
    }
    if kind == "MultiPoint":
        lists[kind] = [[p] for p in places or ()]
    elif kind == "MultiPolygon":
        lists[kind] = [p[0] for p in places or () if isinstance(p, list) and p]
    for points in lists.get(str(kind), []):
        if coordinates := _numbers(points):
            yield coordinates


def _numbers(points: Any) -> Points:
    """Pairs of finite numbers; none where something else stands among them."""
    try:
        pairs = tuple((float(p[0]), float(p[1])) for p in points)
    except (TypeError, ValueError, IndexError, KeyError):
        return ()
    return pairs if all(math.isfinite(v) for p in pairs for v in p) else ()


_SHAPES = ("box", "polygon", "polyline", "points", "ellipse", "mask", "cuboid", "skeleton")


def _of_xml(file: Path) -> Annotated | None:
    """ "CVAT for images": `image` elements with boxes, polygons, points and ellipses; or Pascal VOC."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    root = etree.fromstring(file.read_bytes(), parser)
    if root.tag == "annotation":
        return _voc(root, file)
    if root.tag != "annotations":
        return None
    annotated = Annotated()
    for image in root.iter("image"):
        name = (image.get("name") or "").replace("\\", "/")
        if not name:
            annotated.left_out["without a picture"] += sum(1 for _ in image)
            continue
        annotated.pictures.setdefault(name, [])
        annotated.splits[name] = image.get("subset", "").lower()
        annotated.sizes[name] = _size(image.get("width"), image.get("height"))
        for element in image.iterchildren(*_SHAPES):
            if not (label := element.get("label")):
                annotated.left_out["without a class"] += 1
                continue
            parts = _cvat_points(element)
            if not parts:
                annotated.left_out["without a shape"] += 1
            for points in parts:
                annotated.add(name, AnnotatedShape(label, points))
    annotated.left_out["of a video track"] += sum(1 for _ in root.iter("track"))
    annotated.left_out += Counter()  # without zeros
    return annotated


def _cvat_points(element: Any) -> list[Points]:
    def corners(*names: str) -> list[float]:
        return [float(element.get(n, "nan")) for n in names]

    try:
        if element.tag == "box":
            x1, y1, x2, y2 = corners("xtl", "ytl", "xbr", "ybr")
            outline = _turned([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], float(element.get("rotation") or 0))
            return [p for p in [_numbers(outline)] if p]
        if element.tag == "ellipse":
            cx, cy, rx, ry = corners("cx", "cy", "rx", "ry")
            return [p for p in [_numbers([(cx - rx, cy - ry), (cx + rx, cy + ry)])] if p]
        if element.tag == "mask":
            left, top, width, height = corners("left", "top", "width", "height")
            return [p for p in [_numbers([(left, top), (left + width, top + height)])] if p]
        pairs = [p.split(",") for p in (element.get("points") or "").split(";") if p]
    except ValueError:
        return []
    parts = [[p] for p in pairs] if element.tag == "points" else [pairs]
    return [p for p in map(_numbers, parts) if p]


def _turned(points: Sequence[tuple[float, float]], degrees: float) -> list[tuple[float, float]]:
    """Points turned about their middle, clockwise on the screen."""
    if not degrees:
        return list(points)
    cx, cy = sum(p[0] for p in points) / len(points), sum(p[1] for p in points) / len(points)
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [(cx + (x - cx) * c - (y - cy) * s, cy + (x - cx) * s + (y - cy) * c) for x, y in points]


def _is_label_studio(content: Any) -> bool:
    return isinstance(content, list) and any(
        isinstance(t, dict) and ("annotations" in t or "data" in t or _minimal_results(t)) for t in content[:5]
    )


def _minimal_results(task: Any) -> list[Any]:
    """The results of a task as the export JSON-MIN has them: under the names of the labels, without what is around them."""
    lists = [v for v in task.values() if isinstance(v, list)] if isinstance(task, dict) else []
    return [r for results in lists for r in results if isinstance(r, dict) and "original_width" in r]


def _label_studio(content: list[Any]) -> Annotated:
    """Tasks with annotations whose values are per cent of the picture's size."""
    annotated = Annotated()
    for task in content:
        minimal = _minimal_results(task)
        data = task if minimal else task.get("data") if isinstance(task, dict) else None
        name = (
            next((v for k in ("image", "img", "picture", "url") if isinstance(v := (data or {}).get(k), str)), "") if data else ""
        )
        name = name or next((v for v in (data or {}).values() if isinstance(v, str) and v.lower().endswith(_PICTURES)), "")
        if not name:
            annotated.left_out["without a picture"] += 1
            continue
        name = _studio_name(task, name)
        annotated.pictures.setdefault(name, [])
        for result in minimal:
            _studio_result(
                annotated, name, {"value": result, **{k: result.get(k) for k in ("original_width", "original_height")}}
            )
        for annotation in task.get("annotations") or ():
            if not isinstance(annotation, dict) or annotation.get("was_cancelled"):
                annotated.left_out["cancelled"] += 1
                continue
            for result in annotation.get("result") or ():
                _studio_result(annotated, name, result)
    return annotated


def _studio_name(task: Mapping[str, Any], name: str) -> str:
    """The picture's own name: Label Studio serves `/data/upload/1/0123abcd-a.jpg`, or `?d=folder/a.jpg` of a local folder."""
    if upload := task.get("file_upload"):
        name = str(upload)
    name = unquote(name.split("?d=")[-1]).replace("\\", "/").rpartition("/")[2]
    head, dash, tail = name.partition("-")
    return tail if dash and len(head) == 8 and all(c in "0123456789abcdef" for c in head) else name


def _studio_result(annotated: Annotated, name: str, result: Any) -> None:
    value = result.get("value") if isinstance(result, dict) else None
    if not isinstance(value, dict):
        annotated.left_out["without a shape"] += 1
        return
    kind = str(result.get("type", ""))
    labels = next((v for k, v in value.items() if k.endswith("labels") and isinstance(v, list)), [])
    try:
        wide, high = float(result["original_width"]) / 100, float(result["original_height"]) / 100
        annotated.sizes[name] = _size(result["original_width"], result["original_height"])
        if "points" in value:
            places = [(float(x) * wide, float(y) * high) for x, y in value["points"]]
        elif "radiusX" in value:
            x, y, rx, ry = (float(value[k]) for k in ("x", "y", "radiusX", "radiusY"))
            places = [((x - rx) * wide, (y - ry) * high), ((x + rx) * wide, (y + ry) * high)]
        elif kind.startswith("keypoint") or "keypointlabels" in value:
            places = [(float(value["x"]) * wide, float(value["y"]) * high)]
        else:
            x, y, w, h = (float(value[k]) for k in ("x", "y", "width", "height"))
            places = _studio_box(x * wide, y * high, w * wide, h * high, float(value.get("rotation") or 0))
        points = _numbers(places)
    except (KeyError, TypeError, ValueError):
        points = ()
    if not points:
        annotated.left_out["without a shape"] += 1
    elif not labels:
        annotated.left_out["without a class"] += 1
    for label in labels if points else ():
        annotated.add(name, AnnotatedShape(str(label), points))


def _studio_box(x: float, y: float, w: float, h: float, degrees: float) -> list[tuple[float, float]]:
    """A box turned about its upper left corner, as Label Studio turns."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [(x + dx * c - dy * s, y + dx * s + dy * c) for dx, dy in ((0, 0), (w, 0), (w, h), (0, h))]


def picture_path(root: Path, name: str) -> Path:
    """Where a picture that an export names lies: as named, by its last name, or below `images`; also with the eight digits that
    Label Studio puts before a name. Raises BadInput.
    """
    name = name.replace("\\", "/")
    tail = name.rpartition("/")[2]
    folders = (root, *(root / n for n in ("images", "JPEGImages")))
    for path in (root / name, root / tail, root / "images" / name, *(f / tail for f in folders[1:])):
        if path.is_file():
            return path
    prefixed = [
        p for f in folders for p in f.glob(f"*-{glob.escape(tail)}") if re.fullmatch("[0-9a-f]{8}", p.name.partition("-")[0])
    ]
    if tail and len(prefixed) == 1:
        return prefixed[0]
    raise BadInput(f"there is no picture {name!r} in {root}.")
