"""Which text of a page is a figure's caption, and which marks are its body: geometry and words alone.

The same for digital pages (`book_pdf`) and scanned ones (`book_scan`). Boxes are (x1, y1, x2, y2) in points, y downwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from pathasst.imaging.boxes import area, intersection

Box = tuple[float, float, float, float]

# A kind of picture in the languages that journals print, a number, a stop: "Figure 3.", "Fig 2-1:", "Plate IV", "Image 7 |",
# "Supplementary Figure 2", "Fig. nº 3", "Рис. 1.", "图1".
_KINDS = (
    r"e?fig(?:ur[ea]?|uur|\.)?|(?:photo)?micrograph|(?:micro-?)?photo(?:graph|micrograph)?|image|picture|illustration|graphic|plate|slide"
    r"|abb(?:ildung|\.)?|afb(?:eelding|\.)?|bild|r[yi][cs](?:ina|unek|\.)?|obr(?:ázek|ázok|\.)?|kuva|slika|şekil|resim|kép|hình|gambar"
    r"|рис(?:унок|\.)?|мал(?:юнок|\.)?|[图圖図]|그림"
)
_NUMBER = (
    r"(?:[A-Z]\.?)?\d{1,3}(?:[.\-–]\d{1,3})*(?:(?:\s?(?:and|&|,)\s?\d{1,3})(?!\d)|(?=[A-Za-z]\s?[,\-–]\s?[A-Za-z]\b)"
    r"|(?=(?-i:[A-Z][a-z]{2}))|[A-Za-z](?!\w))?|[IVXL]{1,6}"
)
CAPTION = re.compile(
    r"^\W{0,2}(?P<label>(?:(?:supplement\w+|supporting|online|appendix|extended data|colou?r)\s+)?"
    rf"(?:{_KINDS})s?\.?\s*(?:n(?:[ºo°r]\.?)\s*)?\(?"
    rf"(?P<number>{_NUMBER})(?:(?![^\W_])|(?=[A-Za-z]\s?[,\-–])|(?=(?-i:[A-Z][a-z]{{2}}))))"
    r"\s*(?P<stop>[.:|)\]–—_．：。-]*)\s*(?P<rest>.*)$",
    re.I | re.S,
)
# A sentence about a figure, not its caption: "Figure 3 shows …", "Fig. 2, and …", "Fig. 5 gives an …".
_PROSE = re.compile(
    r"^(?:\(?[a-zA-Z](?:\s?(?:[,–-]|and|&)\s?[a-zA-Z])*\)?\s+)?(?:,|\)|;|and\b|shows?\b|illustrat|demonstrat|depict|present|represents?\b"
    r"|reveal|in\b|is\b|are\b|was\b|were\b|to\b|of\b|for\b|from\b|as\b|can\b|has\b|have\b|also\b|below\b|above\b"
    r"|[a-z]+s\s+(?:an?|the|that|how|both|our|its)\b)"
)
# What a caption without a stop may begin with, beside a capital, a sign or a digit: panel letters ("a H&E. b …"), a name with a
# digit or a hyphen (p53, c-Kit), Greek letters.
_SMALL_START = re.compile(r"^(?:[a-z](?:\s?[,–-]\s?[a-z])*\s+[A-Z(\d]|[a-z]{1,4}\d+\b|[a-z][A-Z]|[a-z]{1,3}-|[α-ω])")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text in one column."""

    text: str
    box: Box

    @property
    def height(self) -> float:
        return self.box[3] - self.box[1]


@dataclass(frozen=True, slots=True)
class PrintedCaption:
    """A caption's words and place; `label` is "Figure 3", as printed."""

    label: str
    number: str
    text: str  # without the label
    box: Box


@dataclass(frozen=True, slots=True)
class CaptionedArea:
    """A caption with the box of its figure; `box` None = the figure stands on another page."""

    caption: PrintedCaption
    box: Box | None = None
    where: str = ""  # above | below | beside | previous | next


