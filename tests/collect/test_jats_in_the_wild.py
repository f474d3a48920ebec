"""JATS files as downloads, wrappers and publishers leave them: every figure is taken, or left out with a reason."""

import codecs
import re

import pytest
from collect_samples import HEAD, article_xml, fig, picture
from typer.testing import CliRunner

from pathasst import dataset
from pathasst.cli.main import app
from pathasst.collect import licences
from pathasst.collect.folder import collect_folder
from pathasst.collect.jats import Parsed, parse, parse_all
from pathasst.core.errors import BadInput
from pathasst.core.records import Figure

DECLARATION = b'<?xml version="1.0"?>'
ONE = article_xml(fig("f1"))
BARE = ONE.removeprefix(DECLARATION)
SET = b"".join(article_xml(fig("f1"), pmcid=f"PMC{n}").removeprefix(DECLARATION) for n in (1, 2, 3))


def ids(content: bytes) -> list[str]:
    return [f.figure_id for p in parse_all(content, "a.xml") if isinstance(p, Parsed) for f in p.figures]


@pytest.mark.parametrize(
    "content",
    [
        b"\n" + ONE,
        b" \t\r\n" + ONE,
        codecs.BOM_UTF8 + ONE,
        codecs.BOM_UTF8 + b"\n" + ONE,
        b"<!-- saved from url=(0042)https://example.org -->\n" + ONE,
        b"This XML file has no style information.\n" + BARE,
        codecs.BOM_UTF16_LE + ONE.decode().encode("utf-16-le"),
        codecs.BOM_UTF16_LE + ("\n" + ONE.decode()).encode("utf-16-le"),
        ONE.replace(b'"1.0"?', b'"1.0" encoding="UTF-16"?'),
        article_xml(fig("f1", "caf\u00e9")).replace("é".encode(), b"\xe9"),
        article_xml(fig("f1", "5 &micro;m")),
        article_xml(fig("f1", "a\x0bb")),
        BARE.replace(b' xmlns:xlink="http://www.w3.org/1999/xlink"', b""),
        BARE.replace(b"<article ", b'<article xmlns="https://jats.nlm.nih.gov/ns/archiving/1.3/" '),
        re.sub(rb"<(/?)(?=[a-z-]+[ >/])(?!ali)", rb"<\1j:", BARE).replace(b"<j:article ", b'<j:article xmlns:j="urn:x" '),
    ],
    ids=[
        "newline",
        "spaces",
        "bom",
        "bom-newline",
        "comment",
        "prose",
        "utf16",
        "utf16-newline",
        "wrong-label",
        "cp1252",
        "entity",
        "control",
        "xlink",
        "default",
        "prefix",
    ],
)
def test_one_article_in_any_wrapping_is_read(content: bytes) -> None:
    assert ids(content) == ["PMC77.1/f1"]


@pytest.mark.parametrize(
    "content",
    [
        b"<pmc-articleset>" + SET + b"</pmc-articleset>",
        b'<OAI-PMH xmlns="http://www.openarchives.org/OAI/2.0/"><ListRecords>'
        + SET.replace(b"<article ", b'<record><metadata><article xmlns="urn:jats" ').replace(
            b"</article>", b"</article></metadata></record>"
        )
        + b"</ListRecords></OAI-PMH>",
        b"\n".join(DECLARATION + a + b"</article>" for a in SET.split(b"</article>")[:3]),
        b"<pmc-articleset>" + SET,
    ],
    ids=["set", "oai", "one-after-the-other", "unclosed"],
)
def test_every_article_of_a_set_is_read(content: bytes) -> None:
    assert ids(content) == ["PMC1.1/f1", "PMC2.1/f1", "PMC3.1/f1"]


