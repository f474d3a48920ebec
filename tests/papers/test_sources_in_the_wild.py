"""Files of abstracts as exports, scripts and spreadsheets write them."""

import codecs

import pytest
from paper_samples import corpus, record

from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.records import Abstract
from pathasst.dataset import Dropped
from pathasst.papers import BuildSettings, PaperIndex, build
from pathasst.papers.sources import abstract_of, read_file

MML = 'xmlns:mml="http://www.w3.org/1998/Math/MathML"'


def article(pmid: int, abstract: str = "An abstract.", extra: str = "") -> str:
    return (
        f'<article {MML}><front><article-meta><article-id pub-id-type="pmid">{pmid}</article-id>'
        f"<title-group><article-title>T{pmid}</article-title></title-group>{extra}<abstract><p>{abstract}</p></abstract></article-meta></front></article>"
    )


def abstracts(path) -> dict[str, str]:
    return {a.pmid: a.abstract for a in read_file(path) if isinstance(a, Abstract)}


@pytest.mark.parametrize("head", ["", '<?xml version="1.0"?>', '\n<?xml version="1.0"?>', "\ufeff", "<!-- exported -->"])
def test_medline_without_a_document_type(medline, head) -> None:
    items = list(read_file(medline("a.xml", record(1), record(2), head=head)))
    assert [a.pmid for a in items] == ["1", "2"]


def test_one_record_without_a_set_and_with_attributes(tmp_path) -> None:
    (tmp_path / "a.xml").write_text(record(1).replace("<PubmedArticle>", '<PubmedArticle id="x">'))
    assert abstracts(tmp_path / "a.xml") == {"1": "An abstract."}


def test_other_xml_is_refused_with_what_it_is(tmp_path) -> None:
    (tmp_path / "a.xml").write_text("<rss><channel/></rss>")
    with pytest.raises(BadInput, match="<rss>"):
        list(read_file(tmp_path / "a.xml"))


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("10<sup>3</sup> cells in H<sub>2</sub>O", "10³ cells in H₂O"),
        ("R<sup>2</sup> = <mml:math><mml:mfrac><mml:mn>1</mml:mn><mml:mn>2</mml:mn></mml:mfrac></mml:math>", "R² = ½"),
        ("<i>TP53</i> and <b>10<sup>-6</sup></b>", "TP53 and 10⁻⁶"),
    ],
)
def test_numbers_keep_their_meaning_in_medline_and_jats(medline, tmp_path, markup, text) -> None:
    assert abstracts(medline("a.xml", record(1, abstract=markup))) == {"1": text}
    (tmp_path / "b.xml").write_text(article(1, markup))
    assert abstracts(tmp_path / "b.xml") == {"1": text}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<pmc-articleset>", "</pmc-articleset>"),
        (
            '<OAI-PMH xmlns="http://www.openarchives.org/OAI/2.0/"><ListRecords><record><metadata>',
            "</metadata></record></ListRecords></OAI-PMH>",
        ),
        ('\n<?xml version="1.0"?><pmc-articleset>', ""),
    ],
    ids=["set", "oai", "unclosed"],
)
def test_every_article_of_a_jats_set(tmp_path, before, after) -> None:
    (tmp_path / "a.xml").write_text(before + "".join(article(n) for n in (1, 2, 3)) + after)
    assert sorted(abstracts(tmp_path / "a.xml")) == ["1", "2", "3"]


def test_a_retracted_article_is_marked_in_both_formats(medline, tmp_path) -> None:
    (tmp_path / "b.xml").write_text(article(1, extra='<related-article related-article-type="retraction-forward"/>'))
    paths = [medline("a.xml", record(1, title="RETRACTED: A title.")), tmp_path / "b.xml"]
    assert [item.retracted for path in paths for item in read_file(path)] == [True, True]


TABLE = "PMID;Title;Abstract\n12345.0;Größe;Zellen µm\nPMID: 7;;x\n"


@pytest.mark.parametrize(
    "content",
    [
        TABLE.encode(),
        codecs.BOM_UTF8 + TABLE.encode(),
        codecs.BOM_UTF16_LE + TABLE.encode("utf-16-le"),
        TABLE.encode("utf-16-be"),
        TABLE.encode("cp1252"),
        TABLE.replace(";", ",").encode(),
        TABLE.replace(";", "\t").encode(),
    ],
    ids=["utf8", "bom", "utf16", "utf16-without-bom", "cp1252", "comma", "tab"],
)
def test_tables_of_any_program(tmp_path, content) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    first, second = read_file(tmp_path / "a.csv")
    assert first == Abstract(pmid="12345", title="Größe", abstract="Zellen µm")
    assert (second.pmid, second.abstract) == ("7", "x")