@dataclass(frozen=True)
class Page:
    """What was read on one page."""

    width: float
    height: float
    lines: list[Line] = field(default_factory=list)
    graphics: list[Box] = field(default_factory=list)  # pictures and drawings, unmerged
    scanned: bool = False


def captions_of(page: Page) -> list[PrintedCaption]:
    """The captions on a page, top to bottom."""
    results, caption_lines = [], set()
    lines = sorted(page.lines, key=lambda n: (n.box[1], n.box[0]))
    for start in lines:
        if start in caption_lines or not (match := CAPTION.match(start.text)) or not _starts_caption(match, start, page):
            continue
        block = _continue(start, lines, page.graphics)
        caption_lines.update(block)
        text = join_lines([n.text for n in block])
        if full_match := CAPTION.match(text):
            label = " ".join(full_match["label"].replace("(", " ").split())
            results.append(PrintedCaption(label, full_match["number"], full_match["rest"].strip(), union(n.box for n in block)))
    return results


def figures_of(page: Page) -> list[CaptionedArea]:
    """Each caption of a page with its figure's box, where one stands above, below or beside it."""
    captions = captions_of(page)
    bodies = [g for g in page.graphics if not _is_rule(g, page)]
    text = [n for n in page.lines if not any(_inside(n.box, c.box) for c in captions)]
    results: list[CaptionedArea] = []
    free = list(bodies)
    for caption in sorted(captions, key=lambda c: c.box[1]):
        result = CaptionedArea(caption)
        for where in ("above", "below", "beside"):
            band = _band(caption, where, page, captions, text, bodies)
            if band is not None and (inside := [g for g in free if _mostly_inside(g, band)]):
                box = _with_labels(union(inside), text, captions, band)
                if area(box) >= 900:  # smaller than 30 x 30 pt: an icon
                    result, free = CaptionedArea(caption, box, where), [g for g in free if g not in inside]
                    break
        results.append(result)
    return results


def loose_graphics(page: Page, results: Sequence[CaptionedArea]) -> list[Box]:
    """Large pictures that no caption of the page claims: bodies of captions on a neighbouring page."""
    bodies = [g for g in page.graphics if not _is_rule(g, page) and not any(f.box and _inside(g, f.box) for f in results)]
    return [box for box in merge(bodies, 12.0) if area(box) >= 0.03 * page.width * page.height]


def across_pages(pages: Sequence[Page], results: list[list[CaptionedArea]]) -> list[list[CaptionedArea]]:
    """Give captions without a body the lone picture of the page before or after (facing pages of an atlas)."""
    result = [list(f) for f in results]
    for at, items in enumerate(results):
        for index, item in enumerate(items):
            for step, where in ((-1, "previous"), (1, "next")):
                if item.box is None and result[at][index].box is None and 0 <= at + step < len(pages):
                    loose = loose_graphics(pages[at + step], result[at + step])
                    if len(loose) == 1 and not any(f.box is None for f in results[at + step]):
                        result[at][index] = replace(item, box=loose[0], where=where)
    return result


def join_lines(texts: Sequence[str]) -> str:
    """Lines → one text; a word divided at a line's end becomes whole again, a true hyphen stays where the sense needs it."""
    text = ""
    for line in (" ".join(t.replace("\u00ad", "-").replace("\ufffe", "-").replace("\x02", "-").split()) for t in texts):
        if text.endswith("-") and re.search(r"[a-z]-$", text) and line[:1].islower():
            text = text[:-1] + line
        else:
            text = f"{text} {line}" if text and not text.endswith("-") else text + line
    return text.strip()


def union(boxes: Iterable[Box]) -> Box:
    """The box around boxes."""
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    return min(x1), min(y1), max(x2), max(y2)


