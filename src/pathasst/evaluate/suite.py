"""Every part of the evaluation by its name, from one set of settings. Opens models and data; the parts do the measuring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import field_validator

from pathasst.clip import DEFAULT_PATHCLIP
from pathasst.core.errors import BadDataset, BadSettings, MissingWeights
from pathasst.core.settings import Field, Settings
from pathasst.dataset.stage import spread
from pathasst.evaluate.predictions import Share
from pathasst.evaluate.table import Table

if TYPE_CHECKING:
    from pathasst.assistant.brains.settings import Brain
    from pathasst.clip.model import DualEncoder


class EvalSettings(Settings):
    """What to measure, on what, and where the results go."""

    data: Path | None = Field(default=None, description="Folder with the public test sets.")
    out: Path = Path("out/eval")
    clip: str = DEFAULT_PATHCLIP
    brain: str = Field(default="", description="As `pathasst ask --brain` takes it; empty: the recipe's.")
    pairs: tuple[Path, ...] = Field(default=(), description="Datasets of pairs, for zero-shot, retrieval and leakage.")
    split: tuple[str, ...] = ("test",)
    folder: Path | None = Field(default=None, description="Zero-shot: pictures in a public layout, instead of `data`.")
    task: tuple[str, ...] = Field(default=(), description="Zero-shot: names of tasks; empty: all.")
    tasks: str = Field(default="embedded", description="Zero-shot: recipe of tasks.")
    originals: Path | None = Field(default=None, description="Zero-shot: CSV of which original a picture of `folder` is of.")
    composed: bool = Field(default=False, description="Retrieval: count captions composed from labels, too.")
    against: tuple[Path, ...] = Field(default=(), description="Leakage: evaluation sets.")
    index: Path | None = Field(default=None, description="Papers: the index.")
    requests: Path | None = Field(default=None, description="Tools: requests of your own.")
    pictures: Path | None = Field(default=None, description="Tools: folder of pictures by kind.")
    limit: int = Field(default=0, ge=0, description="PathVQA, tools: at most so many questions or requests; 0: all.")
    half: str = Field(default="", description="Answers: dev or test; empty: both.")
    seed: int = 0
    prompt: str = Field(default="{question}", description="PathVQA: what is sent.")
    blind: bool = Field(default=True, description="PathVQA: also with a blank picture.")
    workers: int = Field(default=1, ge=1, description="PathVQA, tools: processes that ask, each with a brain of its own.")
    runner: str = Field(default="native", description="Or ray: the processes of a cluster that shares the folder `out`.")
    share: Share = Field(default=(0, 1), description="Which of the processes this is.")
    command: str = ""

    @field_validator("prompt")
    @classmethod
    def _asks(cls, prompt: str) -> str:
        if "{question}" not in prompt:
            raise ValueError("a prompt must hold {question}")
        return prompt

    @property
    def cache(self) -> Path:
        """Where predictions are kept."""
        return self.out / "predictions"


def zero_shot(settings: EvalSettings) -> Table:
    """Table 2."""
    from pathasst.evaluate import zeroshot

    pairs = settings.pairs[0] if settings.pairs else None
    return zeroshot.evaluate(
        _clip(settings),
        settings.clip,
        settings.data,
        pairs,
        settings.split,
        settings.tasks,
        only=settings.task,
        folder=settings.folder,
        originals=settings.originals,
    )


def retrieval(settings: EvalSettings) -> Table:
    """Figure 4."""
    from pathasst.evaluate import retrieval as room

    return room.evaluate(_clip(settings), settings.clip, settings.data, settings.pairs, settings.split, settings.composed)


def pathvqa(settings: EvalSettings) -> Table:
    """Table 3."""
    from pathasst.evaluate import pathvqa as room
    from pathasst.evaluate.pathvqa_data import questions
    from pathasst.evaluate.sets import find

    questions_, missing = questions(find(settings.data, "pathvqa"), settings.split[0])
    table = room.evaluate(
        _brain(settings),
        room.draw(questions_, settings.limit, settings.seed),
        settings.cache,
        prompt=settings.prompt,
        blind=settings.blind,
        share=settings.share,
    )
    if missing:
        table.notes.append(f"{missing} questions left out, since their picture is missing.")
    return replace(table, data=f"PathVQA, split {settings.split[0]}")


def tools(settings: EvalSettings) -> Table:
    """Tool choice on requests written by hand."""
    from pathasst.evaluate import toolchoice

    table = toolchoice.evaluate(
        _brain(settings),
        settings.cache,
        requests=settings.requests,
        folder=settings.pictures,
        limit=settings.limit,
        seed=settings.seed,
        share=settings.share,
    )
    return replace(table, data=str(settings.requests or "pathasst/evaluate/requests.yaml"))


def answers(settings: EvalSettings) -> Table:
    """Questions with what a right answer must and must not hold."""
    from pathasst.assistant.brain import open_brain
    from pathasst.evaluate import grounding

    brain = open_brain(settings.brain or None)
    return grounding.evaluate(brain, settings.data, half=settings.half, path=settings.requests, limit=settings.limit)


def papers(settings: EvalSettings) -> Table:
    """Questions with a known abstract."""
    from pathasst.evaluate import literature
    from pathasst.papers import PaperIndex

    if settings.index is None:
        raise BadSettings("give --index, an index of `pathasst papers build` that holds the questions' abstracts.")
    return literature.evaluate(PaperIndex.open(settings.index), literature.questions(settings.data), settings.cache)


def curation(settings: EvalSettings) -> Table:
    """Splitting of captions, cutting of panels and reading of letters on hand-made gold."""
    from pathasst.evaluate import curation as room

    return room.evaluate(settings.data)


def leakage(settings: EvalSettings) -> Table:
    """Training pairs that repeat an evaluation set."""
    from pathasst.evaluate import leakage as room

    if not settings.pairs or not settings.against:
        raise BadSettings("give --pairs (what is trained on) and --against (an evaluation set: pictures, CSV or dataset).")
    return room.evaluate(settings.pairs[0], settings.against)


PARTS: dict[str, Callable[[EvalSettings], Table]] = {
    "zero-shot": zero_shot,
    "retrieval": retrieval,
    "pathvqa": pathvqa,
    "tools": tools,
    "answers": answers,
    "papers": papers,
    "curation": curation,
    "leakage": leakage,
}
"""Name → what measures it."""
ASKING = ("pathvqa", "tools")
"""Parts that ask a brain, whose questions several processes can share."""


def run(
    names: Sequence[str], settings: EvalSettings, tell: Callable[[str], None] = lambda text: None
) -> tuple[list[Table], dict[str, str]]:
    """The tables of some parts, saved as they come, and why the others could not be made.

    A part whose data, weights or settings are missing costs that part alone.
    """
    from pathasst.evaluate import report

    if unknown := [n for n in names if n not in PARTS]:
        raise BadSettings(f"no part is called {', '.join(unknown)}; the parts are: {', '.join(PARTS)}, all.")
    settings.out.mkdir(parents=True, exist_ok=True)  # where it cannot be, nothing is measured in vain
    tables: list[Table] = []
    refused: dict[str, str] = {}
    for name in names:
        tell(name)
        try:
            if settings.workers > 1 and name in ASKING:
                _share(name, settings)
            table = PARTS[name](settings)
        except (BadDataset, BadSettings, MissingWeights) as error:
            refused[name] = str(error)
            continue
        table.command = table.command or settings.command
        table.seed = settings.seed if table.seed is None else table.seed
        tables.append(table)
        report.save([table], settings.out)
    return tables, refused


def _share(name: str, settings: EvalSettings) -> None:
    """Have the questions of a part answered by several processes, so that its predictions are all there."""
    shares = [str(n) for n in range(settings.workers)]
    list(spread(partial(_answer, name, settings), shares, settings.workers, settings.runner))


def _answer(name: str, settings: EvalSettings, number: str) -> str:
    PARTS[name](settings.replace(share=(int(number), settings.workers)))
    return number


def _clip(settings: EvalSettings) -> DualEncoder:
    from pathasst.clip.onnx import load
    from pathasst.evaluate.embeddings import KeptCLIP

    return KeptCLIP(load(settings.clip, threads=0), settings.cache)


def _brain(settings: EvalSettings) -> Brain:
    from pathasst.assistant.brain import open_brain
    from pathasst.assistant.settings import load_settings

    return open_brain(load_settings(brain=settings.brain).brain)
