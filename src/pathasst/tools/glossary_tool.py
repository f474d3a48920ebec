"""`glossary`: what a term, an abbreviation or a scoring rule means, with its source, as a tool for brains that choose tools."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from pathasst.core.records import ToolResult
from pathasst.tools.glossary import Glossary
from pathasst.tools.protocol import Arguments, Tool, ToolCard


class GlossaryArguments(Arguments):
    """What to look up."""

    term: str = Field(min_length=1, max_length=200, description="The term or abbreviation, such as NILM or Ki67 cut-off.")


class GlossaryTool(Tool[GlossaryArguments]):
    """Looks a term up; nothing is made up where there is no entry."""

    name = "glossary"
    card = ToolCard(
        purpose=(
            "Says what a term, abbreviation, scoring rule or cut-off of pathology means (Bethesda, HER2, Ki67, PD-L1, "
            "blood cells, stains, file formats, measures), with its source. Not for what a picture shows."
        ),
        expects="a term; no picture",
        licence="our own words, with citations",
        validated=True,
    )
    arguments = GlossaryArguments
    needs_image = False
    notice = ""

    def version(self) -> str:
        """How many entries it has."""
        return f"glossary of {len(Glossary.load())} entries"

    def run(self, arguments: GlossaryArguments, image: Any) -> ToolResult:
        """The entries that the words name, one a line; with none, a sentence that says so."""
        glossary = Glossary.load()
        entry = glossary.lookup(arguments.term)
        entries = [entry] if entry else glossary.mentions(arguments.term, misspelt=True)
        lines = [f"{e.sentence} (Source: {e.citation}.)" for e in entries]
        return ToolResult(
            name=self.name, text="\n".join(lines) or "The glossary has no such term.", numbers={"entries": len(entries)}
        )
