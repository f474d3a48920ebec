"""HTML, EPUB and DOCX → figures with captions: a document is a row of blocks (text, heading, picture), whatever its format.

A picture's caption is, in this order: its `figcaption` or a caption-styled paragraph; a paragraph beside it that begins like a
caption ("Figure 3 …"); a telling alternative text; the headings above it (how an atlas names its plates).
"""

from __future__ import annotations

import base64
import posixpath
import re
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from lxml import etree, html

from pathasst.collect.page_layout import CAPTION
from pathasst.core.errors import BadInput
from pathasst.core.jats_text import restyled

MAX_MEMBER = 128 * 2**20  # bytes of one unpacked file of an EPUB or DOCX
MAX_RATIO = 200  # unpacked : packed
_XML = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_EMBED = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}embed"
_XLINK = "{http://www.w3.org/1999/xlink}href"
_IMAGE_FILE = re.compile(r"\.(?:jpe?g|png|gif|webp|tiff?|bmp)(?:[?#]|$)", re.I)
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_BLOCKS = ("p", "li", "td", "th", "dd", "dt", "blockquote", "pre", "figcaption", "caption", *_HEADINGS)
_CONTAINERS = ("li", "td", "th", "dd", "blockquote")  # text blocks that may hold other blocks
_NESTED = ("p", "figure", "table", "ul", "ol", "div")
_SKIPPED = ("script", "style", "nav", "head", "header", "footer", "noscript", "template", "iframe")
_DULL_ALT = re.compile(
    r"^\W*$|click|tıkla|thumbnail|screenshot|^(?:image|img|figure|fig|photo|picture|logo|icon)\W*\d*$|\.(?:jpe?g|png|gif)$", re.I
)
_DULL_FILE = re.compile(r"logo|icon|avatar|badge|favicon|spacer|banner", re.I)


Cell = tuple[int, ...]
"""Where a block stands in a table: (table, its first column, the one behind its last); empty outside of tables."""


@dataclass(frozen=True, slots=True)
class Block:
    """One thing in reading order."""

    kind: str  # text | heading | picture | caption (text that its format marks as one)
    text: str = ""  # of a picture: its alternative text
    level: int = 0  # of a heading
    picture: str = ""  # reference of a picture
    thumbnail: str = ""  # reference of its small form
    group: int = 0  # pictures and captions of one <figure> share it; 0 = none
    cell: Cell = ()


@dataclass(frozen=True, slots=True)
class Pictured:
    """A picture with its caption."""

    picture: str
    caption: str
    label: str = ""
    number: int = 0  # position in the document, from 1
    thumbnail: str = ""  # what is taken where the picture is not there
    how: str = ""  # figcaption | paragraph | alt | heading


@dataclass(frozen=True)
class Document:
    """Blocks of one file and a way to its pictures."""

    title: str
    blocks: list[Block]
    load: Callable[[str], bytes | None] = field(repr=False, default=lambda _: None)


def read_html(content: bytes, name: str) -> tuple[str, list[Block]]:
    """(title, blocks). Raises BadInput when there is no markup."""
    try:
        root = html.document_fromstring(content, parser=html.HTMLParser(encoding=_encoding(content), no_network=True))
    except (etree.ParserError, etree.XMLSyntaxError, ValueError) as error:
        raise BadInput(f"{name}: no readable HTML ({error}).") from error
    title = " ".join((root.findtext(".//title") or "").split())
    for script in list(root.iter("sup", "sub")):
        _restyle_script(script)
    main: Any = next(root.iter("main", "article"), None)
    if main is None:
        main = root.find("body") if root.find("body") is not None else root
    return title, list(_walk(main, {}, 0))


def _restyle_script(script: Any) -> None:
    """Write a super- or subscript in Unicode, in place: `text_content` would make 103 of 10³."""
    parent, previous = script.getparent(), script.getprevious()
    if parent is None or next(script.iter(*_PICTURES), None) is not None:
        return
    before = previous.tail if previous is not None else parent.text
    script.text = restyled(script.text_content(), script.tag == "sup", (before or "")[-1:])
    del script[:]


