"""An Answer for people: in the terminal, as Markdown, and as a folder with its pictures. Knows Answers alone.

Whatever came from a model, a tool or an abstract is printed as text: no markup of theirs is obeyed, no address loaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pathasst.assistant.answer import Answer, RetrievedAbstract, Step, file_name
from pathasst.assistant.sanitize import plain
from pathasst.core.text import shortened

if TYPE_CHECKING:
    from rich.console import RenderableType

PASSAGE_CHARACTERS = 600
PUBMED = "https://pubmed.ncbi.nlm.nih.gov/"


def to_markdown(answer: Answer, *, pictures: bool = True) -> str:
    """The answer with its notices, sources and what was run. `pictures`: show them by the file names that `save` writes."""
    parts = [f"**{_escaped(answer.question)}**", answer.text]
    if answer.notices:
        parts.append("\n".join(f"> ⚠ {_escaped(n)}" for n in answer.notices).replace("\n>", "\n>\n>"))
    if pictures and (outputs := answer.made()):
        synthetic = " (synthetic)"
        parts.append(
            "\n\n".join(f"![{_escaped(p.name)}{synthetic * p.synthetic}]({file_name(p)})\n{_escaped(p.name)}" for p in outputs)
        )
    for title, sources in _grouped(answer):
        lines = [
            f"- [PMID {s.hit.pmid}]({PUBMED}{s.hit.pmid}/) {_headline(s, _escaped)}\n  > {_escaped(_passage(s))}" for s in sources
        ]
        parts.append(f"### {title}\n\n" + "\n".join(lines))
    if answer.steps:
        parts.append("### What was run\n\n" + "\n".join(_step_markdown(step) for step in answer.steps))
    parts.append(f"*Answered by {_escaped(answer.brain)} in {answer.seconds:.1f} s. {answer.research_use}*")
    return "\n\n".join(parts) + "\n"


def to_terminal(answer: Answer) -> RenderableType:
    """The answer as something `rich.print` shows."""
    from rich.console import Group
    from rich.markdown import Markdown
    from rich.padding import Padding
    from rich.text import Text

    parts: list[RenderableType] = [Markdown(answer.text, hyperlinks=False)]
    parts += [Text(f"⚠ {plain(notice)}", style="yellow") for notice in answer.notices]
    if answer.steps:
        parts += [Text("\nWhat was run", style="bold"), *(_step_text(step) for step in answer.steps)]
    for title, sources in _grouped(answer):
        parts.append(Text(f"\n{title}", style="bold"))
        for source in sources:
            parts.append(Text.assemble((f"[PMID {source.hit.pmid}] ", "cyan"), _headline(source, plain)))
            parts.append(Padding(Text(_passage(source), style="dim"), (0, 0, 0, 4)))
    parts.append(
        Text(f"\nAnswered by {plain(answer.brain)} in {answer.seconds:.1f} s. {answer.research_use}", style="dim italic")
    )
    return Group(*parts)


def save(answer: Answer, folder: Path, name: str = "answer") -> list[Path]:
    """Write `<name>.md`, `<name>.json` and every picture of the conversation into a folder; returns the files written."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name}.md", folder / f"{name}.json"]
    files[0].write_text(to_markdown(answer), encoding="utf-8")
    files[1].write_text(json.dumps(answer.to_json(), ensure_ascii=False, indent=1, default=str) + "\n", encoding="utf-8")
    for picture in answer.pictures:
        files.append(folder / file_name(picture))
        files[-1].write_bytes(picture.image)
    return files


def call_line(step: Step) -> str:
    """`ki67_cells(um_per_px=0.5) on image1`, for progress and listings."""
    arguments = ", ".join(
        f"{name}={json.dumps(value, ensure_ascii=False, default=str)}" for name, value in step.call.arguments.items()
    )
    return plain(f"{step.call.name or '(unreadable call)'}({arguments}){f' on {step.image}' if step.image else ''}")


def _grouped(answer: Answer) -> list[tuple[str, list[RetrievedAbstract]]]:
    cited = [s for s in answer.sources if s.cited]
    others = [s for s in answer.sources if not s.cited]
    title = "Also retrieved, not cited by the model" if cited else "Retrieved, not cited by the model"
    return [(t, group) for t, group in (("Sources the model cites", cited), (title, others)) if group]


def _headline(source: RetrievedAbstract, escape: Callable[[str], str]) -> str:
    hit = source.hit
    year = f" ({hit.year})" if hit.year else ""
    retracted = " RETRACTED" if hit.retracted else ""
    return f"{escape(hit.title.rstrip('.'))}{year}. {escape(hit.journal)}{retracted}".rstrip(" ")


def _passage(source: RetrievedAbstract) -> str:
    return shortened(re.sub(r"\s+", " ", plain(source.passage)).strip(), PASSAGE_CHARACTERS)


def _outcome(step: Step) -> str:
    """What a step gave; abstracts are listed as sources already, with their passages."""
    result = step.result
    summary = f"{len(result.hits)} abstracts: see the sources." if result.hits else result.words
    return f"failed: {result.error}" if result.error else summary


def _step_markdown(step: Step) -> str:
    result = step.result
    again = ", result of the same call before" if step.repeated else ""
    outputs = f", made {', '.join(step.made)}" if step.made else ""
    version = _escaped(result.version or "no version")
    head = f"- `{call_line(step).replace('`', '')}` · {version} · {result.seconds:.2f} s{again}{outputs}"
    fenced = "\n".join(f"      {line}" for line in plain(_outcome(step)).splitlines())
    return f"{head}\n\n{fenced}\n"


def _step_text(step: Step) -> RenderableType:
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    result = step.result
    style = "red" if result.error else ""
    again = "  (same call as before)" if step.repeated else ""
    head = Text.assemble((call_line(step), "bold"), (f"  {plain(result.version)}  {result.seconds:.2f} s{again}", "dim"))
    return Group(Padding(head, (0, 0, 0, 2)), Padding(Text(plain(_outcome(step)), style=style), (0, 0, 0, 4)))


def _escaped(text: str) -> str:
    """Text with Markdown and HTML marks made harmless, on one line."""
    return re.sub(r"([\\`*_\[\]<>|~#])", r"\\\1", re.sub(r"\s+", " ", plain(text)).strip())
