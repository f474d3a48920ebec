"""PDF → pages of lines and graphics (pypdfium2), and figure bodies rendered at 300 dpi.

A page without text of its own is a scan and is read by `book_scan`. Knows pages, not captions: `page_layout` pairs them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pathasst.collect.page_layout import Box, Line, Page, union
from pathasst.core.errors import BadInput

DPI = 300
MAX_PAGES = 5000
MAX_OBJECTS = 20_000  # drawings per page; a map has thousands, an attack millions
SCAN_CHARACTERS = 30  # a page with less text of its own is a scan, if a picture covers it


@contextmanager
def opened(content: bytes, name: str) -> Iterator[Any]:
    """An open PDF. Raises BadInput when it is none, is encrypted, or has too many pages."""
    import pypdfium2 as pdfium

    try:
        document = pdfium.PdfDocument(content)
    except pdfium.PdfiumError as error:
        raise BadInput(f"{name}: no readable PDF ({error}).") from error
    try:
        if len(document) > MAX_PAGES:
            raise BadInput(f"{name}: {len(document)} pages; at most {MAX_PAGES} are read.")
        yield document
    finally:
        document.close()


def page_of(document: Any, number: int, ocr: bool = True) -> Page:
    """One page of an open PDF, from 0, as `read_page` gives it. Raises BadInput for a page that cannot be loaded."""
    import pypdfium2 as pdfium

    try:
        return read_page(document[number], ocr)
    except pdfium.PdfiumError as error:
        raise BadInput(f"page {number + 1}: {error}") from error


def read_page(page: Any, ocr: bool = True) -> Page:
    """Lines and graphics of one PDF page; a scan is read by OCR and layout detector unless `ocr` is False."""
    width, height = page.get_size()
    view = _View.of(page)
    textpage = page.get_textpage()
    try:
        lines = _lines(textpage, view)
    finally:
        textpage.close()
    graphics = _graphics(page, view)
    covered = any((g[2] - g[0]) * (g[3] - g[1]) > 0.5 * width * height for g in graphics)
    if sum(len(n.text) for n in lines) < SCAN_CHARACTERS and covered and ocr:
        from pathasst.collect.book_scan import read_scan

        return read_scan(render(page, None, 200), width, height)
    return Page(width, height, lines, graphics)


def render(page: Any, box: Box | None, dpi: int = DPI) -> Any:
    """A page, or a box of it (points, y downwards), as an RGB PIL image."""
    width, height = page.get_size()
    crop = (0.0, 0.0, 0.0, 0.0)
    if box is not None:
        left, top, right, bottom = max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height)
        crop = (left, height - bottom, width - right, top)  # pdfium cuts left, bottom, right, top
    import pypdfium2 as pdfium

    try:
        return page.render(scale=dpi / 72, crop=crop).to_pil().convert("RGB")
    except (pdfium.PdfiumError, ValueError) as error:
        raise BadInput(f"the page cannot be drawn: {error}") from error


def png_of(image: Any) -> bytes:
    """A PIL image as PNG bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class _View:
    """From a page's own coordinates (y upwards, any origin, before /Rotate) to those of the page as shown (y downwards) and back.

    Text and drawings come in the page's own coordinates, pictures are cut in those of the shown page.
    """

    left: float
    bottom: float
    width: float  # of the box that is shown, before it is turned
    height: float
    turns: int  # quarter turns clockwise

    @classmethod
    def of(cls, page: Any) -> _View:
        left, bottom, right, top = page.get_bbox()
        return cls(left, bottom, right - left, top - bottom, page.get_rotation() // 90 % 4)

    def to_page(self, left: float, bottom: float, right: float, top: float) -> Box:
        """A rectangle of the page as a box of the shown page."""
        (x1, y1), (x2, y2) = self._turned(left, bottom), self._turned(right, top)
        return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)

    def own(self, box: Box) -> Box:
        """A box of the shown page as (left, bottom, right, top) of the page."""
        (x1, y1), (x2, y2) = self._back(box[0], box[1]), self._back(box[2], box[3])
        return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)

    def _turned(self, x: float, y: float) -> tuple[float, float]:
        x, y = x - self.left, y - self.bottom
        return ((x, self.height - y), (y, x), (self.width - x, y), (self.height - y, self.width - x))[self.turns]

    def _back(self, x: float, y: float) -> tuple[float, float]:
        own = ((x, self.height - y), (y, x), (self.width - x, y), (self.width - y, self.height - x))[self.turns]
        return own[0] + self.left, own[1] + self.bottom


def _lines(textpage: Any, view: _View) -> list[Line]:
    """Text runs on one baseline, with no more than a word's gap between, joined into lines."""
    boxes: list[list[Box]] = []
    for index in range(textpage.count_rects()):
        box = view.to_page(*textpage.get_rect(index))
        if box[3] - box[1] < 1 or box[2] <= box[0]:
            continue
        if boxes and _same_line(union(boxes[-1]), box):
            boxes[-1].append(box)
        else:
            boxes.append([box])
    lines = []
    for parts in boxes:
        x1, y1, x2, y2 = box = union(parts)
        text = " ".join(textpage.get_text_bounded(*view.own((x1 - 0.5, y1 - 0.5, x2 + 0.5, y2 + 0.5))).split())
        if text:
            lines.append(Line(text, box))
    return lines


def _same_line(line: Box, box: Box) -> bool:
    shared = min(line[3], box[3]) - max(line[1], box[1])
    small = min(line[3] - line[1], box[3] - box[1])
    gap = box[0] - line[2]
    return shared > 0.4 * small and -2 <= gap < 1.1 * max(line[3] - line[1], box[3] - box[1])


def _graphics(page: Any, view: _View) -> list[Box]:
    import pypdfium2 as pdfium
    import pypdfium2.raw as raw

    boxes = []
    for number, item in enumerate(page.get_objects(max_depth=1)):
        if number > MAX_OBJECTS:
            break
        if item.type != raw.FPDF_PAGEOBJ_TEXT:
            try:
                boxes.append(view.to_page(*item.get_bounds()))
            except pdfium.PdfiumError:
                continue
    return boxes
