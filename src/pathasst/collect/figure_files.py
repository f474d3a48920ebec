"""Which file holds which figure: pictures beside an article, in a folder of figures, or named by a mapping.

Knows file names and nothing of XML or pixels.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from pathasst.core import jats
from pathasst.core.errors import BadSettings
from pathasst.core.records import Figure
from pathasst.core.tables import read_table, read_text

# Best first, when several files of one stem lie side by side.
_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".webp", ".bmp", "")
# Formats of publishers' originals, of which a download holds another: figure1.eps beside figure1.jpg.
_ORIGINALS = (
    ".eps",
    ".ps",
    ".pdf",
    ".ai",
    ".svg",
    ".jp2",
    ".j2k",
    ".wmf",
    ".emf",
    ".psd",
    ".pct",
    ".pict",
    ".ppt",
    ".pptx",
    ".jpe",
    ".jfif",
)
_UNREADABLE = frozenset(_ORIGINALS) - {".jp2", ".j2k", ".jpe", ".jfif"}
MAX_NAME = 1000  # characters of an href that may be a file's name
_FILE_KEYS = ("file", "image", "path", "picture")
_ARTICLE_KEYS = ("article", "article_id", "pmcid", "doi")
_FIGURE_KEYS = ("fig_id", "figure", "figure_id")
_HREF_KEYS = ("href", "graphic", "graphics")


@dataclass(frozen=True)
class FigureFiles:
    """Finds a figure's file. Order: mapping, the article's own folder, the folder of figures.

    Everybody's downloads name pictures in another way than the article does, so names are compared without suffix, case, `%20`,
    address and folders before the last part. In the shared folder a bare name counts only when it is one article's alone, since
    "fig1.jpg" is everyone's; names that carry the article (`<article>_<figure>`, `<article>/<graphic>`) always count.
    """

    folder: Path | None = None  # shared folder of figures
    mapping: Mapping[str, str] = field(default_factory=dict)  # href or "<article>/<figure id>" → file
    shared: Mapping[str, Path] = field(default_factory=dict)  # lower-case name or relative path without suffix → file

    @classmethod
    def open(cls, folder: Path | None, mapping: Path | None) -> FigureFiles:
        """Raises BadSettings when the folder or the mapping cannot be read."""
        if folder is not None and not folder.is_dir():
            raise BadSettings(f"{folder} is no folder; --figures wants the folder that holds the pictures.")
        files = [] if folder is None else sorted(p for p in folder.rglob("*") if p.is_file())
        return cls(folder, read_mapping(mapping) if mapping else {}, _index(files, folder) if folder else {})

    def find(self, figure: Figure, article_file: Path, others: Sequence[str] = ()) -> Path | None:
        """The file of one figure of the article in `article_file`, or None. `others`: hrefs of the picture in other formats."""
        names = [n for n in (figure.source.pmcid, figure.source.article_id, stem_of(article_file)) if n]
        fig_id = figure.figure_id.removeprefix(f"{figure.source.article_id}/")
        for key in (*(f"{n}/{k}" for n in names for k in (fig_id, figure.graphic) if k), figure.graphic):
            if path := self._mapped(key, article_file.parent):
                return path
        hrefs = [figure.graphic, *others] if figure.graphic else []
        for href in hrefs:
            if path := _beside(href, article_file):
                return path
        return self._in_folder(names, fig_id, hrefs, figure.part)

    def _mapped(self, key: str, article_folder: Path) -> Path | None:
        if (value := self.mapping.get(key)) is None:
            return None
        roots = [r for r in (self.folder, article_folder) if r is not None]
        return next((p for r in roots for v in (value, local_path(value)) if (p := r / v).is_file() and _inside(p, r)), None)

    def _in_folder(self, names: Sequence[str], fig_id: str, hrefs: Sequence[str], part: int) -> Path | None:
        keys = [k for k in (fig_id, *(stem for h in hrefs for stem in _stems(h))) if k]
        tail = f"_{part}" if part else ""
        tries = [f"{name}{sign}{key}{tail}" for name in names for key in keys for sign in "_/-."]
        tries += [stem for h in hrefs for stem in _stems(h)]
        return next((p for t in tries if (p := self.shared.get(t.lower())) is not None), None)


def local_path(href: str) -> str:
    """An href as a relative path: `%20` and `\\` as file systems have them, of an address or `info:doi/…` the last part."""
    text = href.replace("\\", "/")
    if re.match(r"[a-z][a-z\d+.-]+:", text, re.I):  # http:, file:, info:doi/…; a Windows drive has one letter
        text = text.partition("?")[0].rstrip("/").rpartition("/")[2]
    text = re.sub(r"^[A-Za-z]:", "", unquote(text))
    return "/".join(p for p in text.split("/") if p not in ("", ".", ".."))


def _beside(href: str, article_file: Path) -> Path | None:
    """In the article's own folder, in a folder there that has the article's name, or anywhere below a folder of its own."""
    if "\0" in href or len(href) > MAX_NAME:
        return None
    own = article_file.parent / stem_of(article_file)
    exact = [p for root in (article_file.parent, own) for n in (href, local_path(href)) if (p := _named(root, n, article_file))]
    for path in exact:
        if path.suffix.lower() not in _UNREADABLE:
            return path
    for root, deep in ((article_file.parent, False), (own, True), (article_file.parent, True)):
        articles, pictures = _pictures(root, deep)
        for stem in _stems(href):
            # A bare last part is everyone's name where several articles lie together, unless it is long.
            if (articles < 2 or stem == _stem(href).lower() or len(stem) > 8) and (only := _only(pictures, stem)):
                return only
    return next(iter(exact), None)


def _named(root: Path, name: str, article_file: Path) -> Path | None:
    """The file of exactly this name, or of this name with another suffix."""
    stem = root / _stem(name)
    tries = [root / name, *(stem.parent / f"{stem.name}{suffix}" for suffix in _SUFFIXES)]
    if not PurePosixPath(name).name:
        return None
    return next((p for p in tries if p != article_file and _is_file(p) and _inside(p, root)), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name longer than the system allows
        return False


def _stems(href: str) -> list[str]:
    """The stems that a picture's file may have, lower case: of its last part, and PLOS's short form of it."""
    path = local_path(href)
    stems = dict.fromkeys(_stem(n).lower() for n in (path, path.rpartition("/")[2]))
    for stem in list(stems):
        if stem.startswith("journal."):  # PLOS: info:doi/10.1371/journal.pone.0000001.g001 is pone.0000001.g001.tif
            stems[stem.removeprefix("journal.")] = None
    return [s for s in stems if s]


def _pictures(folder: Path, deep: bool) -> tuple[int, dict[str, list[Path]]]:
    """How many articles a folder holds, and its pictures by stem, lower case; `deep`: its sub-folders' too, if it has but one."""
    if not folder.is_dir():
        return 0, {}
    if not deep:
        return _listing(folder, folder.stat().st_mtime_ns)
    paths = sorted(folder.rglob("*"))
    articles = sum(p.name.lower().endswith(jats.SUFFIXES) for p in paths)
    return articles, _by_stem(p for p in paths if p.is_file() and _inside(p, folder)) if articles < 2 else {}


