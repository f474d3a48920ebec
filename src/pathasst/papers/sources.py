"""Files of abstracts → records: MEDLINE XML, JSONL and CSV tables, JATS articles; plain or compressed. Knows no index."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.jats_text import without_tags
from pathasst.core.records import Abstract
from pathasst.core.tables import decoded, encoding_of, rows_of, separator_of
from pathasst.dataset import Dropped
from pathasst.papers.medline import Item, parse_medline

OPENERS: dict[str, Any] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
KINDS = (".xml", ".nxml", ".jsonl", ".csv", ".tsv")
MANY_FILES, PART = 16, 24 << 20  # fewer files than that are split into parts of about so many bytes on disk
MAX_LINE = 4 << 20  # characters of one line of a table
HEAD = 1 << 20  # bytes from which a file's encoding and separator are told
ID_NAMES = ("pmid", "id", "pmcid")
TEXT_NAMES = ("abstract", "text", "abstracttext", "abstract_text", "abstract text", "content", "contents")
DAMAGE = (OSError, EOFError, lzma.LZMAError, zlib.error)


def find_files(paths: Iterable[Path | str]) -> list[Path]:
    """The files of abstracts among `paths`, folders searched to any depth; sorted by name, the order of PubMed's updates.

    Raises BadSettings for a path that does not exist, a file of an unknown kind, or when there is none at all.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            files += [p for p in path.rglob("*") if p.is_file() and kind_of(p)]
        elif not path.is_file():
            raise BadSettings(f"{path} does not exist.")
        elif not kind_of(path):
            raise BadSettings(f"{path}: unknown kind of file; known are {', '.join(KINDS)}, also with .gz, .xz or .bz2.")
        else:
            files.append(path)
    if not files:
        raise BadSettings(f"no file of abstracts was given; known are {', '.join(KINDS)}, also with .gz, .xz or .bz2.")
    return sorted(set(files), key=lambda p: (p.name, str(p)))


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
        yield from _csv(path)


