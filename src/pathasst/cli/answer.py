"""`pathasst answer`: one question about each picture of a folder, or a file of questions, answered several at a time."""

from __future__ import annotations

from pathlib import Path

import typer

from pathasst.cli.interrupt import INTERRUPTED, stop_later


def answer(
    source: Path = typer.Argument(help="Folder of pictures, or JSON lines with image (or images), question, id, um_per_px."),
    out: Path = typer.Option(..., "--out", "-o", help="File of answers, JSON lines; what it holds is not asked again."),
    question: str = typer.Option("", "--question", "-q", help="For every picture, or every line that has none."),
    brain: str = typer.Option("", help="pathasst, llamacpp, or http://host:8000/v1#model (…#model,blind without vision)."),
    recipe: str = typer.Option("embedded", help="Recipe with the assistant's settings, or a YAML file."),
    parallel: int = typer.Option(0, min=0, help="Questions at a time. 0: as many as the brain takes (a server: 16)."),
    tools: bool = typer.Option(True, "--tools/--no-tools", help="Whether the brain may run tools."),
    um_per_px: float = typer.Option(None, help="Micrometres per pixel of pictures that state none."),
) -> None:
    """Answer many questions; a picture that cannot be used costs its own. The same command goes on where it was stopped.

    Example: pathasst answer fields --question "Which stain is this?" --brain http://127.0.0.1:8000/v1#mine --out answers.jsonl
    """
    import signal
    import threading

    from rich.progress import track

    from pathasst.assistant.batch import answer_all, read_questions
    from pathasst.assistant.brain import open_brain
    from pathasst.assistant.settings import load_settings
    from pathasst.tools.protocol import Registry

    settings = load_settings(recipe, brain)
    questions = read_questions(source, question, um_per_px)
    cancel = threading.Event()
    late: list[threading.Timer] = []

    def stop(*_: object) -> None:
        cancel.set()
        late.append(stop_later())
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, stop)
    answers = 0
    failures: list[tuple[str, str]] = []
    there = 0
    try:
        batch = answer_all(
            questions,
            out,
            open_brain(settings.brain),
            None if tools else Registry(),
            limits=settings.limits,
            parallel=parallel,
            cancel=cancel,
        )
        for result in track(batch, "questions", total=len(questions)):
            answers += result.row is not None
            there += result.row is None and not result.error
            if result.error:
                failures.append((result.id, result.error))
    finally:
        signal.signal(signal.SIGINT, before)
        for timer in late:
            timer.cancel()
    typer.echo(f"{len(questions)} questions: {answers} answered, {there} answered before, {len(failures)} not; {out}")
    for name, error in failures[:10]:
        typer.echo(f"  {name}: {error}", err=True)
    if len(failures) > 10:
        typer.echo(f"  and {len(failures) - 10} more: {out.with_suffix('.failed.jsonl')}", err=True)
    if cancel.is_set():
        raise typer.Exit(INTERRUPTED)