def read_docx(archive: zipfile.ZipFile, name: str) -> tuple[str, list[Block], dict[str, str]]:
    """(title, blocks, picture reference → member). Raises BadInput when it is no Word document."""
    main = _main_part(archive)
    folder, base = posixpath.split(main)
    body = _xml(archive, main, name)
    relations = _xml(archive, posixpath.join(folder, "_rels", f"{base}.rels"), name)
    targets = {r.get("Id"): posixpath.normpath(posixpath.join("/", folder, r.get("Target", ""))).lstrip("/") for r in relations}
    blocks, title = [], ""
    tables: dict[Any, int] = {}
    for paragraph in body.iter(f"{_W}p"):
        text = " ".join("".join(_runs(paragraph)).split())
        style = next((s.get(f"{_W}val", "") for s in paragraph.iter(f"{_W}pStyle")), "").lower()
        cell = _docx_cell(paragraph, tables)
        blocks += [Block("picture", picture=id_, cell=cell) for id_ in dict.fromkeys(_embedded(paragraph)) if id_ in targets]
        if text:
            heading = re.match(r"(?:heading|berschrift|titre)\s*(\d)|title", style)
            kind = "caption" if style.startswith("caption") else "heading" if heading else "text"
            blocks.append(Block(kind, text, int(heading[1] or 1) if heading else 0, cell=cell))
            title = title or (text if heading else "")
    return title, blocks, {k: v for k, v in targets.items() if k}


def _main_part(archive: zipfile.ZipFile) -> str:
    """The document's part, which `_rels/.rels` names; Word calls it word/document.xml, other programs as they like."""
    relations = _xml(archive, "_rels/.rels", "") if member(archive, "_rels/.rels") is not None else ()
    for relation in relations:
        if relation.get("Type", "").endswith("/officeDocument"):
            return posixpath.normpath(posixpath.join("/", relation.get("Target", ""))).lstrip("/")
    return "word/document.xml"


_BREAKS = {f"{_W}tab": " ", f"{_W}ptab": " ", f"{_W}br": " ", f"{_W}cr": " ", f"{_W}noBreakHyphen": "-"}


_SYMBOL = dict(zip("abgdezhqiklmnxoprstufcywDGQLXPSFYW", "αβγδεζηθικλμνξοπρστυφχψωΔΓΘΛΞΠΣΦΨΩ", strict=True))
_SYMBOL |= {"\xb0": "°", "\xb1": "±", "\xb4": "×", "\xa3": "≤", "\xb3": "≥", "\xae": "→"}
"""Signs of Word's font Symbol."""


def _runs(paragraph: Any) -> Iterator[str]:
    """The words of a paragraph; those of a text box in it are a paragraph of their own."""
    before = ""
    for element in paragraph.iter(f"{_W}t", f"{_W}sym", *_BREAKS):
        run = element.getparent()
        if next(element.iterancestors(f"{_W}p"), None) is paragraph and run.tag == f"{_W}r":
            text = _BREAKS.get(element.tag) or element.text or ""
            if element.tag == f"{_W}sym":
                text = _symbol(element)
            place = next((v.get(f"{_W}val") for v in run.iterfind(f"{_W}rPr/{_W}vertAlign")), "")
            if place in ("superscript", "subscript"):
                text = restyled(text, place == "superscript", before)
            before = text[-1:]
            yield text


def _symbol(element: Any) -> str:
    """The sign of a `w:sym`: fonts of signs keep theirs from F000 on."""
    try:
        sign = chr(int(element.get(f"{_W}char", ""), 16) & 0xFF)
    except ValueError:
        return ""
    return _SYMBOL.get(sign, sign) if element.get(f"{_W}font", "") == "Symbol" else ""


