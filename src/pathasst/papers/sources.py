"""Files of abstracts → records: MEDLINE XML, JSONL and CSV tables, JATS articles; plain or compressed. Knows no index."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.records import Abstract
from pathasst.dataset import Dropped
from pathasst.papers.medline import Item, parse_medline

OPENERS: dict[str, Any] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
KINDS = (".xml", ".nxml", ".jsonl", ".csv", ".tsv")
MANY_FILES, PART = 16, 24 << 20  # fewer files than that are split into parts of about so many bytes on disk
MAX_LINE = 4 << 20  # characters of one line of a table
ID_NAMES = ("pmid", "PMID", "id", "pmcid")


def find_files(paths: Iterable[Path | str]) -> list[Path]:
    """The files of abstracts among `paths`, folders searched to any depth; sorted by name, the order of PubMed's updates.

    Raises BadSettings for a path that does not exist, a file of an unknown kind, or when there is none at all.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += [p for p in path.rglob("*") if p.is_file() and kind_of(p)]
        elif not path.is_file():
            raise BadSettings(f"{path} does not exist.")
        elif not kind_of(path):
            raise BadSettings(f"{path}: unknown kind of file; known are {', '.join(KINDS)}, also with .gz, .xz or .bz2.")
        else:
            found.append(path)
    if not found:
        raise BadSettings(f"no file of abstracts was given; known are {', '.join(KINDS)}, also with .gz, .xz or .bz2.")
    return sorted(set(found), key=lambda p: (p.name, str(p)))


def kind_of(path: Path) -> str:
    """The suffix without the compression's: ".xml", ".jsonl" …; empty for files that hold no abstracts."""
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] in OPENERS:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in KINDS else ""


def read_file(path: Path, part: int = 0, parts: int = 1) -> Iterator[Item]:
    """Every record of one file; of MEDLINE files in `parts`, those of one part. Raises BadInput when nothing can be read."""
    kind = kind_of(path)
    if kind in (".xml", ".nxml"):
        yield from (_jats(path) if _looks_like_jats(path) else parse_medline(path, part, parts))
    elif kind == ".jsonl":
        yield from _jsonl(path)
    else:
        yield from _csv(path, "\t" if kind == ".tsv" else ",")


def parts_of(files: Sequence[Path]) -> list[int]:
    """In how many parts each file is read, so that two processes have equally much to do: many files are shared as they are."""
    if len(files) > MANY_FILES:
        return [1] * len(files)
    gzipped = [kind_of(f) == ".xml" and f.suffix.lower() in (".gz", ".xml") for f in files]
    return [-(-f.stat().st_size // PART) if z and f.stat().st_size else 1 for f, z in zip(files, gzipped, strict=True)]


def _open(path: Path) -> IO[str]:
    opener = OPENERS.get(path.suffix.lower(), open)
    return opener(path, "rt", encoding="utf-8-sig", errors="replace", newline="")


def _lines(path: Path) -> Iterator[str]:
    """Lines of at most MAX_LINE characters; a longer one comes cut, and fails as a record. A damaged end is a Dropped later."""
    with _open(path) as file:
        while line := file.readline(MAX_LINE):
            yield line


def _jsonl(path: Path) -> Iterator[Item]:
    try:
        for number, line in enumerate(_lines(path), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                yield abstract_of(row)
            except (ValueError, RecursionError, BadInput) as error:
                yield Dropped(f"{path.name}:{number}", "bad row", str(error)[:200])
    except (OSError, EOFError, lzma.LZMAError) as error:
        yield Dropped(path.name, "file cut off", str(error))


def _csv(path: Path, delimiter: str) -> Iterator[Item]:
    try:
        rows = csv.DictReader(_lines(path), delimiter=delimiter)
        if rows.fieldnames is None or not set(ID_NAMES) & set(rows.fieldnames):
            raise BadInput(f"{path.name}: the first line must name the columns, one of them {', '.join(ID_NAMES)}.")
        for row in rows:
            try:
                yield abstract_of({k: v for k, v in row.items() if isinstance(k, str)})
            except BadInput as error:
                yield Dropped(f"{path.name}:{rows.line_num}", "bad row", str(error)[:200])
    except csv.Error as error:
        yield Dropped(path.name, "bad table", str(error))
    except (OSError, EOFError, lzma.LZMAError) as error:
        yield Dropped(path.name, "file cut off", str(error))


def abstract_of(row: Any) -> Abstract:
    """An abstract from a table's row: an id (`pmid` or `id`), and title, abstract, journal, date or year, mesh, types, retracted.

    Lists may be lists, or text with ";" between. Raises BadInput without an id.
    """
    if not isinstance(row, Mapping):
        raise BadInput("the line is no object")
    id = next((str(row[name]).strip() for name in ID_NAMES if row.get(name) not in (None, "")), "")
    if not id:
        raise BadInput(f"the row has no {' or '.join(ID_NAMES)}")
    return Abstract(
        pmid=id,
        title=_string(row.get("title")),
        abstract=_string(row.get("abstract") or row.get("text")),
        journal=_string(row.get("journal")),
        date=_string(row.get("date") or row.get("year")),
        mesh=_strings(row.get("mesh")),
        types=_strings(row.get("types") or row.get("publication_types")),
        retracted=str(row.get("retracted", "")).strip().lower() in ("true", "1", "yes"),
    )


def _string(value: Any) -> str:
    """Text without the characters that no text holds (NUL, lone surrogates)."""
    text = "" if value is None else str(value)
    return text.replace("\0", " ").encode("utf-8", "replace").decode("utf-8").strip()


def _strings(value: Any) -> list[str]:
    parts = value if isinstance(value, list) else str(value or "").split(";")
    return [text for part in parts if (text := _string(part))]


def _looks_like_jats(path: Path) -> bool:
    try:
        with _open(path) as file:
            head = file.read(4096)
    except (OSError, EOFError, lzma.LZMAError):
        return False  # the MEDLINE reader says what is wrong
    return "<article" in head and "ArticleSet" not in head


def _jats(path: Path) -> Iterator[Item]:
    from pathasst.papers.jats_abstract import parse_jats_abstract

    yield parse_jats_abstract(path)
