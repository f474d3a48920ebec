"""CSV and TSV tables as programs of all countries write them, and the encodings of text files. Knows no room.

Encodings: UTF-8 with or without BOM, UTF-16 with or without BOM, Windows-1252; also gzipped. Separators: comma, semicolon, tab,
bar, or what Excel's first line `sep=;` says. Names of columns are compared without regard to case, spaces and BOM; a field may
have any length.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

SEPARATORS = ",;\t|"
HEAD = 1 << 16  # bytes or characters from which encoding and separator are told
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_EXCEL = re.compile(r"[\"']?sep=([,;\t|])[\"']?\s*", re.IGNORECASE)
"""A first line that tells Excel the separator; the columns' names follow it."""

Row = dict[str, str]


def encoding_of(head: bytes) -> str:
    """The encoding of a text file by its first bytes."""
    for bom, name in _BOMS:
        if head.startswith(bom):
            return name
    if len(head) > 3 and head.count(b"\0") > len(head) // 4:  # UTF-16 without a BOM: every second byte of Latin text is zero
        return "utf-16-le" if head[1::2].count(b"\0") > head[::2].count(b"\0") else "utf-16-be"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # a character cut off at the end is no fault
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def decoded(content: bytes, declared: str = "") -> str:
    """Text of bytes: by its BOM, else as UTF-8, else as `declared`, else as Windows-1252."""
    name = encoding_of(content)
    if name == "cp1252" and declared and declared.lower() not in ("utf-8", "utf8"):
        try:
            return content.decode(declared)
        except (UnicodeDecodeError, LookupError):
            pass
    return content.decode(name, "replace").removeprefix("\ufeff")


def read_text(path: Path) -> str:
    """A text file in any usual encoding, gzipped or not. Raises OSError."""
    content = path.read_bytes()
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (EOFError, zlib.error) as error:
            raise OSError(f"{path.name} is no whole gzip file: {error}") from error
    return decoded(content)


def lines_of(text: str) -> list[str]:
    """The lines of JSON Lines. JSON may hold U+2028 and U+0085, at which `str.splitlines` would cut a row in two."""
    return text.split("\n")


def separator_of(text: str) -> str:
    """The separator of a table by its first line: of the usual ones the one that stands there most often, outside of quotes."""
    line = next(iter(text.splitlines()), "")
    if match := _EXCEL.fullmatch(line):
        return match[1]
    bare = "".join(line.split('"')[::2])
    return max(SEPARATORS, key=lambda s: (bare.count(s), -SEPARATORS.index(s)))


def rows_of(lines: Iterable[str], separator: str = ",") -> tuple[list[str], Iterator[tuple[int, Row]]]:
    """(names of the columns as the file has them, its rows with their line numbers); keys of a row are lower case.

    Raises csv.Error for a broken table, while reading.
    """
    csv.field_size_limit(sys.maxsize)  # abstracts are longer than the 131,072 characters of the default
    reader = csv.reader((line.replace("\0", "") for line in lines), delimiter=separator)
    first_row = next(reader, [])
    if _EXCEL.fullmatch(separator.join(first_row).removeprefix("\ufeff")):
        first_row = next(reader, [])
    names = [n.replace("\ufeff", "").strip() for n in first_row]
    keys = [n.lower() for n in names]

    def rows() -> Iterator[tuple[int, Row]]:
        for values in reader:
            if any(v.strip() for v in values):
                yield reader.line_num, dict(zip(keys, values, strict=False))

    return names, rows()


def read_table(path: Path) -> tuple[list[str], Iterator[tuple[int, Row]]]:
    """As `rows_of`, of a file whose encoding and separator are told from its beginning. Raises OSError, csv.Error."""
    text = read_text(path)
    return rows_of(io.StringIO(text, newline=""), separator_of(text[:HEAD]))


def first(row: Mapping[str, object], names: Sequence[str]) -> str:
    """The first filled value among columns of these names, stripped; empty when there is none."""
    return next((str(row[n]).strip() for n in names if row.get(n) not in (None, "")), "")