def _docx_cell(paragraph: Any, tables: dict[Any, int]) -> Cell:
    """(table, first column, the one behind the last) of a paragraph in a table."""
    cell = next(paragraph.iterancestors(f"{_W}tc"), None)
    table = next(paragraph.iterancestors(f"{_W}tbl"), None)
    if cell is None or table is None:
        return ()

    def width(one: Any) -> int:
        return _span(next((s.get(f"{_W}val") for s in one.iterfind(f"{_W}tcPr/{_W}gridSpan")), "1"))

    first = sum(map(width, cell.itersiblings(f"{_W}tc", preceding=True)))
    return tables.setdefault(table, len(tables) + 1), first, first + width(cell)


def _span(text: str | None) -> int:
    return int(text) if text and text.strip().isdecimal() and 0 < int(text) < 1000 else 1


def _embedded(paragraph: Any) -> Iterator[str]:
    """Relation ids of a paragraph's pictures: DrawingML, and VML of older files (a fallback repeats the drawing before it)."""
    for picture in paragraph.iter("{*}blip", "{urn:schemas-microsoft-com:vml}imagedata"):
        own = next(picture.iterancestors(f"{_W}p"), None) is paragraph
        if own and next(picture.iterancestors("{*}Fallback"), None) is None:
            yield next((v for n in ("embed", "id", "link") if (v := picture.get(_EMBED.replace("embed", n)))), "")


def read_epub(archive: zipfile.ZipFile, name: str) -> tuple[str, list[Block]]:
    """(title, blocks of all chapters in the order of the spine; picture references are members of the archive)."""
    container = _xml(archive, "META-INF/container.xml", name)
    rootfile = next((r.get("full-path", "") for r in container.iter("{*}rootfile")), "")
    package = _xml(archive, rootfile, name)
    folder = posixpath.dirname(rootfile)
    items = {i.get("id"): posixpath.normpath(posixpath.join(folder, unquote(i.get("href", "")))) for i in package.iter("{*}item")}
    title = " ".join(next((t.text or "" for t in package.iter("{*}title")), "").split())
    blocks: list[Block] = []
    for reference in package.iter("{*}itemref"):
        chapter = items.get(reference.get("idref"), "")
        if not chapter or (content := member(archive, chapter)) is None:
            continue
        at = posixpath.dirname(chapter)
        shift = len(blocks) + 1
        for block in read_html(content, f"{name}:{chapter}")[1]:
            inside = [
                posixpath.normpath(posixpath.join(at, local(r))) if local(r) else r for r in (block.picture, block.thumbnail)
            ]
            group = block.group + shift * 10_000 if block.group else 0
            cell = (block.cell[0] + shift * 10_000, *block.cell[1:]) if block.cell else ()
            blocks.append(replace(block, picture=inside[0], thumbnail=inside[1], group=group, cell=cell))
    return title, blocks


def member(archive: zipfile.ZipFile, path: str) -> bytes | None:
    """One unpacked file, or None. Raises BadInput for a bomb or a damaged one."""
    try:
        info = archive.getinfo(path)
        if info.file_size > MAX_MEMBER or info.file_size > MAX_RATIO * max(info.compress_size, 1000):
            raise BadInput(f"{path}: {info.file_size} bytes unpacked are refused.")
        return archive.read(info)
    except KeyError:
        return None
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, ValueError, zlib.error) as error:
        raise BadInput(f"{path}: damaged in the archive ({error}).") from error


def inline(reference: str) -> bytes | None:
    """The bytes of a `data:` address, None for any other. Raises BadInput when they are no base64."""
    if not reference.startswith("data:"):
        return None
    head, _, text = reference.partition(",")
    try:
        return base64.b64decode("".join(text.split())) if head.endswith(";base64") else unquote_to_bytes(text)
    except ValueError as error:
        raise BadInput(f"{head}: no base64 ({error}).") from error


