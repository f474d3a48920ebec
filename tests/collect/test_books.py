import io
import zipfile
from pathlib import Path

import pytest
from collect_samples import picture
from PIL import Image
from typer.testing import CliRunner

from pathasst import dataset
from pathasst.cli.main import app
from pathasst.collect import book_html, page_layout
from pathasst.collect.books import collect_books
from pathasst.collect.page_layout import Line, Page
from pathasst.core.errors import BadSettings
from pathasst.core.records import Figure


def text(x: float, y: float, words: str, size: float = 9) -> str:
    return f"BT /F1 {size} Tf {x} {y} Td ({words}) Tj ET\n"


def photo(x: float, y: float, w: float, h: float) -> str:
    return f"q {w} 0 0 {h} {x} {y} cm /Im1 Do Q\n"


def drawing(x: float, y: float, w: float, h: float) -> str:
    return f"{x} {y} {w} {h} re S {x} {y} m {x + w} {y + h} l S\n"


def pdf(*pages: str) -> bytes:
    """A PDF of 600 x 800 pt pages written by hand: one font, one 40 x 30 px photograph."""
    raw = Image.open(io.BytesIO(picture(kind="PNG"))).tobytes()
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"", b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    head = (
        f"<< /Type /XObject /Subtype /Image /Width 40 /Height 30 /ColorSpace /DeviceRGB /BitsPerComponent 8 /Length {len(raw)} >>"
    )
    objects.append(head.encode() + b"\nstream\n" + raw + b"\nendstream")
    kids = []
    for page in pages:
        objects.append(f"<< /Length {len(page)} >>\nstream\n{page}\nendstream".encode())
        resources = "<< /Font << /F1 3 0 R >> /XObject << /Im1 4 0 R >> >>"
        entry = f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents {len(objects)} 0 R /Resources {resources} >>"
        objects.append(entry.encode())
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>".encode()
    out, places = io.BytesIO(b"%PDF-1.4\n"), []
    out.seek(0, io.SEEK_END)
    for number, body in enumerate(objects, 1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.write(b"".join(b"%010d 00000 n \n" % p for p in places))
    out.write(b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, start))
    return out.getvalue()


RUNNING = "".join(
    text(50, 300 - 11 * n, f"Running text of the chapter goes on and on for many words in line {n} as books do") for n in range(8)
)


def rows(path: Path, out: Path, **options) -> tuple[list[Figure], dict[str, int]]:
    manifest = collect_books(path, out, progress=False, **options)
    return list(dataset.read(out, Figure)), dict(manifest.dropped)


def one(tmp_path, *pages: str) -> list[Figure]:
    (tmp_path / "book.pdf").write_bytes(pdf(*pages))
    return rows(tmp_path / "book.pdf", tmp_path / "out")[0]


def test_photograph_above_its_caption(tmp_path) -> None:
    caption = text(50, 480, "Figure 1: Colon, normal mucosa with crypts seen from") + text(
        50, 470, "the side, and a divided epi-"
    )
    (figure,) = one(tmp_path, photo(100, 500, 300, 200) + caption + text(50, 460, "thelium.") + RUNNING)
    assert (figure.label, figure.page, figure.source.kind) == ("Figure 1", 1, "book")
    assert figure.caption == "Colon, normal mucosa with crypts seen from the side, and a divided epithelium."
    assert abs(figure.width - 300 / 72 * 300) < 20 and abs(figure.height - 200 / 72 * 300) < 20  # 300 dpi
    page = (tmp_path / "out-html/book/index.html").read_text()
    assert "<figcaption>Figure 1. Colon" in page and "Running text" in page
    assert (tmp_path / "out-html/book" / figure.graphic).is_file()


def test_vector_drawing_and_caption_above_it(tmp_path) -> None:
    (figure,) = one(tmp_path, text(50, 720, "Fig. 2-1. Diagram of a gland.") + drawing(100, 450, 200, 240) + RUNNING)
    assert (figure.label, figure.caption) == ("Fig. 2-1", "Diagram of a gland.")
    assert figure.height > figure.width > 200 / 72 * 290


