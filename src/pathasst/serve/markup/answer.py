"""An Answer as HTML: words, notices, annotated pictures, tables, what was run, sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pathasst.assistant.answer import PERSON, Answer, ChatPicture, Step
from pathasst.assistant.render import call_line
from pathasst.core.records import ToolResult
from pathasst.core.text import shortened
from pathasst.serve.markup.layers import layers_html, picture_html
from pathasst.serve.markup.sources import sources_html
from pathasst.serve.markup.statements import answer_words
from pathasst.serve.markup.tables import objects_html, tables_html
from pathasst.serve.markup.words import escape, title_of

LONG_QUESTION = 600
"""Characters of a question that is shown whole."""


def person_html(question: str, pictures: Sequence[ChatPicture] = (), side: int = 180) -> str:
    """The person's question, with copies of the pictures that came with it, of at most `side` px."""
    from pathasst.imaging.pictures import load
    from pathasst.serve.markup.layers import image_html

    thumbs = "".join(f'<div class="pa-thumb">{image_html(load(p.image), f"Picture {p.name}", side)}</div>' for p in pictures)
    return (
        f'<section class="pa-person" aria-label="Your question">{f"<div class=pa-thumbs>{thumbs}</div>" if thumbs else ""}'
        f"{_question(question)}</section>"
    )


def _question(words: str) -> str:
    """The question; a long one folded."""
    if len(words) <= LONG_QUESTION:
        return f"<p>{escape(words)}</p>"
    begun = escape(shortened(words, LONG_QUESTION // 2))
    return f'<details class="pa-long"><summary>{begun}</summary><p>{escape(words)}</p></details>'


def answer_html(answer: Answer) -> str:
    """The whole answer. Raises BadInput if one of its pictures cannot be decoded."""
    pictures = {p.handle: p for p in answer.pictures}
    results = "".join(
        result_html(s.result, pictures.get(s.image), _output_pictures(s, pictures)) for s in answer.steps if not s.repeated
    )
    run = ""
    if answer.steps:
        lines = "".join(step_html(step) for step in answer.steps)
        run = f'<h4>What was run</h4><div class="pa-steps">{lines}</div>'
    return (
        f'<section class="pa-answer" aria-label="Answer">'
        f"{answer_words(answer)}{notices_html(answer.notices)}"
        f"{results}{sources_html(answer)}{run}"
        f'<p class="pa-tools"><button type="button" class="pa-button" data-pa="answer">Copy answer</button></p>'
        f'<p class="pa-foot">Answered by {escape(answer.brain or "an unnamed model")} in {answer.seconds:.1f} s. '
        f"{escape(answer.research_use)}</p></section>"
    )


def notices_html(notices: Sequence[str]) -> str:
    """What went wrong or must be known, beside the answer."""
    if not notices:
        return ""
    items = "".join(f"<li>{escape(n)}</li>" for n in notices)
    return f'<aside class="pa-notices" aria-label="To be aware of"><strong>To be aware of</strong><ul>{items}</ul></aside>'


def result_html(result: ToolResult, picture: ChatPicture | None = None, outputs: Sequence[ChatPicture] = ()) -> str:
    """What a tool found: the picture with layers, its tables, and the pictures it made. Empty for a failed call or a search."""
    if result.error:
        return ""
    name, parts = title_of(result.name), []
    drawable = [a for a in result.annotations if a.kind in ("point", "box", "mask")]
    if drawable and picture is not None:
        parts.append(layers_html(picture.image, drawable, f"{name} on {picture.name}", picture.um_per_px, picture.name))
    if outputs:
        figures = "".join(
            picture_html(p.image, f"{p.name}{' (synthetic)' if p.synthetic else ''}", um_per_px=p.um_per_px) for p in outputs
        )
        folded = f'<details class="pa-fold"><summary>Pictures it made ({len(outputs)})</summary>{figures}</details>'
        parts.append(folded if parts else figures)
    tables = "" if result.hits else tables_html(result)
    if tables:
        parts.insert(1, f'<div class="pa-tables">{tables}</div>')
    if drawable and picture is not None:
        parts.append(objects_html(result, picture))
    return (
        f'<section class="pa-result" aria-label="{escape(name)}"><h4>{escape(name)}</h4>{"".join(parts)}</section>'
        if parts
        else ""
    )


def step_html(step: Step) -> str:
    """One tool call, folded: what was called, how it ended, seconds, version, and what the model was told."""
    result = step.result
    state, word = ("bad", "failed") if result.error else ("good", "done")
    repeated = " (same call as before)" if step.repeated else ""
    changed = "".join(f"<li>{escape(note)}</li>" for note in step.repairs)
    withheld = f"<p>{step.withheld} sentence(s) of the result were kept from the model.</p>" if step.withheld else ""
    return (
        f'<details class="pa-step"><summary><span class="pa-state pa-{state}">{word}</span>'
        f"<span>{escape(title_of(step.call.name or 'unreadable call'))}{repeated}</span>"
        f'<span class="pa-seconds">{result.seconds:.1f} s</span></summary>'
        f"<p><code>{escape(call_line(step))}</code></p><p class=pa-quiet>{escape(result.version or 'no version')}</p>"
        f"{f'<ul>{changed}</ul>' if changed else ''}<pre>{escape(result.error or result.words)}</pre>{withheld}</details>"
    )


def _output_pictures(step: Step, pictures: Mapping[str, ChatPicture]) -> list[ChatPicture]:
    return [pictures[handle] for handle in step.made if handle in pictures and pictures[handle].by != PERSON]
