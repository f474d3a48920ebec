"""Tables, layers and words as HTML."""

from __future__ import annotations

import base64
import csv
import io
import re

import numpy as np
import pytest

from pathasst.core.records import Annotation, Hit, ToolResult
from pathasst.imaging import rle
from pathasst.imaging.pictures import encode_png
from pathasst.serve.markup import hits_html, result_html
from pathasst.serve.markup.layers import MAX_LAYERS, layers_html
from pathasst.serve.markup.tables import csv_of, tables_html
from pathasst.serve.markup.words import markdown, number, title_of

PICTURE = encode_png(np.full((40, 60, 3), 200, np.uint8))


def csvs(html: str) -> list[list[list[str]]]:
    found = re.findall(r"data:text/csv;base64,([^\"]+)", html)
    return [list(csv.reader(io.StringIO(base64.b64decode(data).decode("utf-8-sig")))) for data in found]


def test_numbers_lists_and_groups_become_tables() -> None:
    areas = list(range(10, 20))
    numbers = {"count": 10, "areas_px": areas, "nearest": {"colon": 0.5}, "box": [1, 2], "index_percent": None}
    single, each = csvs(tables_html(ToolResult(name="t", numbers=numbers)))
    assert single[1:] == [["Count", "10"], ["Nearest: Colon", "0.5"], ["Box", "1, 2"], ["Index (%)", "–"]]
    assert each[0] == ["Number", "Areas px"] and [row[1] for row in each[1:]] == [str(a) for a in areas]


def test_a_csv_is_never_a_formula() -> None:
    rows = list(csv.reader(io.StringIO(csv_of(("a",), [("=1+1",), ("-3.5",), ("@x",), ('a "b", c',)]))))
    assert [row[0] for row in rows[1:]] == ["'=1+1", "-3.5", "'@x", 'a "b", c']


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("ki67_cells", "Ki67 cells"),
        ("cells_per_mm2", "Cells per mm²"),
        ("um_per_px", "µm per px"),
        ("index_percent", "Index (%)"),
    ],
)
def test_names_as_people_write_them(name: str, title: str) -> None:
    assert title_of(name) == title


def test_numbers_as_people_read_them() -> None:
    assert [number(v) for v in (1234.56, 0.123456, True, 7)] == ["1235", "0.1235", "yes", "7"]


def test_a_model_s_markup_is_tamed() -> None:
    html = markdown("**b** <i>x</i> [PMID 12] [PMID 13] [a](http://x.y) ![p](http://x.y/z)", {"12"})
    assert "<strong>b</strong>" in html and "&lt;i&gt;" in html and "[PMID 13]" in html
    assert re.findall(r'(?:href|src)="([^"]+)"', html) == ["https://pubmed.ncbi.nlm.nih.gov/12/"]


def test_every_class_has_its_layer_and_switch() -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:20, 10:30] = True
    marks = [
        Annotation(kind="point", label="a", coordinates=[5, 5]),
        Annotation(kind="point", label="a", coordinates=[9, 9]),
        Annotation(kind="box", label='<b>"', coordinates=[1, 1, 9, 9], score=0.5),
        Annotation(kind="mask", label="m", coordinates=[10, 10, 30, 20], rle=rle.encode(mask)),
    ]
    html = layers_html(PICTURE, marks, "Cells")
    assert html.count('type="checkbox"') == 3 and html.count("<g class=") == 3
    assert 'viewBox="0 0 60 40"' in html and "M10 10L10 19L29 19L29 10Z" in html
    assert '<b>"' not in html and "&lt;b&gt;&quot; 0.50" in html
    many = [Annotation(kind="point", label=f"c{n}", coordinates=[n, n]) for n in range(20)]
    crowded = layers_html(PICTURE, many, "Cells")
    assert crowded.count('type="checkbox"') == MAX_LAYERS and "other <b>9</b>" in crowded


def test_failed_calls_and_searches_show_no_result() -> None:
    assert result_html(ToolResult(name="t", error="no")) == ""
    assert result_html(ToolResult(name="papers_search", numbers={"found": 1}, hits=[Hit(pmid="1", title="t", passage="p")])) == ""


def test_hits_say_what_is_retracted() -> None:
    html = hits_html([Hit(pmid="7", title="A <title>.", passage="p", year=2001, journal="J", retracted=True)])
    assert (
        "Retracted" in html
        and "A &lt;title&gt;" in html
        and csvs(html)[0][1][:5] == ["7", "A <title>.", "J", "2001", "retracted"]
    )
    assert "No abstract was found" in hits_html([])
