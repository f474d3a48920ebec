"""Many questions about pictures, several at a time: answers as JSON lines that are written as they come. Knows no command line.

A picture or a line that cannot be used costs its own question, which is counted. What is answered is not asked again. Batching
is the server's work (vLLM, llama.cpp): this keeps `parallel` questions before it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pathasst.assistant.agent import Limits
from pathasst.assistant.answering import ask, registry_for
from pathasst.assistant.brains.settings import Brain
from pathasst.assistant.images import PictureInput
from pathasst.core.errors import BadInput, BadSettings, PathAsstError, Unreachable
from pathasst.core.files import fingerprint, write_atomic
from pathasst.llm.transport import Refused
from pathasst.tools.batch import find_pictures
from pathasst.tools.protocol import OrderedRegistry, Registry

UNREACHED = 8  # failures in a row by which a server is taken for gone, besides the questions that are before it
SHUT = (401, 403, 404)  # by which a server refuses every question
ANSWERED = ("", "limit")  # how an answer ends that need not be asked for again


class QuestionLine(BaseModel):
    """One line of a file of questions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = ""  # the line's number if left out
    question: str = ""
    image: str = ""
    images: list[str] = []
    um_per_px: float | None = Field(default=None, gt=0)


@dataclass(frozen=True, slots=True)
class BatchQuestion:
    """One question of a batch."""

    id: str
    question: str
    pictures: tuple[Path, ...] = ()
    um_per_px: float | None = None  # micrometres per pixel of its pictures
    fault: str = ""  # why it cannot be asked


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """What came of one question: a row of the file of answers, or why there is none."""

    id: str
    row: dict[str, Any] | None = None
    error: str = ""
    unreached: bool = False  # there is none because the server did not answer


def read_questions(source: Path, question: str = "", um_per_px: float | None = None) -> list[BatchQuestion]:
    """A question for each picture of a folder and below, or for each line of a JSON Lines file.

    A line has `image` or `images` (paths beside the file) and `question`, and may have `id` and `um_per_px`; `question` and
    `um_per_px` here are for those that name none. Raises BadInput without a picture or a line, for two lines of one id, and for a
    folder without a question.
    """
    if source.is_dir():
        if not question.strip():
            raise BadInput("a folder of pictures needs a question for each: --question.")
        pictures = find_pictures(source)
        return [BatchQuestion(p.relative_to(source).as_posix(), question, (p,), um_per_px) for p in pictures]
    if not source.is_file():
        raise BadInput(f"{source} is neither a folder of pictures nor a file of JSON lines.")
    lines = source.read_text(encoding="utf-8", errors="replace").splitlines()
    questions = [_read(n, line, source.parent, question, um_per_px) for n, line in enumerate(lines, 1) if line.strip()]
    if not questions:
        raise BadInput(f"{source} holds no question.")
    ids = [q.id for q in questions]
    if twice := next((i for i in ids if ids.count(i) > 1), "") if len(set(ids)) < len(ids) else "":
        raise BadInput(f"{source}: the id {twice!r} stands twice.")
    return questions


def _read(number: int, line: str, folder: Path, question: str, um_per_px: float | None) -> BatchQuestion:
    try:
        read = QuestionLine.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        return BatchQuestion(str(number), "", fault=f"line {number}: {f'{place}: ' if place else ''}{first['msg']}")
    pictures = tuple(folder / path for path in [*filter(None, [read.image]), *read.images])
    words = read.question or question
    fault = "" if words.strip() else f"line {number} has no question"
    return BatchQuestion(read.id or str(number), words, pictures, read.um_per_px or um_per_px, fault)


