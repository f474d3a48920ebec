"""Books (PDF, EPUB, DOCX, HTML) → a dataset of Figures, and beside it each PDF as readable HTML, as the paper has it.

Knows files and formats; `book_pdf`, `book_scan`, `book_html` read them and `page_layout` pairs figures with captions.
"""

from __future__ import annotations

import html
import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pathasst.collect import book_html, book_pdf, page_layout
from pathasst.collect.figure_files import FigureFiles
from pathasst.collect.folder import FolderWork, with_picture
from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.files import write_atomic
from pathasst.core.records import Figure, Mark, Source
from pathasst.dataset import Dropped, Manifest, Unit, run_stage, units_of_files

SUFFIXES = (".pdf", ".epub", ".docx", ".html", ".htm", ".xhtml", ".xml", ".nxml")
MAX_BOOK = 2 * 2**30
MIN_SIDE = 48  # px; smaller pictures are icons


def collect_books(
    path: Path,
    out: Path,
    *,
    licence: str = "unknown",
    html_out: Path | None = None,
    ocr: bool = True,
    workers: int = 1,
    runner: str = "native",
    progress: bool = True,
) -> Manifest:
    """Figures with captions of a book, or of every book below a folder, into the dataset `out`.

    `licence` is written on every row: a book rarely says it in a form that can be read. PDFs are also written as HTML with their
    figures into `html_out` (default: `<out>-html`). Figure bodies of PDFs are rendered at 300 dpi. `ocr` False leaves scans out.

    Raises BadSettings when there is no book.
    """
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    files = [p for p in files if p.suffix.lower() in SUFFIXES]
    if not files:
        raise BadSettings(f"{path} holds no book ({', '.join(SUFFIXES)}).")
    stems = Counter(p.with_suffix("") for p in files)
    twins = frozenset(str(p) for p in files if stems[p.with_suffix("")] > 1)
    root = path.parent if path.is_file() else path
    return run_stage(
        out,
        stage="collect-books",
        record=Figure,
        units=units_of_files(files, per_unit=1),
        work=BookWork(str(root), str(html_out or out.with_name(f"{out.name}-html")), licence, ocr, twins),
        settings={"licence": licence, "ocr": ocr, "dpi": book_pdf.DPI},
        inputs=[str(path)],
        workers=workers,
        runner=runner,
        progress=progress,
    )


@dataclass(frozen=True)
class BookWork:
    """The work of one unit (one file)."""

    root: str
    html_out: str
    licence: str
    ocr: bool = True
    twins: frozenset[str] = frozenset()  # files that share folder and stem with another

    def __call__(self, unit: Unit) -> Iterator[Figure | Dropped]:
        for path in map(Path, unit.paths):
            name = path.relative_to(self.root).with_suffix("").as_posix()
            name += path.suffix if str(path) in self.twins else ""  # atlas.pdf beside atlas.epub
            source = Source(article_id=f"book:{name}", kind="book", licence=self.licence, title=path.stem)
            try:
                if path.suffix.lower() in (".xml", ".nxml"):  # NCBI Bookshelf
                    yield from FolderWork(FigureFiles())(Unit(unit.key, [str(path)]))
                    continue
                if path.stat().st_size > MAX_BOOK:
                    raise BadInput(f"{path}: larger than {MAX_BOOK} bytes.")
                rows = 0
                for row in self._pdf(path, source) if path.suffix.lower() == ".pdf" else self._flow(path, source):
                    rows += 1
                    yield row
                if not rows:
                    yield Dropped(source.article_id, "book-without-figures", f"{path.name} holds no picture in its text")
            except (BadInput, OSError) as error:
                yield Dropped(source.article_id, "unreadable-book", str(error))

    def _pdf(self, path: Path, source: Source) -> Iterator[Figure | Dropped]:
        with book_pdf.opened(path.read_bytes(), path.name) as document:
            title = (document.get_metadata_dict().get("Title") or "").strip()
            source = replace(source, title=title or path.stem)
            pages = []
            for number in range(len(document)):
                try:
                    pages.append(book_pdf.page_of(document, number, self.ocr))
                except BadInput as error:
                    yield Dropped(f"{source.article_id}/p{number + 1}", "unreadable-page", str(error))
                    pages.append(page_layout.Page(0, 0, [], []))  # the pages behind it keep their numbers
            by_page = page_layout.across_pages(pages, [page_layout.figures_of(p) for p in pages])
            folder = Path(self.html_out) / source.article_id.removeprefix("book:")
            rows: list[tuple[int, Figure]] = []
            name_counts: Counter[str] = Counter()
            for number, items in enumerate(by_page):
                for item in items:
                    name = f"p{number + 1}-{_slug(item.caption.label)}"
                    name_counts[name] += 1  # two captions of one label on a page: a misprint, or a list of figures
                    name += f"-{name_counts[name]}" if name_counts[name] > 1 else ""
                    try:
                        row = self._rendered(document, number, item, source, name, pages[number].scanned)
                    except BadInput as error:
                        row = Dropped(f"{source.article_id}/{name}", "bad-picture", str(error))
                    if isinstance(row, Figure):
                        rows.append((number, row))
                    yield row
            _write_html(folder, source.title, pages, rows)

    def _rendered(
        self, document: object, number: int, item: page_layout.CaptionedArea, source: Source, name: str, scanned: bool
    ) -> Figure | Dropped:
        figure_id = f"{source.article_id}/{name}"
        if item.box is None:
            return Dropped(figure_id, "no-picture", item.caption.text[:80])
        at = number + {"previous": -1, "next": 1}.get(item.where, 0)
        image = book_pdf.render(document[at], item.box)  # type: ignore[index]
        how = f"{'scan' if scanned else 'page'}, figure {item.where}"
        figure = Figure(
            figure_id=figure_id,
            source=source,
            label=item.caption.label,
            caption=item.caption.text or item.caption.label,
            graphic=f"{name}.png",
            page=at + 1,
            trail=[Mark(step="collect", by="books", note=how)],
        )
        return with_picture(figure, book_pdf.png_of(image), figure.graphic)

    def _flow(self, path: Path, source: Source) -> Iterator[Figure | Dropped]:
        document = open_document(path)
        source = replace(source, title=document.title or source.title)
        items = list(book_html.pair(document.blocks))
        paired = {item.picture for item in items}
        for number, block in enumerate(document.blocks):
            if block.kind == "picture" and block.picture not in paired:
                reason = "logo" if book_html.is_logo(block.picture) else "no-caption"
                yield Dropped(f"{source.article_id}/block-{number}", reason, block.picture[:200])
        for item in items:
            figure = Figure(
                figure_id=f"{source.article_id}/{item.number}",
                source=source,
                label=item.label,
                caption=item.caption,
                graphic=item.picture[:200],
                trail=[Mark(step="collect", by="books", note=item.how)],
            )
            try:
                content = book_html.inline(item.picture) or document.load(item.picture)
                if content is None and item.thumbnail:
                    content = book_html.inline(item.thumbnail) or document.load(item.thumbnail)
                if content is None:
                    yield Dropped(figure.figure_id, "no-picture", item.picture[:200])
                    continue
                figure = with_picture(figure, content, item.picture[:200])
            except BadInput as error:
                yield Dropped(figure.figure_id, "bad-picture", str(error))
                continue
            small = min(figure.width, figure.height) < MIN_SIDE
            yield Dropped(figure.figure_id, "icon", item.picture[:200]) if small else figure


