import gzip
import time

import pytest
from collect_samples import article_xml, fig

from pathasst.collect.jats import parse
from pathasst.core.errors import BadInput


def figures(body: str, **options):
    return parse(article_xml(body, **options), "a.xml")[1]


def test_all_fields_of_an_article() -> None:
    article, found = parse(article_xml("<sec>" + fig("f1") + "</sec>"), "a.xml")
    source = article.source
    assert (source.article_id, source.pmcid, source.pmid, source.doi) == ("PMC77.1", "PMC77", "123", "10.1/x")
    assert (source.journal, source.date, source.title) == ("J Test", "2016-04-03", "Glands of the colon")
    assert (source.licence, source.licence_url) == ("CC-BY-4.0", "https://creativecommons.org/licenses/by/4.0/")
    assert (article.abstract, article.keywords, article.mesh) == ("What we did.", ["colon"], ["Colonic Neoplasms"])
    assert [(f.figure_id, f.label, f.caption, f.graphic) for f in found] == [("PMC77.1/f1", "Figure 1", "A gland.", "g1")]
    assert found[0].keywords == ["colon", "Colonic Neoplasms"]


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("CD4<sup>+</sup> and IC<sub>50</sub>", "CD4⁺ and IC₅₀"),
        ("p53<sup>mut</sup>", "p53mut"),
        ("<italic>TP53</italic>, <bold>(A)</bold> α-SMA", "TP53, (A) α-SMA"),
        (
            "<inline-formula><mml:math><mml:msup><mml:mi>m</mml:mi><mml:mn>2</mml:mn></mml:msup></mml:math></inline-formula>",
            "m²",
        ),
        ("x &alpha; &#945; y", "x α α y"),
        ("see<xref ref-type='bibr' rid='b'>[1]</xref> it\n  now", "see[1] it now"),
        ("a<!-- c -->b<?pi x?>c", "abc"),
    ],
)
def test_inline_structure_is_kept_as_text(markup: str, text: str) -> None:
    xml = article_xml(fig("f1", markup)).replace(b"<article ", b'<!DOCTYPE article SYSTEM "none.dtd"><article ', 1)
    assert parse(xml, "a")[1][0].caption == text


def test_title_is_part_of_the_caption_and_kept_alone_too() -> None:
    caption = "<caption><title>Glands.</title><p>(A) One.</p><p>(B) Two.</p></caption>"
    (figure,) = figures(f'<fig id="f">{caption}<graphic xlink:href="g"/></fig>')
    assert (figure.title, figure.caption) == ("Glands.", "Glands. (A) One. (B) Two.")


def test_several_graphics_give_several_figures_and_alternatives_one() -> None:
    two = '<fig id="f"><caption><p>x</p></caption><graphic xlink:href="a"/><graphic xlink:href="b"/></fig>'
    assert [(f.figure_id, f.part, f.graphic) for f in figures(two)] == [("PMC77.1/f", 0, "a"), ("PMC77.1/f#1", 1, "b")]
    alternatives = '<alternatives><graphic xlink:href="a.tif"/><graphic xlink:href="a.jpg"/></alternatives>'
    assert [f.graphic for f in figures(f'<fig id="f">{alternatives}</fig>')] == ["a.jpg"]


def test_a_group_passes_its_caption_to_its_members() -> None:
    group = (
        '<fig-group id="g"><label>Figure 2</label><caption><p>All stained with H&amp;E.</p></caption>'
        '<fig id="g1"><caption><p>Liver.</p></caption><graphic xlink:href="a"/></fig>'
        '<fig id="g2"><graphic xlink:href="b"/></fig></fig-group><p>As <xref ref-type="fig" rid="g">Fig 2</xref> shows.</p>'
    )
    found = figures(group)
    assert [(f.label, f.caption) for f in found] == [
        ("Figure 2", "All stained with H&E. Liver."),
        ("Figure 2", "All stained with H&E."),
    ]
    assert all(f.mentions == ["As Fig 2 shows."] for f in found)


def test_supplementary_figures_are_left_out() -> None:
    assert [f.figure_id for f in figures(f"<supplementary-material>{fig('s1')}</supplementary-material>{fig('f1')}")] == [
        "PMC77.1/f1"
    ]


def test_mentions_by_reference_range_and_words() -> None:
    body = "".join(fig(f"f{n}", label=f"Fig. {n}") for n in (1, 2, 3))
    refs = (
        '<p>First <xref ref-type="fig" rid="f1">1</xref>–<xref ref-type="fig" rid="f3">3</xref>.</p>'
        '<p>Then <xref ref-type="fig" rid="f2 f3">2 and 3</xref>, <xref ref-type="bibr" rid="f1">9</xref>.</p>'
    )
    assert [f.mentions for f in figures(body + refs)] == [
        ["First 1–3."],
        ["First 1–3.", "Then 2 and 3, 9."],
        ["First 1–3.", "Then 2 and 3, 9."],
    ]
    assert [len(f.mentions) for f in figures(body + "<p>As Figure 2 shows, and Fig. 20 does not.</p>")] == [0, 1, 0]


