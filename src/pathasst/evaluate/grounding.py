"""Are answers right, and do they decline where they must? A protocol without a judge: what an answer must and must not contain.

Each question of `grounding.yaml` names what a right answer holds (patterns, or a number within a tolerance), what it must
not hold, and whether it is to be declined. Pictures are named by their path in the folder of data; questions whose picture is
not there are left out and counted. Half of the questions (`half: test`) is kept to be looked at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.assistant import ask
from pathasst.assistant.statements import Kind
from pathasst.core.errors import BadDataset, PathAsstError
from pathasst.core.statistics import wilson
from pathasst.evaluate.table import Table

if TYPE_CHECKING:
    from pathasst.assistant import Answer, Brain

DECLINES = re.compile(
    r"\bI cannot\b|\bcannot (?:tell|be (?:given|read))\b|Please attach a picture|No abstract here is about|has no entry|"
    r"is not in the collection|was not made\b|not on offer|Please say what|can say nothing|no such term|\bno .{0,40} is given\b|"
    r"needs the picture's scale",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?")


class Verdict(StrEnum):
    """What became of a question."""

    RIGHT = "right"
    PARTLY = "partly"
    DECLINED_RIGHTLY = "declined rightly"
    DECLINED_WRONGLY = "declined wrongly"
    WRONG = "wrong"  # says something that is not so, from a source that is wrong
    INVENTED = "invented"  # says something that no source said


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundingQuestion:
    """One question, and what its answer is held to."""

    id: str
    ask: str
    group: str
    half: str  # dev | test
    picture: str = ""  # path in the folder of data
    before: str = ""  # a question that is asked first, in the same conversation
    must: tuple[str, ...] = ()  # patterns, each of which a right answer matches
    must_not: tuple[str, ...] = ()
    number: float | None = None  # a number that a right answer holds
    within: float = 0.0
    decline: str = "no"  # no | may | must


def load(path: Path | None = None) -> list[GroundingQuestion]:
    """The questions. Raises BadDataset for a file of another form."""
    import yaml

    from pathasst.core import yaml_text

    text = files(__package__).joinpath("grounding.yaml").read_text(encoding="utf-8") if path is None else path.read_text("utf-8")
    try:
        rows = yaml_text.load(text)
        return [_question(n, row) for n, row in enumerate(rows, 1)]
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise BadDataset(f"{path or 'grounding.yaml'}: not a list of questions: {error}") from error


def _question(number: int, row: dict[str, Any]) -> GroundingQuestion:
    must, must_not = (tuple(row.pop(name, ())) for name in ("must", "must_not"))
    half = row.pop("half", "dev" if number % 2 else "test")
    return GroundingQuestion(id=f"q{number:03d}", half=half, must=must, must_not=must_not, **row)


def judge(question: GroundingQuestion, answer: Answer) -> Verdict:
    """The verdict on an answer, by its text, the tools run and the kinds of its statements."""
    text = answer.text
    declined = bool(DECLINES.search(text))
    broken = any(re.search(p, text, re.IGNORECASE) for p in question.must_not)
    met = [bool(re.search(p, text, re.IGNORECASE)) for p in question.must]
    if question.number is not None:
        met.append(_near(question, text))
    if not broken and declined and (question.decline == "must" or (question.decline == "may" and not all(met))):
        return Verdict.DECLINED_RIGHTLY
    if not broken and question.decline != "must" and all(met):
        return Verdict.RIGHT
    if not broken and question.decline != "must" and any(met):
        return Verdict.PARTLY
    if not broken and declined:
        return Verdict.DECLINED_WRONGLY
    backed = bool(answer.steps) or any(s.kind in (Kind.GLOSSARY, Kind.PASSAGE, Kind.FIXED) for s in answer.statements)
    return Verdict.WRONG if backed else Verdict.INVENTED


def _near(question: GroundingQuestion, text: str) -> bool:
    """Whether the first number after what the first pattern matches is the wanted one, within the tolerance."""
    start = re.search(question.must[0], text, re.IGNORECASE) if question.must else None
    number = _NUMBER.search(text, start.end() if start else 0)
    return number is not None and abs(float(number[0]) - (question.number or 0.0)) <= question.within


@dataclass(slots=True)
class Outcome:
    """One question with its answer and verdict; `failure`: why there was none."""

    question: GroundingQuestion
    verdict: Verdict
    text: str = ""
    ran: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run(
    brain: Brain,
    questions: Sequence[GroundingQuestion],
    data: Path | None,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> tuple[list[Outcome], int]:
    """The outcomes of the questions, and how many were left out for lack of their picture."""
    outcomes, absent = [], 0
    for question in questions:
        picture = data / question.picture if question.picture and data else None
        if question.picture and (picture is None or not picture.is_file()):
            absent += 1
            continue
        try:
            history = ask(picture, question.before, brain=brain) if question.before else None
            answer = ask(None if history else picture, question.ask, history, brain=brain)
            outcome = Outcome(question, judge(question, answer), answer.text, [c.name for c in answer.calls], answer.seconds)
        except PathAsstError as error:
            outcome = Outcome(question, Verdict.DECLINED_WRONGLY, str(error))
        outcomes.append(outcome)
        on_outcome(outcome)
    return outcomes, absent


def evaluate(brain: Brain, data: Path | None, *, half: str = "", path: Path | None = None, limit: int = 0) -> Table:
    """The shares of the verdicts, in all and by group, with Wilson's 95 % intervals."""
    from pathasst.evaluate.asking import bar

    questions = [q for q in load(path) if half in ("", q.half)]
    questions = questions[:: -(-len(questions) // limit)] if limit else questions
    with bar("answers", len(questions)) as progress:
        outcomes, absent = run(brain, questions, data, lambda outcome: progress(1))
    columns = ["questions of", "n", *map(str, Verdict), "right or rightly declined"]
    table = Table(id="answers", title=f"Answers: {brain.name}", columns=columns)
    for name in ["all", *dict.fromkeys(o.question.group for o in outcomes)]:
        group = [o for o in outcomes if name in ("all", o.question.group)]
        good = sum(o.verdict in (Verdict.RIGHT, Verdict.DECLINED_RIGHTLY) for o in group)
        table.add(
            name, len(group), *(wilson(sum(o.verdict is v for o in group), len(group)) for v in Verdict), wilson(good, len(group))
        )
    table.items = [
        {"model": brain.name, "id": o.question.id, "cluster": o.question.id, "part": o.question.group, "asked": o.question.ask}
        | {"wanted": list(o.question.must), "said": o.text, "calls": o.ran, "verdict": str(o.verdict), "seconds": o.seconds}
        | {"score": float(o.verdict in (Verdict.RIGHT, Verdict.DECLINED_RIGHTLY))}
        for o in outcomes
    ]
    table.data = f"{path or 'pathasst/evaluate/grounding.yaml'}{f', half {half}' if half else ''}"
    if absent:
        table.notes.append(f"{absent} questions left out: their picture is not in --data.")
    return table
