import gzip
import tracemalloc
import zlib
from dataclasses import replace

import pytest
from lxml import etree
from paper_samples import document, record, write

from pathasst.core.errors import BadInput
from pathasst.core.records import Abstract
from pathasst.dataset import Dropped
from pathasst.papers import medline as module
from pathasst.papers.medline import Deleted, parse_medline


def read(path):
    return list(parse_medline(path))


def test_every_field_of_a_record(medline):
    structured = (
        "<Abstract><AbstractText Label='BACKGROUND'>One <i>in</i>\n  H<sub>2</sub>O.</AbstractText>"
        "<AbstractText Label='UNLABELLED'>Two &lt; three.</AbstractText><AbstractText/></Abstract>"
    )
    path = medline(
        "a.xml.gz",
        record(7, title="Caf&#233; <sup>18</sup>F.", abstract="", types=("Journal Article", "Review"), inside=structured),
    )
    assert read(path) == [
        Abstract(
            pmid="7",
            title="Café ¹⁸F.",
            abstract="BACKGROUND: One in H₂O.\nTwo < three.",
            journal="Journal of Tests",
            date="2001-06",
            mesh=["Animals"],
            types=["Journal Article", "Review"],
        )
    ]


def test_plain_and_gzipped_files_and_several_members_read_alike(tmp_path):
    content = document(record(1), record(2))
    plain = read(write(tmp_path / "a.xml", content))
    members = tmp_path / "c.xml.gz"
    members.write_bytes(gzip.compress(content[:700]) + gzip.compress(content[700:]) + b"\0" * 20)
    assert plain == read(write(tmp_path / "b.xml.gz", content)) == read(members)
    assert [a.pmid for a in plain] == ["1", "2"]


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("<Year>2020</Year><Month>02</Month><Day>3</Day>", "2020-02-03"),
        ("<Year>2020</Year><Month>Feb</Month>", "2020-02"),
        ("<Year>2020</Year><Season>Spring</Season>", "2020"),
        ("<MedlineDate>1998 Dec-1999 Jan</MedlineDate>", "1998-12"),
        ("<MedlineDate>Spring 1976</MedlineDate>", "1976"),
        ("<MedlineDate>undated</MedlineDate>", ""),
        ("<Year>20</Year>", ""),
        ("<Year>2020</Year><Month>13</Month><Day>40</Day>", "2020"),
    ],
)
def test_dates(medline, date, expected):
    (found,) = read(medline("a.xml", record(1).replace("<Year>2001</Year><Month>Jun</Month>", date)))
    assert found.date == expected


def test_electronic_date_where_the_issue_has_none(medline):
    text = record(1, inside="<ArticleDate><Year>2021</Year><Month>06</Month><Day>07</Day></ArticleDate>")
    (found,) = read(medline("a.xml", text.replace("<Year>2001</Year><Month>Jun</Month>", "")))
    assert found.date == "2021-06-07"


@pytest.mark.parametrize(
    ("change", "retracted"),
    [
        ({"types": ("Retracted Publication",)}, True),
        ({"types": ("Retraction of Publication",)}, False),
        ({"extra": '<CommentsCorrectionsList><CommentsCorrections RefType="RetractionIn"/></CommentsCorrectionsList>'}, True),
        ({"extra": '<CommentsCorrectionsList><CommentsCorrections RefType="RetractionOf"/></CommentsCorrectionsList>'}, False),
    ],
)
def test_retraction(medline, change, retracted):
    (found,) = read(medline("a.xml", record(1, **change)))
    assert found.retracted is retracted


def test_deletions_come_after_the_records(medline):
    assert read(medline("a.xml", record(1), deleted=(5, 6)))[1:] == [Deleted("5"), Deleted("6")]


def test_one_bad_record_costs_that_record_alone(medline):
    bad = [
        record(2).replace("</ArticleTitle>", "</Title>"),
        record(3, title="&undefined;"),
        record(4).replace('<PMID Version="1">4</PMID>', ""),
        record(5).replace("<Article ", "<Paper ").replace("</Article>", "</Paper>"),
    ]
    items = read(medline("a.xml", record(1), *bad, record(6)))
    assert [i.pmid for i in items if isinstance(i, Abstract)] == ["1", "6"]
    assert [(d.id, d.reason) for d in items if isinstance(d, Dropped)] == [
        ("2", "bad XML"),
        ("3", "bad XML"),
        ("a.xml", "bad XML"),
        ("5", "bad XML"),
    ]


def test_markup_that_would_fool_the_cutting(medline):
    comment = record(1, abstract="A <!-- <AuthorList> --> B", inside="<!-- </PubmedData> -->")
    cdata = record(2, abstract="<![CDATA[x < y <AuthorList>]]>")
    empty_list = record(3).replace(
        '<AuthorList CompleteYN="Y"><Author><LastName>Nobody</LastName></Author></AuthorList>', "<AuthorList/>"
    )
    longer_name = record(4, inside="<AuthorListing>kept</AuthorListing>")
    math = record(5, abstract="<mml:math><mml:mi>x</mml:mi></mml:math> grows")
    found = read(medline("a.xml", comment, cdata, empty_list, longer_name, math))
    assert [f.abstract for f in found] == ["A B", "x < y <AuthorList>", "An abstract.", "An abstract.", "x grows"]


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.95])
def test_a_file_cut_off_keeps_what_came_before(tmp_path, cut):
    whole = gzip.compress(document(*[record(i, abstract=f"Text {i * 7919}.") for i in range(1, 400)]))
    path = tmp_path / "a.xml.gz"
    path.write_bytes(whole[: int(len(whole) * cut)])
    *found, last = read(path)
    assert last.reason == "file cut off"
    assert [f.pmid for f in found] == [str(i) for i in range(1, len(found) + 1)]
    assert 0 < len(found) < 399


