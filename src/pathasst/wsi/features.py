"""PathCLIP on a whole slide: a vector for each tile, and what texts and other slides have to do with them.

The file is HDF5 in TRIDENT's layout: `features` float32 [n, d], `coords` int64 [n, 2] (upper left corner, px of the finest level)
with the attributes of the tiling, so that programs for multiple-instance learning read it.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax

from pathasst.core.errors import BadDataset, BadInput, BadSettings
from pathasst.core.files import fingerprint, write_atomic
from pathasst.dataset.shards import read
from pathasst.dataset.stage import Dropped, Unit, run_stage
from pathasst.imaging.geojson import box_geometry, feature
from pathasst.imaging.pictures import encode_jpeg
from pathasst.imaging.slides import Slide, open_slide
from pathasst.imaging.slides.grid import SlideTile, read_ahead, tiles_of
from pathasst.imaging.slides.tissue import find_tissue
from pathasst.wsi.plans import scale_of

if TYPE_CHECKING:
    from pathasst.clip.model import DualEncoder

BATCH = 32
PER_UNIT = 256
TOP = 10
"""Tiles that a slide's label is pooled over by default (MI-Zero: top-k mean)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileVector:
    """A tile and its unit embedding: a row of the stage."""

    x: float
    y: float
    side: float  # px of the finest level
    vector: list[float]


def write_features(
    slide: Slide,
    model: str,
    file: Path,
    *,
    um_per_px: float = 0.5,
    size: int = 224,
    least_tissue: float = 0.25,
    clip: DualEncoder | None = None,
    progress: bool = True,
) -> SlideFeatures:
    """Embed the slide's tissue tile by tile into an HDF5 file; an interrupted call goes on (its parts lie in `<file>.parts`).

    `model`: id or folder of PathCLIP; `clip`: that model, if it is loaded already.
    Raises BadInput for a slide of unknown scale or without tissue, MissingWeights.
    """
    finest = scale_of(slide)
    shrink = max(slide.tile_downsample(um_per_px), 1.0)
    tiles = tiles_of(slide, shrink, size, 0, find_tissue(slide), least_tissue)
    if not tiles:
        raise BadInput(f"{slide.name}: no tissue was found to embed.")
    if clip is None:
        from pathasst.clip.onnx import load

        clip = load(model, threads=0)
    parts = file.with_name(f"{file.name}.parts")
    stat = slide.path.stat()
    identity = {
        "slide": [slide.name, stat.st_size, stat.st_mtime_ns],
        "tiles": [finest, shrink, size, least_tissue],
        "model": clip.fingerprint(),
    }
    starts = range(0, len(tiles), PER_UNIT)
    units = [Unit(f"{n // PER_UNIT:06d}", [str(n)], fingerprint({"n": len(tiles[n : n + PER_UNIT])})) for n in starts]
    work = _Work(slide, clip, tuple(tiles))
    file.parent.mkdir(parents=True, exist_ok=True)
    run_stage(parts, stage="slide features", record=TileVector, units=units, work=work, settings=identity, progress=progress)
    rows = list(read(parts, TileVector))
    if not rows:
        raise BadInput(f"{slide.name}: none of its {len(tiles)} tiles could be read.")
    side = round(rows[0].side)  # all tiles of a slide have one size
    attributes = {
        "patch_size": tiles[0].size[0],
        "patch_size_level0": side,
        "level0_magnification": slide.objective_power or round(10 / finest),
        "target_magnification": round(10 / (finest * shrink), 2),
        "overlap": 0,
        "name": slide.path.stem,
        "savetodir": str(file.parent),
        "level0_width": slide.size[0],
        "level0_height": slide.size[1],
        "um_per_px_level0": finest,
        "encoder": clip.version,
    }
    coords = np.array([(round(r.x), round(r.y)) for r in rows], np.int64)
    vectors = np.array([r.vector for r in rows], np.float32)
    _write(file, coords, vectors, attributes)
    return SlideFeatures(file)


def _write(file: Path, coords: np.ndarray, vectors: np.ndarray, attributes: Mapping[str, Any]) -> None:
    import h5py

    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        with h5py.File(temporary, "w") as content:
            content.create_dataset("features", data=vectors)
            content.create_dataset("coords", data=coords)
            for name, value in attributes.items():
                content["coords"].attrs[name] = value
            for name in ("name", "savetodir", "encoder"):
                content["features"].attrs[name] = attributes[name]
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


@dataclass
class _Work:
    """Embeds the tiles of one unit, in this process."""

    slide: Slide
    clip: DualEncoder
    tiles: tuple[SlideTile, ...]

    def __call__(self, unit: Unit) -> Iterator[TileVector | Dropped]:
        start = int(unit.paths[0])
        waiting: list[tuple[SlideTile, np.ndarray]] = []
        for tile, region in read_ahead(self.slide, self.tiles[start : start + PER_UNIT], ahead=BATCH):
            if isinstance(region, BadInput):
                yield Dropped(str(tile.number), "unreadable", str(region))
                continue
            waiting.append((tile, region.image))
            if len(waiting) == BATCH:
                yield from self._embedded(waiting)
                waiting = []
        yield from self._embedded(waiting)

    def _embedded(self, some: list[tuple[SlideTile, np.ndarray]]) -> Iterator[TileVector]:
        if some:
            vectors = self.clip.encode_image(image for _, image in some)
            for (tile, _), vector in zip(some, vectors, strict=True):
                x1, y1, x2, _ = tile.window
                yield TileVector(x=x1, y=y1, side=x2 - x1, vector=vector.tolist())