class AnswerFile:
    """Answers as JSON lines. Lines are only ever added; one that a kill cut off is taken away before the next."""

    def __init__(self, path: Path) -> None:
        self.path, self.keys = path, set[str]()
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            content = path.read_bytes()
            if not content.endswith(b"\n"):
                content = content[: content.rfind(b"\n") + 1]
                write_atomic(path, content)
            for number, line in enumerate(content.splitlines(), 1):
                try:
                    self.keys.add(json.loads(line)["key"])
                except (ValueError, KeyError, TypeError) as error:
                    raise BadSettings(
                        f"{path}: line {number} is no answer of `pathasst answer`; choose another --out."
                    ) from error

    def add(self, row: dict[str, Any]) -> None:
        """Write one answer."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
        self.keys.add(row["key"])


def answer_all(
    questions: Sequence[BatchQuestion],
    out: Path,
    brain: Brain,
    registry: Registry | None = None,
    *,
    limits: Limits | None = None,
    parallel: int = 0,
    cancel: threading.Event | None = None,
) -> Iterator[BatchAnswer]:
    """Answer the questions that `out` holds no answer to, and yield each as it is done; one that was there without a row.

    `registry`: the tools on offer, those of the brain by default. `parallel`: questions at a time, as many as the brain takes by
    default. `cancel`, once set, ends the batch with what is done. Failures stand in `<out>.failed.jsonl`, and are asked again by
    the next call. Raises Unreachable when the server is gone, BadSettings for an `out` that holds something else.
    """
    tools = OrderedRegistry(registry if registry is not None else registry_for(brain))
    width = parallel or max(1, int(getattr(brain, "parallel", 1)))
    limits, stop = limits or Limits(), cancel or threading.Event()
    file, failures = AnswerFile(out), _Failures(out.with_suffix(".failed.jsonl"), UNREACHED + width)
    keys = {q.id: _key(q, brain, tools) for q in questions}
    waiting = (q for q in questions if keys[q.id] not in file.keys)
    yield from (BatchAnswer(q.id) for q in questions if keys[q.id] in file.keys)
    pool = ThreadPoolExecutor(width, thread_name_prefix="answer")
    running: dict[Future[BatchAnswer], BatchQuestion] = {}
    try:
        while not stop.is_set():
            while len(running) < 2 * width and (question := next(waiting, None)) is not None:
                running[pool.submit(_answer, question, keys[question.id], brain, tools, limits, stop)] = question
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                del running[future]
                result = future.result()
                if stop.is_set() and result.error:
                    continue
                if result.row is not None:
                    file.add(result.row)
                failures.note(result)
                yield result
    finally:
        if running:
            stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


class _Failures:
    """The questions without an answer, in a file of their own, and whether the server is gone."""

    def __init__(self, path: Path, most: int) -> None:
        self.path, self.most, self.in_a_row = path, most, 0
        path.unlink(missing_ok=True)

    def note(self, result: BatchAnswer) -> None:
        """Keep a failure. Raises Unreachable when too many followed each other."""
        self.in_a_row = self.in_a_row + 1 if result.unreached else 0
        if result.error:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"id": result.id, "error": result.error}, ensure_ascii=False) + "\n")
        if self.in_a_row >= self.most:
            raise Unreachable(f"{self.in_a_row} questions in a row: {result.error} What is answered is kept; run it again.")


def _answer(
    question: BatchQuestion, key: str, brain: Brain, tools: Registry, limits: Limits, cancel: threading.Event
) -> BatchAnswer:
    """One question; whatever goes wrong costs this one alone."""
    if question.fault:
        return BatchAnswer(question.id, error=question.fault)
    pictures = [PictureInput(path, um_per_px=question.um_per_px) for path in question.pictures]
    try:
        answer = ask(pictures or None, question.question, None, brain, tools, limits=limits, cancel=cancel)
    except Unreachable as error:
        refused = isinstance(error, Refused) and error.status not in SHUT  # of this question, which may be too long
        return BatchAnswer(question.id, error=str(error), unreached=not refused)
    except PathAsstError as error:
        return BatchAnswer(question.id, error=str(error))
    except Exception as error:  # noqa: BLE001 - a fault of ours costs this question, not the batch
        return BatchAnswer(question.id, error=f"{type(error).__name__}: {error}")
    if answer.stopped not in ANSWERED:
        return BatchAnswer(question.id, error=answer.notices[0], unreached=answer.stopped == "brain")
    values = {name: value for name, value in answer.to_json().items() if name != "turns"}
    return BatchAnswer(question.id, {"id": question.id, "key": key, **values, "pictures": [str(p) for p in question.pictures]})


def _key(question: BatchQuestion, brain: Brain, tools: Registry) -> str:
    """What an answer is of: the words, the pictures as they are now, the brain and the tools on offer."""
    stats = [(p, p.stat()) if p.is_file() else (p, None) for p in question.pictures]
    pictures = [[str(p), [s.st_size, s.st_mtime_ns] if s else None] for p, s in stats]
    words = [question.id, question.question, question.um_per_px]
    return fingerprint({"words": words, "pictures": pictures, "brain": brain.name, "tools": sorted(tools.tools)})
