"""The abstract of one JATS article (PMC), hardened as the MEDLINE reader is. Knows the front matter only."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from lxml import etree

from pathasst.core.errors import BadInput
from pathasst.core.records import Abstract
from pathasst.dataset import Dropped

MAX_ARTICLE = 64 << 20  # bytes; the largest real articles have below 20 MB
IDS = ("pmid", "pmcid", "pmc", "doi")


def parse_jats_abstract(path: Path) -> Abstract | Dropped:
    """The article's abstract, under its PMID, or else PMC id or DOI. Raises BadInput when the file is no article."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(MAX_ARTICLE + 1)
        if len(content) > MAX_ARTICLE:
            return Dropped(path.name, "too large", f"more than {MAX_ARTICLE >> 20} MB")
        root = etree.fromstring(content, parser)
    except (OSError, EOFError, zlib.error, etree.XMLSyntaxError, ValueError) as error:
        return Dropped(path.name, "bad XML", str(error)[:200])
    meta = root.find(".//article-meta")
    if meta is None:
        raise BadInput(f"{path.name} is neither MEDLINE XML nor a JATS article.")
    ids = {e.get("pub-id-type", ""): (e.text or "").strip() for e in meta.iterfind("article-id")}
    id = next((ids[name] for name in IDS if ids.get(name)), "")
    if not id:
        return Dropped(path.name, "no id")
    if id == ids.get("pmc") and id.isdecimal():
        id = f"PMC{id}"
    return Abstract(
        pmid=id,
        title=_text(meta.find("title-group/article-title")),
        abstract=_abstract(meta),
        journal=_text(root.find(".//journal-meta//journal-title")),
        date=_date(meta),
        types=[t for t in [(root.get("article-type") or "").replace("-", " ").capitalize()] if t],
        retracted=any(e.get("related-article-type") == "retraction-in" for e in meta.iterfind("related-article")),
    )


def _text(element: etree._Element | None) -> str:
    return "" if element is None else " ".join("".join(element.itertext()).split())  # type: ignore[arg-type]


def _abstract(meta: etree._Element) -> str:
    """The main abstract, one line a paragraph, a section's title before its first; no graphical or lay summary."""
    for abstract in meta.iterfind("abstract"):
        if abstract.get("abstract-type") in (None, "", "section", "structured"):
            lines = []
            for paragraph in abstract.iter("p"):
                parent = paragraph.getparent()
                first = parent is not None and parent.find("p") is paragraph
                title = _text(heading) if first and parent is not None and (heading := parent.find("title")) is not None else ""
                text = _text(paragraph)
                lines.append(f"{title.rstrip(':.')}: {text}" if title and title.lower() != "abstract" else text)
            return "\n".join(line for line in lines if line)
    return ""


def _date(meta: etree._Element) -> str:
    dates = [
        "-".join(f"{int(p):02d}" if len(p) < 4 else p for p in parts) for d in meta.iterfind("pub-date") if (parts := _parts(d))
    ]
    return min(dates, default="")


def _parts(date: etree._Element) -> list[str]:
    parts = []
    for name in ("year", "month", "day"):
        value = (date.findtext(name) or "").strip()
        if not value.isdecimal() or (name == "year" and len(value) != 4):
            break
        parts.append(value)
    return parts
