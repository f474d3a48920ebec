"""What the columns of other people's rows mean: the picture, the words, the source. Knows names of columns, no files' forms."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pathasst.collect import licences
from pathasst.collect.own.rows import PICTURES
from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.records import Source

PICTURE = (
    "image_path", "image_file", "img_path", "filepath", "file_path", "file_name", "filename", "image_name", "image_filename",
    "img_name", "image", "img", "picture", "photo", "path", "file", "jpg", "png", "uuid", "image_id", "img_id", "tile_id",
    "patch_id",
)  # fmt: skip
"""Columns of the picture, best first: open_clip, img2dataset, Hugging Face, Quilt-1M, PathCap, ARCH (`uuid`), Open-PMC."""
CAPTION = (
    "refined_caption", "caption", "sub_caption", "subcaption", "captions", "image_caption", "figure_caption", "text",
    "corrected_text", "description", "title", "sentence", "report",
)  # fmt: skip
LABEL = ("label", "class", "class_name", "category")
GROUP = ("group", "original", "patient", "patient_id", "case", "case_id", "slide", "slide_id", "wsi_id")
SPLIT = ("split", "subset_split", "fold_split", "set")
ID = ("pair_id", "id", "sample_id", "uid", "uuid", "figure_id", "image_id", "key", "__key__")
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}
_SOURCE = {
    "pmcid": ("pmcid", "pmc_id", "pmc", "article_pmcid", "article_accession_id", "accession_id"),
    "pmid": ("pmid", "article_pmid", "pubmed_id"),
    "doi": ("doi", "article_doi"),
    "title": ("article_title", "paper_title"),
    "journal": ("journal", "article_journal", "journal_title"),
    "date": ("date", "article_date", "publication_date", "article_publication_date", "year"),
}
_LICENCE = ("licence", "license", "article_license", "license_code", "licence_url", "license_url")


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns that the user names; empty: found by their names."""

    picture: str = ""
    caption: str = ""

    def missing(self, names: Sequence[str]) -> str:
        """Why a table of these columns cannot be read; empty when it can."""
        columns = [(n, "picture" if n == self.picture else "caption") for n in (self.picture, self.caption) if n]
        for name, what in columns:
            if name.lower() not in names:
                return f"--{what} {name}: there is no such column, but {', '.join(names)}"
        lacks = [
            what
            for what, own, usual in (("picture", self.picture, PICTURE), ("caption", self.caption, CAPTION))
            if not own and not set(usual) & set(names)
        ]
        return (
            f"no column of the {' and of the '.join(lacks)} among {', '.join(names)}; name it: --{lacks[0]} COLUMN"
            if lacks
            else ""
        )


def first_text(values: Mapping[str, Any], names: Sequence[str]) -> str:
    """The first filled column, as text."""
    for name in names:
        value = values.get(name)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            continue
        if text := str(value).strip():
            return text
    return ""


NO_WORDS = frozenset(("", "nan", "null", "none", "<na>"))
"""How programs write an empty cell."""


def captions_of(values: Mapping[str, Any], column: str) -> list[str]:
    """A row's captions: one, or the several that a list holds."""
    for name in [column.lower()] if column else CAPTION:
        value = values.get(name)
        texts = value if isinstance(value, list) else [value]
        captions = [" ".join(t.split()) for t in texts if isinstance(t, str) and t.strip().lower() not in NO_WORDS]
        if captions:
            return list(dict.fromkeys(captions))
    return []


def split_of(values: Mapping[str, Any], path: Path) -> str:
    """train, val or test: by the row's column, else by the file's or folder's name."""
    if split := SPLITS.get(first_text(values, SPLIT).lower()):
        return split
    words = [w for part in (path.stem, path.parent.name) for w in re.split(r"[^a-z]+", part.lower())]
    return next((SPLITS[w] for w in words if w in SPLITS), "train")


def source_of(values: Mapping[str, Any], set_name: str, licence: str) -> Source:
    """Where the row says that it comes from; else the set it stands in."""
    about: dict[str, Any] = {name: first_text(values, columns) for name, columns in _SOURCE.items()}
    if re.fullmatch(r"(?:PMC)?\d+(?:\.\d+)?", about["pmcid"], re.IGNORECASE):
        number = about["pmcid"].upper().removeprefix("PMC").split(".")[0]
        about["pmcid"] = f"PMC{number}"
    else:
        about["pmcid"] = ""
    about["pmid"] = about["pmid"].removesuffix(".0")
    raw = first_text(values, _LICENCE)
    code = next((c for c in (licences.from_url(raw), licences.from_pmc(raw)) if c != licences.UNKNOWN), licence)
    article = about["pmcid"] or set_name
    return Source(article_id=article, kind="import", licence=code, licence_url=raw if raw.startswith("http") else "", **about)


