"""Tables, layers and words as HTML."""

from __future__ import annotations

import base64
import csv
import io
import re

import numpy as np
import pytest

from pathasst.assistant.answer import Answer
from pathasst.assistant.statements import Kind, Statement, text_of
from pathasst.core.records import Annotation, Hit, ToolResult
from pathasst.imaging import rle
from pathasst.imaging.pictures import encode_png
from pathasst.serve.markup import answer_html, hits_html, result_html
from pathasst.serve.markup.layers import MAX_LAYERS, layers_html, scale_bar
from pathasst.serve.markup.sources import ris_of
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
    assert "No abstract here is about &lt;this&gt;." in hits_html([], "No abstract here is about <this>.")


def test_each_sentence_says_what_stands_behind_it() -> None:
    statements = [
        Statement(text="The Ki67 index is 49 %.", kind=Kind.TOOL, source="ki67_cells@1", evidence="49 % of 138 cells."),
        Statement(text="It counts <b>stained</b> nuclei.", kind=Kind.TOOL, source="ki67_cells@1"),
        Statement(text="A high index was prognostic.", kind=Kind.PASSAGE, source="11111111", evidence="It was prognostic."),
        Statement(text="Ask a pathologist.", kind=Kind.FIXED),
        Statement(text="Grade 3, surely.", kind=Kind.MODEL, source="the model"),
    ]
    text = text_of(statements)
    html = answer_html(
        Answer(question="q", text=text, statements=statements, library={"11111111": Hit(pmid="11111111", title="", passage="")})
    )
    marks = re.findall(r"<sup class=\"pa-mark-(\w+)\"[^>]*>(\d)</sup>", html)
    assert marks == [("tool", "1"), ("tool", "1"), ("passage", "2"), ("fixed", "3"), ("model", "4")]
    assert html.count("What stands behind each sentence") == 1 and "pubmed.ncbi.nlm.nih.gov/11111111" in html
    assert "49 % of 138 cells." in html and "<b>" not in html and "\ue000" not in html
    forged = Answer(question="q", text="Plain \ue0000\ue001 words.", statements=[])
    assert "<sup" not in answer_html(forged)


@pytest.mark.parametrize(
    ("scale", "width", "words"),
    [(0.25, 1000, "50 µm"), (0.5, 1024, "100 µm"), (8.0, 4000, "5 mm"), (None, 1000, ""), (0.5, 20, "")],
)
def test_a_scale_bar_has_a_round_length(scale: float | None, width: int, words: str) -> None:
    bar = scale_bar((100, width), scale)
    assert words in bar and bool(bar) == bool(words)
    if scale and words:
        x1, x2 = map(float, re.search(r"M([\d.]+) [\d.]+H([\d.]+)", bar).groups())  # type: ignore[union-attr]
        number, unit = words.split()
        assert (x2 - x1) * scale == pytest.approx(float(number) * (1000 if unit == "mm" else 1), rel=0.01)


def test_ris_is_what_reference_managers_read() -> None:
    lines = ris_of(Hit(pmid="1", title="A title.\nTY  - FORGED", passage="", journal="J", year=2015)).split("\r\n")
    assert lines[:4] == ["TY  - JOUR", "TI  - A title. TY - FORGED", "JO  - J", "PY  - 2015"] and lines[-2] == "ER  - "
