"""A conversation as one HTML file: pictures inside, nothing loaded from elsewhere, ready to be printed to PDF.

Knows Answers and their markup. Layers stay switchable; folds are open on paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pathasst.assistant.answer import PERSON, Answer
from pathasst.core.errors import BadInput
from pathasst.serve.markup import SCRIPT, STYLE, answer_html, person_html
from pathasst.serve.markup.words import escape, title_of

_PAGE = """
body { margin: 0; background: var(--pa-ground); color: var(--pa-text); font-family: var(--pa-sans); line-height: 1.6; }
main { max-width: 52rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; background: var(--pa-surface); }
h1 { font-size: 1.7rem; font-weight: 650; line-height: 1.25; margin: 0 0 0.3rem; }
h2 { font-size: 1.1rem; margin: 2.5rem 0 0.5rem; }
.notice { margin: 1rem 0 2rem; padding: 0.7rem 1rem; font-weight: 600; }
.notice { border: 1px solid var(--pa-warn-line); border-radius: 6px; }
.exchange { border-top: 1px solid var(--pa-line); margin-top: 2rem; }
.exchange .pa-person { margin-left: 0; }
.exchange .pa-thumb img { height: auto; max-height: 14rem; max-width: 100%; }
.tools-run { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
.tools-run :is(th, td) { text-align: left; padding: 0.35rem 0.75rem 0.35rem 0; border-bottom: 1px solid var(--pa-line); }
.tools-run :is(th, td) { vertical-align: top; overflow-wrap: anywhere; }
@page { margin: 18mm 16mm; }
@media print { body, main { background: #fff; padding: 0; max-width: none; } }
"""
_DARK = STYLE.split(".dark {", 1)[1].split("}", 1)[0]


def to_html(answers: Sequence[Answer], *, title: str = "PathAsst report", when: datetime | None = None) -> str:
    """The report on a conversation, its answers in order. `when`: printed as the time it was made; now by default.

    Raises BadInput for no answers, or for a picture that cannot be decoded.
    """
    if not answers:
        raise BadInput("there is nothing to report yet; ask a question first.")
    from pathasst import __version__

    written_at = (when or datetime.now().astimezone()).strftime("%Y-%m-%d %H:%M %Z").strip()
    notice = escape(answers[-1].research_use)
    exchanges = "".join(_exchange(answer, answers[n - 1] if n else None) for n, answer in enumerate(answers))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title>"
        f"<style>{STYLE}{_PAGE}@media screen and (prefers-color-scheme: dark) {{ :root {{{_DARK}}} }}</style></head>"
        f'<body><main><h1>{escape(title)}</h1><p class="pa-quiet">Made {escape(written_at)} with PathAsst {escape(__version__)}. '
        f'Model: {escape(answers[-1].brain or "unnamed")}.</p><p class="notice" role="note">{notice}</p>'
        f"{exchanges}{_tools_run(answers)}</main>"
        f"<script>{SCRIPT}{_OPEN_FOR_PRINT}</script></body></html>\n"
    )


def save(answers: Sequence[Answer], path: Path, *, title: str = "PathAsst report") -> Path:
    """Write `to_html` to a file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_html(answers, title=title), encoding="utf-8")
    return path


_OPEN_FOR_PRINT = """
addEventListener("beforeprint", () => document.querySelectorAll(".pa-step").forEach((fold) => { fold.open = true; }));
"""


def _exchange(answer: Answer, before: Answer | None) -> str:
    earlier = {p.handle for p in before.pictures} if before else set()
    new = [p for p in answer.pictures if p.by == PERSON and p.handle not in earlier]
    return f'<article class="exchange">{person_html(answer.question, new, 600)}{answer_html(answer)}</article>'


def _tools_run(answers: Sequence[Answer]) -> str:
    """Every tool of the conversation with its version, once."""
    versions: dict[tuple[str, str], int] = {}
    for result in (r for a in answers for r in a.results):
        versions[result.name, result.version] = versions.get((result.name, result.version), 0) + 1
    if not versions:
        return ""
    rows = "".join(
        f"<tr><th scope=row>{escape(title_of(name))}</th><td>{escape(version or 'no version')}</td><td>{times}</td></tr>"
        for (name, version), times in versions.items()
    )
    head = "<tr><th scope=col>Tool</th><th scope=col>Version</th><th scope=col>Calls</th></tr>"
    return f'<h2>Tools and versions</h2><table class="tools-run"><thead>{head}</thead><tbody>{rows}</tbody></table>'