def is_logo(reference: str) -> bool:
    """Whether a picture's file name says that it is none of the book's."""
    return bool(_DULL_FILE.search(posixpath.basename(local(reference))))


def local(reference: str) -> str:
    """A picture reference as a relative path, empty when it leads elsewhere (http, data …)."""
    parts = urlsplit(reference)
    return "" if parts.scheme or parts.netloc else unquote(parts.path)


def pair(blocks: Sequence[Block]) -> Iterator[Pictured]:
    """Every picture with its caption; pictures without any words, and logos, are left out."""
    alts = Counter(b.text for b in blocks if b.kind == "picture")
    caption_places: set[int] = set()
    tables: dict[int, list[int]] = defaultdict(list)
    for place, block in enumerate(blocks):
        if block.cell:
            tables[block.cell[0]].append(place)
    steps = (-1, -2, -3, 1, 2) if _captions_above(blocks) else (1, 2, -1, 3, -2)  # below first, as most books have it
    number = 0
    for at, block in enumerate(blocks):
        if block.kind != "picture" or is_logo(block.picture):
            continue
        text, how = _caption(
            blocks,
            at,
            tables[block.cell[0]] if block.cell else (),
            caption_places,
            steps,
            dull=bool(_DULL_ALT.search(block.text)) or alts[block.text] > 2,
        )
        if not text:
            continue
        number += 1
        match = CAPTION.match(text)
        label, rest = (" ".join(match["label"].split()), match["rest"].strip()) if match else ("", text)
        yield Pictured(block.picture, rest or text, label, number, block.thumbnail, how)


def _captions_above(blocks: Sequence[Block]) -> bool:
    """Whether the captions of a document stand above their pictures: each row of pictures follows a caption, the last has none
    below."""
    pictures = [n for n, b in enumerate(blocks) if b.kind == "picture" and not b.group and not b.cell and not is_logo(b.picture)]
    for at in pictures:
        before = at - 1
        while before >= 0 and blocks[before].kind == "picture":
            before -= 1
        if before < 0 or not _is_caption(blocks[before]):
            return False
    return bool(pictures) and not any(map(_is_caption, blocks[pictures[-1] + 1 : pictures[-1] + 4]))


def _is_caption(block: Block) -> bool:
    return (block.kind == "caption" and not block.group) or (
        block.kind in ("text", "heading") and bool(CAPTION.match(block.text))
    )


def _in_column(blocks: Sequence[Block], at: int, table: Sequence[int]) -> str:
    """The caption of a picture in a table: of its own column, below it; above where the column begins with a caption and ends
    with a picture. Empty when the column has none."""
    column = [n for n in table if _share_column(blocks[n], blocks[at])]
    column = [n for n in column if blocks[n].kind == "picture" or _is_caption(blocks[n])]
    captions = [n for n in column if blocks[n].kind != "picture"]
    above, below = [n for n in captions if n < at][::-1], [n for n in captions if n > at]
    first_above = bool(captions) and column[0] in captions and column[-1] not in captions
    return next((blocks[n].text for n in (above + below if first_above else below + above)), "")


def _share_column(one: Block, other: Block) -> bool:
    return one.cell[1] < other.cell[2] and other.cell[1] < one.cell[2]


def _caption(
    blocks: Sequence[Block], at: int, table: Sequence[int], caption_places: set[int], steps: Sequence[int], *, dull: bool
) -> tuple[str, str]:
    """A picture's caption, and how it was told. `table`: the places of all blocks of the picture's table."""
    block = blocks[at]
    if block.group:
        same = [b.text for b in blocks if b.kind == "caption" and b.group == block.group]
        if same:
            return " ".join(same), "figcaption"
    if text := _in_column(blocks, at, table):
        return text, "paragraph"
    of_others = {n for n in table if not _share_column(blocks[n], block)}
    for step in steps:
        other = at + step
        if 0 <= other < len(blocks) and other not in caption_places | of_others and _is_caption(blocks[other]):
            between = blocks[min(at, other) + 1 : max(at, other)]
            if not any(b.kind == "heading" for b in between):
                following = blocks[at + 1 : other] if other > at else blocks[at + 1 : at + 2] if steps[0] < 0 else []
                if not any(b.kind == "picture" for b in following):
                    caption_places.add(other)
                return blocks[other].text, "paragraph"
    if not dull:
        return block.text, "alt"
    return _headings(blocks, at), "heading"


