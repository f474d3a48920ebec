"""JATS and BITS files → their articles and books, and what the front matter says of them. Knows no room.

Tolerant of what people's downloads do to a file and changes nothing of its words: white space, a BOM or a log line before the XML
declaration, namespaces and prefixes, a wrapper (OAI answer, `pmc-articleset`, any other), several documents in one file, a set
that ends early, named characters without a document type, Windows-1252 under a UTF-8 label. The XML is outside data: nothing is
fetched, no entity of it unfolds.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxml import etree

from pathasst.core.errors import BadInput
from pathasst.core.jats_text import MML, resolve_entities, text_of

SUFFIXES = (".xml", ".nxml", ".xml.gz", ".nxml.gz")
MAX_BYTES = 256 * 2**20  # unpacked; a gzip bomb costs one file
HREF = "{http://www.w3.org/1999/xlink}href"
LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
ALI = "{http://www.niso.org/schemas/ali/1.0}"
ROOTS = ("article", "book", "book-part-wrapper", "book-part")
# Entities stay references: nothing is fetched and no bomb unfolds. `resolve_entities` replaces the harmless ones.
_PARSER = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
_NAMESPACES = {
    b"xlink": b"http://www.w3.org/1999/xlink",
    b"mml": MML[1:-1].encode(),
    b"ali": ALI[1:-1].encode(),
    b"xsi": b"http://www.w3.org/2001/XMLSchema-instance",
}
_ONE = re.compile(rb"<(?:[\w.-]+:)?(article|book|book-part-wrapper)(?=[\s>])")
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {m: i for i, m in enumerate(_MONTH_NAMES, 1)}
_DATE_ORDER = ("epub", "pub", "epub-ppub", "ppub", "collection", "epreprint", "epub-version", "epub-original")
_RETRACTED_TITLE = re.compile(
    r"^\W*(?:retracted|withdrawn|removed)\b(?:\s+(?:article|paper|chapter|publication))?\s*(?:[:.\]\-–—]|$)", re.I
)
_RETRACTED = re.compile(r"\bretracted\b(?![- ]article[- ]notice)|\bwithdrawn\b", re.I)
# What PMC, JATS4R and publishers put on the *retracted* article (a notice carries "retracted-article" and "retraction" instead).
_RETRACTED_LINKS = frozenset(
    {"retraction-forward", "retraction-in", "retracted-by", "withdrawal-forward", "removal-forward", "is-retracted-by"}
)
_STATUS_TAGS = ("related-article", "related-object", "subject", "article-version", "event", "date", "meta-value")
_STATUS = re.compile(r"retract|status|crossmark|update", re.I)
_NOTICES = frozenset({"retraction", "retraction-notice", "correction", "expression-of-concern", "withdrawal"})


def read_file(path: Path) -> bytes:
    """The XML bytes of a file, unpacked. Raises BadInput when it cannot be read or is larger than MAX_BYTES."""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: unreadable ({error}).") from error
    if len(content) > MAX_BYTES:
        raise BadInput(f"{path}: more than {MAX_BYTES} bytes of XML.")
    return content


class NoArticle(BadInput):
    """XML that holds no JATS <article> and no <book>."""


def documents(content: bytes, name: str) -> tuple[list[Any], list[str]]:
    """The article and book elements of a file, in order, and what is wrong with those that cannot be read.

    Entity references are not yet resolved (`resolve_entities`). Raises BadInput when nothing in the bytes can be read, NoArticle
    when nothing of it is an article or book.
    """
    try:
        roots = _inside(_root(content))
    except (etree.XMLSyntaxError, ValueError, AssertionError, LookupError) as error:
        roots, faults = ([], []) if _declares(content) else _one_by_one(content, name)
        if not roots:
            raise BadInput(f"{name}: no readable XML ({error}). Fetch it again or leave it out.") from error
        return roots, faults
    if not roots:
        raise NoArticle(f"{name}: {_first_tag(content)} holds no JATS <article> and no <book>.")
    return roots, []


def entities_of(root: Any, name: str) -> None:
    """Replace the entity references below an element by their characters. Raises BadInput as `resolve_entities`."""
    resolve_entities(list(root.iter(etree.Entity)), name)


def article_meta(root: Any) -> Any | None:
    """The element of an article that holds its ids, title and permissions."""
    meta = root.find("front/article-meta")
    return meta if meta is not None else root.find("front-stub")


def pmc_id(ids: dict[str, str]) -> tuple[str, int]:
    """(digits, version) of the PMCID among ids by type; the older and the newer tagging of PMC."""
    for key in ("pmcid-ver", "pmcid", "pmc", "pmcaid"):
        if match := re.match(r"(?:PMC)?(\d+)(?:\.(\d+))?$", ids.get(key, ""), re.I):
            return match[1], int(match[2] or 1)
    return "", 1


def ids_of(meta: Any, tag: str = "article-id") -> dict[str, str]:
    """Type of id ("pmid", "doi" …, lower case) → the first id of that type."""
    ids: dict[str, str] = {}
    for element in () if meta is None else meta.iterfind(tag):
        kind = element.get("pub-id-type") or element.get(f"{tag}-type") or ""
        ids.setdefault(kind.lower(), text_of(element))
    if "doi" in ids:
        ids["doi"] = re.sub(r"^(?:https?://(?:dx\.)?doi\.org/|(?:info:)?doi[:/]\s*)", "", ids["doi"], flags=re.I)
    return ids


def date_of(meta: Any) -> str:
    """The publication date, ISO 8601, as precise as it is given; online before print."""
    dates = {(e.get("date-type") or e.get("pub-type") or "pub"): e for e in reversed(meta.findall("pub-date"))}
    for kind in (*_DATE_ORDER, *dates):
        if kind in dates and (date := _iso(dates[kind])):
            return date
    return ""


def is_retracted(root: Any, meta: Any, title: str) -> bool:
    """Whether the front matter says in any of the usual ways that the article was retracted or withdrawn.

    Ways: the title ("RETRACTED: …"), a link to the notice (PMC's `retraction-forward` and others), the article's type or subject,
    an event of its publication history, its version, Crossmark's custom metadata. A retraction *notice* is not retracted itself.
    """
    kind = (root.get("article-type") or "").lower()
    if kind in _NOTICES:
        return False
    if _RETRACTED_TITLE.match(title) or _RETRACTED.search(kind.replace("-", " ")):
        return True
    for element in meta.iter(*_STATUS_TAGS):
        tag = element.tag
        if tag in ("related-article", "related-object"):
            if not _RETRACTED_LINKS.isdisjoint(element.get(a, "").lower() for a in ("related-article-type", "link-type")):
                return True
            continue
        words = element.get("event-type") or element.get("date-type") or element.get("article-version-type") or ""
        if tag == "meta-value":
            words = text_of(element) if _STATUS.search(element.getparent().findtext("meta-name") or "") else ""
        elif tag in ("subject", "article-version") and element.getparent().tag != "kwd-group":
            words = f"{words} {text_of(element)}"
        if words and _RETRACTED.search(words.replace("-", " ")):
            return True
    return False


def _root(content: bytes) -> Any:
    """The document element. Lists of references, often half of the bytes and never with a figure, are left out."""
    short = _without(content, b"ref-list")
    if len(short) < len(content):
        try:
            return etree.fromstring(short, _PARSER)
        except (etree.XMLSyntaxError, ValueError):
            pass  # one stood in a comment or in another list, or the file is broken anyway: the whole file decides
    try:
        return etree.fromstring(content, _PARSER)
    except (etree.XMLSyntaxError, ValueError, AssertionError, LookupError) as error:
        if _declares(content):
            raise
        try:
            return etree.fromstring(_repaired(content), _PARSER)
        except (etree.XMLSyntaxError, ValueError, AssertionError, LookupError):
            raise error from None


def _without(content: bytes, tag: bytes) -> bytes:
    """The bytes without the elements of a tag that hold no figure. A start and what follows up to the first end tag are one."""
    opening, closing = b"<" + tag, b"</" + tag + b">"
    parts, position = [], 0
    while (start := content.find(opening, position)) >= 0:
        after = start + len(opening)
        if content[after : after + 1] not in (b" ", b">", b"\n"):
            parts.append(content[position:after])
            position = after
            continue
        end = content.find(closing, after)
        if end < 0:
            break
        end += len(closing)
        keep = content.find(b"<fig", start, end) >= 0
        parts.append(content[position : end if keep else start])
        position = end
    return b"".join([*parts, content[position:]]) if parts else content


def _declares(content: bytes) -> bool:
    """Whether a file declares entities of its own: then nothing of it is guessed, since a bomb must stay one."""
    return b"<!ENTITY" in content.replace(b"\0", b"")  # UTF-16 too


def _inside(root: Any) -> list[Any]:
    """The articles of a document, their elements without namespaces (but for MathML and ALI)."""
    if isinstance(root.tag, str) and root.tag in ROOTS:
        return [root]
    for element in root.iter("{*}*"):
        if element.tag[0] == "{" and not element.tag.startswith((MML, ALI)):
            element.tag = etree.QName(element).localname
    if root.tag in ROOTS:
        return [root]
    return [e for e in root.iter(*ROOTS) if next(e.iterancestors(*ROOTS), None) is None]


def _one_by_one(content: bytes, name: str) -> tuple[list[Any], list[str]]:
    """Each article of a file that is no one document: a set that ends early, or documents one after the other."""
    text = _repaired(content, with_entities=False)
    roots, faults, position = [], [], 0
    while match := _ONE.search(text, position):
        closing = re.compile(rb"</(?:[\w.-]+:)?" + match[1] + rb"\s*>").search(text, match.end())
        piece = text[match.start() : closing.end() if closing else len(text)]
        position = match.start() + len(piece)
        try:
            roots += _inside(etree.fromstring(_repaired(piece), _PARSER))
        except (etree.XMLSyntaxError, ValueError, AssertionError, LookupError) as error:
            faults.append(f"{name}: an <{match[1].decode()}> in it is broken ({error}).")
    return roots, faults


def _repaired(content: bytes, *, with_entities: bool = True) -> bytes:
    """The same document as UTF-8 from its first tag on; `with_entities` adds a document type and prefixes' declarations."""
    text = _utf8(content)
    start = text.find(b"<?xml")
    if start > 0 and not _ONE.search(text, 0, start):
        text = text[start:]
    text = re.sub(rb"^[^<]*", b"", text, count=1)
    text = re.sub(rb"^<\?xml[^>]*\?>\s*", b"", text, count=1)
    if not with_entities:
        return text
    tag = re.search(rb"<[A-Za-z_][\w.:-]*", text)
    if tag is None:
        return text
    head_end = text.find(b">", tag.end())
    head = text[tag.start() : head_end if head_end > 0 else len(text)]
    missing = [p for p in _NAMESPACES if b"xmlns:" + p not in head and p + b":" in text]
    added = b"".join(b' xmlns:%s="%s"' % (p, _NAMESPACES[p]) for p in missing)
    text = text[: tag.end()] + added + text[tag.end() :]
    doctype = b"" if b"<!DOCTYPE" in text[: tag.start()] else b'<!DOCTYPE x SYSTEM "none.dtd">'  # lets named characters be
    return doctype + text


def _utf8(content: bytes) -> bytes:
    """Bytes of any usual encoding as UTF-8, without the control characters that XML forbids."""
    from pathasst.core.tables import decoded

    declared = re.match(rb"""\s*<\?xml[^>]*encoding=["']([\w.-]+)""", content[:200].lstrip(b"\xef\xbb\xbf"))
    text = decoded(content, declared[1].decode() if declared else "")
    return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "", text).encode("utf-8", "replace")


def _first_tag(content: bytes) -> str:
    tag = re.search(rb"<([A-Za-z_][\w.:-]*)", content)
    return f"<{tag[1].decode()}>" if tag else "it"


def _iso(element: Any) -> str:
    year, month, day = ((element.findtext(k) or "").strip() for k in ("year", "month", "day"))
    if not re.fullmatch(r"\d{4}", year):
        return (element.get("iso-8601-date") or "")[:10]
    number = int(month) if month.isdecimal() else _MONTHS.get(month[:3].lower(), 0)
    if not 1 <= number <= 12:
        return year
    return f"{year}-{number:02d}" + (f"-{int(day):02d}" if day.isdecimal() and 1 <= int(day) <= 31 else "")


def files_below(folder: Path) -> Iterator[Path]:
    """The JATS files under a folder, sorted."""
    yield from sorted(p for p in folder.rglob("*") if p.name.lower().endswith(SUFFIXES) and p.is_file())
