"""What the columns of other people's rows mean: the picture, the words, the source. Knows names of columns, no files' forms."""

from __future__ import annotations

import ast
import base64
import binascii
import json
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from pathasst.collect import licences
from pathasst.collect.own.rows import PICTURES, SPLITS
from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.records import Source

PICTURE = (
    "image_path", "image_file", "img_path", "filepath", "file_path", "file_name", "filename", "image_name", "image_filename",
    "img_name", "figure_path", "figure_file", "image", "img", "picture", "photo", "image_url", "img_url", "image_id", "img_id",
    "tile_id", "patch_id", "path", "file", "jpg", "png", "uuid",
)  # fmt: skip
"""Columns of the picture: open_clip, img2dataset, Hugging Face, Quilt-1M, PathCap, ARCH (`uuid`), Open-PMC, VQA-RAD."""
NOT_ALWAYS = frozenset(("path", "file", "jpg", "png", "uuid"))
"""Those that a conversation may have without meaning a picture."""
CAPTION = (
    "refined_caption", "caption", "sub_caption", "subcaption", "captions", "image_caption", "figure_caption", "text",
    "corrected_text", "description", "title", "sentence", "report",
)  # fmt: skip
LABEL = ("label", "class", "class_name", "category")
GROUP = ("group", "original", "patient", "patient_id", "case", "case_id", "slide", "slide_id", "wsi_id")
SPLIT = ("split", "subset_split", "fold_split", "set")
ID = ("pair_id", "id", "sample_id", "uid", "uuid", "figure_id", "image_id", "key", "__key__")
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
        texts = loaded if isinstance(loaded := listed(value), list) else [value]
        words = [" ".join(t.split()) for t in texts if isinstance(t, str) and t.strip().lower() not in NO_WORDS]
        captions = [
            t for t in words if any(map(str.isalpha, t))
        ]  # numbers alone are labels: YOLO's are .txt beside pictures, too
        if captions:
            return list(dict.fromkeys(captions))
    return []