def _headings(blocks: Sequence[Block], at: int) -> str:
    """The chain of headings above a picture, the nearest last: "Tumors of Kidney: Oncocytoma"."""
    chain: list[str] = []
    level = 10
    for block in reversed(blocks[:at]):
        if block.kind == "heading" and block.level < level:
            chain.append(re.sub(r"^(?:chapter\s+)?\d+(?:\.\d+)*\.?\s+", "", block.text, flags=re.I))
            level = block.level
    return ": ".join(reversed(chain[:2]))


def _walk(element: Any, groups: dict[Any, int], group: int) -> Iterator[Block]:
    """Blocks below an element; a text block's pictures come before its words. Words that stand in no block are one."""
    loose = [element.text or ""] if element.tag not in _HOLDERS else []
    for child in element.iterchildren():
        if child.tag in _INLINE and next(child.iter(*_PICTURES, *_BLOCKS, "div"), None) is None:
            loose.append(child.text_content())
        elif isinstance(child.tag, str):
            blocks = list(_child(child, groups, group))
            if blocks:
                yield from _loose_text(loose, group)
                loose = []
            yield from blocks
        loose.append((child.tail or "") if element.tag not in _HOLDERS else "")
    yield from _loose_text(loose, group)


def _loose_text(parts: Sequence[str], group: int) -> Iterator[Block]:
    text = " ".join(" ".join(parts).split())
    if re.search(r"\w{2}", text):
        yield Block("text", text, group=group)


def _child(child: Any, groups: dict[Any, int], group: int) -> Iterator[Block]:
    tag = child.tag
    if tag in ("td", "th") and (table := next(child.iterancestors("table"), None)) is not None:
        first = sum(_span(c.get("colspan")) for c in child.itersiblings("td", "th", preceding=True))
        cell = groups.setdefault(table, len(groups) + 1), first, first + _span(child.get("colspan"))
        yield from (b if b.cell else replace(b, cell=cell) for b in _child_of(child, groups, group))
    else:
        yield from _child_of(child, groups, group)


def _child_of(child: Any, groups: dict[Any, int], group: int) -> Iterator[Block]:  # noqa: C901 - one case a kind of element
    tag = child.tag
    if tag in _SKIPPED and not (tag in ("header", "footer", "noscript") and _tells(child)):
        return
    if tag == "figure":
        groups[child] = len(groups) + 1
        yield from _walk(child, groups, groups[child])
    elif tag in _PICTURES:
        if picture := _picture(child, group):
            yield picture
        elif tag in ("svg", "object"):
            yield from _walk(child, groups, group)
    elif tag in _BLOCKS and (tag not in _CONTAINERS or next(child.iter(*_NESTED), None) is None):
        for element in child.iter(*_PICTURES):
            if picture := _picture(element, group):
                yield picture
        if text := " ".join(child.text_content().split()):
            level = _HEADINGS.index(tag) + 1 if tag in _HEADINGS else 0
            caption = tag == "figcaption" or "caption" in (child.get("class") or "").lower()
            yield Block("heading" if level else "caption" if caption else "text", text, level, group=group)
    else:
        words = tag in ("div", "span") and next(child.iter(*_PICTURES), None) is None
        inline = words and next(child.iter(*_BLOCKS, "div"), None) in (None, child)
        if words and "caption" in (child.get("class") or "").lower():
            yield Block("caption", " ".join(child.text_content().split()), group=group)
        elif inline and (text := " ".join(child.text_content().split())):
            yield Block("text", text, group=group)
        else:
            yield from _walk(child, groups, group)


