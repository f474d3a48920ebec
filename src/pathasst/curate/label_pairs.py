"""Class labels → pairs: captions composed from labels, for sets that have pictures with labels but no sentences.

A recipe (YAML) names *concepts* (names, textbook morphology) and *sets* (a table of pictures, boxes or points; which concepts are
true of each class). `compose` writes a dataset of Pair with several captions a picture: short prompts and sentences of more than
12 words. It knows nothing about training; `Pair.concept` and `Pair.label` are all a trainer needs to tell which captions are true
of which picture. Book pictures (`atlas`) and article figures (`figures`) get their own words, not composed ones.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.records import Mark, Pair, Source
from pathasst.curate.label_sets import Concept, LabelRecipe, LabelSet, LabelSetItem, read_items
from pathasst.dataset import Dropped, Manifest, Unit, run_stage
from pathasst.imaging.pictures import load, read_header

if TYPE_CHECKING:
    from PIL.Image import Image

STEP, BY = "labels", "labels@1"
ITEMS_PER_UNIT = 128


def compose(recipe: LabelRecipe, data: Path | str, out: Path | str, *, only: Iterable[str] = (), workers: int = 1) -> Manifest:
    """Write the dataset of Pair for all sets of the recipe whose files lie under `data` (missing sets are reported as failed).

    `only` limits it to sets of these ids. Raises BadSettings for an unknown id.
    """
    ids = set(only)
    if unknown := ids - {s.id for s in recipe.sets}:
        raise BadSettings(f"the recipe has no set {', '.join(sorted(unknown))}.")
    sets = [s for s in recipe.sets if not ids or s.id in ids]
    units = []
    for one in sets:
        try:
            total = len(read_items(one, Path(data)))
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


def captions_of(recipe: LabelRecipe, one: LabelSet, true: list[str], rng: random.Random) -> list[tuple[str, str]]:
    """`one.captions` different (caption, concept) for a picture: short and long in turn, mostly of the specific concept."""
    templates = recipe.templates[one.modality]
    by_text: dict[str, str] = {}
    for attempt in range(20 * one.captions):
        if len(by_text) == one.captions:
            break
        # Of captioned pictures every concept is said as often: their diagnosis is one of eighty, their organ one of thirty.
        specific = len(true) == 1 or (one.kind != "captioned" and rng.random() < 0.75)
        name = true[0] if specific else rng.choice(true if one.kind == "captioned" else true[1:])
        concept = recipe.concepts.get(name) or Concept(names=[name])
        long = templates.long and concept.shows and attempt % 2
        template = rng.choice(templates.long if long else templates.short)
        shows = rng.choice(concept.shows) if concept.shows else ""
        text = template.format(name=rng.choice(concept.names), shows=shows, method=one.method)
        by_text.setdefault(text[:1].upper() + text[1:], name)
    return list(by_text.items())


def _compose_unit(recipe: LabelRecipe, data: Path, unit: Unit) -> Iterator[Pair | Dropped]:
    id_, number = unit.paths
    one = next(s for s in recipe.sets if s.id == id_)
    start = int(number) * ITEMS_PER_UNIT
    items = read_items(one, data)
    if one.stratify:
        items = _stratified(items, recipe)
    for n, item in enumerate(items[start : start + ITEMS_PER_UNIT], start):
        try:
            yield from _pairs(recipe, one, item, n)
        except (OSError, BadInput) as error:
            yield Dropped(f"{one.id}/{item.path.name}", "unreadable", str(error))


def _stratified(items: list[LabelSetItem], recipe: LabelRecipe) -> list[LabelSetItem]:
    """The items with splits that hold the asked shares within each class; groups must not span classes."""
    by_class: dict[str, list[str]] = defaultdict(list)
    for item in items:
        if item.group not in by_class[item.label]:
            by_class[item.label].append(item.group)
    splits: dict[str, str] = {}
    for groups in by_class.values():
        ranked = sorted(groups, key=lambda g: hashlib.sha256(f"{recipe.seed}:{g}".encode()).hexdigest())
        edge = 0.0
        for name in sorted(recipe.split):
            first, edge = round(edge * len(ranked)), edge + recipe.split[name]
            splits |= dict.fromkeys(ranked[first : round(edge * len(ranked))], name)
    return [replace(item, split=splits.get(item.group, "train")) for item in items]


def _pairs(recipe: LabelRecipe, one: LabelSet, item: LabelSetItem, number: int) -> Iterator[Pair]:
    image, width, height = _picture(item, recipe.max_side)
    md5 = hashlib.md5(image, usedforsecurity=False).hexdigest()
    group = f"{one.id.removesuffix('_fields').removesuffix('_ki67')}:{item.group}"
    label = f"{one.id}/{item.label}" if item.label else ""
    true = item.concepts or recipe.true_of().get(label, [])
    rng = random.Random(f"{recipe.seed}:{one.id}:{item.path.name}:{number}")
    own = [(text, "") for text in item.words]
    composed = captions_of(recipe, one, true, rng) if true else []
    source = Source(article_id=one.id, kind="labels", title=one.title, licence=one.licence, doi=item.doi)
    if not true:
        source = Source(
            article_id=one.id, kind="book" if one.kind == "atlas" else "article", title=one.title, licence=one.licence
        )
    for k, (text, concept) in enumerate(own + composed):
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
            concept=concept,
            group=group,
            split=item.split or split_of(group, recipe.split, recipe.seed),
            trail=[Mark(step=STEP, by=BY, note="composed" if concept else "words of the source")],
        )


def _picture(item: LabelSetItem, max_side: int) -> tuple[bytes, int, int]:
    """The item's JPEG (or the file as it is, when nothing has to be cut or reduced), its width and height."""
    from PIL import Image

    content = item.path.read_bytes()
    header = read_header(content, name=item.path.name)
    if item.box is None and max(header.width, header.height) <= max_side:
        return content, header.width, header.height
    picture = Image.fromarray(load(content))
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


def _stamp(one: LabelSet, data: Path) -> str:
    place = data / (one.table or one.folder)
    return f"{place.stat().st_size}:{place.stat().st_mtime_ns}" if place.exists() else "missing"