def listed(value: Any) -> Any:
    """A list that a table holds as JSON or as Python writes it; anything else as it is."""
    if not isinstance(value, str) or not re.match(r"\s*\[.*\]\s*\Z", value, re.DOTALL):
        return value
    for read in (json.loads, ast.literal_eval):
        try:
            content = read(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(content, list):
            return content
    return value


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
                if path.suffix.lower() in PICTURES and inside and path.is_file() and path not in files.by_name[path.name.lower()]:
                    files.by_name[path.name.lower()].append(path)
                    files.by_stem[path.stem.lower()].append(path)
        return files

    def find(self, name: str, near: Path | None = None, contested: Collection[str] = ()) -> Path:
        """The file of a name: as it stands below a folder, `near` first, else the one file whose path ends with it, else with its
        stem. Of a `contested` name, a file below another folder than the name says is another file.

        Raises BadInput for none, or for several that fit equally.
        """
        plain = name.replace("\\", "/").strip()
        near = near.resolve() if near else None
        for root in (*([near] if near and any(near.is_relative_to(r) for r in self.roots) else []), *self.roots):
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
        best = _longest_tail([p for p in paths if parts[-1] not in contested or self._fits(p, parts)], parts)
        if not best:
            elsewhere = f"; {paths[0]} lies in another folder" if paths else ""
            raise BadInput(f"there is no picture {name[:200]!r}{elsewhere}")
        if len(best) > 1:
            raise BadInput(f"{len(best)} pictures are called {name[:200]!r}: {best[0]}, {best[1]} …")
        return best[0]

    def _fits(self, path: Path, parts: Sequence[str]) -> bool:
        """Whether the folders of a file and of a name agree, as far as the shorter of them goes: at least the last one."""
        shared = _shared([p.lower() for p in path.parts[:-1]], parts[:-1])
        below = max(len(path.relative_to(r).parts) - 1 for r in self.roots if path.is_relative_to(r))
        return shared == len(parts) - 1 or shared >= max(1, below)


def _shared(a: Sequence[str], b: Sequence[str]) -> int:
    """How many last entries two lists share."""
    n = 0
    while n < min(len(a), len(b)) and a[-1 - n] == b[-1 - n]:
        n += 1
    return n


def _longest_tail(paths: Sequence[Path], parts: Sequence[str]) -> list[Path]:
    """Those of the paths that share the most last folders with the name."""
    shared = [_shared([p.lower() for p in path.parts[:-1]], parts[:-1]) for path in paths]
    return [p for p, n in zip(paths, shared, strict=True) if n == max(shared)]


@dataclass(slots=True)
class FileNames:
    """The file names that rows give to their pictures. `contested`: those, in lower case, that rows put into different folders:
    there the folder tells which picture is meant."""

    column: str
    contested: set[str] = field(default_factory=set)
    _folders: dict[str, str] = field(default_factory=dict)

    def add(self, values: Mapping[str, Any]) -> None:
        """The names of one more row."""
        for name in [self.column.lower()] if self.column else ("images", *PICTURE):
            value = listed(values.get(name))
            for one in value if isinstance(value, list) else [value]:
                text = one.get("path") if isinstance(one, dict) else one
                if isinstance(text, str) and 0 < len(text) < 1000:
                    folder, _, file = text.replace("\\", "/").strip().lower().rpartition("/")
                    if self._folders.setdefault(file, folder) != folder:
                        self.contested.add(file)


@dataclass(frozen=True, slots=True)
class Near:
    """Where a row stands: the folder in which its pictures are searched first, and the `contested` names of its file."""

    folder: Path
    contested: frozenset[str] = frozenset()


def picture_of(values: Mapping[str, Any], column: str, files: PictureFiles, near: Near) -> tuple[bytes, str]:
    """(bytes, name) of a row's picture. Raises BadInput when there is none."""
    names = [column.lower()] if column else PICTURE
    filled = [n for n in names if values.get(n) not in (None, "", b"")]
    if not column and isinstance(position := values.get("position"), list | str) and values.get("wsi_id"):
        return _tile_of(str(values["wsi_id"]), position, files)
    tries = []
    for name in filled:
        try:
            return content_of(values[name], files, near)
        except BadInput as error:
            tries.append(error)
    raise tries[0] if tries else BadInput("it names no picture")


class SeveralPictures(BadInput):
    """Where one picture is wanted, a row gives several."""


def content_of(value: Any, files: PictureFiles, near: Near) -> tuple[bytes, str]:
    """(bytes, name) of a picture as bytes, in base64, as Hugging Face's `{bytes, path}`, or by its name. Raises BadInput."""
    value = listed(value)
    if isinstance(value, list):
        if len(value) > 1:
            raise SeveralPictures(f"it names {len(value)} pictures")
        value = value[0] if value else ""
    if isinstance(value, dict):
        if isinstance(value.get("bytes"), bytes) and value["bytes"]:
            return value["bytes"], str(value.get("path") or "")
        value = value.get("path") or value.get("url") or value.get("image") or value.get("file_name") or ""
    if isinstance(value, bytes | bytearray):
        return bytes(value), ""
    if not isinstance(value, str | int) or not str(value).strip():
        raise BadInput("it names no picture")
    name = str(value).strip()
    if (content := _written_picture(name)) is not None:
        return content, ""
    if re.match(r"(?i)https?://", name):
        raise BadInput(
            f"{name[:200]!r} is an address; download the pictures first (img2dataset), then import its tar files or folder"
        )
    if match := re.match(r"(?i)file:(?://(?:localhost)?)?(?=/)", name):
        name = unquote(name[match.end() :])
    path = files.find(name, near.folder, near.contested)
    return path.read_bytes(), path.name


_BASE64 = re.compile(r"[A-Za-z0-9+/_\s-]{64,}={0,2}\s*\Z")
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"\0\0\0")


def _written_picture(text: str) -> bytes | None:
    """The picture that a text itself is: a `data:` address, or base64 as VLMEvalKit's tables hold it; None for a name."""
    if text[:5].lower() == "data:":
        head, comma, body = text.partition(",")
        if not comma:
            raise BadInput("its data: address holds nothing")
        if not head.lower().endswith(";base64"):
            return unquote_to_bytes(body)
    elif _BASE64.match(text):
        body = text
    else:
        return None
    body = re.sub(r"\s+", "", unquote(body)).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        content = base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        if text[:5].lower() == "data:":
            raise BadInput(f"its data: address is no base64: {error}") from error
        return None
    return content if text[:5].lower() == "data:" or content.startswith(_BEGINNINGS) else None


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


def images_of(values: Mapping[str, Any], column: str, files: PictureFiles, near: Near) -> list[tuple[bytes, str]]:
    """(bytes, name) of the pictures of a conversation's row, in order: of the first of its columns where they are found.

    Raises BadInput when a column that means pictures is filled, and none of them can be read.
    """
    faults = []
    for name in [column.lower()] if column else ("images", "image_paths", *PICTURE):
        value = listed(values.get(name))
        if value in (None, "", [], b"") or (isinstance(value, str) and value.strip().lower() in NO_WORDS):
            continue
        try:
            return [content_of(v, files, near) for v in (value if isinstance(value, list | tuple) else [value])]
        except (BadInput, OSError) as error:
            if name not in NOT_ALWAYS:
                faults.append(error)
    if faults:
        raise BadInput(str(faults[0]))
    return []


def require_columns(names: Sequence[str], columns: Columns, where: str) -> None:
    """Raises BadSettings when a table's columns hold no picture or no caption."""
    if fault := columns.missing(names):
        raise BadSettings(f"{where}: {fault}.")
