"""The recipe of labelled sets, and reading such sets: tables of pictures, points, boxes, masks; folders; an atlas; figures.

Knows where each set keeps its pictures and labels, and gives `LabelSetItem`s: one picture to be, with class, group and its own
words. It composes nothing (see `labels`).
"""

from __future__ import annotations

import csv
import json
import random
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.recipes import read_recipe
from pathasst.imaging.pictures import read_header, read_labels


class Strict(BaseModel):
    """Unknown keys are an error, so that a slip of the pen in a recipe is seen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Concept(Strict):
    """Something a caption can say: its names, and sentences' worth of textbook morphology."""

    names: list[str] = Field(min_length=1)
    shows: list[str] = Field(default_factory=list)


class Templates(Strict):
    """Wordings of one modality; `{name}`, `{shows}` and `{method}` are filled in."""

    short: list[str] = Field(min_length=1)
    long: list[str] = Field(default_factory=list)


class Counts(Strict):
    """Captions of whole fields: one sentence with the counts of the marked classes."""

    label: list[str]
    sentence: str


class LabelSet(Strict):
    """One labelled set: where its pictures are, how to cut them, and what is true of each class."""

    id: str
    kind: Literal["image", "cell", "box", "mask", "field", "folder", "atlas", "figures", "captioned"]
    title: str
    licence: str
    modality: str
    research_only: bool = False
    table: str = ""  # CSV with `image`, `label` and, by kind, x y | xmin ymin xmax ymax | mask
    folder: str = ""
    group: str = ""  # column that copies of one original share; empty: the picture itself
    stratify: bool = False  # small sets: split within each class, by the rank of the hash
    method: str = ""  # how the sample was made, for the templates
    captions: int = 4  # per picture
    side: int = 128  # cell: edge of the square around the point, px
    context: float = 1.0  # box: edge of the square as a multiple of the longer side of the box
    tile: int = 0  # mask, field: edge of the tiles, px
    per_image: int = 0  # cell, box: at most so many of a class from one picture; 0 = all
    values: dict[str, int] = Field(default_factory=dict)  # mask: class → grey value
    classes: dict[str, list[str]] = Field(default_factory=dict)  # class → concepts, the most specific first
    counts: Counts | None = None
    column: str = "label"  # image: which column is the class
    states: dict[str, str] = Field(
        default_factory=dict
    )  # captioned: column → concept, `{}` is the column's value, most specific first
    named: dict[str, str] = Field(
        default_factory=dict
    )  # captioned: value of any of these columns → concept, in place of `states`
    always: list[str] = Field(default_factory=list)  # captioned: concepts true of every picture
    keep: str = ""  # figures: captions that match …
    leave: str = ""  # … and do not match


class LabelRecipe(Strict):
    """The whole recipe. Raises BadSettings (from `load`) for unknown concepts and modalities."""

    seed: int = 0
    split: dict[str, float] = Field(default_factory=lambda: {"val": 0.1, "test": 0.2})
    max_side: int = 512
    templates: dict[str, Templates]
    concepts: dict[str, Concept]
    sets: list[LabelSet]

    @classmethod
    def load(cls, path: Path | str = "embedded") -> LabelRecipe:
        """A recipe by name or YAML path; raises BadSettings with the place of the faults."""
        try:
            recipe = cls.model_validate(read_recipe("clip_labels", str(path)))
        except ValidationError as error:
            raise BadSettings(f"{path}: {error}") from error
        for one in recipe.sets:
            if one.modality not in recipe.templates:
                raise BadSettings(f"{path}: set {one.id} has modality {one.modality!r}, for which there are no templates.")
            for name in {c for true in one.classes.values() for c in true} | set(one.counts.label if one.counts else ()):
                if name not in recipe.concepts:
                    raise BadSettings(f"{path}: set {one.id} uses the concept {name!r}, which is not defined.")
        return recipe

    def true_of(self) -> dict[str, list[str]]:
        """`Pair.label` ("<set>/<class>") → the concepts that are true of it."""
        table = {f"{s.id}/{c}": true for s in self.sets for c, true in s.classes.items()}
        return table | {f"{s.id}/field": s.counts.label for s in self.sets if s.counts}


