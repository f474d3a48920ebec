"""MEDLINE/PubMed XML (`.xml`, `.xml.gz`; baseline and update files) → abstracts, streaming. Knows no index and no embedding.

A file is cut into records by their end tags, in flat memory. Before lxml parses a record, the parts that no field comes from
(authors, references, history …, two thirds of the bytes) are cut away, which makes reading faster than parsing the file whole.
That is exact as long as `<` only ever opens a tag; a record with a comment or CDATA is therefore parsed uncut.

Nothing outside is trusted: the document type is never read (a file that declares entities is refused, so there is nothing to
expand), no network, a record and a file have a largest size, and a file that ends early keeps the records before its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from isal import isal_zlib  # twice as fast as zlib on these files
from lxml import etree

from pathasst.core.errors import BadInput
from pathasst.core.jats_text import text_of, without_tags
from pathasst.core.records import Abstract
from pathasst.dataset import Dropped

BLOCK = 1 << 20
MAX_RECORD = 32 << 20  # bytes of one record; the largest real ones are below 3 MB
MAX_FILE = 16 << 30  # bytes of one file after decompression; real files have below 0.5 GB
MAX_HEAD = 64 << 10  # bytes before the first record

START, END = re.compile(rb"<PubmedArticle(?=[\s>])"), b"</PubmedArticle>"  # not <PubmedArticleSet
LAST = b"<PubmedData>"  # the second and last part of a record; the first is the citation
UNUSED = tuple(
    (b"<" + name, b"</" + name + b">") for name in (b"AuthorList", b"KeywordList", b"ChemicalList", b"InvestigatorList")
)
OPEN = b'<R xmlns:mml="http://www.w3.org/1998/Math/MathML">'  # MathML's prefix is declared by the DTD, which is not read
MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
MONTHS = {name: f"{number:02d}" for number, name in enumerate(MONTH_NAMES, 1)}
RETRACTED = "Retracted Publication"
_RETRACTED_TITLE = re.compile(r"^\W*(?:RETRACTED|WITHDRAWN)\b\s*(?:ARTICLE|PAPER)?\s*[:\].]", re.I)


@dataclass(frozen=True, slots=True)
class Deleted:
    """An update file says that this record no longer exists."""

    pmid: str


Item = Abstract | Deleted | Dropped


def parse_medline(path: Path | str, part: int = 0, parts: int = 1) -> Iterator[Item]:
    """Stream the records of one file in order: an `Abstract` each (its text empty where MEDLINE has none), a `Deleted` for each
    deletion, a `Dropped` for each record that cannot be read, and one for a file that is damaged or ends early.

    With `parts`, only what ends in that part of the file's bytes, so that several processes may share a file: the parts in their
    order give what the whole gives. Raises BadInput when the file is no MEDLINE XML at all, or declares entities.
    """
    path = Path(path)
    reader = _Reader(path)
    size = _size(path) if parts > 1 else 0
    low, high = size * part // parts, size * (part + 1) // parts if part + 1 < parts else MAX_FILE
    try:
        for record in reader.records():
            if reader.position > high:
                return
            if reader.position > low or part == 0:
                yield from _items(record, reader.parser, path.name)
    except _Cut as cut:
        if reader.position > low or part == 0:  # else an earlier part says so
            yield Dropped(path.name, "file cut off", str(cut))


class _Cut(Exception):
    """The file's bytes end, or stop making sense, before the document does."""


