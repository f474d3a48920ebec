"""The declaration of the literature search. Its `run` is in `assistant`, the only room that sees both tools and papers."""

from __future__ import annotations

from pydantic import Field

from pathasst.tools.protocol import Arguments, Tool, ToolCard


class PapersArguments(Arguments):
    """What to look for, and how many abstracts to bring."""

    query: str = Field(min_length=2, max_length=500, description="A short search phrase or question, in English medical terms.")
    k: int = Field(default=5, ge=1, le=20, description="How many abstracts to return.")


class PapersSearch(Tool[PapersArguments]):
    """Abstracts of the biomedical literature for a question (paper, "paper retrieval")."""

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