def test_a_set_that_ends_early_keeps_what_is_whole_and_counts_the_rest(tmp_path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/set.xml").write_bytes(b"<pmc-articleset>" + SET[:-200])
    manifest = collect_folder(tmp_path / "in", tmp_path / "out", text_only=True, progress=False)
    assert manifest.rows == 2 and manifest.dropped == {"unreadable-article": 1}


@pytest.mark.parametrize("root", ["book", "book-part-wrapper", "book-part"])
def test_books_of_ncbi_bookshelf(root: str) -> None:
    meta = "<book-meta><book-id pub-id-type='pmcid'>NBK9</book-id>"
    meta += "<book-title-group><book-title>Atlas</book-title></book-title-group>"
    meta += "<permissions><license><license-p>CC BY 4.0</license-p></license></permissions></book-meta>"
    part = "<book-part id='ch1'><book-part-meta><title-group><title>Colon</title></title-group></book-part-meta><body>"
    part += f"<p>See <xref ref-type='fig' rid='f1'>1</xref>.</p>{fig('f1')}</body></book-part>"
    body = {"book": f"<book>{meta}<book-body>{part}</book-body></book>", "book-part": part}.get(
        root, f"<{root}>{meta}{part}</{root}>"
    )
    _, (figure,) = parse(body.replace(f"<{root}", f"<{root} xmlns:xlink='http://www.w3.org/1999/xlink'", 1).encode(), "x.nxml")
    assert (figure.source.kind, figure.caption, figure.mentions) == ("book", "A gland.", ["See 1."])
    if root != "book-part":
        assert figure.source.title.startswith("Atlas") and figure.source.licence == "CC-BY-4.0"


def test_pictures_of_groups_alternatives_and_loose_graphics() -> None:
    graphic = '<graphic xlink:href="{}"/>'.format
    member = '<fig id="{0}"><label>{0}</label><caption><p>{1}.</p></caption></fig>'.format
    members = member("A", "Liver") + member("B", "Lung")
    group = f'<fig-group id="g"><label>Fig. 1</label><caption><title>Organs</title></caption>{members}{graphic("g1")}</fig-group>'
    loose = '<graphic xlink:href="g2"><label>Plate 1</label><caption><p>Kidney.</p></caption></graphic>'
    inner = f'<fig id="i"><caption><p>Inner.</p></caption>{graphic("g4")}</fig>'
    nested = f'<fig id="o"><caption><p>Outer.</p></caption>{graphic("g3")}{inner}</fig>'
    formula = f"<p><inline-formula>{graphic('no')}</inline-formula></p>"
    _, figures = parse(article_xml(group + loose + nested + formula), "a.xml")
    assert [(f.caption, f.graphic) for f in figures] == [
        ("Organs. A Liver. B Lung.", "g1"),
        ("Kidney.", "g2"),
        ("Outer.", "g3"),
        ("Inner.", "g4"),
    ]


def test_a_missing_picture_of_alternatives_is_found_under_its_other_name(tmp_path) -> None:
    both = '<fig id="f"><alternatives><graphic xlink:href="web.jpg"/><graphic xlink:href="print.tif"/></alternatives></fig>'
    (tmp_path / "a.xml").write_bytes(article_xml(both))
    (tmp_path / "print.png").write_bytes(picture(kind="PNG"))
    assert collect_folder(tmp_path, tmp_path / "out", progress=False).rows == 1


@pytest.mark.parametrize(
    ("href", "file"),
    [
        ("fig1.jpg", "fig1.JPG"),
        ("FIG1.jpg", "fig1.jpg"),
        ("fig1.eps", "fig1.jpg"),
        ("fig1.jp2", "Fig1.png"),
        ("fig1", "images/fig1.jpg"),
        ("images/fig1.jpg", "fig1.jpg"),
        (r"images\fig1.jpg", "images/fig1.jpg"),
        ("./fig1.jpg", "fig1.jpg"),
        ("../x/fig1.jpg", "fig1.jpg"),
        ("figure%201.jpg", "figure 1.jpg"),
        ("https://example.org/a/fig1.jpg?size=large", "fig1.jpg"),
        ("file:///C:/work/fig1.jpg", "fig1.jpg"),
        ("info:doi/10.1371/journal.pone.0000001.g001", "journal.pone.0000001.g001.png"),
        ("info:doi/10.1371/journal.pone.0000001.g001", "pone.0000001.g001.TIF"),
        ("MediaObjects/1_2017_1_Fig1_HTML.gif", "1_2017_1_Fig1_HTML.jpg"),
    ],
)
@pytest.mark.parametrize("where", ["beside", "figures"])
def test_a_picture_is_found_whatever_a_download_did_to_its_name(tmp_path, href: str, file: str, where: str) -> None:
    folder = tmp_path / "in"
    path = (folder if where == "beside" else tmp_path / "pics") / file
    path.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    path.write_bytes(picture(kind="TIFF" if path.suffix == ".TIF" else "JPEG"))
    (folder / "a.xml").write_bytes(article_xml(fig("f1", href=href)))
    figures = tmp_path / "pics" if where == "figures" else None
    assert collect_folder(folder, tmp_path / "out", figures=figures, progress=False).rows == 1


def test_another_articles_picture_is_never_taken(tmp_path) -> None:
    for n in (1, 2):
        (tmp_path / f"PMC{n}.xml").write_bytes(article_xml(fig("f1", href="img/fig1.jpg"), pmcid=f"PMC{n}"))
    (tmp_path / "PMC1").mkdir()
    (tmp_path / "PMC1/fig1.jpg").write_bytes(picture())
    (tmp_path / "fig1.jpg").write_bytes(picture(seed=1))
    manifest = collect_folder(tmp_path, tmp_path / "out", progress=False)
    assert [f.source.pmcid for f in dataset.read(tmp_path / "out", Figure)] == ["PMC1"]
    assert manifest.dropped == {"no-picture": 1}


@pytest.mark.parametrize("picture_in", ["a", "b"])
def test_an_article_that_lies_there_twice_is_taken_once_with_its_pictures(tmp_path, picture_in: str) -> None:
    for folder, name in (("a", "x.xml"), ("b", "x.nxml")):
        (tmp_path / "in" / folder).mkdir(parents=True)
        (tmp_path / "in" / folder / name).write_bytes(ONE)
    (tmp_path / "in" / picture_in / "g1.jpg").write_bytes(picture())
    manifest = collect_folder(tmp_path / "in", tmp_path / "out", progress=False)
    assert manifest.rows == 1 and manifest.dropped == {"duplicate-article": 1}


def test_nothing_taken_of_a_full_folder_is_an_error_that_says_what_was_seen(tmp_path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.xml").write_bytes(article_xml(fig("f1", href="lost.jpg")))
    (tmp_path / "in/b.xml").write_bytes(b"<article>")
    result = CliRunner().invoke(app, ["collect", "folder", str(tmp_path / "in"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "PMC77.1/f1: lost.jpg" in result.output and "b.xml" in result.output
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("x")
    result = CliRunner().invoke(app, ["collect", "folder", str(empty), "--out", str(tmp_path / "out2")])
    assert result.exit_code == 1 and "1 .txt" in str(result.exception)


@pytest.mark.parametrize(
    ("where", "retracted"),
    [
        ('<related-article related-article-type="retraction-forward"/>', True),
        ('<related-article related-article-type="Retracted-by"/>', True),
        ('<related-object link-type="retraction-forward"/>', True),
        ("<article-categories><subj-group><subject>Retracted Article</subject></subj-group></article-categories>", True),
        ('<pub-history><event event-type="retracted"/></pub-history>', True),
        ('<history><date date-type="retracted"/></history>', True),
        ('<article-version article-version-type="status">retracted</article-version>', True),
        (
            "<custom-meta-group><custom-meta><meta-name>publication-status</meta-name><meta-value>Retracted</meta-value></custom-meta></custom-meta-group>",
            True,
        ),
        ('<related-article related-article-type="correction-forward"/>', False),
        ('<related-article related-article-type="retracted-article"/>', False),
        ("<kwd-group><kwd>retracted</kwd></kwd-group>", False),
    ],
)
def test_retraction_in_every_form(where: str, retracted: bool) -> None:
    assert parse(article_xml("", extra=where), "a")[0].source.retracted is retracted


@pytest.mark.parametrize(
    ("title", "kind", "retracted"),
    [
        ("RETRACTED ARTICLE: Glands", "research-article", True),
        ("[Retracted] Glands", "research-article", True),
        ("WITHDRAWN: Glands", "research-article", True),
        ("Glands", "retracted-article", True),
        ("Retracted nipples in breast carcinoma", "research-article", False),
        ("Retraction: Glands", "retraction", False),
    ],
)
def test_retraction_in_title_and_type(title: str, kind: str, retracted: bool) -> None:
    xml = article_xml("", title=title).replace(b"<article ", f'<article article-type="{kind}" '.encode(), 1)
    assert parse(xml, "a")[0].source.retracted is retracted


LINK = 'xlink:href="https://creativecommons.org/licenses/by-nc/4.0/"'


@pytest.mark.parametrize(
    ("permissions", "code"),
    [
        (f"<license {LINK}/>", "CC-BY-NC-4.0"),
        (f"<license><license-p>Under <ext-link {LINK}>terms</ext-link>.</license-p></license>", "CC-BY-NC-4.0"),
        (f"<license><p>Under <uri {LINK}>terms</uri>.</p></license>", "CC-BY-NC-4.0"),
        (
            "<license><license-p>See https://creativecommons.org/licenses/by-nc/4.0/ for terms.</license-p></license>",
            "CC-BY-NC-4.0",
        ),
        ("<license license-type='CC BY-NC 4.0'/>", "CC-BY-NC-4.0"),
        ("<ali:license_ref content-type='ccbyncndlicense'>https://example.org</ali:license_ref>", "CC-BY-NC-ND"),
        ("<copyright-statement>© 2005. Under the Creative Commons Attribution License.</copyright-statement>", "CC-BY"),
        ("<license><license-p>CC‑BY‑NC‑SA v4.0</license-p></license>", "CC-BY-NC-SA-4.0"),
        ("<license><license-p>Licencia Creative Commons Atribución-NoComercial 4.0</license-p></license>", "CC-BY-NC-4.0"),
        ("<license><license-p>Creative Commons „Namensnennung – Nicht kommerziell 3.0“</license-p></license>", "CC-BY-NC-3.0"),
        ("<license><license-p>This is an open access article.</license-p></license>", "unknown"),
        (f"<license specific-use='text-mining' {LINK}/>", "unknown"),
    ],
)
@pytest.mark.parametrize("wrapped", [True, False], ids=["permissions", "article-meta"])
def test_licences_in_every_form(permissions: str, code: str, wrapped: bool) -> None:
    extra = f"<permissions>{permissions}</permissions>" if wrapped else permissions
    assert parse(article_xml("", extra=extra), "a")[0].source.licence == code


def test_policies_see_every_code() -> None:
    assert licences.allowed("CC-BY-NC-SA-4.0", "research") and not licences.allowed("CC-BY-NC-SA-4.0", "open")


def test_supplementary_figures_are_counted(tmp_path) -> None:
    (tmp_path / "a.xml").write_bytes(article_xml(f"<supplementary-material>{fig('s1')}</supplementary-material>{fig('f1')}"))
    manifest = collect_folder(tmp_path, tmp_path / "out", text_only=True, progress=False)
    assert manifest.rows == 1 and manifest.dropped == {"supplementary": 1}


def test_a_file_without_articles_says_what_it_holds() -> None:
    with pytest.raises(BadInput, match="<html>"):
        parse(b"<html/>", "a.xml")
    assert HEAD.startswith("<?xml")


def test_pictures_beside_the_figures_are_counted(tmp_path) -> None:
    supplement = (
        '<supplementary-material xlink:href="s1.tif"><label>S1 Fig</label><caption><p>x</p></caption></supplementary-material>'
    )
    data = '<supplementary-material xlink:href="s2.csv"/>'
    table = '<table-wrap><graphic xlink:href="t1.jpg"/></table-wrap><chem-struct><graphic xlink:href="c.gif"/></chem-struct>'
    formula = '<disp-formula><graphic xlink:href="e1.gif"/></disp-formula>'
    (tmp_path / "a.xml").write_bytes(article_xml(f"{supplement}{data}{table}{formula}{fig('f1')}"))
    manifest = collect_folder(tmp_path, tmp_path / "out", text_only=True, progress=False)
    assert manifest.rows == 1
    assert manifest.dropped == {"supplementary": 1, "outside-of-figures": 2}


def test_of_a_caption_in_two_languages_the_english_is_taken() -> None:
    spanish, english = '<caption xml:lang="es"><p>Una glándula.</p></caption>', '<caption xml:lang="en"><p>A gland.</p></caption>'
    for captions in (spanish + english, english + spanish, english):
        body = f'<fig id="f"><label>Figure 1</label>{captions}<graphic xlink:href="f.jpg"/></fig>'
        [figure] = parse(article_xml(body), "a.xml")[1]
        assert figure.caption == "A gland."