def test_two_columns_keep_their_figures_apart(tmp_path) -> None:
    left = photo(60, 550, 200, 150) + text(50, 530, "Figure 1: Left gland.")
    right = drawing(340, 560, 200, 140) + text(320, 530, "Figure 2: Right chart.")
    found = one(tmp_path, left + right + RUNNING)
    assert sorted((f.label, f.caption) for f in found) == [("Figure 1", "Left gland."), ("Figure 2", "Right chart.")]
    assert all(f.width < 240 / 72 * 300 for f in found)


def test_caption_beside_and_on_the_next_page(tmp_path) -> None:
    beside = one(tmp_path, photo(60, 400, 260, 300) + text(350, 600, "Plate 3. Beside it.") + text(350, 590, "Two lines."))
    assert [f.caption for f in beside] == ["Beside it. Two lines."]
    (tmp_path / "facing").mkdir()
    facing = one(tmp_path / "facing", photo(60, 200, 450, 500), text(50, 700, "Figure 9. Facing page.") + RUNNING)
    assert [(f.caption, f.page) for f in facing] == [("Facing page.", 1)]


def test_sentences_about_figures_are_no_captions(tmp_path) -> None:
    prose = text(50, 400, "As seen before, the gland is large. The text goes on") + text(
        50, 389, "Figure 1 shows that the gland is large and wide"
    )
    found = one(tmp_path, photo(100, 500, 300, 200) + text(50, 480, "Figure 1. A gland.") + prose)
    assert [f.caption for f in found] == ["A gland."]


@pytest.mark.parametrize(
    ("words", "label"),
    [
        ("Fig. 3. A gland", "Fig. 3"),
        ("FIGURE 4-2 Gland", "FIGURE 4-2"),
        ("Image 7: x", "Image 7"),
        ("Plate IV. Gland", "Plate IV"),
        ("Figure 2.1 Gland", "Figure 2.1"),
        ("Figure A.1 Gland", "Figure A.1"),
        ("Figure (15). Gland", "Figure 15"),
        ("Fig. nº 3: Gland", "Fig. nº 3"),
        ("Figure 28_Gland", "Figure 28"),
        ("Figure 16 [Color online] Gland", "Figure 16"),
        ("Fig. 8 α-SMA staining", "Fig. 8"),
        ("Fig. 9 5-HT positive cells", "Fig. 9"),
        ("Fig. 10 ×400 view", "Fig. 10"),
        ("Fig. 21 c-Kit expression", "Fig. 21"),
        ("Appendix Figure 2. Gland", "Appendix Figure 2"),
        ("Picture 1. Gland", "Picture 1"),
        ("Figura 1. Glándula", "Figura 1"),
        ("Рис. 1. Железа", "Рис. 1"),
        ("图1 HE染色", "图1"),
        ("図2．HE染色", "図2"),
        ("Ryc. 2. Gruczoł", "Ryc. 2"),
        ("Şekil 1. Bez", "Şekil 1"),
    ],
)
def test_caption_starts(words: str, label: str) -> None:
    (caption,) = page_layout.captions_of(Page(600, 800, [Line(words, (50, 100, 200, 109))]))
    assert caption.label == label


@pytest.mark.parametrize(
    "words",
    [
        "Figure 3 shows a gland",
        "Fig. 2, and later",
        "Figures were drawn",
        "Plate in the hand",
        "figure 5 is large",
        "Fig. 6A). The tumour",
        "Figure 9A–C show the tumour",
        "Figure 7 gives an overview",
        "图1所示",
    ],
)
def test_no_caption_starts(words: str) -> None:
    assert page_layout.captions_of(Page(600, 800, [Line(words, (50, 100, 200, 109))])) == []