def merge(boxes: Sequence[Box], gap: float) -> list[Box]:
    """Boxes nearer than `gap` points become one."""
    groups: list[Box] = []
    for box in boxes:
        near = [g for g in groups if _near(g, box, gap)]
        groups = [g for g in groups if g not in near] + [union([box, *near])]
    return groups if len(groups) == len(boxes) else merge(groups, gap)


def _starts_caption(match: re.Match[str], start: Line, page: Page) -> bool:
    """Whether a line that begins like a caption is one: it opens a block and does not read like a sentence about it.

    Without a stop after its number, a small word may only follow right below a picture.
    """
    stopped = bool(re.search(r"[.:|．：。_]", match["stop"]))
    if re.match(r"\)[.,;]", match["stop"] + match["rest"][:1]) and "(" not in match["label"]:
        return False  # the end of "(see Fig. 3)."
    if _PROSE.match(match["rest"]) and not stopped:
        return False
    roman = not any(c.isdigit() for c in match["number"])
    if match["rest"][:1].islower() and (roman or not (match["stop"] or _SMALL_START.match(match["rest"]))):
        return not roman and _below_picture(start, page)
    return _opens(start, page.lines, stopped=stopped)


def _below_picture(start: Line, page: Page) -> bool:
    """Whether a picture ends right above a line, with no words between."""
    reach = start.box[1] - 3 * start.height

    def is_right_above(box: Box) -> bool:
        return _overlap(box, start.box) > 0.5 and reach < box[3] <= start.box[1] + 2

    pictures = [g for g in page.graphics if area(g) > 900 and is_right_above(g)]
    between = [n for n in page.lines if n is not start and is_right_above(n.box)]
    return bool(pictures) and not between


def _opens(start: Line, lines: Sequence[Line], *, stopped: bool = False) -> bool:
    """Whether a line opens a block: nothing, a gap, or something short (a panel letter, an axis label) stands above it."""
    above = [
        n for n in lines if n is not start and _overlap(n.box, start.box) > 0.5 and n.box[3] <= start.box[1] + 0.3 * start.height
    ]
    if not above:
        return True
    nearest = max(above, key=lambda n: n.box[3])
    gap = start.box[1] - nearest.box[3]
    short = nearest.box[2] - nearest.box[0] < 0.45 * (start.box[2] - start.box[0])  # a panel letter or an axis label
    return gap > 0.45 * start.height or short or (stopped and abs(nearest.height - start.height) > 0.5)


def _continue(start: Line, lines: Sequence[Line], graphics: Sequence[Box]) -> list[Line]:
    """The caption's lines from its first: below it, in its column, at an even distance, until a gap or another caption."""
    block, spacing = [start], 0.9 * start.height
    while True:
        last = block[-1]
        below = [
            n
            for n in lines
            if n not in block
            and n.box[1] >= last.box[1] + 0.4 * last.height
            and n.box[1] - last.box[3] <= spacing
            and _overlap(n.box, union(b.box for b in block)) > 0.5
            and 0.6 < n.height / max(start.height, 0.1) < 1.6
        ]
        if not below:
            return block
        following = min(below, key=lambda n: (round(n.box[1]), n.box[0]))
        between = (following.box[0], last.box[3], following.box[2], following.box[1])
        if (
            CAPTION.match(following.text)
            and following.box[0] <= start.box[0] + 2
            and following.box[1] - last.box[3] > 0.5 * start.height
        ):
            return block
        if any(_near(g, between, -0.5) for g in graphics if area(g) > 900):
            return block
        if len(block) > 1:  # the second line sets the distance of the others
            spacing = max(block[1].box[1] - block[0].box[3], 0) + 0.45 * start.height
        block.append(following)


