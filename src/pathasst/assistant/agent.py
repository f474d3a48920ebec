"""The loop: the brain decides, tools run, their results go back, and the brain answers. Paper: "Tool Augmented MLLM Inference".

Knows the Brain and Tool protocols, and no model. It never fakes success: what the brain did not do, did wrong or left
unfinished is said in the answer's notices (see `notices`).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial

from pathasst.assistant import repair, sanitize
from pathasst.assistant.answer import Answer, ChatPicture, Step
from pathasst.assistant.brains.settings import Brain, Streaming
from pathasst.assistant.checking import Sieve
from pathasst.assistant.compose.wishes import Wishes
from pathasst.assistant.composer import compose, of_step
from pathasst.assistant.grounding import Grounding
from pathasst.assistant.images import ARGUMENT, ChatPictures
from pathasst.assistant.notices import Draft, conclude, library_of
from pathasst.assistant.plan import plan as make_plan
from pathasst.assistant.statements import Statement, text_of, unique
from pathasst.assistant.streaming import Speech
from pathasst.assistant.worker import Cancelled, Late, Worker
from pathasst.core.errors import BadInput, PathAsstError
from pathasst.core.records import FAILED, IMAGE, Attachment, ImageBytes, ToolCall, ToolResult, ToolSpec, Turn
from pathasst.core.settings import Field, Settings
from pathasst.llm.thoughts import Stream, split
from pathasst.router.route import Reason, Route
from pathasst.tools.protocol import Registry


class Limits(Settings):
    """How much one question may cost."""

    rounds: int = Field(default=4, ge=0, description="Times the brain may ask for tools; then it must answer.")
    calls: int = Field(default=8, ge=1, description="Tool calls in all.")
    calls_per_turn: int = Field(default=4, ge=1, description="Tool calls of one reply.")
    tool_seconds: float = Field(default=120.0, gt=0, description="One tool call.")
    brain_seconds: float = Field(default=180.0, gt=0, description="One reply of the brain.")
    seconds: float = Field(default=600.0, gt=0, description="The whole question.")
    result_chars: int = Field(default=6000, ge=1, description="Of a tool's text that the brain reads; the person gets all of it.")
    answer_chars: int = Field(default=100_000, ge=1, description="Of a reply; the rest comes from a model that repeats itself.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something the person may watch while waiting.

    `thinking`; `text` (the next words of the reply, checked, where the brain streams); `call` (about to run); `step` (ran);
    `answer` (the end; its text is the one that counts).
    """

    kind: str
    call: ToolCall | None = None
    step: Step | None = None
    text: str = ""
    answer: Answer | None = None


OnEvent = Callable[[Event], None]