def test_a_small_word_without_a_stop_begins_a_caption_right_below_a_picture_alone() -> None:
    def captions(words: str, *graphics: tuple[float, float, float, float], above: str = "") -> list[str]:
        lines = [Line(words, (50, 110, 300, 119)), *([Line(above, (50, 96, 300, 105))] if above else [])]
        return [c.label for c in page_layout.captions_of(Page(600, 800, lines, list(graphics)))]

    words, photo_above = "Fig. 22 hematoxylin-eosin staining of the liver", (50.0, 10.0, 300.0, 104.0)
    assert captions(words, photo_above) == ["Fig. 22"]
    assert captions(words) == captions(words, (50.0, 10.0, 300.0, 60.0), above="Running text.") == []
    assert captions("Fig. 22 gives an overview of the liver", photo_above) == []


def test_a_scanned_page_is_read_by_ocr(tmp_path) -> None:
    from PIL import ImageDraw, ImageFont

    scan = Image.new("RGB", (1240, 1650), "white")
    scan.paste(Image.open(io.BytesIO(picture((400, 300), "PNG"))).resize((800, 600)), (220, 150))
    draw, font = ImageDraw.Draw(scan), ImageFont.load_default(size=26)
    draw.text((150, 790), "Figure 1: Section of a lymph node with many small granulomas", fill="black", font=font)
    for line in range(12):
        draw.text(
            (150, 950 + 36 * line), "The running text of this chapter is long and has many common words.", fill="black", font=font
        )
    scan.save(tmp_path / "scan.pdf", resolution=150)
    (figure,), _ = rows(tmp_path / "scan.pdf", tmp_path / "out")
    assert figure.label == "Figure 1" and "lymph node" in figure.caption
    assert abs(figure.width / 300 - 800 / 150) < 0.6 and abs(figure.height / 300 - 600 / 150) < 0.6  # inches
    assert figure.trail[0].note == "scan, figure above"
    assert rows(tmp_path / "scan.pdf", tmp_path / "without", ocr=False)[0] == []


def test_html_by_figcaption_paragraph_alt_and_heading(tmp_path) -> None:
    pages = tmp_path / "in"
    pages.mkdir()
    for name in "abcd":
        (pages / f"{name}.png").write_bytes(picture((60, 60), "PNG", seed=ord(name)))
    (pages / "page.html").write_text(
        "<html><head><title>Atlas</title></head><body><nav><img src='a.png' alt='menu of things'></nav>"
        "<h1>Kidney</h1><h2>Oncocytoma</h2>"
        "<figure><img src='a.png'><figcaption>Figure 1. By figcaption.</figcaption></figure>"
        "<p><img src='b.png'></p><p>Figure 2. By paragraph.</p>"
        "<p><img src='c.png' alt='Nests of oncocytes'></p><p>Plain words.</p>"
        "<p><a href='x'><img src='d.png' alt='Click for more'></a></p><p><img src='logo.png' alt='Our house'></p>"
        "<p><img src='../secret.png' alt='Not ours at all'></p></body></html>",
        encoding="utf-8",
    )
    (tmp_path / "secret.png").write_bytes(picture((60, 60), "PNG"))
    found, dropped = rows(pages, tmp_path / "out", licence="CC-BY-4.0")
    assert [f.caption for f in found] == ["By figcaption.", "By paragraph.", "Nests of oncocytes", "Kidney: Oncocytoma"]
    assert [f.trail[0].note for f in found] == ["figcaption", "paragraph", "alt", "heading"]
    assert found[0].source.title == "Atlas" and found[0].source.licence == "CC-BY-4.0" and dropped == {"no-picture": 1, "logo": 1}


