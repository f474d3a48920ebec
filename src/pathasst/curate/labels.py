"""Class labels → pairs: captions composed from labels, for sets that have pictures with labels but no sentences.

A recipe (YAML) names *concepts* (names, textbook morphology) and *sets* (a table of pictures, boxes or points; which concepts are
true of each class). `compose` writes a dataset of Pair with several captions a picture: short prompts and sentences of more than
12 words. It knows nothing about training; `concept_of` and `Pair.label` are all a trainer needs to tell which captions are true
of which picture. Book pictures (`atlas`) and article figures (`figures`) get their own words, not composed ones.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pathasst.dataset import Dropped, Manifest, Unit, run_stage
from pathasst.errors import BadInput, BadSettings
from pathasst.records import Mark, Pair, Source

if TYPE_CHECKING:
    from PIL.Image import Image

STEP, BY = "labels", "labels@1"
ITEMS_PER_UNIT = 128
LONG_WORDS = 12  # captions of more words than this feed detailed descriptions (Instruction-following data generation)


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
    kind: Literal["image", "cell", "box", "mask", "field", "folder", "atlas", "figures"]
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
    def load(cls, path: Path | str) -> LabelRecipe:
        """Read a recipe; raises BadSettings with the place of the first faults."""
        import yaml

        try:
            recipe = cls.model_validate(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
        except (OSError, yaml.YAMLError, ValidationError) as error:
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
class Item:
    """One picture to be: a file, the part of it, its class and group; `words` are captions of its own."""

    path: Path
    label: str
    group: str
    box: tuple[int, int, int, int] | None = None
    words: list[str] = field(default_factory=list)
    doi: str = ""
    split: str = ""  # set for stratified sets; empty: by the hash of the group


def compose(recipe: LabelRecipe, data: Path | str, out: Path | str, *, only: Iterable[str] = (), workers: int = 1) -> Manifest:
    """Write the dataset of Pair for all sets of the recipe whose files lie under `data` (missing sets are reported as failed).

    `only` limits it to sets of these ids. Raises BadSettings for an unknown id.
    """
    wanted = set(only)
    if unknown := wanted - {s.id for s in recipe.sets}:
        raise BadSettings(f"the recipe has no set {', '.join(sorted(unknown))}.")
    sets = [s for s in recipe.sets if not wanted or s.id in wanted]
    units = []
    for one in sets:
        try:
            total = len(_items(one, Path(data)))
        except BadInput:
            total = 1  # the unit fails and says why
        parts = range(max(1, -(-total // ITEMS_PER_UNIT)))
        units += [Unit(f"{one.id}-{n:03d}", [one.id, str(n)], _stamp(one, Path(data))) for n in parts]
    settings = json.loads(recipe.model_dump_json())
    work = partial(_compose_unit, recipe, Path(data))
    return run_stage(out, stage="labels", record=Pair, units=units, work=work, settings=settings, workers=workers)


def split_of(group: str, shares: dict[str, float], seed: int = 0) -> str:
    """train, val or test by a hash of the group, so that it depends on nothing else and new data never moves old rows."""
    value = int(hashlib.sha256(f"{seed}:{group}".encode()).hexdigest()[:12], 16) / 16**12
    for name in sorted(shares):
        if value < shares[name]:
            return name
        value -= shares[name]
    return "train"


def concept_of(pair: Pair) -> str:
    """The concept that the caption of a composed pair states; empty for captions with words of their own."""
    for mark in pair.trail:
        if mark.step == STEP and mark.note.startswith("composed; concept: "):
            return mark.note.removeprefix("composed; concept: ")
    return ""


def captions_of(recipe: LabelRecipe, one: LabelSet, true: list[str], chance: random.Random) -> list[tuple[str, str]]:
    """`one.captions` different (caption, concept) for a picture: short and long in turn, the specific concept three times in four."""
    templates, made = recipe.templates[one.modality], {}
    for attempt in range(20 * one.captions):
        if len(made) == one.captions:
            break
        name = true[0] if len(true) == 1 or chance.random() < 0.75 else chance.choice(true[1:])
        concept = recipe.concepts[name]
        long = templates.long and concept.shows and attempt % 2
        template = chance.choice(templates.long if long else templates.short)
        shows = chance.choice(concept.shows) if concept.shows else ""
        text = template.format(name=chance.choice(concept.names), shows=shows, method=one.method)
        made.setdefault(text[:1].upper() + text[1:], name)
    return list(made.items())


def _compose_unit(recipe: LabelRecipe, data: Path, unit: Unit) -> Iterator[Pair | Dropped]:
    id_, number = unit.paths
    one = next(s for s in recipe.sets if s.id == id_)
    start = int(number) * ITEMS_PER_UNIT
    items = _items(one, data)
    if one.stratify:
        items = _stratified(items, recipe)
    for n, item in enumerate(items[start : start + ITEMS_PER_UNIT], start):
        try:
            yield from _pairs(recipe, one, item, n)
        except (OSError, BadInput) as error:
            yield Dropped(f"{one.id}/{item.path.name}", "unreadable", str(error))


def _stratified(items: list[Item], recipe: LabelRecipe) -> list[Item]:
    """The items with splits that hold the asked shares within each class; groups must not span classes."""
    by_class: dict[str, list[str]] = defaultdict(list)
    for item in items:
        if item.group not in by_class[item.label]:
            by_class[item.label].append(item.group)
    splits = {}
    for groups in by_class.values():
        ranked = sorted(groups, key=lambda g: hashlib.sha256(f"{recipe.seed}:{g}".encode()).hexdigest())
        edge = 0.0
        for name in sorted(recipe.split):
            first, edge = round(edge * len(ranked)), edge + recipe.split[name]
            splits |= dict.fromkeys(ranked[first : round(edge * len(ranked))], name)
    return [replace(item, split=splits.get(item.group, "train")) for item in items]


def _pairs(recipe: LabelRecipe, one: LabelSet, item: Item, number: int) -> Iterator[Pair]:
    image, width, height = _picture(item, recipe.max_side)
    md5 = hashlib.md5(image, usedforsecurity=False).hexdigest()
    group = f"{one.id.removesuffix('_fields').removesuffix('_ki67')}:{item.group}"
    label = f"{one.id}/{item.label}" if item.label else ""
    true = recipe.true_of().get(label, [])
    chance = random.Random(f"{recipe.seed}:{one.id}:{item.path.name}:{number}")
    own = [(text, "") for text in item.words]
    composed = captions_of(recipe, one, true, chance) if true else []
    source = Source(article_id=one.id, kind="labels", title=one.title, licence=one.licence, doi=item.doi)
    if not true:
        source = Source(article_id=one.id, kind="book" if one.kind == "atlas" else "article", title=one.title, licence=one.licence)
    for k, (text, concept) in enumerate(own + composed):
        note = f"composed; concept: {concept}" if concept else "words of the source"
        yield Pair(
            pair_id=f"{one.id}/{number:05d}:{k}",
            source=source,
            figure_id=f"{one.id}/{item.path.name}",
            image=image,
            md5=md5,
            width=width,
            height=height,
            caption=text,
            original=text,
            label=label,
            group=group,
            split=item.split or split_of(group, recipe.split, recipe.seed),
            trail=[Mark(step=STEP, by=BY, note=note)],
        )


def _picture(item: Item, max_side: int) -> tuple[bytes, int, int]:
    """The item's JPEG (or the file as it is, when nothing has to be cut or reduced), its width and height."""
    from PIL import Image

    with Image.open(item.path) as opened:
        if item.box is None and max(opened.size) <= max_side:
            return item.path.read_bytes(), opened.width, opened.height
        picture = opened.convert("RGB")
    if item.box is not None:
        picture = _crop(picture, item.box)
    if max(picture.size) > max_side:
        picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=93)
    return buffer.getvalue(), picture.width, picture.height