@lru_cache(maxsize=64)
def _listing(folder: Path, changed: int) -> tuple[int, dict[str, list[Path]]]:
    paths = [p for p in sorted(folder.iterdir()) if p.is_file() and _inside(p, folder)]
    return sum(p.name.lower().endswith(jats.SUFFIXES) for p in paths), _by_stem(paths)


def _by_stem(paths: Iterable[Path]) -> dict[str, list[Path]]:
    stems: dict[str, list[Path]] = {}
    for path in paths:
        if path.suffix.lower() in _SUFFIXES[:-1]:
            stems.setdefault(_stem(path.name).lower(), []).append(path)
    return stems


def _only(pictures: Mapping[str, list[Path]], stem: str) -> Path | None:
    """The file of a stem when it is one picture: several formats side by side are, two folders' files are not."""
    paths = pictures.get(stem, [])
    if len({p.parent for p in paths}) != 1 or len({_stem(p.name) for p in paths}) != 1:
        return None
    return min(paths, key=lambda p: _SUFFIXES.index(p.suffix.lower()))


def read_mapping(path: Path) -> dict[str, str]:
    """A mapping file → {href or "<article>/<figure id>": picture file}.

    JSON: an object {key: file}, or a list of objects; CSV: a header and rows. Objects and rows name the file (`file` or
    `image`) and either `href`/`graphics`, or the article (`article`, `pmcid` …) and the figure (`fig_id` …).
    Raises BadSettings when it is neither, or names no file.
    """
    try:
        if path.suffix.lower() in (".csv", ".tsv"):
            content: Any = [row for _, row in read_table(path)[1]]
        else:
            content = json.loads(read_text(path))
    except (OSError, ValueError, csv.Error) as error:
        raise BadSettings(f"{path} is no readable mapping ({error}); give JSON or CSV.") from error
    if isinstance(content, dict):
        return {str(k): str(v) for k, v in content.items()}
    if not isinstance(content, list):
        raise BadSettings(f"{path}: a mapping is a JSON object, a JSON list of objects, or a CSV table.")
    mapping: dict[str, str] = {}
    for row in content:
        mapping.update(_row_keys(row))
    if not mapping:
        raise BadSettings(f"{path} maps nothing: rows need a file ({', '.join(_FILE_KEYS)}) and an href or article + figure.")
    return mapping


def _row_keys(row: Any) -> dict[str, str]:
    if not isinstance(row, dict) or not (file := _first(row, _FILE_KEYS)):
        return {}
    articles = [str(row[k]) for k in _ARTICLE_KEYS if row.get(k)]
    figure = _first(row, _FIGURE_KEYS)
    keys = [f"{article}/{figure}" for article in articles if figure]
    for key in () if keys else _HREF_KEYS:  # article + figure say more than a bare href
        value = row.get(key)
        keys += [str(v) for v in (value if isinstance(value, list) else [value] if value else [])]
    return dict.fromkeys(keys, str(file))


def _first(row: Mapping[str, Any], keys: Iterable[str]) -> Any:
    return next((row[k] for k in keys if row.get(k)), None)


def stem_of(path: Path) -> str:
    """An article file's name without `.xml`, `.nxml`, `.gz`."""
    return re.sub(r"(?:\.nxml|\.xml)?(?:\.gz)?$", "", path.name, flags=re.I)


def _stem(name: str) -> str:
    """A graphic's name without a picture suffix; dots inside a name ("OMCL2016-8752821.001") are no suffix."""
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in (*_SUFFIXES, *_ORIGINALS) and suffix else name


def _index(files: list[Path], root: Path) -> dict[str, Path]:
    """Every way a shared file may be asked for; a bare name that two files share is nobody's."""
    index: dict[str, Path] = {}
    bare: dict[str, list[Path]] = {}
    for path in files:
        index.setdefault(_stem(path.relative_to(root).as_posix()).lower(), path)
        bare.setdefault(_stem(path.name).lower(), []).append(path)
    return {**{k: v[0] for k, v in bare.items() if len({p.parent for p in v}) == 1}, **index}


def _inside(path: Path, root: Path) -> bool:
    """Whether a path stays in its root: an href is outside data and may hold `..`."""
    return path.resolve().is_relative_to(root.resolve())
