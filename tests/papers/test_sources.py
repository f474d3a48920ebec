import gzip
import json
import lzma

import pytest
from paper_samples import document, record

from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.records import Abstract
from pathasst.dataset import Dropped
from pathasst.papers.sources import abstract_of, find_files, kind_of, read_file

FULL = {
    "pmid": 5,
    "title": "T",
    "abstract": "A",
    "journal": "J",
    "year": 1999,
    "mesh": ["M"],
    "types": "Review; Letter",
    "retracted": "yes",
}


def test_jsonl_rows_and_bad_lines(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    lines = [
        json.dumps(FULL),
        "",
        "{broken",
        "[1, 2]",
        '{"title": "no id"}',
        '{"id": "X-1", "text": "B\\ud800\\u0000"}',
        "[" * 100_000,
    ]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    items = list(read_file(path))
    expected = Abstract(
        pmid="5", title="T", abstract="A", journal="J", date="1999", mesh=["M"], types=["Review", "Letter"], retracted=True
    )
    assert [i for i in items if isinstance(i, Abstract)] == [expected, Abstract(pmid="X-1", abstract="B?")]
    assert [i.id for i in items if isinstance(i, Dropped)] == ["a.jsonl.gz:3", "a.jsonl.gz:4", "a.jsonl.gz:5", "a.jsonl.gz:7"]


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_tables(tmp_path, suffix, delimiter):
    path = tmp_path / f"a{suffix}"
    rows = [["pmid", "title", "abstract", "mesh"], ["1", "T", '"A, quoted\nover lines"', "x;y"], ["", "no id", "", ""]]
    path.write_text("\ufeff" + "\n".join(delimiter.join(r) for r in rows))
    found, dropped = read_file(path)
    assert (found.pmid, found.abstract, found.mesh) == ("1", "A, quoted\nover lines", ["x", "y"])
    assert dropped.reason == "bad row"


def test_a_table_without_ids_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(BadInput, match="first line"):
        list(read_file(path))


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_a_cut_off_table_keeps_its_beginning(tmp_path, suffix, pack):
    path = tmp_path / f"a.jsonl{suffix}"
    whole = pack("\n".join(json.dumps({"pmid": i, "abstract": f"{i * 7919 % 104729}" * 9}) for i in range(60_000)).encode())
    path.write_bytes(whole[: len(whole) * 2 // 3])
    *found, last = read_file(path)
    assert last.reason == "file cut off"
    assert [int(a.pmid) for a in found if isinstance(a, Abstract)][:3] == [0, 1, 2]


def test_jats_articles(tmp_path):
    path = tmp_path / "a.nxml"
    path.write_text(
        """<!DOCTYPE article PUBLIC "-//NLM//DTD JATS//EN" "x.dtd">
        <article article-type="research-article"><front>
        <journal-meta><journal-title-group><journal-title>J</journal-title></journal-title-group></journal-meta>
        <article-meta><article-id pub-id-type="pmc">77</article-id>
        <title-group><article-title>A <i>title</i></article-title></title-group>
        <pub-date><day>3</day><month>4</month><year>2016</year></pub-date>
        <abstract abstract-type="graphical"><p>no</p></abstract>
        <abstract><sec><title>Aims.</title><p>One.</p><p>Two.</p></sec></abstract></article-meta></front></article>"""
    )
    expected = Abstract(
        pmid="PMC77", title="A title", abstract="Aims: One.\nTwo.", journal="J", date="2016-04-03", types=["Research article"]
    )
    assert list(read_file(path)) == [expected]


@pytest.mark.parametrize("content", ["<article><front/>", "<article><front><article-meta/></front></article>"])
def test_bad_jats_is_dropped(tmp_path, content):
    path = tmp_path / "a.xml"
    path.write_text(content)
    (item,) = read_file(path)
    assert isinstance(item, Dropped)


def test_files_are_found_in_the_order_of_updates(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("b2.xml.gz", "deep/a1.xml", "notes.txt", "c.JSONL"):
        (tmp_path / name).write_bytes(document(record(1)))
    assert [f.name for f in find_files([tmp_path])] == ["a1.xml", "b2.xml.gz", "c.JSONL"]


@pytest.mark.parametrize("name", ["missing.xml", "a.pdf", "empty"])
def test_what_cannot_be_read_is_said_before_anything_starts(tmp_path, name):
    (tmp_path / "a.pdf").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadSettings):
        find_files([tmp_path / name])


@pytest.mark.parametrize(
    ("name", "kind"), [("a.xml", ".xml"), ("a.xml.gz", ".xml"), ("x.y.jsonl.bz2", ".jsonl"), ("a.gz", ""), ("a.gz.xml", ".xml")]
)
def test_kinds(tmp_path, name, kind):
    assert kind_of(tmp_path / name) == kind


def test_a_row_needs_an_id():
    with pytest.raises(BadInput):
        abstract_of({"title": "x"})
