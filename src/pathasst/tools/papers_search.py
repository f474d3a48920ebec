"""`papers_search`: the literature as a tool (paper, "Enhancing Responses through Paper Retrieval"). Knows `papers`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from pathasst.core.records import Hit, ToolResult
from pathasst.core.text import shortened
from pathasst.tools.protocol import Arguments, Tool, ToolCard

if TYPE_CHECKING:
    from pathasst.papers import PaperIndex

NOTHING = "No abstract was found for this query."  # as the conversations PathAsst was trained on say it
SENTENCE_CHARACTERS = 400  # of the best sentences of one abstract, for the model; the person gets the passage


class PapersArguments(Arguments):
    """What to look for, how many abstracts to bring, and of which years."""

    query: str = Field(min_length=2, max_length=500, description="A short search phrase or question, in English medical terms.")
    k: int = Field(default=5, ge=1, le=20, description="How many abstracts to return.")
    since: int | None = Field(default=None, ge=1800, le=2200, description="First year of publication.")
    until: int | None = Field(default=None, ge=1800, le=2200, description="Last year of publication.")

    @model_validator(mode="after")
    def _in_order(self) -> PapersArguments:
        if self.since and self.until and self.since > self.until:
            raise ValueError(f"since {self.since} is later than until {self.until}")
        return self


class PapersSearch(Tool[PapersArguments]):
    """Abstracts of the biomedical literature for a question (paper, "paper retrieval").

    Searches one paper collection: the given one, or the embedded one, opened on the first call. Only abstracts that are about the
    question come back; a PMID in the query is looked up.
    """

    name = "papers_search"
    card = ToolCard(
        purpose=(
            "Searches abstracts of the medical literature and returns passages with their PMIDs. Use it for questions about "
            "evidence, treatment, prognosis or guidelines; not for what a picture shows."
        ),
        expects="a text query; no picture",
        licence="abstracts: NLM terms",
    )
    arguments = PapersArguments
    needs_image = False
    notice = ""

    def __init__(self, index: PaperIndex | None = None) -> None:
        self._index = index
        self._lock = threading.Lock()  # first searches that come together open it once

    def run(self, arguments: PapersArguments, image: Any) -> ToolResult:
        """One line per abstract: `[PMID n] Title (year). best sentences`. Raises BadDataset when there is no collection.

        `numbers`: `found`; `query` as it was searched; `since` and `until`: its years, or None; `absent`: what no abstract of the
        collection names; `not_here`: PMIDs asked for that it lacks; `collection` in words.
        """
        from pathasst.papers.filters import Filters
        from pathasst.papers.question import read_question

        index, question = self.index(), read_question(arguments.query)
        requested = {pmid: index.hit(pmid, question.text) for pmid in question.pmids}
        hits = [hit for hit in requested.values() if hit is not None]
        not_here = [pmid for pmid, hit in requested.items() if hit is None]
        if not question.pmids:
            years = Filters(since=arguments.since, until=arguments.until)
            hits = [hit for hit, _ in index.about(question, arguments.k, years)]
        absent = [] if hits else index.absent(question)
        lines = [line(hit) for hit in hits] + [f"PMID {pmid} is not in this collection." for pmid in not_here]
        if not lines:
            lines = [f"{NOTHING.rstrip('.')}{of_years(arguments.since, arguments.until)}."] + [
                f"Not one abstract here names {', '.join(absent)}."
            ] * bool(absent)
        return ToolResult(
            name=self.name,
            text="\n".join(lines),
            numbers={
                "found": len(hits),
                "query": question.text,
                "since": arguments.since,
                "until": arguments.until,
                "absent": absent,
                "not_here": not_here,
                "collection": index.collection(),
            },
            hits=hits,
        )

    def missing(self) -> list[str]:  # type: ignore[override]
        """The embedded collection counts as missing until its index is built: `pathasst papers build`."""
        from pathasst import papers

        return [] if self._index is not None or papers.ready() else ["paper collection"]

    def version(self) -> str:
        """Which version of which collection, once it is open."""
        if self._index is None:
            return ""
        version = self._index.version
        return f"{self._index.home.name}@{version.number} ({version.abstracts} abstracts)"

    def index(self) -> PaperIndex:
        """The collection, opened on the first call. Raises BadDataset when there is none."""
        with self._lock:
            if self._index is None:
                from pathasst.papers import PaperIndex

                self._index = PaperIndex.open()
            return self._index


def of_years(since: int | None, until: int | None) -> str:
    """The years of a search in words, with a blank before; empty where it has none."""
    if since and until:
        return f" of {since}–{until}" if since != until else f" of {since}"
    return f" from {since} on" if since else f" up to {until}" if until else ""


def line(hit: Hit) -> str:
    """A hit as the model reads it."""
    year = f" ({hit.year})" if hit.year else ""
    retracted = " RETRACTED." if hit.retracted else ""
    words = shortened(" ".join((" ".join(hit.highlights) or hit.passage).split()), SENTENCE_CHARACTERS)
    return f"[PMID {hit.pmid}] {hit.title.rstrip('.')}{year}.{retracted} {words}"