def open_document(path: Path) -> book_html.Document:
    """An HTML, EPUB or DOCX file as blocks, with a loader for its pictures. Raises BadInput when it cannot be read."""
    content = path.read_bytes()
    if path.suffix.lower() not in (".epub", ".docx"):
        title, blocks = book_html.read_html(content, path.name)
        return book_html.Document(title, blocks, lambda reference: _beside(path, reference))
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise BadInput(f"{path.name}: no readable archive ({error}).") from error
    if path.suffix.lower() == ".epub":
        title, blocks = book_html.read_epub(archive, path.name)
        return book_html.Document(title, blocks, lambda reference: book_html.member(archive, reference))
    title, blocks, members = book_html.read_docx(archive, path.name)
    return book_html.Document(title, blocks, lambda reference: book_html.member(archive, members.get(reference, "")))


def _beside(page: Path, reference: str) -> bytes | None:
    """A picture that an HTML file refers to, from its own folder tree; nothing is fetched."""
    name = book_html.local(reference)
    path = (page.parent / name).resolve()
    if not name or not path.is_relative_to(page.parent.resolve()):
        return None
    # A mirror may keep its pictures in another format than its pages say.
    tries = (path, *(path.with_suffix(s) for s in (".png", ".jpg", ".jpeg", ".gif", ".webp", ".tif")))
    return next((p.read_bytes() for p in tries if p.is_file()), None)


def _slug(label: str) -> str:
    return re.sub(r"\W+", "-", label.lower()).strip("-") or "figure"


def _write_html(folder: Path, title: str, pages: list[page_layout.Page], figures: list[tuple[int, Figure]]) -> None:
    """The book as one readable page: its text in the order of the PDF, each figure after the page that holds its caption."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [f"<!doctype html><html><head><meta charset='utf-8'><title>{html.escape(title)}</title></head><body>"]
    for number, page in enumerate(pages):
        parts.append(f"<section id='page-{number + 1}'><h2>Page {number + 1}</h2>")
        parts += [f"<p>{html.escape(text)}</p>" for text in _paragraphs(page)]
        for _, figure in (f for f in figures if f[0] == number):
            write_atomic(folder / figure.graphic, figure.image)
            words = f"<figcaption>{html.escape(f'{figure.label}. {figure.caption}')}</figcaption>"
            parts.append(f"<figure><img src='{html.escape(figure.graphic)}' width='{figure.width // 4}' alt=''>{words}</figure>")
        parts.append("</section>")
    write_atomic(folder / "index.html", "\n".join([*parts, "</body></html>"]).encode())


def _paragraphs(page: page_layout.Page) -> Iterator[str]:
    """Lines joined while they follow each other at a line's distance in one column."""
    block: list[page_layout.Line] = []
    for line in page.lines:
        if block and not (0 <= line.box[1] - block[-1].box[3] < 0.7 * line.height and line.box[0] < block[-1].box[2]):
            yield page_layout.join_lines([n.text for n in block])
            block = []
        block.append(line)
    if block:
        yield page_layout.join_lines([n.text for n in block])