class SlideFeatures:
    """The vectors of a slide's tiles. `features` float32 [n, d] unit rows, `coords` int64 [n, 2], `side` px of the finest level.

    Raises BadDataset for a file that has no such layout.
    """

    def __init__(self, file: Path | str) -> None:
        import h5py

        self.file = Path(file)
        try:
            with h5py.File(self.file, "r") as content:
                self.features = np.asarray(content["features"], np.float32).reshape(-1, content["features"].shape[-1])
                coords = content["coords"]
                self.coords = np.asarray(coords, np.int64).reshape(-1, 2)
                self.attributes: dict[str, Any] = dict(coords.attrs)
            self.side = int(self.attributes["patch_size_level0"])
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise BadDataset(f"{file} is no file of slide features (HDF5 with `features` and `coords`): {error}") from error
        self.encoder = str(self.attributes.get("encoder", ""))

    @cached_property
    def embedding(self) -> np.ndarray:
        """The slide's own vector: the mean of its tiles', as a unit vector; float32 [d]."""
        mean = self.features.mean(0)
        return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9), np.float32)

    def text_scores(self, clip: DualEncoder, text: str | Sequence[str]) -> np.ndarray:
        """Cosine of each tile with a text (or the mean of several): float32 [n]. Raises BadSettings for another model's file."""
        self._of(clip)
        prompts = [text] if isinstance(text, str) else list(text)
        return np.asarray(self.features @ clip.encode_classes([prompts])[0], np.float32)

    def classify(self, clip: DualEncoder, labels: Mapping[str, Sequence[str]], top: int = TOP) -> dict[str, float]:
        """Zero-shot label of the slide by top-k pooling (MI-Zero): probabilities, most probable first.

        A class's score is the mean cosine of the `top` tiles that fit it best. `labels`: label → prompts.
        """
        if top < 1 or len(labels) < 2:
            raise BadSettings("give two or more labels, and at least one tile to pool over.")
        scores = [np.sort(self.text_scores(clip, prompts))[-top:].mean() for prompts in labels.values()]
        logits = clip.logit_scale * np.array(scores)
        pairs = zip(labels, softmax(logits).tolist(), strict=True)
        return dict(sorted(pairs, key=lambda item: -item[1]))

    def nearest(self, vector: np.ndarray, count: int = 10) -> list[tuple[int, int, float]]:
        """The tiles nearest to a unit vector, best first: x, y of the finest level, cosine."""
        scores = self.features @ vector
        best = np.argsort(-scores, kind="stable")[:count]
        return [(int(self.coords[n, 0]), int(self.coords[n, 1]), float(scores[n])) for n in best]

    def vector_at(self, x: float, y: float) -> np.ndarray:
        """The vector of the tile around a place. Raises BadInput where there is none."""
        inside = np.flatnonzero(((self.coords <= [x, y]) & (self.coords + self.side > [x, y])).all(1))
        if not len(inside):
            raise BadInput(f"there is no tile at {x:g}, {y:g}: no tissue was found there.")
        return np.asarray(self.features[inside[0]])

    def _of(self, clip: DualEncoder) -> None:
        if self.encoder and self.encoder != clip.version:
            raise BadSettings(f"{self.file.name} was made by {self.encoder}, not by {clip.version}: embed the slide again.")


def write_heat_map(slide: Slide, features: SlideFeatures, scores: np.ndarray, out: Path, name: str, text: str) -> list[Path]:
    """`<name>.jpg`, the slide under the scores, and `<name>.geojson`, the tiles with their scores."""
    import cv2

    from pathasst.wsi.pictures import colours

    out.mkdir(parents=True, exist_ok=True)
    image = np.ascontiguousarray(slide.overview(1600).image)
    factor = slide.size[0] / image.shape[1]
    low, high = np.percentile(scores, [5, 99])
    relative = np.clip((scores - low) / max(float(high - low), 1e-6), 0, 1)
    values, alpha = np.zeros(image.shape[:2], np.float32), np.zeros(image.shape[:2], np.float32)
    for (x, y), value in zip(features.coords / factor, relative, strict=True):
        x1, y1, x2, y2 = round(x), round(y), round(x + features.side / factor), round(y + features.side / factor)
        values[y1:y2, x1:x2], alpha[y1:y2, x1:x2] = value, 0.5
    heat = colours(np.maximum(values, 1e-3))[..., :3]
    mixed = image * (1 - alpha[..., None]) + heat * alpha[..., None]
    picture = mixed.astype(np.uint8)
    words = text.encode("ascii", "replace").decode()  # OpenCV's font has no more
    cv2.putText(picture, words, (12, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (20, 20, 20), 2, cv2.LINE_AA)
    files = [out / f"{name}.jpg", out / f"{name}.geojson"]
    write_atomic(files[0], encode_jpeg(picture, 88))
    entries = []
    for number, ((x, y), score) in enumerate(zip(features.coords.tolist(), scores.tolist(), strict=True)):
        corners = x, y, min(x + features.side, slide.size[0]), min(y + features.side, slide.size[1])
        entries.append(feature(box_geometry(*corners), f"{text} {number}", text, {"cosine": round(score, 4)}))
    write_atomic(files[1], json.dumps({"type": "FeatureCollection", "features": entries}).encode())
    return files


def load_slide_features(slide: Path | str, features: Path | str, mpp: float | None = None) -> tuple[Slide, SlideFeatures]:
    """A slide and its features, which must be of the same size. Raises BadInput."""
    opened, vectors = open_slide(slide, mpp), SlideFeatures(features)
    size = tuple(int(vectors.attributes.get(f"level0_{side}", 0)) for side in ("width", "height"))
    if all(size) and size != opened.size:
        opened.close()
        raise BadInput(f"{os.fspath(features)} belongs to a slide of {size[0]}×{size[1]} px, not to {opened.name}.")
    return opened, vectors