def _crop(picture: Image, box: tuple[int, int, int, int]) -> Image:
    """Cut a box, moved inside the picture where it sticks out, so that no black border shows."""
    width, height = min(box[2] - box[0], picture.width), min(box[3] - box[1], picture.height)
    left = min(max(box[0], 0), picture.width - width)
    top = min(max(box[1], 0), picture.height - height)
    return picture.crop((left, top, left + width, top + height))


def _items(one: LabelSet, data: Path) -> list[Item]:
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
    }
    return readers[one.kind](one, place)


def _rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _read_images(one: LabelSet, table: Path) -> list[Item]:
    return [
        Item(table.parent / r["image"], r["label"], r[one.group] if one.group else r["image"])
        for r in _rows(table)
        if r["label"] in one.classes
    ]


def _read_crops(one: LabelSet, table: Path) -> list[Item]:
    taken: Counter[tuple[str, str]] = Counter()
    items = []
    rows = _rows(table)
    random.Random(one.id).shuffle(rows)  # not the first n of a picture, which lie in one corner
    for r in rows:
        if r["label"] not in one.classes or (one.per_image and taken[r["image"], r["label"]] >= one.per_image):
            continue
        taken[r["image"], r["label"]] += 1
        items.append(Item(table.parent / r["image"], r["label"], r["image"], _square(one, r)))
    return sorted(items, key=lambda i: (str(i.path), i.label, i.box or ()))