_INLINE = ("b", "strong", "i", "em", "u", "a", "font", "small", "big", "sup", "sub", "br", "tt", "code", "cite", "label")
_HOLDERS = ("table", "tbody", "thead", "tr", "ul", "ol", "dl", "svg", "object", "picture", "source")
"""Elements whose own text is no text of the page."""
_PICTURES = ("img", "image", "object", "embed")


def _tells(element: Any) -> bool:
    """Whether a part that is mostly left out belongs to the text: a header or footer with a figure, a picture or the page's
    title; the picture for readers without scripts, where there is no other beside it.
    """
    if element.tag == "noscript":
        others = (p for p in element.getparent().iter(*_PICTURES) if next(p.iterancestors("noscript"), None) is None)
        return next(element.iter(*_PICTURES), None) is not None and not any(_picture(p, 0) for p in others)
    return next(element.iter("h1", "figure", *_PICTURES), None) is not None


_LATE = ("data-src", "data-original", "data-lazy-src", "data-lazy", "data-url", "data-full", "data-hi-res-src")
"""Where pages that load pictures late keep the address that a script puts into `src`."""


def _picture(element: Any, group: int) -> Block | None:
    """The picture of an element, from the attribute where it stands when a page loads pictures late; None when it names none.

    A picture that links to a picture file is its thumbnail: the file is taken, and the thumbnail where the file is not there.
    """
    late = next((v for n in _LATE if (v := element.get(n)) and not _is_stub(v)), "")
    reference = late or next((v for n in ("src", "data", "xlink:href", "href", _XLINK) if (v := element.get(n))), "")
    if _is_stub(reference):
        holder = next(element.iterancestors("picture"), None)  # the parser may nest its sources
        sources = [element, *([*holder.iter("source")][::-1] if holder is not None else [])]
        sets = (v for e in sources for n in ("srcset", "data-srcset") if (v := e.get(n)))
        reference = next(map(_largest, sets), reference)
    kind = element.get("type", "")
    if not reference or (element.tag in ("object", "embed") and not (kind.startswith("image/") or _IMAGE_FILE.search(reference))):
        return None
    alt = " ".join((element.get("alt") or element.get("title") or "").split())
    link = next((a.get("href") or "" for a in element.iterancestors("a")), "")
    if _IMAGE_FILE.search(link) and local(link):
        return Block("picture", alt, picture=link, thumbnail=reference, group=group)
    return Block("picture", alt, picture=reference, group=group)


def _largest(sources: str) -> str:
    """The address with the largest width or density of a `srcset`; the last one of equals."""
    entries = [e.split() for e in re.split(r",\s+|,(?=\S+\s)", sources.strip().strip(",")) if e.split()]
    sizes = [float(m[1]) if len(e) > 1 and (m := re.match(r"(\d+(?:\.\d+)?)[wx]$", e[1])) else 0.0 for e in entries]
    return max(zip(sizes, range(len(entries)), entries, strict=True))[2][0] if entries else ""


def _is_stub(reference: str | None) -> bool:
    """Whether `src` is missing or the tiny picture that stands there until the page is scrolled."""
    return not reference or (reference.startswith("data:") and len(reference) < 400)


def _encoding(content: bytes) -> str | None:
    """UTF-8 when the bytes are, else what the file declares."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return "utf-8"


def _xml(archive: zipfile.ZipFile, path: str, name: str) -> Any:
    content = member(archive, path)
    if content is None:
        raise BadInput(f"{name}: {path} is missing; this is no such document.")
    try:
        return etree.fromstring(content, _XML)
    except etree.XMLSyntaxError as error:
        raise BadInput(f"{name}: {path} is broken ({error}).") from error