def zipped(members: dict[str, bytes | str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def docx(media: bytes) -> bytes:
    w = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    a, r = (
        "http://schemas.openxmlformats.org/drawingml/2006/main",
        "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
    )
    blip = f"<w:p><w:r><w:drawing><a:blip xmlns:a='{a}' xmlns:r='{r}' r:embed='rId1'/></w:drawing></w:r></w:p>"
    style = "<w:pPr><w:pStyle w:val='Caption'/></w:pPr>"
    caption = f"<w:p>{style}<w:r><w:t>Figure 1. Lung, </w:t></w:r><w:r><w:t>H&amp;E.</w:t></w:r></w:p>"
    body = f"<w:p><w:r><w:t>Before.</w:t></w:r></w:p>{blip}{caption}<w:p><w:r><w:t>After.</w:t></w:r></w:p>"
    document = f"<w:document xmlns:w='{w}'><w:body>{body}</w:body></w:document>"
    relations = "<Relationships><Relationship Id='rId1' Target='media/image1.png'/></Relationships>"
    return zipped({"word/document.xml": document, "word/_rels/document.xml.rels": relations, "word/media/image1.png": media})


def epub(media: bytes) -> bytes:
    figure = "<figure><img src='../img/a.png'/><figcaption>Figure 1. Alveoli.</figcaption></figure>"
    chapter = f"<html><body><h1>Lung</h1>{figure}</body></html>"
    package = (
        "<package><metadata><title>My atlas</title></metadata><manifest><item id='c' href='text/c.xhtml'/></manifest>"
        "<spine><itemref idref='c'/></spine></package>"
    )
    container = "<container><rootfiles><rootfile full-path='OEBPS/book.opf'/></rootfiles></container>"
    members = {
        "META-INF/container.xml": container,
        "OEBPS/book.opf": package,
        "OEBPS/text/c.xhtml": chapter,
        "OEBPS/img/a.png": media,
    }
    return zipped(members)


def test_word_and_epub(tmp_path) -> None:
    books = tmp_path / "in"
    books.mkdir()
    media = picture((80, 60), "PNG")
    (books / "a.docx").write_bytes(docx(media))
    (books / "b.epub").write_bytes(epub(media))
    found, _ = rows(books, tmp_path / "out")
    assert [(f.source.article_id, f.label, f.caption, f.image) for f in found] == [
        ("book:a", "Figure 1", "Lung, H&E.", media),
        ("book:b", "Figure 1", "Alveoli.", media),
    ]
    assert found[1].source.title == "My atlas"


def test_bad_books_cost_themselves(tmp_path) -> None:
    books = tmp_path / "in"
    books.mkdir()
    good = pdf(photo(100, 500, 300, 200) + text(50, 480, "Figure 1. A gland."))
    (books / "good.pdf").write_bytes(good)
    (books / "cut.pdf").write_bytes(good[:200])
    (books / "no.docx").write_bytes(b"PK no archive")
    (books / "empty.epub").write_bytes(zipped({"mimetype": "application/epub+zip"}))
    (books / "bomb.docx").write_bytes(zipped({"word/document.xml": b"<a>" + b" " * 50_000_000 + b"</a>"}))
    found, dropped = rows(books, tmp_path / "out")
    assert [f.source.article_id for f in found] == ["book:good"]
    assert dropped == {"unreadable-book": 4}
    with pytest.raises(BadSettings, match="holds no book"):
        collect_books(tmp_path / "nothing", tmp_path / "x")


def test_lone_pictures_wait_for_their_facing_caption() -> None:
    pages = [Page(600, 800, [], [(50, 50, 550, 600)]), Page(600, 800, [Line("Figure 1. A.", (50, 60, 200, 69))], [])]
    found = page_layout.across_pages(pages, [page_layout.figures_of(p) for p in pages])
    assert [(f.where, f.box) for f in found[1]] == [("previous", (50, 50, 550, 600))]


def test_local_references_alone() -> None:
    assert book_html.local("https://example.org/a.png") == "" and book_html.local("data:image/png;base64,x") == ""
    assert book_html.local("./a%20b.png?x=1") == "./a b.png"


def test_command(tmp_path) -> None:
    (tmp_path / "b.pdf").write_bytes(pdf(photo(100, 500, 300, 200) + text(50, 480, "Figure 1. A gland.")))
    result = CliRunner().invoke(app, ["collect", "books", str(tmp_path / "b.pdf"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0 and "1 figures" in result.output


@pytest.mark.real
def test_article_pdfs_give_their_jats_captions(real_data, tmp_path) -> None:
    found, _ = rows(real_data / "articles/pdf", tmp_path / "out")
    assert len(found) == 20 and all(f.image and len(f.caption) > 20 for f in found)
