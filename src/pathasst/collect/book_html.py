"""HTML, EPUB and DOCX → figures with captions: a document is a row of blocks (text, heading, picture), whatever its format.

A picture's caption is, in this order: its `figcaption` or a caption-styled paragraph; a paragraph beside it that begins like a
caption ("Figure 3 …"); a telling alternative text; the headings above it (how an atlas names its plates).
"""

from __future__ import annotations

import posixpath
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from lxml import etree, html

from pathasst.collect.page_layout import CAPTION
from pathasst.core.errors import BadInput

MAX_MEMBER = 128 * 2**20  # bytes of one unpacked file of an EPUB or DOCX
MAX_RATIO = 200  # unpacked : packed
_XML = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_EMBED = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}embed"
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_BLOCKS = ("p", "li", "td", "th", "dd", "dt", "blockquote", "pre", "figcaption", "caption", *_HEADINGS)
_CONTAINERS = ("li", "td", "th", "dd", "blockquote")  # text blocks that may hold other blocks
_NESTED = ("p", "figure", "table", "ul", "ol", "div")
_SKIPPED = ("script", "style", "nav", "head", "header", "footer", "noscript", "template", "iframe", "svg")
_DULL_ALT = re.compile(
    r"^\W*$|click|tıkla|thumbnail|screenshot|^(?:image|img|figure|fig|photo|picture|logo|icon)\W*\d*$|\.(?:jpe?g|png|gif)$", re.I
)
_DULL_FILE = re.compile(r"logo|icon|avatar|badge|favicon|spacer|banner", re.I)


@dataclass(frozen=True, slots=True)
class Block:
    """One thing in reading order."""

    kind: str  # text | heading | picture | caption (text that its format marks as one)
    text: str = ""  # of a picture: its alternative text
    level: int = 0  # of a heading
    picture: str = ""  # reference of a picture
    group: int = 0  # pictures and captions of one <figure> share it; 0 = none


@dataclass(frozen=True, slots=True)
class Pictured:
    """A picture with its caption."""

    picture: str
    caption: str
    label: str = ""
    number: int = 0  # position in the document, from 1
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
    main: Any = next(root.iter("main", "article"), None)
    if main is None:
        main = root.find("body") if root.find("body") is not None else root
    return title, list(_walk(main, {}, 0))


def read_docx(archive: zipfile.ZipFile, name: str) -> tuple[str, list[Block], dict[str, str]]:
    """(title, blocks, picture reference → member). Raises BadInput when it is no Word document."""
    body = _xml(archive, "word/document.xml", name)
    relations = _xml(archive, "word/_rels/document.xml.rels", name)
    targets = {r.get("Id"): posixpath.normpath(posixpath.join("word", r.get("Target", ""))) for r in relations}
    blocks, title = [], ""
    for paragraph in body.iter(f"{_W}p"):
        text = " ".join("".join(t.text or "" for t in paragraph.iter(f"{_W}t")).split())
        style = next((s.get(f"{_W}val", "") for s in paragraph.iter(f"{_W}pStyle")), "").lower()
        blocks += [Block("picture", picture=id_) for p in paragraph.iter("{*}blip") if (id_ := p.get(_EMBED)) in targets]
        if text:
            heading = re.match(r"(?:heading|berschrift|titre)\s*(\d)|title", style)
            kind = "caption" if style.startswith("caption") else "heading" if heading else "text"
            blocks.append(Block(kind, text, int(heading[1] or 1) if heading else 0))
            title = title or (text if heading else "")
    return title, blocks, {k: v for k, v in targets.items() if k}


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
            picture = posixpath.normpath(posixpath.join(at, local(block.picture))) if block.picture else ""
            blocks.append(Block(block.kind, block.text, block.level, picture, block.group + shift * 10_000 if block.group else 0))
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
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
        raise BadInput(f"{path}: damaged in the archive ({error}).") from error


def local(reference: str) -> str:
    """A picture reference as a relative path, empty when it leads elsewhere (http, data …)."""
    parts = urlsplit(reference)
    return "" if parts.scheme or parts.netloc else unquote(parts.path)


def pair(blocks: Sequence[Block]) -> Iterator[Pictured]:
    """Every picture with its caption; pictures without any words, and logos, are left out."""
    alts = Counter(b.text for b in blocks if b.kind == "picture")
    used: set[int] = set()
    number = 0
    for at, block in enumerate(blocks):
        if block.kind != "picture" or _DULL_FILE.search(posixpath.basename(block.picture)):
            continue
        text, how = _caption(blocks, at, used, dull=bool(_DULL_ALT.search(block.text)) or alts[block.text] > 2)
        if not text:
            continue
        number += 1
        match = CAPTION.match(text)
        label, rest = (" ".join(match["label"].split()), match["rest"].strip()) if match else ("", text)
        yield Pictured(block.picture, rest or text, label, number, how)


def _caption(blocks: Sequence[Block], at: int, used: set[int], *, dull: bool) -> tuple[str, str]:
    block = blocks[at]
    if block.group:
        same = [b.text for b in blocks if b.kind == "caption" and b.group == block.group]
        if same:
            return " ".join(same), "figcaption"
    for step in (1, 2, -1, 3, -2):  # below first, as most books have it
        other = at + step
        if 0 <= other < len(blocks) and other not in used:
            near = blocks[other]
            if (near.kind == "caption" and not near.group) or (near.kind == "text" and CAPTION.match(near.text)):
                between = blocks[min(at, other) + 1 : max(at, other)]
                if not any(b.kind == "heading" for b in between):
                    if not any(b.kind == "picture" for b in blocks[at + 1 : other]):
                        used.add(other)
                    return near.text, "paragraph"
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
    """Blocks below an element; a text block's pictures come before its words."""
    for child in element.iterchildren("*"):
        tag = child.tag
        if tag in _SKIPPED and not (tag == "header" and child.find(".//h1") is not None):
            continue
        if tag == "figure":
            groups[child] = len(groups) + 1
            yield from _walk(child, groups, groups[child])
        elif tag == "img":
            yield _picture(child, group)
        elif tag in _BLOCKS and (tag not in _CONTAINERS or next(child.iter(*_NESTED), None) is None):
            for picture in child.iter("img"):
                yield _picture(picture, group)
            if text := " ".join(child.text_content().split()):
                level = _HEADINGS.index(tag) + 1 if tag in _HEADINGS else 0
                yield Block("heading" if level else "caption" if tag == "figcaption" else "text", text, level, group=group)
        else:
            if group and tag in ("div", "span") and "caption" in (child.get("class") or "") and child.find(".//img") is None:
                yield Block("caption", " ".join(child.text_content().split()), group=group)
            else:
                yield from _walk(child, groups, group)


def _picture(element: Any, group: int) -> Block:
    reference = element.get("src") or element.get("data-src") or ""
    alt = " ".join((element.get("alt") or element.get("title") or "").split())
    return Block("picture", alt, picture=reference, group=group)


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