class _Reader:
    """Cuts a file into records: bytes from a start tag to its end tag, and whatever lies between records (deletions, books)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.parser = _parser("utf-8")
        self.bare = False  # records without a set around them, as scripts write a single one
        self.position = 0  # decompressed bytes before the end of the last record

    def records(self) -> Iterator[bytes]:
        buffer, first = b"", True
        for block in _decompressed(self.path):
            buffer += block
            if first:
                if (
                    not START.search(buffer)
                    and b"<DeleteCitation" not in buffer
                    and len(buffer) < MAX_HEAD
                    and b"ArticleSet>" not in buffer
                ):
                    continue
                self._check_head(buffer)
                first = False
            position = 0
            while (end := buffer.find(END, position)) >= 0:
                end += len(END)
                self.position += end - position
                yield buffer[position:end]
                position = end
            buffer = buffer[position:]
            if len(buffer) > MAX_RECORD:
                raise _Cut(f"a record of more than {MAX_RECORD >> 20} MB")
        if first:
            self._check_head(buffer)
        self.position += len(buffer)
        yield buffer
        if not self.bare and b"ArticleSet>" not in buffer[-4096:]:
            raise _Cut("the closing tag of the set is missing: download the file again")

    def _check_head(self, buffer: bytes) -> None:
        first = START.search(buffer)
        head = buffer[: first.start() if first else None][:MAX_HEAD]
        if b"ArticleSet" not in head and b"<BookDocumentSet" not in head and (first is None or re.search(rb"<[A-Za-z]", head)):
            tag = re.search(rb"<[A-Za-z_][\w.:-]*", buffer)
            start = f"with {tag[0].decode()}>" if tag else "with no element"
            raise BadInput(f"{self.path.name} is no MEDLINE/PubMed XML: it begins {start}, not with a PubmedArticleSet.")
        self.bare = b"ArticleSet" not in head and b"<BookDocumentSet" not in head
        if b"<!ENTITY" in head:
            raise BadInput(f"{self.path.name} declares XML entities, which MEDLINE files never do; it was not read.")
        if declared := re.match(rb"""\s*(?:\xef\xbb\xbf)?<\?xml[^>]*encoding=["']([A-Za-z0-9._-]+)""", head):
            try:
                self.parser = _parser(declared[1].decode())
            except LookupError:
                raise BadInput(f"{self.path.name}: unknown encoding {declared[1].decode()!r}.") from None


def _parser(encoding: str) -> etree.XMLParser:
    return etree.XMLParser(
        encoding=encoding,
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_pis=True,
        remove_comments=True,
    )


def _size(path: Path) -> int:
    """About how many bytes a file has when decompressed; gzip's last four bytes say so, but for multiples of 4 GB."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b" or size < 4:
            return size
        file.seek(-4, 2)
        return int.from_bytes(file.read(4), "little")


def _decompressed(path: Path) -> Iterator[bytes]:
    """The file's bytes in blocks; gzip is recognised by its first two bytes and may have several members."""
    total = 0
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            for block in _gunzip(file) if zipped else iter(lambda: file.read(BLOCK), b""):
                total += len(block)
                if total > MAX_FILE:
                    raise _Cut(f"more than {MAX_FILE >> 30} GB after decompression")
                yield block
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}.") from error


def _gunzip(file: object) -> Iterator[bytes]:
    read = file.read  # type: ignore[attr-defined]
    inflate, pending = isal_zlib.decompressobj(wbits=31), b""
    while True:
        pending = pending or read(BLOCK)
        if not pending:
            if not inflate.eof:
                raise _Cut("the gzip stream ends early: download the file again")
            return
        if inflate.eof:  # another member follows, or padding
            if not pending.strip(b"\0"):
                pending = b""
                continue
            inflate = isal_zlib.decompressobj(wbits=31)
        try:
            block = inflate.decompress(pending, 4 * BLOCK)
        except isal_zlib.error as error:  # type: ignore[misc]
            raise _Cut(f"the gzip stream is damaged ({error}): download the file again") from error
        pending = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
        if block:
            yield block


def _items(record: bytes, parser: etree.XMLParser, name: str) -> Iterator[Item]:
    match = START.search(record)
    start = match.start() if match else -1
    between = record if start < 0 else record[:start]
    if b"<Delete" in between:
        yield from _deletions(between)
    if b"<PubmedBookArticle" in between:
        yield from (Dropped(p, "book article") for p in _pmids(between.partition(b"<PubmedBookArticle")[2])[:1])
    if start < 0:
        if END in record:
            yield Dropped(name, "bad XML", record[:80].decode("utf-8", "replace"))
        return
    try:
        short = _trimmed(record[start:])
        root = etree.fromstring(OPEN + short + b"</R>", parser)[0] if b"<mml:" in short else etree.fromstring(short, parser)
        yield _abstract(root)
    except (etree.XMLSyntaxError, ValueError) as error:
        yield Dropped((_pmids(record[start:]) or [name])[0], "bad XML", str(error))


def _pmids(xml: bytes) -> list[str]:
    return [p.decode() for p in re.findall(rb"<PMID\b[^>]*>\s*(\d+)\s*</PMID>", xml)]


