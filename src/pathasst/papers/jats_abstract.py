"""The abstracts of a JATS file (PMC), hardened as the MEDLINE reader is. Knows the front matter only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pathasst.core import jats
from pathasst.core.errors import BadInput
from pathasst.core.jats_text import text_of
from pathasst.core.records import Abstract
from pathasst.dataset import Dropped


def parse_jats_abstracts(path: Path) -> Iterator[Abstract | Dropped]:
    """The abstract of each article of a file, under its PMID, or else PMC id or DOI; of one that has none, why.

    Raises BadInput when the file holds no article.
    """
    try:
        roots, faults = jats.documents(jats.read_file(path), path.name)
    except jats.NoArticle as error:
        raise BadInput(f"{path.name} is neither MEDLINE XML nor a JATS article.") from error
    except BadInput as error:
        yield Dropped(path.name, "bad XML", str(error)[:200])
        return
    yield from (Dropped(path.name, "bad XML", fault[:200]) for fault in faults)
    for number, root in enumerate(roots, 1):
        name = path.name if len(roots) == 1 else f"{path.name}:{number}"
        meta = jats.article_meta(root)
        try:
            yield Dropped(name, "no article-meta", f"<{root.tag}>") if meta is None else _abstract_of(root, meta, name)
        except BadInput as error:
            yield Dropped(name, "bad XML", str(error)[:200])


def _abstract_of(root: Any, meta: Any, name: str) -> Abstract | Dropped:
    jats.entities_of(root, name)
    ids = jats.ids_of(meta)
    number, _ = jats.pmc_id(ids)
    id = ids.get("pmid") or (f"PMC{number}" if number else "") or ids.get("doi", "")
    if not id:
        return Dropped(name, "no id")
    title = _text(meta.find("title-group/article-title"))
    kind = (root.get("article-type") or "").replace("-", " ").capitalize()
    return Abstract(
        pmid=id,
        title=title,
        abstract=_abstract(meta),
        journal=_text(root.find(".//journal-meta//journal-title")),
        date=jats.date_of(meta),
        types=[kind] if kind else [],
        retracted=jats.is_retracted(root, meta, title),
    )


def _text(element: Any) -> str:
    return "" if element is None else text_of(element)


def _abstract(meta: Any) -> str:
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
            return "\n".join(line for line in lines if line) or _text(abstract)
    return ""