def _square(one: LabelSet, row: dict[str, str]) -> tuple[int, int, int, int]:
    if one.kind == "cell":
        x, y, side = float(row["x"]), float(row["y"]), float(one.side)
    else:
        x1, y1, x2, y2 = (float(row[c]) for c in ("xmin", "ymin", "xmax", "ymax"))
        x, y, side = (x1 + x2) / 2, (y1 + y2) / 2, max(x2 - x1, y2 - y1) * one.context
    left, top, edge = round(x - side / 2), round(y - side / 2), max(round(side), 8)
    return left, top, left + edge, top + edge


def _read_masks(one: LabelSet, table: Path) -> list[Item]:
    """Tiles (half overlapping) of which nine tenths of the tissue belong to one class."""
    import numpy as np
    from PIL import Image

    items = []
    for r in _rows(table):
        with Image.open(table.parent / r["mask"]) as opened:
            mask = np.asarray(opened)
        for top in range(0, max(1, mask.shape[0] - one.tile + 1), max(1, one.tile // 2)):
            for left in range(0, max(1, mask.shape[1] - one.tile + 1), max(1, one.tile // 2)):
                tile = mask[top : top + one.tile, left : left + one.tile]
                shares = {name: float((tile == value).mean()) for name, value in one.values.items()}
                name, share = max(shares.items(), key=lambda s: s[1])
                if share >= 0.6 and share >= 0.9 * sum(shares.values()):
                    box = (left, top, left + one.tile, top + one.tile)
                    items.append(Item(table.parent / r["image"], name, r["image"], box))
    return items


def _read_fields(one: LabelSet, table: Path) -> list[Item]:
    """Whole pictures, or tiles of them, with the count of marked objects inside."""
    from PIL import Image

    by_image: dict[str, list[dict[str, str]]] = defaultdict(list)
    for r in _rows(table):
        by_image[r["image"]].append(r)
    classes = sorted({r["label"] for rows in by_image.values() for r in rows})
    items = []
    for name in sorted(by_image):
        with Image.open(table.parent / name) as opened:
            width, height = opened.size
        edge_x, edge_y = one.tile or width, one.tile or height
        for top in range(0, height - edge_y + 1, edge_y):
            for left in range(0, width - edge_x + 1, edge_x):
                box = (left, top, left + edge_x, top + edge_y)
                counts = Counter(r["label"] for r in by_image[name] if _inside(r, box))
                numbers: dict[str, Any] = {c: counts[c] for c in classes} | {"all": sum(counts.values())}
                words = [one.counts.sentence.format(**numbers)] if one.counts else []
                items.append(Item(table.parent / name, "field", name, box if one.tile else None, words))
    return items


def _inside(row: dict[str, str], box: tuple[int, int, int, int]) -> bool:
    if "x" in row:
        x, y = float(row["x"]), float(row["y"])
    else:
        x, y = (float(row["xmin"]) + float(row["xmax"])) / 2, (float(row["ymin"]) + float(row["ymax"])) / 2
    return box[0] <= x < box[2] and box[1] <= y < box[3]


def _read_folder(one: LabelSet, folder: Path) -> list[Item]:
    label = next(iter(one.classes))
    return [Item(p, label, p.name) for p in sorted(folder.iterdir()) if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".tif")]


def _read_atlas(one: LabelSet, folder: Path) -> list[Item]:
    """Overview pictures of the open atlas; the caption is the heading above the picture and the chapter's title."""
    from lxml import html

    pictures = {p.stem.removeprefix("thumbnail_"): p for p in sorted(folder.rglob("*.jpg"))}
    items: dict[Path, Item] = {}
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
                items.setdefault(pictures[stem], Item(pictures[stem], "", stem, None, words))
    return list(items.values())


def _read_figures(one: LabelSet, folder: Path) -> list[Item]:
    """Single-panel figures of articles with a caption that speaks of microscopy; the caption is the authors'."""
    keep, leave = re.compile(one.keep or ".", re.I), re.compile(one.leave or "(?!)", re.I)
    rows = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    return [
        Item(folder / "figures" / r["image"], "", r["pmcid"], None, [r["caption_jats"]], r.get("doi", ""))
        for r in rows
        if len(r.get("panel_boxes") or []) == 1 and keep.search(r["caption_jats"]) and not leave.search(r["caption_jats"])
    ]


def _stamp(one: LabelSet, data: Path) -> str:
    place = data / (one.table or one.folder)
    return f"{place.stat().st_size}:{place.stat().st_mtime_ns}" if place.exists() else "missing"