@dataclass(slots=True)
class PictureFiles:
    """The picture files below some folders, found by the names that rows give them. Nothing outside of the folders is read."""

    roots: tuple[Path, ...]
    by_name: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    by_stem: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def below(cls, *roots: Path) -> PictureFiles:
        files = cls(tuple(r.resolve() for r in roots))
        for root in files.roots:
            for path in sorted(root.rglob("*")):
                inside = not path.is_symlink() or any(path.resolve().is_relative_to(r) for r in files.roots)
                if path.suffix.lower() in PICTURES and inside and path.is_file():
                    files.by_name[path.name.lower()].append(path)
                    files.by_stem[path.stem.lower()].append(path)
        return files

    def find(self, name: str) -> Path:
        """The file of a name: as it stands below a folder, else the one file whose path ends with it, else with its stem.

        Raises BadInput for none, or for several that fit equally.
        """
        plain = name.replace("\\", "/").strip()
        for root in self.roots:
            try:
                path = (root / plain.lstrip("/")).resolve()
                if path.is_relative_to(root) and path.is_file():
                    return path
                path = Path(plain).resolve()  # written with its full path, on this machine
                if path.is_relative_to(root) and path.is_file():
                    return path
            except (OSError, ValueError, RuntimeError):
                continue
        parts = [p.lower() for p in plain.split("/") if p not in ("", ".", "..")]
        if not parts:
            raise BadInput("it names no picture")
        paths = self.by_name.get(parts[-1]) or self.by_stem.get(parts[-1]) or self.by_stem.get(parts[-1].rpartition(".")[0]) or []
        best = _longest_tail(paths, parts)
        if not best:
            raise BadInput(f"there is no picture {name[:200]!r}")
        if len(best) > 1:
            raise BadInput(f"{len(best)} pictures are called {name[:200]!r}: {best[0]}, {best[1]} …")
        return best[0]


def _longest_tail(paths: Sequence[Path], parts: Sequence[str]) -> list[Path]:
    """Those of the paths that share the most last folders with the name."""

    def shared(path: Path) -> int:
        folders = [p.lower() for p in path.parts[:-1]]
        path_folders = list(parts[:-1])
        n = 0
        while n < min(len(folders), len(path_folders)) and folders[-1 - n] == path_folders[-1 - n]:
            n += 1
        return n

    most = max(map(shared, paths), default=0)
    return [p for p in paths if shared(p) == most]


def picture_of(values: Mapping[str, Any], column: str, files: PictureFiles) -> tuple[bytes, str]:
    """(bytes, name) of a row's picture. Raises BadInput when there is none."""
    names = [column.lower()] if column else PICTURE
    filled = [n for n in names if values.get(n) not in (None, "", b"")]
    if not column and isinstance(position := values.get("position"), list | str) and values.get("wsi_id"):
        return _tile_of(str(values["wsi_id"]), position, files)
    tries = []
    for name in filled:
        try:
            return content_of(values[name], files)
        except BadInput as error:
            tries.append(error)
    raise tries[0] if tries else BadInput("it names no picture")


def content_of(value: Any, files: PictureFiles) -> tuple[bytes, str]:
    """(bytes, name) of a picture given as bytes, as Hugging Face's `{bytes, path}`, or by its name. Raises BadInput."""
    if isinstance(value, dict):
        if isinstance(value.get("bytes"), bytes) and value["bytes"]:
            return value["bytes"], str(value.get("path") or "")
        value = value.get("path") or value.get("url") or value.get("image") or value.get("file_name") or ""
    if isinstance(value, bytes | bytearray):
        return bytes(value), ""
    if not isinstance(value, str | int) or not str(value).strip():
        raise BadInput("it names no picture")
    if re.match(r"(?i)https?://|data:", str(value)):
        name = str(value)[:200]
        raise BadInput(f"{name!r} is an address; download the pictures first (img2dataset), then import its tar files or folder")
    path = files.find(str(value))
    return path.read_bytes(), path.name


def _tile_of(slide: str, position: Any, files: PictureFiles) -> tuple[bytes, str]:
    """PathGen gives a slide and a position: the tile must have been cut and be called SLIDE_X_Y."""
    try:
        x, y = (int(float(v)) for v in (json.loads(position) if isinstance(position, str) else position))
    except (ValueError, TypeError) as error:
        raise BadInput(f"its position {str(position)[:60]!r} is not x, y") from error
    for name in (f"{slide}_{x}_{y}", f"{slide.rpartition('.')[0] or slide}_{x}_{y}", f"{slide}_({x}, {y})"):
        if paths := files.by_stem.get(name.lower()):
            return paths[0].read_bytes(), paths[0].name
    raise BadInput(f"there is no picture {slide}_{x}_{y}: cut the tiles from the slides first")


def images_of(values: Mapping[str, Any]) -> Iterator[Any]:
    """What a conversation's row gives as its pictures, in order."""
    for name in ("images", "image", "image_path", "picture", "img"):
        value = values.get(name)
        if value in (None, "", [], b""):
            continue
        yield from value if isinstance(value, list | tuple) else [value]
        return


def require_columns(names: Sequence[str], columns: Columns, where: str) -> None:
    """Raises BadSettings when a table's columns hold no picture or no caption."""
    if fault := columns.missing(names):
        raise BadSettings(f"{where}: {fault}.")
