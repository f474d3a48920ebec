"""An atlas: pictures of known cases as vectors, and the cases nearest to a picture. Knows no diagnosis by itself.

A folder with `vectors.safetensors` (8-bit vectors, which case each is of, small WebP pictures, the space) and `cases.json`. The
vectors are those of the space in the same file (`nn.space`) or of a PathCLIP: another model's mean nothing.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pathasst.core import weights
from pathasst.core.errors import BadDataset, BadInput
from pathasst.nn.space import NETWORK, Space, unit_rows

VECTORS, CASES = "vectors.safetensors", "cases.json"
SHIPPED = "atlas-embedded"
SIDE = 144  # px of a thumbnail
BEST = 3  # pictures of a case that say how near it is
COLUMNS = ("organ", "diagnosis", "category", "stain", "caption", "link", "licence")


class PictureEncoder(Protocol):
    """Pictures → float32 [n, d], unit rows: a `Space`, or a PathCLIP."""

    def encode_image(self, images: Iterable[Any], batch: int = 32) -> np.ndarray: ...

    def fingerprint(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AtlasCase:
    """What is known of a case; what is not is empty."""

    case: str
    organ: str = ""
    diagnosis: str = ""
    category: str = ""
    stain: str = ""
    caption: str = ""
    link: str = ""
    licence: str = ""


@dataclass(frozen=True, slots=True)
class Similar:
    """A case and how near it is: the mean cosine of its nearest pictures, −1…1; `thumbnail` is a small picture of one of them."""

    case: AtlasCase
    similarity: float
    thumbnail: bytes


@dataclass(frozen=True, slots=True)
class AtlasPicture:
    """One picture to be part of an atlas."""

    picture: Path | bytes
    case: AtlasCase
    thumbnail: bool = False  # the one that stands for its case, if it can


@dataclass(slots=True)
class Atlas:
    """`vectors` float32 [n, d], unit rows; `of` int [n], the place in `cases` of each; `thumbnails`: a WebP for each case.

    `model`: id or folder of the PathCLIP whose vectors these are, or `efficientnet-lite0`, whose features go through `space`.
    """

    vectors: np.ndarray
    of: np.ndarray
    cases: list[AtlasCase]
    thumbnails: list[bytes]
    model: str = NETWORK
    fingerprint: str = ""
    space: Space | None = None

    @classmethod
    def load(cls, source: str | Path) -> Atlas:
        """By registry id or folder. Raises MissingWeights, BadInput."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = Path(source) if Path(source).is_dir() else weights.path(str(source))
        try:
            tensors = load_file(folder / VECTORS)
            stored = json.loads((folder / CASES).read_text(encoding="utf-8"))
            cases = [AtlasCase(**c) for c in stored["cases"]]
            space = Space.of(tensors) if "components" in tensors else None
            pictures = [tensors["thumbnails"][a:b].tobytes() for a, b in pairwise(tensors["edges"])]
            vectors = unit_rows(tensors["vectors"].astype(np.float32))
            return cls(vectors, tensors["of"], cases, pictures, stored["model"], stored["fingerprint"], space)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise BadInput(f"{folder} holds no atlas that `pathasst atlas build` made: {error}") from error

    def save(self, folder: Path) -> None:
        """Write `vectors.safetensors` and `cases.json`; the folder is made."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        scaled = np.round(self.vectors / np.abs(self.vectors).max(axis=1, keepdims=True) * 127).astype(np.int8)
        edges = np.cumsum([0, *map(len, self.thumbnails)]).astype(np.int64)
        content = np.frombuffer(b"".join(self.thumbnails), np.uint8)
        tensors = {"vectors": scaled, "of": self.of.astype(np.int32), "edges": edges, "thumbnails": content}
        save_file(tensors | (self.space.tensors() if self.space else {}), folder / VECTORS)
        stored = {"model": self.model, "fingerprint": self.fingerprint, "cases": [asdict(c) for c in self.cases]}
        (folder / CASES).write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def encoder(self) -> PictureEncoder:
        """What makes vectors of this atlas. Raises MissingWeights, BadInput where its PathCLIP is another one now."""
        if self.space is not None:
            return self.space
        from pathasst.clip.onnx import load

        clip = load(self.model)
        if clip.fingerprint() != self.fingerprint:
            raise BadInput(f"the atlas holds vectors of another {self.model}; build it again (`pathasst atlas build`).")
        return clip

    def nearest(self, vectors: np.ndarray, k: int = 3, leave_out: str = "") -> list[Similar]:
        """The k nearest cases of a picture, or of several of one field: unit vectors [d] or [m, d]. Each case comes once.

        `leave_out` names a case that is not to be answered.
        """
        cosines = np.atleast_2d(vectors) @ self.vectors.T
        nearness = np.full(len(self.cases), -2.0)
        for place in range(len(self.cases)):
            own = cosines[:, self.of == place]
            if own.shape[1] and self.cases[place].case != leave_out:
                nearness[place] = np.sort(own, axis=1)[:, -BEST:].mean()
        best: dict[str, Similar] = {}
        for i in np.argsort(-nearness):
            if nearness[i] > -2:
                best.setdefault(self.cases[i].case, Similar(self.cases[i], float(nearness[i]), self.thumbnails[i]))
        return list(best.values())[:k]


def build(
    sources: Sequence[AtlasPicture], encoder: PictureEncoder, model: str = NETWORK, report: Callable[[int], None] | None = None
) -> tuple[Atlas, int]:
    """The atlas of pictures, and how many could not be read. Raises BadDataset when none can be.

    `model`: the name of the encoder, as `Atlas.model` has it.
    """
    from pathasst.clip import pictures

    vectors, rows = pictures.embed(encoder, [s.picture for s in sources], report)
    if not rows:
        raise BadDataset("none of the pictures could be read.")
    places: dict[AtlasCase, int] = {}
    of = np.array([places.setdefault(sources[r].case, len(places)) for r in rows])
    first: dict[int, AtlasPicture] = {}
    for place, row in zip(of.tolist(), rows, strict=True):
        if place not in first or (sources[row].thumbnail and not first[place].thumbnail):
            first[place] = sources[row]
    thumbnails = [_thumbnail(first[place].picture) for place in range(len(places))]
    space = encoder if isinstance(encoder, Space) else None
    return Atlas(vectors, of, list(places), thumbnails, model, encoder.fingerprint(), space), len(sources) - len(rows)


def fitted_space(sources: Sequence[AtlasPicture], report: Callable[[int], None] | None = None) -> Space:
    """A space fitted to the pictures of an atlas. Raises BadDataset where fewer than 500 of them can be read."""
    from pathasst.clip.pictures import embed
    from pathasst.nn.multiscale import pooled

    class Features:
        def encode_image(self, images: Iterable[Any], batch: int = 32) -> np.ndarray:
            return pooled([np.asarray(i) for i in images], batch=batch)

        def fingerprint(self) -> str:
            return NETWORK

    return Space.fit(embed(Features(), [s.picture for s in sources], report)[0])


def read_sources(place: Path, link: str = "", licence: str = "") -> list[AtlasPicture]:
    """Pictures for an atlas: a CSV (`file`, `case`, and any of organ, diagnosis, category, stain, caption, link, licence), a
    dataset of pairs, or a folder of pictures, whose sub-folders are diagnoses.

    `link`, `licence`: of rows that name none; `{case}` stands for the case. Raises BadDataset.
    """
    if place.is_file():
        sources = list(_of_table(place))
    else:
        sources = list(_of_pairs(place) if (place / "manifest.json").is_file() else _of_folder(place))
    if not sources:
        raise BadDataset(f"{place} holds no pictures for an atlas.")
    return [
        replace(
            s, case=replace(s.case, link=s.case.link or link.replace("{case}", s.case.case), licence=s.case.licence or licence)
        )
        for s in sources
    ]


def _of_table(table: Path) -> Iterator[AtlasPicture]:
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name = row.get("file") or row.get("image")
            if not name:
                raise BadDataset(f"{table} needs a column `file`, and `case` for the case of each picture.")
            values = {c: row.get(c) or "" for c in COLUMNS}
            yield AtlasPicture(table.parent / name, AtlasCase(case=row.get("case") or name, **values), row.get("kind") == "10x")


def _of_pairs(folder: Path) -> Iterator[AtlasPicture]:
    from pathasst.core.records import Pair
    from pathasst.dataset import read

    pictures: set[str] = set()
    for pair in read(folder, Pair):
        if pair.md5 not in pictures:
            pictures.add(pair.md5)
            case = AtlasCase(
                case=pair.group or pair.figure_id, caption=pair.caption, licence=pair.source.licence, link=pair.source.doi
            )
            yield AtlasPicture(pair.image, case)


def _of_folder(folder: Path) -> Iterator[AtlasPicture]:
    from pathasst.clip.pictures import pictures_under

    for path in pictures_under(folder):
        diagnosis = path.parent.name if path.parent != folder else ""
        yield AtlasPicture(path, AtlasCase(case=path.stem, diagnosis=diagnosis))


def _thumbnail(picture: Path | bytes) -> bytes:
    from pathasst.clip.model import to_square
    from pathasst.imaging.pictures import load

    sink = io.BytesIO()
    small: Any = to_square(load(picture), SIDE)
    small.save(sink, "WEBP", quality=72, method=6)
    return sink.getvalue()
