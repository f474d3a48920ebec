"""Words into HTML: escaping, a model's Markdown, names of numbers and tools as people write them."""

from __future__ import annotations

import html
import re
from collections.abc import Collection
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pathasst.assistant.sanitize import plain

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

PUBMED = "https://pubmed.ncbi.nlm.nih.gov/"
_CITED = re.compile(r"\[PMID (\d{1,9})\]")
_UNITS = (
    (r"\bum\b", "µm"),
    (r"\bpx\b", "px"),
    (r"\bmm2\b", "mm²"),
    (r"\bum2\b", "µm²"),
    (r"\bpercent\b", "(%)"),
    (r"\bper\b", "per"),
)
_ABBREVIATIONS = {
    "ki67": "Ki67",
    "her2": "HER2",
    "pdl1": "PD-L1",
    "lbc": "LBC",
    "tps": "TPS",
    "wbc": "WBC",
    "rbc": "RBC",
    "he": "H&E",
}


def escape(value: object) -> str:
    """Any value as HTML text, also safe inside a quoted attribute; hidden and control characters are removed."""
    return html.escape(plain(str(value)), quote=True)


def markdown(text: str, citable: Collection[str] = ()) -> str:
    """A model's Markdown as HTML without links, pictures or raw HTML. References to the PMIDs in `citable` become links."""
    rendered = str(_parser().render(plain(text)))
    return _CITED.sub(lambda m: citation(m[1]) if m[1] in citable else m[0], rendered)


def citation(pmid: str) -> str:
    """A link to PubMed; followed only when the person presses it."""
    number = escape(pmid)
    return (
        f'<a class="pa-cite" href="{PUBMED}{number}/" target="_blank" rel="noopener noreferrer" '
        f'title="PMID {number} on PubMed (opens a new tab)">PMID {number}</a>'
    )


def title_of(name: str) -> str:
    """`ki67_cells` as `Ki67 cells`, `cells_per_mm2` as `Cells per mm²`."""
    words = name.replace("_", " ").strip()
    for pattern, unit in _UNITS:
        words = re.sub(pattern, unit, words)
    words = " ".join(_ABBREVIATIONS.get(w.lower(), w) for w in words.split())
    return words[:1].upper() + words[1:] if words[:1].isalpha() and not words.startswith(("µ", "px")) else words


def number(value: Any) -> str:
    """A value of a result as people read it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(number(v) for v in value)
    return str(value)


def without_addresses(text: str) -> str:
    """The text without addresses of servers behind this one, which are nobody's business but its operator's."""
    return re.sub(r"https?://[^\s,;]+", "the model's server", text)


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False, "linkify": False, "breaks": True})
    return parser.enable(["table", "strikethrough"]).disable(
        ["link", "image", "autolink", "html_inline", "html_block", "reference"]
    )
