import codecs
import csv
from pathlib import Path

import pytest

from pathasst.core.tables import read_table

TEXT = "Name;Größe\n\"Müller; 'A'\";µm\n"


def rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    names, lines = read_table(path)
    return names, [row for _, row in lines]


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("cp1252"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
        TEXT.replace("; 'A'", "').join(").replace(";", "\t").replace("').join(", "; 'A'").encode(),
    ],
    ids=["utf8", "bom", "utf16le", "utf16be", "utf16-without-bom", "cp1252", "crlf", "cr", "tab"],
)
def test_a_table_reads_alike_in_every_encoding(tmp_path, content: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    assert rows(tmp_path / "t.csv") == (["Name", "Größe"], [{"name": "Müller; 'A'", "größe": "µm"}])


def test_long_fields_line_breaks_empty_lines_and_nul(tmp_path) -> None:
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["a", "b"], ["x" * 200_000, "two\nlines"], [], ["", ""], ["\0y", "z"]])
    names, lines = read_table(tmp_path / "t.csv")
    assert names == ["a", "b"]
    assert [(number, len(row["a"]), row["b"]) for number, row in lines] == [(3, 200_000, "two\nlines"), (6, 1, "z")]