def _band(
    caption: PrintedCaption,
    where: str,
    page: Page,
    captions: Sequence[PrintedCaption],
    text: Sequence[Line],
    bodies: Sequence[Box],
) -> Box | None:
    """The free room in which a caption's figure may stand: up to the nearest caption or running text."""
    x1, y1, x2, y2 = caption.box
    if where == "beside":
        left = max(
            (c.box[2] for c in captions if c is not caption and c.box[2] < x1 and _overlap_y(c.box, caption.box) > 0), default=0.0
        )
        return left, y1 - 0.5 * page.height, page.width, y2 + 0.5 * page.height
    side = page.width / 2
    if x2 < side + 12:  # a caption in a column: the figure may be wider than the words, but stays in the column
        x1, x2 = 0.0, max(x2 + 6, side)
    elif x1 > side - 12:
        x1, x2 = min(x1 - 6, side), page.width
    else:
        x1, x2 = 0.0, page.width
    column = (x1, 0.0, x2, page.height)
    barriers = [c.box for c in captions if c is not caption and _overlap(c.box, column) > 0.3]
    barriers += [n.box for n in text if _is_running(n, column, page) and not any(_inside(n.box, g) for g in bodies)]
    if where == "above":
        top = max((b[3] for b in barriers if b[3] <= y1 + 2), default=0.0)
        return (x1, top - 2, x2, y1 + 4) if y1 - top > 20 else None
    bottom = min((b[1] for b in barriers if b[1] >= y2 - 2), default=page.height)
    return (x1, y2 - 4, x2, bottom + 2) if bottom - y2 > 20 else None


def _is_running(line: Line, column: Box, page: Page) -> bool:
    """A line of running text in this column: long, with several words."""
    width = min(column[2] - column[0], page.width * (0.8 if column[2] - column[0] > 0.7 * page.width else 0.45))
    return _overlap(line.box, column) > 0.5 and line.box[2] - line.box[0] > 0.55 * width and len(line.text.split()) >= 5


def _with_labels(box: Box, text: Sequence[Line], captions: Sequence[PrintedCaption], band: Box) -> Box:
    """The body with the letters and axis labels printed around it."""
    for _ in range(3):
        near = [
            n.box
            for n in text
            if _near(n.box, box, 9.0) and _mostly_inside(n.box, band) and len(n.text) < 60 and not CAPTION.match(n.text)
        ]
        extended = union([box, *near])
        if extended == box:
            break
        box = extended
    bottom = min((c.box[1] for c in captions if c.box[1] >= box[3] - 6 and _overlap(c.box, box) > 0.1), default=box[3])
    return box[0], box[1], box[2], min(box[3], bottom)


def _is_rule(box: Box, page: Page) -> bool:
    """A thin line across the text, a frame around the page, or a background."""
    width, height = box[2] - box[0], box[3] - box[1]
    return (min(width, height) < 1.5 and max(width, height) > 60) or area(box) > 0.9 * page.width * page.height


def _near(a: Box, b: Box, gap: float) -> bool:
    return a[0] - gap <= b[2] and b[0] - gap <= a[2] and a[1] - gap <= b[3] and b[1] - gap <= a[3]


def _inside(inner: Box, outer: Box) -> bool:
    return inner[0] >= outer[0] - 2 and inner[1] >= outer[1] - 2 and inner[2] <= outer[2] + 2 and inner[3] <= outer[3] + 2


def _mostly_inside(inner: Box, outer: Box) -> bool:
    """Whether at least 80 % of a box lie in another; for thin boxes their middle decides."""
    x, y = (inner[0] + inner[2]) / 2, (inner[1] + inner[3]) / 2
    if not (outer[0] <= x <= outer[2] and outer[1] <= y <= outer[3]):
        return False
    return area(inner) < 1 or intersection(inner, outer) >= 0.8 * area(inner)


def _overlap(a: Box, b: Box) -> float:
    """Shared width as a share of the narrower box."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) / max(min(a[2] - a[0], b[2] - b[0]), 0.1)


def _overlap_y(a: Box, b: Box) -> float:
    return max(0.0, min(a[3], b[3]) - max(a[1], b[1])) / max(min(a[3] - a[1], b[3] - b[1]), 0.1)