@pytest.mark.parametrize("name", ["a.xml", "a.xml.gz"])
@pytest.mark.parametrize("parts", [1, 2, 3, 7])
@pytest.mark.parametrize("keep", [1.0, 0.6])
def test_the_parts_of_a_file_are_the_file(tmp_path, name, parts, keep):
    """Also of one that ends early: that is told once."""
    path = write(tmp_path / name, document(*(record(n, abstract=f"Text {n}. " * (n % 50)) for n in range(1, 200)), deleted=(5,)))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    shared = [list(parse_medline(path, part, parts)) for part in range(parts)]
    assert [item for part in shared for item in part] == read(path)
    if keep == 1.0:
        assert all(len(part) > 199 / parts / 4 for part in shared)


def test_the_parts_of_several_members_are_the_file(tmp_path):
    content = document(*map(record, range(1, 60)))
    path = tmp_path / "c.xml.gz"
    path.write_bytes(gzip.compress(content[:9000]) + gzip.compress(content[9000:]))
    assert [item for part in range(3) for item in parse_medline(path, part, 3)] == read(path)


def test_a_damaged_stream_and_a_missing_end_are_told(tmp_path):
    content = document(*[record(i) for i in range(1, 50)])
    damaged = bytearray(gzip.compress(content))
    damaged[-6] ^= 0xFF  # the checksum
    (tmp_path / "a.xml.gz").write_bytes(damaged)
    assert read(tmp_path / "a.xml.gz")[-1].reason == "file cut off"
    plain = write(tmp_path / "b.xml", content[: content.rindex(b"</PubmedArticleSet")])
    assert [type(i).__name__ for i in read(plain)[-2:]] == ["Abstract", "Dropped"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html><body>404</body></html>",
        b"\x1f\x8b" + b"nonsense" * 10,
        b'<!DOCTYPE PubmedArticleSet [<!ENTITY a "&#60;PubmedArticle>">]><PubmedArticleSet>&a;</PubmedArticleSet>',
        '<?xml version="1.0" encoding="utf-16"?><PubmedArticleSet/>'.encode("utf-16"),
        b'<?xml version="1.0" encoding="klingon"?><PubmedArticleSet></PubmedArticleSet>',
    ],
)
def test_what_is_no_medline_file_is_refused_or_told(tmp_path, content):
    path = tmp_path / "a.xml"
    path.write_bytes(content)
    try:
        items = read(path)
    except BadInput as error:
        assert "a.xml" in str(error)
    else:
        assert [i.reason for i in items] == ["file cut off"]


def test_entities_reach_no_file(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("do not read")
    head = f'<?xml version="1.0"?><!DOCTYPE PubmedArticleSet [<!ENTITY x SYSTEM "file://{secret}">]>'
    path = write(tmp_path / "a.xml", document(record(1, title="&x;"), head=head))
    with pytest.raises(BadInput, match="entities"):
        read(path)


def test_a_bomb_is_stopped_in_flat_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_RECORD", 8 << 20)
    squeeze = zlib.compressobj(9, wbits=31)
    bomb = squeeze.compress(document(record(1)).partition(b"</PubmedArticleSet")[0] + b"<PubmedArticle><MedlineCitation>")
    bomb += b"".join(squeeze.compress(b"A" * (1 << 20)) for _ in range(300)) + squeeze.flush()
    path = tmp_path / "bomb.xml.gz"
    path.write_bytes(bomb)
    tracemalloc.start()
    items = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert items[-1].reason == "file cut off"
    assert [i.pmid for i in items[:-1]] == ["1"]
    assert peak < 64 << 20


def test_the_size_of_a_file_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_FILE", 2 << 20)
    path = write(tmp_path / "a.xml.gz", document(*[record(i) for i in range(5000)]))
    items = read(path)
    assert items[-1] == replace(items[-1], reason="file cut off")
    assert 0 < len(items) < 5000


def test_the_sample_agrees_with_lxml_on_the_whole_tree(sample):
    """The cut parser against an independent, plain walk over the parsed tree of a real file."""
    path = sample / "pubmed20n0014.xml.gz"
    with gzip.open(path) as file:
        tree = etree.parse(file)
    found = [i for i in parse_medline(path) if isinstance(i, Abstract)]
    articles = tree.getroot().findall("PubmedArticle")
    assert len(found) == len(articles) == 30_000
    for one, article in zip(found, articles, strict=True):
        assert one.pmid == article.findtext("MedlineCitation/PMID")
        title = article.find("MedlineCitation/Article/ArticleTitle")
        assert one.title == " ".join("".join(title.itertext()).split())
        assert len(one.mesh) == len(article.findall(".//MeshHeading"))
        assert bool(one.abstract) == (article.find("MedlineCitation/Article/Abstract/AbstractText") is not None)
    assert sum(bool(i.abstract) for i in found) == 14_832