def test_a_paragraph_around_a_figure_does_not_repeat_its_caption() -> None:
    (figure,) = figures(f'<p>See <xref ref-type="fig" rid="f1">Fig 1</xref>. {fig("f1")}</p>')
    assert figure.mentions == ["See Fig 1."]


def test_a_borrowed_figure_has_terms_of_its_own() -> None:
    permissions = "<permissions><copyright-statement>Reprinted with permission.</copyright-statement></permissions>"
    (figure,) = figures(f'<fig id="f"><caption><p>x</p></caption><graphic xlink:href="a"/>{permissions}</fig>')
    assert figure.source.licence == "unknown"


def test_missing_and_double_ids_stay_apart() -> None:
    found = figures('<fig><caption><p>a</p></caption></fig><fig id="x"/><fig id="x"/>')
    assert len({f.figure_id for f in found}) == 3


@pytest.mark.parametrize(("pmcid", "article_id"), [("77", "PMC77.1"), ("PMC77.3", "PMC77.3"), ("", "doi:10.1/x")])
def test_article_id(pmcid: str, article_id: str) -> None:
    assert parse(article_xml("", pmcid=pmcid), "a.xml")[0].source.article_id == article_id


def test_retraction_is_seen_in_title_and_link() -> None:
    link = '<related-article related-article-type="retraction-forward"/>'
    assert parse(article_xml("", title="RETRACTED: x"), "a")[0].source.retracted
    assert parse(article_xml("", extra=link), "a")[0].source.retracted
    assert not parse(article_xml(""), "a")[0].source.retracted


def bomb(body: str) -> bytes:
    lines = ['<!ENTITY a0 "' + "x" * 100 + '">'] + [f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 9)]
    return f"<!DOCTYPE article [{''.join(lines)}]><article><body>{body}</body></article>".encode()


def external(tmp_path) -> bytes:
    secret = tmp_path / "secret.txt"
    secret.write_text("TOPSECRET")
    return f'<!DOCTYPE article [<!ENTITY e SYSTEM "file://{secret}">]><article><body><p>&e;</p></body></article>'.encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html></html>",
        b"\x00\x01\x02",
        article_xml(fig("f1"))[:-40],
        bomb("<p>&a8;</p>"),
        bomb('<fig id="&a8;"/>'),
        b"<article>" + b"<a>" * 100_000,
    ],
    ids=["empty", "no-article", "binary", "truncated", "bomb", "attribute-bomb", "deep"],
)
def test_bad_xml_costs_one_article(content: bytes) -> None:
    start = time.monotonic()
    with pytest.raises(BadInput, match=r"a\.xml"):
        parse(content, "a.xml")
    assert time.monotonic() - start < 20  # a bomb must be refused, not expanded


def test_external_entities_are_never_read(tmp_path) -> None:
    try:
        article, found = parse(external(tmp_path), "a.xml")
    except BadInput as error:
        assert "TOPSECRET" not in str(error)
    else:
        assert "TOPSECRET" not in repr((article, found))


def test_an_entity_that_the_file_declares_is_text() -> None:
    xml = article_xml(fig("f1", "5 &um; thick")).replace(
        b"<article ", '<!DOCTYPE article [<!ENTITY um "µm">]><article '.encode(), 1
    )
    assert parse(xml, "a")[1][0].caption == "5 µm thick"


def test_declared_encodings_are_followed() -> None:
    xml = article_xml(fig("f1", "café")).decode().replace('version="1.0"', 'version="1.0" encoding="ISO-8859-1"', 1)
    assert parse(xml.encode("latin-1"), "a")[1][0].caption == "café"


@pytest.mark.real
def test_every_real_article_parses_and_keeps_every_figure(real_data) -> None:
    from lxml import etree

    files = sorted(
        [*real_data.glob("articles/xml/*.xml"), *real_data.glob("jats/*.gz"), *real_data.glob("jats_packages/*/*.xml")]
    )
    assert len(files) > 300
    for path in files:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        article, found = parse(content, path.name)
        graphics = [g for f in etree.fromstring(content).iter("fig") for g in (list(f.iter("graphic")) or [None])]
        assert len(found) >= len(graphics), path.name
        assert article.source.title or article.source.journal, path.name
        assert all(f.caption or f.label for f in found), path.name