@dataclass(slots=True)
class Agent:
    """One conversation's machinery. `run` answers one question; an Agent answers one at a time."""

    brain: Brain
    registry: Registry
    limits: Limits = field(default_factory=Limits)
    on_event: OnEvent = lambda event: None
    cancel: threading.Event = field(default_factory=threading.Event)
    worker: Worker = field(default_factory=Worker)
    late_tools: dict[str, threading.Event] = field(default_factory=dict)  # tools whose late call still runs
    grounding: Grounding = Grounding.CHECKED  # how far the brain's words are trusted

    def run(self, question: str, chat_pictures: ChatPictures, history: Answer | None = None, advice: str = "") -> Answer:
        """Answer one question about the conversation's pictures.

        `advice`: what the person's own program asks for; the brain reads it, nothing takes it for the person's words.

        Raises what the brain raises when it fails before anything was run; later failures are told in the answer.
        """
        before = history.turns if history else []
        draft = Draft(
            question=question,
            chat_pictures=chat_pictures,
            turns=[*before, self._question(question, chat_pictures, before, advice)],
            library=dict(history.library) if history else {},
            earlier=history.results if history else [],
        )
        try:
            if self.grounding is Grounding.COMPOSED:
                self._compose(draft, history)
            else:
                self._converse(draft)
        except Cancelled:
            draft.stopped = "cancelled"
        except Late:
            draft.stopped = "time"
        except Exception as error:  # what ran is kept and told; with nothing run it is raised
            if not draft.steps:
                raise
            kind = "" if isinstance(error, PathAsstError) else f"{type(error).__name__}: "
            draft.stopped, draft.failure = "brain", f"{kind}{error}"
        cards = {name: tool.card for name, tool in self.registry.tools.items()}

        def results() -> list[Statement]:
            wishes, shows = Wishes.of(question), {name for name, tool in self.registry.tools.items() if tool.shows}
            steps = [step for step in draft.steps if not step.result.error and step.call.name not in shows]
            return unique(s for step in steps for s in of_step(step, question, wishes, self.registry))

        answer = conclude(draft, self.brain.name, cards, history, self.grounding, results)
        self.on_event(Event(kind="answer", text=answer.text, answer=answer))
        return answer

    def _question(self, question: str, chat_pictures: ChatPictures, before: Sequence[Turn], advice: str) -> Turn:
        """The person's turn. Marks in their own words are broken, so that marks and pictures always agree in number.

        It brings the pictures that no turn `before` shows: the new ones, and older ones that a brain was told of which sees none.
        """
        marks = len(chat_pictures.visible()) - sum(turn.content.count(IMAGE) for turn in before)
        return Turn(
            role="user",
            content=f"{IMAGE}\n" * (marks if self.brain.sees else 0) + sanitize.as_data(question),
            attachments=[_attached(s) for s in chat_pictures.entries],
            advice=sanitize.as_data(advice),
        )

    def _compose(self, draft: Draft, history: Answer | None) -> None:
        """Tools as the router decides, and an answer composed from what they give; the brain says nothing."""
        self.on_event(Event(kind="thinking"))
        plan = make_plan(draft.question, self._route(draft), draft.chat_pictures, self.registry, history)

        def run(call: ToolCall) -> Step:
            call_ids = {c.id for t in draft.turns for c in t.tool_calls}
            call = _numbered([call], call_ids)[0]
            draft.turns.append(Turn(role="assistant", tool_calls=[call]))
            step = self._step(call, 0, draft)
            draft.steps.append(step)
            draft.turns.append(self._for_brain(step, draft))
            self.on_event(Event(kind="step", step=step))
            return step

        draft.statements = compose(draft.question, plan, run, self.registry, history)
        draft.turns.append(Turn(role="assistant", content=text_of(draft.statements)))

    def _route(self, draft: Draft) -> Route:
        """Which tools the question asks for: by the brain's router, or by the calls of a brain that has none."""
        offered = self.registry.offered()
        route = getattr(self.brain, "route", None)
        if route is not None:
            work = partial(route, draft.question, offered, pictures=len(draft.chat_pictures.entries), turns=draft.turns[:-1])
            decision: Route = self.worker.run(work, self.limits.brain_seconds, self.cancel)
            return decision
        turn = self._reply(draft, offer_tools=True)
        reason = Reason.CALLS if turn.tool_calls else Reason.UNKNOWN
        return Route(calls=tuple(turn.tool_calls), reason=reason, confidence=1.0, tools=tuple(c.name for c in turn.tool_calls))

    def _converse(self, draft: Draft) -> None:
        """Rounds of reply and tools until the brain answers without a call. What came so far is in `draft`."""
        for round_ in range(self.limits.rounds + 1):
            last = round_ == self.limits.rounds or len(draft.steps) >= self.limits.calls
            turn = self._reply(draft, offer_tools=not last)
            if not turn.tool_calls:
                draft.turns.append(turn)
                return
            if last:
                draft.stopped = "limit"
                draft.turns.append(replace(turn, tool_calls=[]))
                return
            draft.turns.append(turn)
            for place, call in enumerate(turn.tool_calls):
                step = self._step(call, place, draft)
                draft.steps.append(step)
                draft.turns.append(self._for_brain(step, draft))
                self.on_event(Event(kind="step", step=step))

    def _reply(self, draft: Draft, *, offer_tools: bool) -> Turn:
        self.on_event(Event(kind="thinking"))
        specs = draft.chat_pictures.offer(self.registry.offered()) if offer_tools else []
        images = [s.image for s in draft.chat_pictures.visible()] if self.brain.sees else []
        turns = list(draft.turns)
        left = self.limits.seconds - (time.monotonic() - draft.started)
        seconds = min(self.limits.brain_seconds, left)
        if seconds <= 0:
            raise Late("the question's time is over")
        over = threading.Event()  # a reply that nobody waits for any longer stops between two words
        try:
            turn = self.worker.run(lambda: self._listen(turns, images, specs, draft, over), seconds, self.cancel)
        finally:
            over.set()
        inside, words = split(turn.content[: self.limits.answer_chars])
        thoughts, calls, broken = "\n".join(filter(None, [turn.thoughts, inside])), list(turn.tool_calls), False
        if not calls:
            calls, words, broken = repair.calls_in(words, self.registry.tools)
            if broken and not calls:
                calls = [ToolCall(name=repair.UNREADABLE)]
        call_ids = {call.id for t in draft.turns for call in t.tool_calls}
        return Turn(
            role="assistant", content=sanitize.plain(words).strip(), tool_calls=_numbered(calls, call_ids), thoughts=thoughts
        )

    def _listen(
        self,
        turns: list[Turn],
        images: list[ImageBytes],
        specs: list[ToolSpec],
        draft: Draft,
        over: threading.Event,
    ) -> Turn:
        """The brain's turn; of one that streams, the sentences that stand are shown as they come. Runs on the worker's thread."""
        if not isinstance(self.brain, Streaming) or self.grounding is Grounding.COMPOSED:
            return self.brain.reply(turns, images, specs)
        speech, thoughts = Speech(draft.library, Sieve(draft.sources(), self.grounding)), Stream()
        turn = Turn(role="assistant")
        with closing(self.brain.stream(turns, images, specs)) as pieces:
            for piece in pieces:
                if over.is_set():
                    raise Cancelled("cancelled")
                if isinstance(piece, Turn):
                    turn = piece
                elif words := speech.add(thoughts.add(piece)):
                    self.on_event(Event(kind="text", text=words))
        if words := speech.add(thoughts.close()) + speech.close():
            self.on_event(Event(kind="text", text=words))
        return turn

    def _step(self, call_asked: ToolCall, place: int, draft: Draft) -> Step:
        """One call: checked, repaired once, run within its time. Never raises for what the brain or the tool did wrong."""
        if refusal := self._refusal(call_asked, place, draft):
            return Step(asked=call_asked, call=call_asked, result=_failed(call_asked, refusal))
        call, notes, handle = self._repaired(call_asked)
        tool = self.registry.tools.get(call.name)
        try:
            picture = draft.chat_pictures.choose(handle) if tool is not None and tool.needs_image else None
            pixels = draft.chat_pictures.pixels(picture) if picture else None
        except BadInput as error:
            return Step(asked=call_asked, call=call, result=_failed(call, str(error)), repairs=notes)
        if tool is not None and picture is not None:
            arguments, note = tool.scaled(call.arguments, picture.um_per_px)
            call, notes = replace(call, arguments=arguments), [*notes, *([note] if note else [])]
        where = picture.handle if picture else ""
        key = json.dumps([call.name, call.arguments, where], sort_keys=True, default=str)
        if key in draft.steps_by_key:
            before = draft.steps_by_key[key]
            return replace(before, asked=call_asked, call=call, result=replace(before.result, call_id=call.id), repeated=True)
        self.on_event(Event(kind="call", call=call))
        result = self._timed(call, lambda: self.registry.call(call, pixels), draft)
        visible = tool is not None and tool.shows and self.brain.sees
        outputs = draft.chat_pictures.add_outputs(result.pictures, by=call.name, source=picture, visible=visible)
        draft.library.update(library_of([result]))
        _, withheld = sanitize.withhold(result.text)
        step = Step(
            asked=call_asked,
            call=call,
            result=result,
            image=where,
            repairs=notes,
            made=[p.handle for p in outputs],
            withheld=withheld,
        )
        if not result.error:
            draft.steps_by_key[key] = step
        return step

    def _refusal(self, call: ToolCall, place: int, draft: Draft) -> str:
        if call.name == repair.UNREADABLE:
            return 'the call could not be read. Write it as {"name": …, "arguments": {…}} in valid JSON.'
        if place >= self.limits.calls_per_turn:
            return f"not run: at most {self.limits.calls_per_turn} calls are run per turn."
        if len(draft.steps) >= self.limits.calls:
            return f"not run: the {self.limits.calls} calls allowed for one question are used up. Answer with what you have."
        return ""

    def _repaired(self, call: ToolCall) -> tuple[ToolCall, list[str], object]:
        """The call in the tool's own terms, what was changed, and the picture it names."""
        notes: list[str] = []
        name = repair.tool_name(call.name, self.registry.tools)
        if name != call.name:
            notes.append(f"read the tool {call.name!r} as {name!r}")
        arguments, handle = dict(call.arguments), None
        tool = self.registry.tools.get(name)
        if tool is None:
            return replace(call, name=name), notes, None
        if ARGUMENT not in tool.arguments.model_fields:
            handle = arguments.pop(ARGUMENT, None)
        arguments, more = repair.arguments(arguments, tool.arguments)
        return replace(call, name=name, arguments=arguments), notes + more, handle

    def _timed(self, call: ToolCall, work: Callable[[], ToolResult], draft: Draft) -> ToolResult:
        """The tool's result; an overrun or a crash of the tool becomes a result with an error. Cancelled passes through."""
        still = self.late_tools.get(call.name)
        if still is not None and not still.is_set():
            return _failed(call, f"{call.name} is still busy with a call that ran out of time; it is not started again.")
        finished = threading.Event()

        def run() -> ToolResult:
            try:
                return work()
            finally:
                finished.set()

        left = self.limits.seconds - (time.monotonic() - draft.started)
        started = time.monotonic()
        try:
            return self.worker.run(run, min(self.limits.tool_seconds, max(left, 0.0)), self.cancel)
        except Late as error:
            self.late_tools[call.name] = finished
            result = _failed(call, f"{call.name}: {error}; its result is not used.")
        except Cancelled:
            self.late_tools[call.name] = finished
            raise
        except Exception as error:  # noqa: BLE001 - a tool's own fault costs that call, not the conversation
            result = _failed(call, f"{call.name} failed inside: {type(error).__name__}: {str(error)[:300]}")
        return replace(result, seconds=time.monotonic() - started)

    def _for_brain(self, step: Step, draft: Draft) -> Turn:
        """A step as the brain reads it: cleaned, cut to size, with the pictures that the next call may use."""
        result = step.result
        text, _ = sanitize.for_brain(result.error or result.text)
        if len(text) > self.limits.result_chars:
            text = text[: self.limits.result_chars].rsplit(" ", 1)[0] + " … (cut)"
        error = text if result.error else ""
        if error:
            text = FAILED + error
        if step.repeated:
            text += "\n(The same call was run before.)"
        outputs = [] if step.repeated else [s for s in draft.chat_pictures.entries if s.handle in step.made]
        return Turn(
            role="tool",
            tool=step.call.name,
            content=f"{IMAGE}\n" * sum(s.visible for s in outputs) + text,
            attachments=[_attached(s) for s in outputs],
            warnings=result.warnings,
            notice=result.notice,
            error=error,
        )


def _numbered(calls: list[ToolCall], used_ids: set[str]) -> list[ToolCall]:
    """The calls with ids that are unique in the conversation."""
    numbered = []
    for call in calls:
        id_ = call.id
        while not id_ or id_ in used_ids:
            id_ = f"call_{len(used_ids) + 1}" if not id_ else f"{id_}_{len(used_ids) + 1}"
        used_ids.add(id_)
        numbered.append(replace(call, id=id_))
    return numbered


def _failed(call: ToolCall, error: str) -> ToolResult:
    return ToolResult(name=call.name, call_id=call.id, error=error)


def _attached(picture: ChatPicture) -> Attachment:
    """A picture as the brain may read of it: a file's name is text from outside."""
    return Attachment(handle=picture.handle, name=sanitize.as_data(picture.name), synthetic=picture.synthetic)