@dataclass(frozen=True)
class LabelSetItem:
    """One picture to be: a file, the part of it, its class and group; `words` are captions of its own."""

    path: Path
    label: str
    group: str
    box: tuple[int, int, int, int] | None = None
    words: list[str] = field(default_factory=list)
    doi: str = ""
    split: str = ""  # set for stratified sets; empty: by the hash of the group
    concepts: list[str] = field(default_factory=list)  # true of this picture, where its class does not say them


def read_items(one: LabelSet, data: Path) -> list[LabelSetItem]:
    """Every picture of a set, in a fixed order. Raises BadInput when its files are not there."""
    place = data / (one.table or one.folder)
    if not place.exists():
        raise BadInput(f"set {one.id}: {place} is missing")
    readers = {
        "image": _read_images,
        "cell": _read_crops,
        "box": _read_crops,
        "mask": _read_masks,
        "field": _read_fields,
        "folder": _read_folder,
        "atlas": _read_atlas,
        "figures": _read_figures,
        "captioned": _read_captioned,
    }
    return readers[one.kind](one, place)


def _rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _read_images(one: LabelSet, table: Path) -> list[LabelSetItem]:
    return [
        LabelSetItem(table.parent / name, r[one.column], r[one.group] if one.group else name)
        for r in _rows(table)
        if r[one.column] in one.classes
        for name in (r.get("image") or r["file"],)
    ]


def _read_captioned(one: LabelSet, table: Path) -> list[LabelSetItem]:
    """Pictures whose columns say what is true of them: concepts by `states`, a `caption` of their own where there is one."""
    items = []
    for r in _rows(table):
        stated = [one.named.get(r[column], form.format(r[column])) for column, form in one.states.items() if r[column]]
        concepts = list(dict.fromkeys([*stated, *one.always]))
        words = [r["caption"]] if r.get("caption") else []
        items.append(LabelSetItem(table.parent / r["file"], "; ".join(concepts), r[one.group], words=words, concepts=concepts))
    return items


def _read_crops(one: LabelSet, table: Path) -> list[LabelSetItem]:
    counts: Counter[tuple[str, str]] = Counter()
    items = []
    rows = _rows(table)
    random.Random(one.id).shuffle(rows)  # not the first n of a picture, which lie in one corner
    for r in rows:
        if r["label"] not in one.classes or (one.per_image and counts[r["image"], r["label"]] >= one.per_image):
            continue
        counts[r["image"], r["label"]] += 1
        items.append(LabelSetItem(table.parent / r["image"], r["label"], r["image"], _square(one, r)))
    return sorted(items, key=lambda i: (str(i.path), i.label, i.box or ()))


def _square(one: LabelSet, row: dict[str, str]) -> tuple[int, int, int, int]:
    if one.kind == "cell":
        x, y, side = float(row["x"]), float(row["y"]), float(one.side)
    else:
        x1, y1, x2, y2 = (float(row[c]) for c in ("xmin", "ymin", "xmax", "ymax"))
        x, y, side = (x1 + x2) / 2, (y1 + y2) / 2, max(x2 - x1, y2 - y1) * one.context
    left, top, edge = round(x - side / 2), round(y - side / 2), max(round(side), 8)
    return left, top, left + edge, top + edge