def parts_of(files: Sequence[Path]) -> list[int]:
    """In how many parts each file is read, so that two processes have equally much to do: many files are shared as they are."""
    if len(files) > MANY_FILES:
        return [1] * len(files)
    gzipped = [kind_of(f) == ".xml" and f.suffix.lower() in (".gz", ".xml") for f in files]
    return [-(-f.stat().st_size // PART) if z and f.stat().st_size else 1 for f, z in zip(files, gzipped, strict=True)]


def _lines(path: Path) -> Iterator[str]:
    """Lines of at most MAX_LINE characters, in the file's own encoding; a longer one comes cut, and fails as a record."""
    encoding = encoding_of(_head(path))
    with OPENERS.get(path.suffix.lower(), open)(path, "rt", encoding=encoding, errors="replace", newline="") as file:
        first = True
        while line := file.readline(MAX_LINE):
            yield line.removeprefix("\ufeff") if first else line
            first = False


def _head(path: Path) -> bytes:
    with OPENERS.get(path.suffix.lower(), open)(path, "rb") as file:
        head: bytes = file.read(HEAD)
    return head


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
    except DAMAGE as error:
        yield Dropped(path.name, "file cut off", str(error))


def _csv(path: Path) -> Iterator[Item]:
    try:
        names, rows = rows_of(_lines(path), separator_of(decoded(_head(path))))
        if not {n.lower() for n in ID_NAMES} & {n.lower() for n in names}:
            columns = ", ".join(names[:20]) or "none"
            raise BadInput(f"{path.name}: no column is called {', '.join(ID_NAMES)}. The first line names the columns {columns}.")
        if not {n.lower() for n in names} & {*TEXT_NAMES, "title"}:
            raise BadInput(f"{path.name}: no column is called {', '.join(TEXT_NAMES)} or title, but {', '.join(names[:20])}.")
        for number, row in rows:
            try:
                yield abstract_of(row)
            except BadInput as error:
                yield Dropped(f"{path.name}:{number}", "bad row", str(error)[:200])
    except csv.Error as error:
        yield Dropped(path.name, "bad table", str(error))
    except DAMAGE as error:
        yield Dropped(path.name, "file cut off", str(error))


def abstract_of(row: Any) -> Abstract:
    """An abstract from a table's row: an id (`pmid` or `id`), and title, abstract, journal, date or year, mesh, types, retracted.

    Names in any case; lists may be lists, or text with ";" between; abstracts may come in parts (a list, or an object by label),
    and may hold HTML. Raises BadInput without an id, with one that a spreadsheet rounded, and for a row without title and text.
    """
    if not isinstance(row, Mapping):
        raise BadInput("the line is no object")
    row = {str(k).strip().lower(): v for k, v in row.items()}
    id = next((_id(row[name.lower()]) for name in ID_NAMES if row.get(name.lower()) not in (None, "")), "")
    if not id:
        raise BadInput(f"the row has no {' or '.join(ID_NAMES)}")
    if re.fullmatch(r"\d[.,]\d+E\+?\d+", id, re.I):
        raise BadInput(f"a spreadsheet rounded the id to {id}")
    title = without_tags(_string(row.get("title") or row.get("article title")))
    abstract = without_tags(_parts_joined(next((row[n] for n in TEXT_NAMES if row.get(n)), "")))
    if not title and not abstract:
        raise BadInput(
            f"the row has no title, {', '.join(TEXT_NAMES[:2])} or {TEXT_NAMES[-2]}; it has {', '.join(list(row)[:10])}"
        )
    return Abstract(
        pmid=id,
        title=title,
        abstract=abstract,
        journal=_string(row.get("journal") or row.get("journal/book")),
        date=_string(row.get("date") or row.get("year") or row.get("publication year")).removesuffix(".0"),
        mesh=_strings(row.get("mesh")),
        types=_strings(row.get("types") or row.get("publication_types")),
        retracted=str(row.get("retracted", "")).strip().lower() in ("true", "1", "yes"),
    )


def _id(value: Any) -> str:
    """An id as PubMed writes it; spreadsheets make 12345.0 or 12,345 of it, people "PMID: 12345" or its address."""
    text = _string(value)
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+", text):
        text = text.replace(",", "")
    if address := re.match(r"https?://(?:pubmed\.ncbi\.nlm\.nih\.gov|www\.ncbi\.nlm\.nih\.gov/pubmed)/(\d+)/?\Z", text):
        text = address[1]
    if match := re.fullmatch(r"(?:pmid\W*)?0*(\d+)(?:\.0+)?", text, re.I):
        return match[1]
    return text


def _string(value: Any) -> str:
    """Text without the characters that no text holds (NUL, lone surrogates)."""
    text = "" if value is None else str(value)
    return text.replace("\0", " ").encode("utf-8", "replace").decode("utf-8").strip()


def _parts_joined(value: Any) -> str:
    """The text of an abstract that comes whole, in a list of parts, or in an object of parts by label."""
    if isinstance(value, Mapping):
        return "\n".join(f"{_string(k)}: {text}" for k, v in value.items() if (text := _parts_joined(v)))
    if isinstance(value, list):
        return "\n".join(filter(None, map(_parts_joined, value)))
    return _string(value)


def _strings(value: Any) -> list[str]:
    parts = value if isinstance(value, list) else str(value or "").split(";")
    return [text for part in parts if (text := _string(part))]


def _looks_like_jats(path: Path) -> bool:
    try:
        head = decoded(_head(path)[:8192])
    except DAMAGE:
        return False  # the MEDLINE reader says what is wrong
    is_medline = re.search(
        r"<(?:\w+:)?(?:Pubmed(?:Book)?Article(?:Set)?|MedlineCitation(?:Set)?|BookDocumentSet|DeleteCitation)[\s>]", head
    )
    return not is_medline and re.search(r"<(?:[\w.-]+:)?(?:article|pmc-articleset|OAI-PMH)[\s>]", head) is not None


def _jats(path: Path) -> Iterator[Item]:
    from pathasst.papers.jats_abstract import parse_jats_abstracts

    yield from parse_jats_abstracts(path)
