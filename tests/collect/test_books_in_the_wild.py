"""Books as programs write them: page boxes and turns, parts of DOCX, pictures and captions of HTML."""

import base64
import io
import zipfile

import numpy as np
import pytest
from collect_samples import picture
from PIL import Image, ImageDraw

from pathasst import dataset
from pathasst.collect.book_pdf import opened, read_page, render
from pathasst.collect.books import collect_books
from pathasst.collect.page_layout import CAPTION, Line, Page, captions_of, figures_of
from pathasst.core.records import Figure

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
R = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
TYPE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def pdf(box: tuple[int, int, int, int], turns: int = 0, crop: bool = False) -> bytes:
    """One page with a half red, half blue picture above its caption, drawn where the shown box has its corner."""
    left, bottom, right, top = box
    image = Image.new("RGB", (40, 30), "red")
    ImageDraw.Draw(image).rectangle((20, 0, 40, 30), fill="blue")
    data = image.tobytes()
    # What is shown upright stands turned the other way on the page.
    turn = {0: "1 0 0 1 0 0", 1: "0 1 -1 0 300 0", 2: "-1 0 0 -1 300 300", 3: "0 -1 1 0 0 300"}[turns]
    words = f"1 0 0 1 {left} {bottom} cm {turn} cm q 200 0 0 150 50 120 cm /I Do Q "
    words += "BT /F 10 Tf 50 100 Td (Figure 1. Drawn glands of the colon.) Tj ET"
    media = (left - 20, bottom - 20, right + 20, top + 20) if crop else box
    boxes = f"/MediaBox [{' '.join(map(str, media))}] /CropBox [{' '.join(map(str, box))}]"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        f"<</Type/Page/Parent 2 0 R {boxes}/Rotate {90 * turns}/Contents 4 0 R"
        "/Resources<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>/XObject<</I 5 0 R>>>>>>".encode(),
        f"<</Length {len(words)}>>stream\n{words}\nendstream".encode(),
        f"<</Type/XObject/Subtype/Image/Width 40/Height 30/ColorSpace/DeviceRGB/BitsPerComponent 8/Length {len(data)}>>".encode()
        + b"stream\n"
        + data
        + b"\nendstream",
    ]
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj" % number + body + b"endobj\n"
    table = "".join(f"{p:010d} 00000 n \n" for p in places)
    return out + f"xref\n0 6\n0000000000 65535 f \n{table}trailer<</Size 6/Root 1 0 R>>\nstartxref\n{len(out)}\n%%EOF".encode()


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("corner", [(0, 0), (60, 45), (-30, -40)])
@pytest.mark.parametrize("crop", [False, True])
def test_the_picture_of_a_caption_is_cut_where_it_is_shown(turns: int, corner: tuple[int, int], crop: bool) -> None:
    content = pdf((*corner, corner[0] + 300, corner[1] + 300), turns, crop)
    with opened(content, "a.pdf") as document:
        (item,) = figures_of(read_page(document[0]))
        assert item.caption.text == "Drawn glands of the colon."
        pixels = np.asarray(render(document[0], item.box))
    height, width = pixels.shape[:2]
    assert abs(width - 833) < 12 and abs(height - 625) < 12  # 200 × 150 points at 300 dpi
    quarter = width // 4
    assert tuple(pixels[height // 2, quarter]) == (255, 0, 0) and tuple(pixels[height // 2, 3 * quarter]) == (0, 0, 255)


@pytest.mark.parametrize(
    ("line", "label", "text"),
    [
        ("Fig. 1 a H&E of glands. b Ki-67.", "Fig. 1", "a H&E of glands. b Ki-67."),
        ("Fig. 2 p53 immunostaining of glands", "Fig. 2", "p53 immunostaining of glands"),
        ("Fig. 2 In situ hybridisation of glands", "Fig. 2", "In situ hybridisation of glands"),
        ("Figure 3 Demonstration of amyloid", "Figure 3", "Demonstration of amyloid"),
        ("FIGURE 3 | Glands", "FIGURE 3", "Glands"),
        ("FIGURE 1Drawn glands", "FIGURE 1", "Drawn glands"),
        ("Fig. 1A-D. Glands", "Fig. 1", "A-D. Glands"),
        ("Fig. 1a, b Glands", "Fig. 1", "a, b Glands"),
        ("Fig. 1A. Glands", "Fig. 1A", "Glands"),
        ("eFigure 1. Glands", "eFigure 1", "Glands"),
        ("Figures 1 and 2. Glands", "Figures 1 and 2", "Glands"),
    ],
)
def test_captions_begin_as_publishers_print_them(line: str, label: str, text: str) -> None:
    page = Page(600, 800, [Line("Words of the text above.", (50, 50, 500, 60)), Line(line, (50, 300, 400, 310))])
    assert [(c.label, c.text) for c in captions_of(page)] == [(label, text)]


@pytest.mark.parametrize(
    "line", ["Fig. 2 shows glands", "Figure 3 and Table 1 are", "Fig. 1a shows glands", "Fig. 2 in the text"]
)
def test_prose_is_no_caption(line: str) -> None:
    assert captions_of(Page(600, 800, [Line(line, (50, 300, 400, 310))])) == []
    assert CAPTION.match(line)


def rows(tmp_path, name: str, content: bytes) -> list[Figure]:
    (tmp_path / name).write_bytes(content)
    collect_books(tmp_path / name, tmp_path / "out", progress=False)
    return list(dataset.read(tmp_path / "out", Figure))


def archive(parts: dict[str, bytes | str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in parts.items():
            file.writestr(name, content)
    return buffer.getvalue()


def docx(body: str, main: str = "word/document.xml", target: str = "media/a.png") -> bytes:
    folder, _, base = main.rpartition("/")
    relation = f'<Relationships><Relationship Id="{{}}" Type="{TYPE}/{{}}" Target="{{}}"/></Relationships>'.format
    return archive(
        {
            "_rels/.rels": relation("m", "officeDocument", f"/{main}"),
            main: f"<w:document {W} {R} xmlns:v='urn:schemas-microsoft-com:vml' xmlns:a='a'><w:body>{body}</w:body></w:document>",
            f"{folder}/_rels/{base}.rels": relation("p", "image", target),
            "word/media/a.png": picture((80, 60), "PNG"),
        }
    )


WORDS = "<w:p><w:r><w:t>Figure 1. Drawn</w:t><w:tab/><w:t>glands,</w:t><w:br/>"
WORDS += "<w:t>Ki</w:t><w:noBreakHyphen/><w:t>67.</w:t></w:r></w:p>"
BLIP = '<w:p><w:r><a:blip r:embed="p"/></w:r></w:p>'


@pytest.mark.parametrize(
    "content",
    [
        docx(BLIP + WORDS),
        docx(BLIP + WORDS, main="word/document2.xml", target="/word/media/a.png"),
        docx('<w:p><w:r><v:imagedata r:id="p"/></w:r></w:p>' + WORDS),
    ],
    ids=["plain", "other-parts", "vml"],
)
def test_docx_of_other_programs(tmp_path, content: bytes) -> None:
    (figure,) = rows(tmp_path, "a.docx", content)
    assert (figure.label, figure.caption) == ("Figure 1", "Drawn glands, Ki-67.")


INLINE = f"data:image/png;base64,{base64.b64encode(picture((80, 60), 'PNG')).decode()}"


@pytest.mark.parametrize(
    "body",
    [
        '<img src="a.png"/><p>Figure 1. Glands.</p>',
        '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=" data-src="a.png"/><p>Figure 1. Glands.</p>',
        '<picture><img srcset="small.png 1x, a.png 2x"/></picture><p>Figure 1. Glands.</p>',
        f'<img src="{INLINE}"/><p>Figure 1. Glands.</p>',
        '<svg><image xlink:href="a.png"/></svg><p>Figure 1. Glands.</p>',
        '<svg><image href="a.png"></image></svg><p>Figure 1. Glands.</p>',
        '<object data="a.png" type="image/png"></object><p>Figure 1. Glands.</p>',
        '<div><img src="a.png"/><div class="caption"><b>Figure 1.</b> Glands.</div></div>',
        '<div><img src="a.png"/><div><b>Figure 1.</b> Glands.</div></div>',
        '<img src="a.png"/><p class="image-caption">Figure 1. Glands.</p>',
        '<header><figure><img src="a.png"/><figcaption>Figure 1. Glands.</figcaption></figure></header>',
        '<img src="spacer.gif" data-lazy-src="a.png"/><p>Figure 1. Glands.</p>',
        '<picture><source srcset="a.png 800w, small.png 300w"><img alt=""></picture><p>Figure 1. Glands.</p>',
        '<figure><noscript><img src="a.png"></noscript><figcaption>Figure 1. Glands.</figcaption></figure>',
        '<img data-src="a.png"><noscript><img src="a.png"></noscript><p>Figure 1. Glands.</p>',
        '<a href="a.png"><img src="thumb.jpg"></a><p>Figure 1. Glands.</p>',
        '<a href="no.png"><img src="a.png"></a><p>Figure 1. Glands.</p>',
        '<h1>Colon</h1><center><img src="a.png"><br><b>Figure 1.</b> Glands.</center>',
        '<h1>Colon</h1><div><img src="a.png"><h5>Figure 1. Glands.</h5></div>',
        '<h1>Colon</h1><img src="a.png">Figure 1. Glands.<br>',
    ],
)
def test_pictures_and_captions_of_html(tmp_path, body: str) -> None:
    (tmp_path / "a.png").write_bytes(picture((80, 60), "PNG"))
    (figure,) = rows(tmp_path, "a.html", f"<html><body>{body}</body></html>".encode())
    assert (figure.label, figure.caption, figure.width) == ("Figure 1", "Glands.", 80)


def test_a_picture_without_words_and_a_logo_are_counted(tmp_path) -> None:
    (tmp_path / "a.png").write_bytes(picture((80, 60), "PNG"))
    (tmp_path / "a.html").write_text('<html><body><p>x</p><img src="a.png"/><img src="logo.png"/></body></html>')
    manifest = collect_books(tmp_path / "a.html", tmp_path / "out", progress=False)
    assert manifest.rows == 0 and manifest.dropped == {"no-caption": 1, "logo": 1}


def test_two_formats_of_one_name_have_ids_of_their_own(tmp_path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/atlas.docx").write_bytes(docx(BLIP + WORDS))
    (tmp_path / "in/atlas.html").write_text(f'<html><body><img src="{INLINE}"/><p>Figure 1. Glands.</p></body></html>')
    collect_books(tmp_path / "in", tmp_path / "out", progress=False)
    assert len({f.figure_id for f in dataset.read(tmp_path / "out", Figure)}) == 2


def of_html(folder, body: str, *names: str) -> tuple[list[tuple[str, str]], dict[str, int]]:
    """(caption, picture's name) of the figures of a page, and what was left out."""
    pictures = {name: picture((120, 90), seed=n) for n, name in enumerate(names, 1)}
    for name, content in pictures.items():
        (folder / name).write_bytes(content)
    (folder / "x.html").write_text(f"<html><head><title>B</title></head><body>{body}</body></html>", encoding="utf-8")
    manifest = collect_books(folder / "x.html", folder / "out", ocr=False, progress=False)
    name_of = {content: name for name, content in pictures.items()}
    return [(f.caption, name_of[f.image]) for f in dataset.read(folder / "out", Figure)], dict(manifest.dropped)


A, B = "Figure 1. A gland.", "Figure 2. A node."
GRID = '<tr><td><img src="a.jpg"></td><td><img src="b.jpg"></td></tr>'


@pytest.mark.parametrize(
    "body",
    [
        f"<table>{GRID}<tr><td>{A}</td><td>{B}</td></tr></table>",
        f"<table><tr><td>{A}</td><td>{B}</td></tr>{GRID}</table>",
        f'<table><tr><td>{A}</td></tr><tr><td><img src="a.jpg"></td></tr>'
        f'<tr><td>{B}</td></tr><tr><td><img src="b.jpg"></td></tr></table>',
        f'<p class="caption">{A}</p><img src="a.jpg"><p class="caption">{B}</p><img src="b.jpg">',
        f'<p>{A}</p><p><img src="a.jpg"></p><p>Prose.</p><p>{B}</p><p><img src="b.jpg"></p><p>The end.</p>',
        f'<p><img src="a.jpg"></p><p>{A}</p><p>Prose.</p><p><img src="b.jpg"></p><p>{B}</p>',
    ],
)
def test_captions_of_a_grid_and_above_their_pictures(tmp_path, body) -> None:
    figures, dropped = of_html(tmp_path, body, "a.jpg", "b.jpg")
    assert figures == [("A gland.", "a.jpg"), ("A node.", "b.jpg")]
    assert not dropped


def test_a_caption_across_a_grid_is_of_all_its_pictures(tmp_path) -> None:
    figures, _ = of_html(tmp_path, f'<table>{GRID}<tr><td colspan="2">{A}</td></tr></table>', "a.jpg", "b.jpg")
    assert figures == [("A gland.", "a.jpg"), ("A gland.", "b.jpg")]


def test_powers_of_web_pages(tmp_path) -> None:
    body = '<figure><img src="a.jpg"><figcaption>10<sup>3</sup> cells, CO<sub>2</sub></figcaption></figure>'
    assert of_html(tmp_path, body, "a.jpg")[0] == [("10³ cells, CO₂", "a.jpg")]


def test_a_book_without_figures_says_so(tmp_path) -> None:
    assert of_html(tmp_path, '<p>Words.</p><p><a href="a.jpg">Figure 1. A gland.</a></p>', "a.jpg") == (
        [],
        {"book-without-figures": 1},
    )


def run(text: str, style: str = "", more: str = "") -> str:
    properties = f'<w:rPr><w:vertAlign w:val="{style}"/></w:rPr>' if style else ""
    words = f'<w:t xml:space="preserve">{text}</w:t>' if text else ""
    return f"<w:r>{properties}{words}{more}</w:r>"


def test_powers_and_signs_of_word(tmp_path) -> None:
    micro = run("", more='<w:sym w:font="Symbol" w:char="F06D"/>')
    power, two = run("3", "superscript"), run("2", "subscript")
    words = f"<w:p>{run('Figure 1. 10')}{power}{run(' cells of 5 ')}{micro}{run('m, CO')}{two}</w:p>"
    (figure,) = rows(tmp_path, "a.docx", docx(BLIP + words))
    assert figure.caption == "10³ cells of 5 μm, CO₂"


def test_a_grid_of_word_and_a_picture_that_lies_elsewhere(tmp_path) -> None:
    def cell(inner: str) -> str:
        return f"<w:tc>{inner}</w:tc>"

    first, second = (f"<w:p>{run(text)}</w:p>" for text in (A, B))
    grid = f"<w:tbl><w:tr>{cell('<w:p/>')}{cell(BLIP)}</w:tr><w:tr>{cell(first)}{cell(second)}</w:tr></w:tbl>"
    (figure,) = rows(tmp_path, "a.docx", docx(grid))
    assert figure.caption == "A node."  # of its own column
    linked = docx(BLIP.replace("r:embed", "r:link") + first, target="file:///C:/a.png")
    (tmp_path / "b.docx").write_bytes(linked)
    assert collect_books(tmp_path / "b.docx", tmp_path / "out-b", progress=False).dropped == {"no-picture": 1}
