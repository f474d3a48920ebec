"""Every part of the evaluation by its name, from one set of settings. Opens models and data; the parts do the measuring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pathasst.clip import DEFAULT_PATHCLIP
from pathasst.core.errors import BadDataset, BadSettings, MissingWeights
from pathasst.dataset.stage import spread
from pathasst.evaluate.predictions import Share
from pathasst.evaluate.table import Table

if TYPE_CHECKING:
    from pathasst.assistant.brain import Brain
    from pathasst.clip.model import DualEncoder


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalSettings:
    """What to measure, on what, and where the results go."""

    data: Path | None = None  # folder with the public test sets
    out: Path = Path("out/eval")
    clip: str = DEFAULT_PATHCLIP
    brain: str = ""  # as `pathasst ask --brain` takes it; "": the recipe's
    pairs: tuple[Path, ...] = ()  # datasets of pairs, for zero-shot, retrieval and leakage
    split: tuple[str, ...] = ("test",)
    folder: Path | None = None  # zero-shot: pictures in a public layout, instead of `data`
    task: tuple[str, ...] = ()  # zero-shot: names of tasks; empty: all
    tasks: str = "embedded"  # zero-shot: recipe of tasks
    originals: Path | None = None  # zero-shot: CSV of which original a picture of `folder` was made from
    composed: bool = False  # retrieval: count captions composed from labels, too
    against: tuple[Path, ...] = ()  # leakage: evaluation sets
    index: Path | None = None  # papers
    requests: Path | None = None  # tools: requests of your own
    pictures: Path | None = None  # tools: folder of pictures by kind
    limit: int = 0  # pathvqa, tools: at most so many questions or requests; 0: all
    half: str = ""  # answers: dev or test; empty: both
    seed: int = 0
    prompt: str = "{question}"  # pathvqa
    blind: bool = True  # pathvqa: also with a blank picture
    workers: int = 1  # pathvqa, tools: processes that ask, each with a brain of its own
    runner: str = "native"  # or ray: the processes of a cluster that shares the folder `out`
    share: Share = (0, 1)  # which of the processes this is
    command: str = field(default="")

    @property
    def cache(self) -> Path:
        """Where predictions are kept."""
        return self.out / "predictions"

    def __post_init__(self) -> None:
        if "{question}" not in self.prompt:
            raise BadSettings("a prompt must hold {question}.")
        if self.limit < 0:
            raise BadSettings("--limit must be at least 0 (0: all).")
        if self.workers < 1:
            raise BadSettings("--workers must be at least 1.")


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
    PARTS[name](replace(settings, share=(int(number), settings.workers)))
    return number


def _clip(settings: EvalSettings) -> DualEncoder:
    from pathasst.clip.onnx import load
    from pathasst.evaluate.embeddings import KeptCLIP

    return KeptCLIP(load(settings.clip, threads=0), settings.cache)


def _brain(settings: EvalSettings) -> Brain:
    from pathasst.assistant.brain import open_brain
    from pathasst.assistant.settings import load_settings

    return open_brain(load_settings(brain=settings.brain).brain)
