"""`pathasst ask`: a question about a picture, answered in the terminal."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pathasst.cli.interrupt import INTERRUPTED, stop_later
from pathasst.core.errors import BadInput, BadSettings, MissingPackage

if TYPE_CHECKING:
    from rich.console import Console

    from pathasst.assistant import Answer, Event
    from pathasst.assistant.images import PictureInput
    from pathasst.assistant.settings import AssistantSettings
    from pathasst.imaging.slides import Slide


def ask(
    words: list[str] = typer.Argument(..., metavar="[IMAGE…] QUESTION", help="Pictures, if any, then the question."),
    then: list[str] = typer.Option([], "--then", help="A further question in the same conversation; may be repeated."),
    brain: str = typer.Option("", help="pathasst, llamacpp, or http://host:8000/v1#model (…#model,blind without vision)."),
    recipe: str = typer.Option(
        "embedded", help="Recipe with the assistant's settings: embedded, embedded-plus, paper, or a YAML file."
    ),
    out: Path = typer.Option(None, "--out", "-o", help="Folder for answer.md, answer.json and the pictures."),
    report: Path = typer.Option(None, help="One HTML file with pictures, tools and sources, ready to print."),
    as_json: bool = typer.Option(False, "--json", help="Print the answers as JSON."),
    um_per_px: list[float] = typer.Option([], help="Micrometres per pixel of the pictures: once for all, or once for each."),
) -> None:
    """Ask about a picture, or without one. Ctrl-C stops and shows what there is.

    Examples: pathasst ask field.png "How many Ki67-positive cells are there?" --then "What does that mean for prognosis?"
    pathasst ask case.svs "What is the Ki67 index?" --out case/
    pathasst ask "Is trastuzumab effective in HER2-positive gastric cancer?" --out answer/
    """
    from rich.console import Console

    from pathasst.assistant import render
    from pathasst.assistant.settings import load_settings

    if Path(words[-1]).is_file():
        raise BadSettings(f'the question is missing: pathasst ask {words[-1]} "What does this picture show?"')
    settings = load_settings(recipe, brain)
    console = Console(stderr=as_json)
    _prepare(console, out)
    slide = _slide(words[:-1], um_per_px, out)
    pictures = [] if slide else _pictures(words[:-1], um_per_px)
    answers: list[Answer] = []
    for n, question in enumerate([words[-1], *then]):
        earlier = answers[-1] if answers else None
        answer = _answer(console, settings, pictures if n == 0 else [], question, earlier, slide, out)
        answers.append(answer)
        if not as_json:
            console.print(render.to_terminal(answer))
        if out is not None:
            files = render.save(answer, out, "answer" if n == 0 else f"answer_{n + 1}")
            console.print(f"[dim]Written: {', '.join(str(f) for f in files)}[/]")
        if answer.stopped == "cancelled":
            break
    if report is not None:
        from pathasst.serve.report import save as save_report

        console.print(f"[dim]Written: {save_report(answers, report)}[/]")
    if as_json:
        typer.echo(_json(answers, several=bool(then)))
    if answers[-1].stopped == "cancelled":
        raise typer.Exit(INTERRUPTED)


def _prepare(console: Console, out: Path | None) -> None:
    """Make the folder (where it cannot be, nothing is asked in vain), and say which tools cannot be run."""
    from pathasst import assistant

    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    if missing := assistant.not_offered():
        console.print(f"[dim]Not on offer, for lack of files (pathasst doctor): {', '.join(missing)}[/]", highlight=False)


def _pictures(paths: list[str], um_per_px: list[float]) -> list[PictureInput]:
    """The pictures, each with its scale. Raises BadSettings when there are several scales, but not one for each."""
    from pathasst.assistant.images import PictureInput

    if len(um_per_px) > 1 and len(um_per_px) != len(paths):
        raise BadSettings(f"--um-per-px stands {len(um_per_px)} times for {len(paths)} pictures; give it once, or once for each.")
    if any(scale <= 0 for scale in um_per_px):
        raise BadSettings("--um-per-px is above zero.")
    scales = um_per_px if len(um_per_px) > 1 else um_per_px * len(paths)
    return [PictureInput(path, um_per_px=scales[n] if scales else None) for n, path in enumerate(paths)]


def _slide(paths: list[str], um_per_px: list[float], out: Path | None) -> Slide | None:
    """The whole slide that is asked about, opened; None when it is pictures. Raises BadSettings for several."""
    from pathasst.imaging.slides import open_slide

    if not any(_is_whole_slide(Path(path)) for path in paths):
        return None
    if len(paths) > 1:
        raise BadSettings("one whole slide at a time, without other pictures beside it.")
    if out is None:
        raise BadSettings("a tool on a whole slide takes minutes to hours: add --out FOLDER; the same command then resumes.")
    return open_slide(Path(paths[0]), um_per_px[0] if um_per_px else None)


def _is_whole_slide(path: Path) -> bool:
    """A scanner's file, or a TIFF that is too large for one picture."""
    from pathasst.imaging.pictures import MAX_PIXELS
    from pathasst.imaging.slides import is_slide, open_slide

    if is_slide(path) or path.suffix.lower() not in (".tif", ".tiff"):
        return is_slide(path)
    try:
        with open_slide(path) as slide:
            return slide.size[0] * slide.size[1] > MAX_PIXELS
    except (BadInput, MissingPackage):
        return False  # the picture reader says what is wrong with it


def _json(answers: list[Answer], *, several: bool) -> str:
    import json

    answers_json = [a.to_json() for a in answers]
    return json.dumps(answers_json if several else answers_json[0], ensure_ascii=False, indent=1, default=str)


def _answer(
    console: Console,
    settings: AssistantSettings,
    images: list[PictureInput],
    question: str,
    history: Answer | None,
    slide: Slide | None,
    out: Path | None,
) -> Answer:
    """One question, with its progress shown and Ctrl-C turned into a cancel; while models load, nothing asks for it."""
    import signal
    import threading

    from pathasst import assistant
    from pathasst.assistant.render import call_line

    cancel = threading.Event()
    late: list[threading.Timer] = []

    def stop(*_: object) -> None:
        cancel.set()
        late.append(stop_later())
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C ends the program

    before = signal.signal(signal.SIGINT, stop)
    console.print(f"\n[bold]> {question}[/]", highlight=False)
    try:
        status = console.status("thinking …")
        with nullcontext() if slide else status:  # a run over a slide draws its own bar

            def on_event(event: Event) -> None:
                if event.kind == "thinking":
                    status.update("thinking …")
                elif event.call:
                    status.update(f"running {event.call.name} …")
                elif event.step:
                    state = "failed" if event.step.result.error else "done"
                    console.print(f"[dim]{call_line(event.step)}: {state}, {event.step.result.seconds:.1f} s[/]", highlight=False)

            if slide is not None and out is not None:
                from pathasst.assistant.slides import ask_slide

                return ask_slide(
                    slide,
                    question,
                    out,
                    history,
                    settings.brain,
                    limits=settings.limits,
                    on_event=on_event,
                    cancel=cancel,
                    progress=True,
                )
            return assistant.ask(
                images or None, question, history, settings.brain, limits=settings.limits, on_event=on_event, cancel=cancel
            )
    finally:
        signal.signal(signal.SIGINT, before)
        for timer in late:
            timer.cancel()