def _deletions(xml: bytes) -> Iterator[Deleted]:
    for part in re.findall(rb"<Delete(?:Citation|Document)\b.*?</Delete(?:Citation|Document)>", xml, re.S):
        yield from map(Deleted, _pmids(part))


def _trimmed(record: bytes) -> bytes:
    """The record without the elements that no field comes from. What follows the citation is dropped unread."""
    citation = record.find(LAST)
    short = record[:citation] + END if citation >= 0 else record
    if b"<!" in short or b"<?" in short:
        return record
    for opening, closing in UNUSED:
        begin = short.find(opening)
        while begin >= 0:
            tag_end = short.find(b">", begin)
            end = short.find(closing, tag_end)
            if (
                end < 0
                or short[tag_end - 1 : tag_end] == b"/"
                or short[begin + len(opening) : begin + len(opening) + 1] not in b"> \n\t\r"
            ):
                begin = short.find(opening, begin + len(opening))
            else:
                short = short[:begin] + short[end + len(closing) :]
                begin = short.find(opening, begin)
    return short


def _abstract(root: etree._Element) -> Abstract:
    citation = root.find("MedlineCitation")
    article = citation.find("Article") if citation is not None else None
    if citation is None or article is None:
        raise ValueError("no MedlineCitation with an Article")
    pmid = (citation.findtext("PMID") or "").strip()
    if not pmid.isdecimal():
        raise ValueError("no PMID")
    title = _text(article.find("ArticleTitle")) or _text(article.find("VernacularTitle"))
    types = [_text(t) for t in article.iterfind("PublicationTypeList/PublicationType")]
    return Abstract(
        pmid=pmid,
        title=title,
        abstract=_sections(article.find("Abstract")),
        journal=_text(article.find("Journal/Title")) or _text(article.find("Journal/ISOAbbreviation")),
        date=_date(article),
        mesh=[_text(d) for d in citation.iterfind("MeshHeadingList/MeshHeading/DescriptorName")],
        types=types,
        retracted=RETRACTED in types
        or bool(_RETRACTED_TITLE.match(title))
        or citation.find("CommentsCorrectionsList/CommentsCorrections[@RefType='RetractionIn']") is not None,
    )


def _text(element: etree._Element | None) -> str:
    """The element's text, super- and subscripts and formulas as Unicode, other markup dissolved, white space made single."""
    return "" if element is None else without_tags(text_of(element))


def _sections(abstract: etree._Element | None) -> str:
    """The abstract, one line a section, "LABEL: " before the text of a labelled one."""
    if abstract is None:
        return ""
    lines = []
    for part in abstract.iterfind("AbstractText"):
        if text := _text(part):
            label = part.get("Label", "")
            lines.append(f"{label}: {text}" if label and label != "UNLABELLED" else text)
    return "\n".join(lines)


def _date(article: etree._Element) -> str:
    """ISO 8601, as precise as the issue's date is; the electronic date where the issue has none."""
    published = article.find("Journal/JournalIssue/PubDate")
    date = ""
    if published is not None:
        date = _iso(published.findtext("Year"), published.findtext("Month"), published.findtext("Day"))
        date = date or _free_date(published.findtext("MedlineDate") or "")
    if not date and (electronic := article.find("ArticleDate")) is not None:
        date = _iso(electronic.findtext("Year"), electronic.findtext("Month"), electronic.findtext("Day"))
    return date


def _iso(year: str | None, month: str | None = None, day: str | None = None) -> str:
    year, month, day = ((part or "").strip() for part in (year, month, day))
    if not re.fullmatch(r"[12]\d{3}", year):
        return ""
    number = MONTHS.get(month[:3].lower()) or (f"{int(month):02d}" if month.isdecimal() and 1 <= int(month) <= 12 else "")
    if not number:
        return year
    return f"{year}-{number}-{int(day):02d}" if day.isdecimal() and 1 <= int(day) <= 31 else f"{year}-{number}"


def _free_date(text: str) -> str:
    """The first year, and the first month where it is named: "1998 Dec-1999 Jan" → "1998-12"."""
    year = re.search(r"\b[12]\d{3}\b", text)
    month = re.search(rf"\b({'|'.join(MONTH_NAMES)})", text, re.I)
    return _iso(year[0], month[0] if month else "") if year else ""