def test_a_long_abstract_is_read_and_wrong_columns_are_named(tmp_path) -> None:
    (tmp_path / "a.csv").write_text(f'pmid,abstract\n1,"{"x" * 200_000}"\n')
    assert len(abstracts(tmp_path / "a.csv")["1"]) == 200_000
    (tmp_path / "b.csv").write_text("study;summary\n1;x\n")
    with pytest.raises(BadInput, match="study, summary"):
        list(read_file(tmp_path / "b.csv"))


@pytest.mark.parametrize(
    "content", ["<html/>", "<PubmedArticleSet></PubmedArticleSet>", '{"no": "id"}\n'], ids=["html", "empty", "bad rows"]
)
def test_a_build_that_reads_nothing_fails_and_touches_nothing(medline, tmp_path, monkeypatch, content) -> None:
    monkeypatch.setenv("PATHASST_CACHE", str(tmp_path / "cache"))
    home, lines = tmp_path / "index", []
    build([medline("good.xml", *corpus(4))], home, BuildSettings(workers=1), say=lines.append)
    bad = tmp_path / ("bad.jsonl" if content[0] == "{" else "bad.xml")
    bad.write_text(content)
    before = {p: p.read_bytes() for p in home.rglob("*") if p.is_file()}
    with pytest.raises(BadSettings, match=r"no abstract was read from 1 file; .*") as error:
        build([bad], home, BuildSettings(workers=1), say=lines.append)
    assert content[0] == "<" or "bad.jsonl:1" in str(error.value)
    assert {p: p.read_bytes() for p in home.rglob("*") if p.is_file()} == before, "the records that were read are kept as well"
    index = PaperIndex.open(home)
    assert index.version.number == 1 and index.version.abstracts == 4


def test_a_record_that_is_left_out_is_named(tmp_path) -> None:
    (tmp_path / "a.xml").write_text("<pmc-articleset><article><front/></article>" + article(2) + "</pmc-articleset>")
    dropped, taken = read_file(tmp_path / "a.xml")
    assert dropped == Dropped("a.xml:1", "no article-meta", "<article>") and taken.pmid == "2"


@pytest.mark.parametrize(
    ("row", "title", "abstract"),
    [
        ({"PMID": 5, "id": "pubmed23n0001_0", "title": "T", "content": "Glands."}, "T", "Glands."),  # MedRAG
        ({"pmid": 5, "title": "T", "abstract": ["Aim.", "Result."]}, "T", "Aim.\nResult."),
        ({"pmid": 5, "abstract": {"Aim": "a.", "Result": ["b.", "c."]}}, "", "Aim: a.\nResult: b.\nc."),
        (
            {"pmid": 5, "title": "<i>In vivo</i> 10<sup>3</sup>",
             "abstract": "<h4>Aim</h4>H&amp;E, p < 0.05, i > 3.<h4>Result</h4><p>CO<sub>2</sub></p>"},  # Europe PMC
            "In vivo 10³", "Aim: H&E, p < 0.05, i > 3.\nResult: CO₂",
        ),
        ({"pmid": "https://pubmed.ncbi.nlm.nih.gov/5/", "title": "a<b and c>d", "year": 2020.0}, "a<b and c>d", ""),
    ],
)  # fmt: skip
def test_rows_as_others_write_them(row, title, abstract) -> None:
    taken = abstract_of(row)
    assert (taken.pmid, taken.title, taken.abstract) == ("5", title, abstract)
    assert taken.date == ("2020" if "year" in row else "")


@pytest.mark.parametrize("row", [{"pmid": 5, "body": "x"}, {"pmid": "3.5E+07", "title": "T"}, {"title": "T"}])
def test_rows_that_are_no_abstracts(row) -> None:
    with pytest.raises(BadInput, match=r"no title|rounded|has no pmid"):
        abstract_of(row)


def test_thousands_of_an_id_and_escaped_markup_of_medline(tmp_path) -> None:
    (tmp_path / "a.csv").write_text('sep=;\npmid;title\n"35,123,456";T\n')
    assert [a.pmid for a in read_file(tmp_path / "a.csv")] == ["35123456"]
    article = "<Article><ArticleTitle>10&lt;sup&gt;3&lt;/sup&gt; &amp;lt; x</ArticleTitle></Article>"
    citation = f"<PubmedArticle><MedlineCitation><PMID>7</PMID>{article}</MedlineCitation></PubmedArticle>"
    (tmp_path / "a.xml").write_text(f"<PubmedArticleSet>{citation}</PubmedArticleSet>")
    assert [a.title for a in read_file(tmp_path / "a.xml")] == ["10³ < x"]
