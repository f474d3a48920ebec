"""Which file holds which figure: pictures beside an article, in a folder of figures, or named by a mapping.

Knows file names and nothing of XML or pixels.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pathasst.core.errors import BadSettings
from pathasst.core.records import Figure

# Best first, when several files of one stem lie side by side.
_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".webp", ".bmp", "")
_FILE_KEYS = ("file", "image", "path", "picture")
_ARTICLE_KEYS = ("article", "article_id", "pmcid", "doi")
_FIGURE_KEYS = ("fig_id", "figure", "figure_id")
_HREF_KEYS = ("href", "graphic", "graphics")


@dataclass(frozen=True)
class FigureFiles:
    """Finds a figure's file. Order: mapping, the article's own folder, the folder of figures.

    In the shared folder a bare name counts only when it is one article's alone, since "fig1.jpg" is everyone's; names that
    carry the article (`<article>_<figure>`, `<article>/<graphic>`) always count.
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

    def find(self, figure: Figure, article_file: Path) -> Path | None:
        """The file of one figure of the article in `article_file`, or None."""
        names = [n for n in (figure.source.pmcid, figure.source.article_id, stem_of(article_file)) if n]
        fig_id = figure.figure_id.removeprefix(f"{figure.source.article_id}/")
        for key in (*(f"{n}/{k}" for n in names for k in (fig_id, figure.graphic) if k), figure.graphic):
            if path := self._mapped(key, article_file.parent):
                return path
        return self._beside(figure.graphic, article_file) or self._in_folder(names, fig_id, figure)

    def _mapped(self, key: str, article_folder: Path) -> Path | None:
        if (value := self.mapping.get(key)) is None:
            return None
        roots = [r for r in (self.folder, article_folder) if r is not None]
        return next((p for r in roots if (p := r / value).is_file() and _inside(p, r)), None)

    def _beside(self, href: str, article_file: Path) -> Path | None:
        """In the article's own folder, or in a folder there that has the article's name."""
        if not href:
            return None
        for root in (article_file.parent, article_file.parent / stem_of(article_file)):
            if (root / href).is_file() and _inside(root / href, root):
                return root / href
            stem = root / _stem(href)
            for suffix in _SUFFIXES:
                path = stem.parent / f"{stem.name}{suffix}"
                if path.is_file() and _inside(path, root) and path != article_file:
                    return path
        return None

    def _in_folder(self, names: Iterable[str], fig_id: str, figure: Figure) -> Path | None:
        keys = [k for k in (fig_id, figure.graphic and _stem(figure.graphic)) if k]
        tail = f"_{figure.part}" if figure.part else ""
        tries = [f"{name}{sign}{key}{tail}" for name in names for key in keys for sign in "_/-."]
        tries += [_stem(figure.graphic)] if figure.graphic else []
        return next((p for t in tries if (p := self.shared.get(t.lower())) is not None), None)


def read_mapping(path: Path) -> dict[str, str]:
    """A mapping file → {href or "<article>/<figure id>": picture file}.

    JSON: an object {key: file}, or a list of objects; CSV: a header and rows. Objects and rows name the file (`file` or
    `image`) and either `href`/`graphics`, or the article (`article`, `pmcid` …) and the figure (`fig_id` …).
    Raises BadSettings when it is neither, or names no file.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = list(csv.DictReader(text.splitlines())) if path.suffix.lower() == ".csv" else json.loads(text)
    except (OSError, ValueError) as error:
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
    name = path.name.removesuffix(".gz")
    return name.removesuffix(".nxml").removesuffix(".xml")


def _stem(name: str) -> str:
    """A graphic's name without a picture suffix; dots inside a name ("OMCL2016-8752821.001") are no suffix."""
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix and suffix.lower() in _SUFFIXES else name


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
