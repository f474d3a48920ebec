"""Abstracts as HTML: title, journal, year, PMID with link, the passage to check a sentence against."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence

from pathasst.assistant.answer import Answer, RetrievedAbstract
from pathasst.core.records import Hit
from pathasst.core.text import shortened
from pathasst.serve.markup.tables import csv_of
from pathasst.serve.markup.words import PUBMED, citation, escape

PASSAGE_CHARACTERS = 900


def sources_html(answer: Answer) -> str:
    """What the model cites, open; what was only retrieved, folded."""
    cited = [s for s in answer.sources if s.cited]
    others = [s for s in answer.sources if not s.cited]
    parts = []
    if cited:
        parts.append(f'<h4>Sources the model cites</h4><ol class="pa-sources">{"".join(map(_source, cited))}</ol>')
    if others:
        title = "Also retrieved, not cited by the model" if cited else "Retrieved, not cited by the model"
        opened = "" if cited else " open"
        parts.append(
            f'<details class="pa-fold"{opened}><summary>{title} ({len(others)})</summary>'
            f'<ol class="pa-sources">{"".join(map(_source, others))}</ol></details>'
        )
    return "".join(parts)


def hits_html(hits: Sequence[Hit], message: str = "") -> str:
    """The hits of a search by hand, with a CSV of them, or that there are none. `message`: what the collection says of it."""
    note = f'<p class="pa-quiet" role="status">{escape(message)}</p>' if message else ""
    if not hits:
        return f'{note}<p class="pa-quiet">Try fewer words, in English, or loosen the filters.</p>'
    rows = [(h.pmid, h.title, h.journal, str(h.year or ""), "retracted" if h.retracted else "", _passage(h)) for h in hits]
    table = csv_of(("PMID", "Title", "Journal", "Year", "Note", "Passage"), rows)
    data = base64.b64encode(table.encode("utf-8-sig")).decode()
    count = f"{len(hits)} abstract{'s' if len(hits) > 1 else ''}"
    return (
        f'{note}<div class="pa-hits"><div class="pa-tools"><span class="pa-quiet" role="status">{count}</span>'
        f'<a class="pa-button" download="papers.csv" href="data:text/csv;base64,{data}">Download CSV</a></div>'
        f'<ol class="pa-sources">{"".join(map(_hit, hits))}</ol></div>'
    )


def _source(source: RetrievedAbstract) -> str:
    return _hit(source.hit, source.passage)


def _hit(hit: Hit, passage: str = "") -> str:
    where = " · ".join(escape(part) for part in (hit.journal, hit.year) if part)
    retracted = '<strong class="pa-bad">Retracted</strong> ' if hit.retracted else ""
    return (
        f'<li class="pa-source"><p class="pa-title">{retracted}{escape(hit.title.rstrip("."))}</p>'
        f'<p class="pa-quiet">{citation(hit.pmid)}{" · " if where else ""}{where}</p>'
        f"{_reference(hit)}"
        f"<blockquote>{escape(_passage(hit, passage))}</blockquote></li>"
    )


def _reference(hit: Hit) -> str:
    """Buttons that give the reference: as a line to paste, and as a file for reference managers (RIS)."""
    where = f" {hit.journal}." if hit.journal else ""
    line = f"{hit.title.rstrip('.')}.{where}{f' {hit.year}.' if hit.year else ''} PMID: {hit.pmid}."
    data = base64.b64encode(ris_of(hit).encode()).decode()
    return (
        f'<div class="pa-tools"><button type="button" class="pa-button" data-pa="text" data-text="{escape(line)}">Copy citation'
        f'</button><a class="pa-button" download="pmid{escape(hit.pmid)}.ris" '
        f'href="data:application/x-research-info-systems;base64,{data}">RIS</a></div>'
    )


def ris_of(hit: Hit) -> str:
    """The reference as RIS; authors are not in the collection, so that a manager completes it by the PMID."""
    fields = (
        ("TY", "JOUR"),
        ("TI", hit.title.rstrip(".")),
        ("JO", hit.journal),
        ("PY", str(hit.year or "")),
        ("AN", hit.pmid),
        ("DB", "PubMed"),
        ("UR", f"{PUBMED}{hit.pmid}/"),
    )
    lines = [f"{name}  - {' '.join(value.split())}" for name, value in fields if value]
    return "\r\n".join([*lines, "ER  - ", ""])


def _passage(hit: Hit, passage: str = "") -> str:
    return shortened(re.sub(r"\s+", " ", passage or " ".join(hit.highlights) or hit.passage).strip(), PASSAGE_CHARACTERS)