def _read_masks(one: LabelSet, table: Path) -> list[LabelSetItem]:
    """Tiles (half overlapping) of which nine tenths of the tissue belong to one class."""
    items = []
    for r in _rows(table):
        mask = read_labels(table.parent / r["mask"])
        for top in range(0, max(1, mask.shape[0] - one.tile + 1), max(1, one.tile // 2)):
            for left in range(0, max(1, mask.shape[1] - one.tile + 1), max(1, one.tile // 2)):
                tile = mask[top : top + one.tile, left : left + one.tile]
                shares = {name: float((tile == value).mean()) for name, value in one.values.items()}
                name, share = max(shares.items(), key=lambda s: s[1])
                if share >= 0.6 and share >= 0.9 * sum(shares.values()):
                    box = (left, top, left + one.tile, top + one.tile)
                    items.append(LabelSetItem(table.parent / r["image"], name, r["image"], box))
    return items


def _read_fields(one: LabelSet, table: Path) -> list[LabelSetItem]:
    """Whole pictures, or tiles of them, with the count of marked objects inside."""
    by_image: dict[str, list[dict[str, str]]] = defaultdict(list)
    for r in _rows(table):
        by_image[r["image"]].append(r)
    classes = sorted({r["label"] for rows in by_image.values() for r in rows})
    items = []
    for name in sorted(by_image):
        size = read_header(table.parent / name)
        width, height = size.width, size.height
        edge_x, edge_y = one.tile or width, one.tile or height
        for top in range(0, height - edge_y + 1, edge_y):
            for left in range(0, width - edge_x + 1, edge_x):
                box = (left, top, left + edge_x, top + edge_y)
                counts = Counter(r["label"] for r in by_image[name] if _inside(r, box))
                numbers: dict[str, Any] = {c: counts[c] for c in classes} | {"all": sum(counts.values())}
                words = [one.counts.sentence.format(**numbers)] if one.counts else []
                items.append(LabelSetItem(table.parent / name, "field", name, box if one.tile else None, words))
    return items


def _inside(row: dict[str, str], box: tuple[int, int, int, int]) -> bool:
    if "x" in row:
        x, y = float(row["x"]), float(row["y"])
    else:
        x, y = (float(row["xmin"]) + float(row["xmax"])) / 2, (float(row["ymin"]) + float(row["ymax"])) / 2
    return box[0] <= x < box[2] and box[1] <= y < box[3]


def _read_folder(one: LabelSet, folder: Path) -> list[LabelSetItem]:
    label = next(iter(one.classes))
    return [
        LabelSetItem(p, label, p.name) for p in sorted(folder.iterdir()) if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".tif")
    ]


def _read_atlas(one: LabelSet, folder: Path) -> list[LabelSetItem]:
    """Overview pictures of the open atlas; the caption is the heading above the picture and the chapter's title."""
    from lxml import html

    pictures = {p.stem.removeprefix("thumbnail_"): p for p in sorted(folder.rglob("*.jpg"))}
    items: dict[Path, LabelSetItem] = {}
    for page in sorted(folder.glob("*.html")):
        chapter = heading = ""
        for node in html.parse(str(page)).iter("h1", "h2", "h3", "h4", "h5", "img"):
            if node.tag != "img":
                heading = re.sub(r"^[\d.\s\xa0]+", "", " ".join(node.text_content().split()))
                chapter = heading if node.tag == "h1" else chapter
                continue
            stem = Path(node.get("src") or "").stem.removeprefix("thumbnail_")
            if stem in pictures and heading:
                topic = chapter.removeprefix("Pathology of ").lower()
                words = [f"{heading}, histopathology.", f"A histopathology whole slide overview of {heading.lower()} ({topic})."]
                items.setdefault(pictures[stem], LabelSetItem(pictures[stem], "", stem, None, words))
    return list(items.values())


def _read_figures(one: LabelSet, folder: Path) -> list[LabelSetItem]:
    """Single-panel figures of articles with a caption that speaks of microscopy; the caption is the authors'."""
    keep, leave = re.compile(one.keep or ".", re.I), re.compile(one.leave or "(?!)", re.I)
    rows = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    return [
        LabelSetItem(folder / "figures" / r["image"], "", r["pmcid"], None, [r["caption_jats"]], r.get("doi", ""))
        for r in rows
        if len(r.get("panel_boxes") or []) == 1 and keep.search(r["caption_jats"]) and not leave.search(r["caption_jats"])
    ]
