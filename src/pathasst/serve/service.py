"""The one object that API, page and MCP share: brain, tools, literature and PathCLIP, each loaded once, behind one bounded queue.

Knows no web server. Everything heavy runs on the queue's threads: `submit` gives a Job with events and a result.
Users are told apart by a name that the caller has checked; files, conversations and limits are kept per user.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pathasst.assistant.agent import Event, OnEvent
from pathasst.assistant.answer import Answer
from pathasst.assistant.answering import ask as ask_alone
from pathasst.assistant.answering import grounding_of, registry_for
from pathasst.assistant.brain import open_brain
from pathasst.assistant.brains.settings import Brain, ReplyOptions
from pathasst.assistant.checking import reply_held
from pathasst.assistant.grounding import Grounding
from pathasst.assistant.images import ChatPictures, PictureInput
from pathasst.assistant.settings import AssistantSettings
from pathasst.core.errors import BadInput, BadSettings, Unreachable
from pathasst.core.malloc import give_back
from pathasst.core.records import IMAGE, ImageBytes, ToolCall, ToolResult, ToolSpec, Turn
from pathasst.serve.audit_log import LogFile
from pathasst.serve.batching import SharedBrain
from pathasst.serve.conversation_cache import Conversations, UserCache
from pathasst.serve.history import History
from pathasst.serve.image_input import InputImages
from pathasst.serve.jobs import Job, WorkQueue
from pathasst.serve.metrics import Metrics
from pathasst.serve.scratch import Scratch
from pathasst.serve.structured import as_json, call_from
from pathasst.serve.uploads import Upload, UploadStore
from pathasst.tools.protocol import SCALE, OrderedRegistry, Registry

if TYPE_CHECKING:
    import numpy as np

    from pathasst.clip.model import PathCLIPModel
    from pathasst.papers import SearchResult
    from pathasst.serve.viewer import Shelf

_log = logging.getLogger(__name__)
LOCAL = "local"
"""The user of a server without keys."""
HISTORY = "history.sqlite"
VERDICTS = ("good", "bad")
SWEEP_SECONDS = 60.0


class Service:
    """The assistant for many people. Make one per process; `close` it at the end.

    `brain`, `registry`: in place of those that the settings choose. A missing model is an error at the start and not at the
    first question; models are loaded when first used, those of the brain by `warm`, if it is called.
    Raises MissingWeights, MissingPackage or BadSettings.
    """

    def __init__(
        self, settings: AssistantSettings | None = None, *, brain: Brain | None = None, registry: Registry | None = None
    ) -> None:
        self.settings = settings or AssistantSettings()
        serve = self.settings.serve
        self.metrics = Metrics(self)
        self.brain = SharedBrain(brain or open_brain(self.settings.brain), on_batch=self.metrics.batch)
        tools = registry if registry is not None else registry_for(self.brain.brain)
        self.registry = OrderedRegistry(tools, self.metrics.tool)
        self.scratch = Scratch(serve.home / "scratch", serve.keep_seconds)
        self.queue = WorkQueue(serve.at_once, serve.waiting, serve.wait_seconds)
        self.uploads = UploadStore(serve.home / "uploads", serve.keep_seconds, serve.quota_bytes)
        self.input_images = InputImages.of(serve, self.uploads)
        self.conversations = Conversations(serve.keep_seconds)
        self.responses: UserCache[dict[str, Any]] = UserCache(serve.keep_seconds)  # of the Responses API, by id
        self.history = History(serve.home / HISTORY, serve.history_days) if serve.history_days else None
        self.audit = LogFile(serve.home / "audit.jsonl")
        self._feedback = LogFile(serve.home / "feedback.jsonl")
        self.shelf: Shelf | None = None  # slides that the server shows, if it was given any
        self._clip: PathCLIPModel | None = None
        self._clip_lock = threading.Lock()
        self._closed, self._closing_since = threading.Event(), 0.0
        self.loading = False  # whether the brain's models are being loaded; questions wait for them
        self.sweeps: list[Callable[[], object]] = [  # called every minute
            self.uploads.sweep,
            self.conversations.sweep,
            self.responses.sweep,
            self.scratch.sweep,
            give_back,
        ]
        if self.history is not None:
            self.sweeps.append(self.history.sweep)
        self.on_answer: list[Callable[[Answer, float], None]] = []  # called with an answer and its seconds, as in the request
        self.at_close = ExitStack()  # what is closed with the service
        self.at_close.callback(self.scratch.close)
        threading.Thread(target=self._sweep, name="pathasst-sweep", daemon=True).start()

    @property
    def brain_name(self) -> str:
        """Which brain answers, with its version."""
        return self.brain.brain.name

    @property
    def closing(self) -> bool:
        """Whether no new work is taken any more."""
        return self._closed.is_set()

    def warm(self) -> None:
        """Load the brain's models now. Raises what a damaged file raises."""
        self.loading = True
        getattr(self.brain.brain, "load", lambda: None)()
        self.loading = False

    # questions

    def submit(
        self,
        question: str,
        images: Sequence[PictureInput] = (),
        history: Answer | Callable[[], Answer | None] | None = None,
        user: str = LOCAL,
        on_event: OnEvent | None = None,
        cancel: threading.Event | None = None,
        tools: Sequence[str] | None = None,
        advice: str = "",
        options: ReplyOptions | None = None,
        json_schema: Mapping[str, Any] | None = None,
    ) -> Job[Answer]:
        """Put a question in the queue. The Job gives Events (`events`, `stream`) and the Answer (`result`).

        `images`: new with this question. `history`: the answer before, or a function that makes it on the queue's thread.
        `tools`: names of those on offer; None: all. `advice`: see `Agent.run`. `options`: how the brain's replies are decoded; a
        composed answer is not decoded. `json_schema`: the answer's text is JSON of it (see `structured`). Raises Busy (429),
        Closing (503); the rest, as `assistant.ask` and `as_json` raise it, comes with the result.
        """
        composed = self.composes
        view_options = None if composed else options
        context = copy_context()

        def work(job: Job[Answer]) -> Answer:
            started = time.monotonic()
            if cancel is not None and cancel.is_set():
                job.cancelled.set()

            def forward(event: Event) -> None:
                if cancel is not None and cancel.is_set():
                    job.cancelled.set()
                job.emit(event)
                if on_event is not None:
                    on_event(event)

            answer = ask_alone(
                [self.input_images.opened(i) for i in images] or None,
                question,
                history() if callable(history) else history,
                self.brain.view(job.cancelled, view_options),
                self.registry if tools is None else self.registry.only(tools),
                limits=self.settings.limits,
                on_event=forward,
                cancel=cancel or job.cancelled,
                advice=advice,
            )
            if json_schema is not None and answer.stopped != "cancelled":
                writing = replace(options or ReplyOptions(), json_schema=json_schema, stop=(), max_tokens=None)
                answer = as_json(answer, json_schema, None if composed else self.brain.view(job.cancelled, writing))
            seconds = time.monotonic() - started
            self._note(user, question, answer, len(images), seconds)
            for observer in self.on_answer:
                context.run(observer, answer, seconds)
            return answer

        return self.queue.submit(work, user)

    def submit_reply(
        self,
        turns: Sequence[Turn],
        images: Sequence[ImageBytes],
        tools: Sequence[ToolSpec],
        user: str = LOCAL,
        options: ReplyOptions | None = None,
    ) -> Job[Turn]:
        """One reply of the brain, whose tool calls the client runs itself, as a Job. `images`: checked, encoded pictures.

        Where `options` wants a call and the answer is composed, the server's own tools answer the last question, and what they
        found fills the call's arguments. With the result come NotFillable, and Unreachable for a brain that calls nothing.
        """
        forced = options.tool if options else None

        def work(job: Job[Turn]) -> Turn:
            from pathasst.imaging.pictures import encode_png

            clean = [self.input_images.processed(i, encode_png) for i in images]
            started = time.monotonic()
            if forced is not None and self.composes:
                turn = self._forced(job, turns, clean, tools, forced)
            else:
                turn = self.brain.view(job.cancelled, None if self.composes else options).reply(turns, clean, tools)
            self.audit.write(event="reply", user=user, brain=self.brain_name, seconds=round(time.monotonic() - started, 3))
            offered = {tool.name for tool in tools}
            readable = [call for call in turn.tool_calls if call.name in offered]
            if forced is not None and not [call for call in readable if forced in ("", call.name)]:
                raise Unreachable(f"{self.brain_name} called no tool, though tool_choice requires it.")
            if turn.tool_calls and not readable and not turn.content:
                return replace(turn, tool_calls=[], content="(The model's tool call could not be read.)")
            return reply_held(replace(turn, tool_calls=readable), turns, grounding_of(self.brain.brain))

        return self.queue.submit(work, user)

    @property
    def composes(self) -> bool:
        """Whether answers are composed from results: then no model writes, and nothing is sampled."""
        return grounding_of(self.brain.brain) is Grounding.COMPOSED

    def _forced(
        self, job: Job[Turn], turns: Sequence[Turn], images: Sequence[ImageBytes], tools: Sequence[ToolSpec], name: str
    ) -> Turn:
        """A turn that calls one of the client's tools with what the server's own tools find for the last question."""
        last = max((n for n, turn in enumerate(turns) if turn.role == "user"), default=0)
        question = turns[last].content.replace(IMAGE, "").strip()
        chat_pictures = ChatPictures()
        for image in images:
            chat_pictures.add(PictureInput(image))
        before = Answer(question="", text="", turns=list(turns[:last]), pictures=chat_pictures.entries)
        answer = ask_alone(
            None,
            question,
            before,
            self.brain.view(job.cancelled),
            self.registry,
            limits=self.settings.limits,
            cancel=job.cancelled,
        )
        return Turn(role="assistant", tool_calls=[call_from(answer, [t for t in tools if name in ("", t.name)])])

    def count_tokens(self, *texts: str) -> tuple[int, bool]:
        """Tokens of texts, and whether that is the brain's own count rather than a guess of four characters a token."""
        count = getattr(self.brain.brain, "count_tokens", None)
        if count is None:
            return sum(-(-len(text) // 4) for text in texts), False
        return sum(count(text) for text in texts), True

    # tools, papers, PathCLIP by hand

    def submit_tool(self, call: ToolCall, image: PictureInput | None = None, user: str = LOCAL) -> Job[ToolResult]:
        """Run one tool by hand, as a Job. It runs at the picture's scale unless the call names one; `error` says what is wrong.

        Raises Busy, Closing; BadInput, for a picture that cannot be read, comes with the result.
        """

        def work(job: Job[ToolResult]) -> ToolResult:
            pixels, scaled_call, note = None, call, ""
            if image is not None:
                chat_pictures = ChatPictures()
                pixels = chat_pictures.pixels(chat_pictures.add(self.input_images.opened(image)))
                tool = self.registry.tools.get(call.name)
                if tool is not None and SCALE not in call.arguments:
                    arguments, note = tool.scaled(call.arguments, image.um_per_px)
                    scaled_call = replace(call, arguments=arguments)
            result = self.registry.call(scaled_call, pixels)
            if note:
                result = replace(result, warnings=[*result.warnings, f"{note}."])
            self.audit.write(event="tool", user=user, tool=_ran(result), pictures=int(image is not None))
            return result

        return self.queue.submit(work, user)

    def submit_search(
        self, query: str, k: int = 10, mode: str = "hybrid", filters: dict[str, Any] | None = None, user: str = LOCAL
    ) -> Job[SearchResult]:
        """The best abstracts that are about a query, as a Job; `filters` as `papers.Filters` (since, until, journals, types,
        retracted).

        Raises BadSettings for a server without literature, Busy, Closing; BadDataset without a collection and BadSettings for a
        wrong mode, filter or k come with the result.
        """
        from pathasst.papers import SearchResult
        from pathasst.tools.papers_search import PapersSearch

        tool = self.registry.tools.get("papers_search")
        if tool is None:
            raise BadSettings("this server offers no literature search.")

        def work(job: Job[SearchResult]) -> SearchResult:
            if not isinstance(tool, PapersSearch):  # another collection behind the same tool
                arguments = {n: v for n, v in {"query": query, "k": k}.items() if n in tool.arguments.model_fields}
                result = self.registry.call(ToolCall(name=tool.name, arguments=arguments))
                if result.error:
                    raise BadInput(result.error)
                return SearchResult(result.hits, about=bool(result.hits))
            results = tool.index().find(query, k, mode, filters)
            self.audit.write(event="papers", user=user, found=len(results.hits))
            return results

        return self.queue.submit(work, user)

    def submit_embedding(self, texts: Sequence[str] = (), images: Sequence[bytes] = (), user: str = LOCAL) -> Job[np.ndarray]:
        """PathCLIP's vectors of texts or of encoded pictures, as a Job: float32 [n, d], unit rows."""
        if bool(texts) == bool(images):
            raise BadInput("embed texts or pictures, at least one, not both at once.")

        def work(job: Job[np.ndarray]) -> np.ndarray:
            self.audit.write(event="embedding", user=user, texts=len(texts), pictures=len(images))
            clip = self.clip()
            with self._clip_lock:
                return clip.encode_text(texts) if texts else clip.encode_image(self.input_images.decoded(i) for i in images)

        return self.queue.submit(work, user)

    def submit_upload(self, name: str, data: bytes, user: str = LOCAL, um_per_px: float | None = None) -> Job[Upload]:
        """Store a picture for this user until it expires, written anew from its pixels, as a Job. Raises BadInput."""
        data = self.input_images.checked(data)

        def work(job: Job[Upload]) -> Upload:
            from pathasst.imaging.pictures import encode_png

            self.audit.write(event="upload", user=user, bytes=len(data))
            return self.uploads.put(user, name, self.input_images.processed(data, encode_png), um_per_px)

        return self.queue.submit(work, user)

    def clip(self) -> PathCLIPModel:
        """PathCLIP, loaded on the first call. Raises MissingWeights."""
        with self._clip_lock:
            if self._clip is None:
                from pathasst.clip.model import PathCLIPModel

                self._clip = PathCLIPModel.load()
            return self._clip

    # what is kept

    def feedback(self, verdict: str, answer: Answer | None = None, comment: str = "", user: str = LOCAL) -> str:
        """Store a person's judgement on this machine, with the question and the answer it is about; its id. Raises BadInput."""
        if verdict not in VERDICTS:
            raise BadInput(f"a verdict is one of {', '.join(VERDICTS)}.")
        about = (
            {
                "question": answer.question,
                "answer": answer.text,
                "brain": answer.brain,
                "ran": [_ran(r) for r in answer.results],
                "alone": not answer.pictures and sum(turn.role == "user" for turn in answer.turns) == 1,  # explains itself
            }
            if answer
            else {}
        )
        id_ = secrets.token_hex(8)
        self._feedback.write(id=id_, user=user, verdict=verdict, comment=comment[:5000], **about)
        return id_

    def comment(self, verdict: str, words: str, user: str = LOCAL) -> None:
        """Store what a person adds to the judgement with this id."""
        self._feedback.write(about=verdict, user=user, comment=words[:5000])

    def store_picture(self, user: str, name: str, data: bytes, um_per_px: float | None = None) -> str | None:
        """The id of a picture that a tool made, stored for this user; None without room: the answer is not lost for it."""
        try:
            return self.uploads.put(user, name, data, um_per_px).id
        except (BadInput, OSError) as error:
            _log.warning("a picture that a tool made was not stored: %s", error)
            return None

    def begin_closing(self) -> None:
        """Refuse new work from now on; what runs goes on, for `drain_seconds` in all."""
        if not self._closed.is_set():
            self._closing_since = time.monotonic()
        self._closed.set()
        self.queue.refuse_new()

    def close(self, seconds: float | None = None) -> bool:
        """Refuse new work, let what runs finish, cancel the rest. True when all finished in time."""
        self.begin_closing()
        left = self.settings.serve.drain_seconds - (time.monotonic() - self._closing_since)
        finished = self.queue.close(max(0.0, left) if seconds is None else seconds)
        self.at_close.close()
        return finished

    def _note(self, user: str, question: str, answer: Answer, images: int, seconds: float) -> None:
        self.metrics.answer(answer)
        text = {"question": question, "answer": answer.text} if self.settings.serve.audit_text else {}
        self.audit.write(
            event="question",
            user=user,
            brain=answer.brain,
            characters=len(question),
            pictures=images,
            ran=[_ran(r) for r in answer.results],
            stopped=answer.stopped,
            struck=len(answer.struck),
            seconds=round(seconds, 3),
            **text,
        )

    def _sweep(self) -> None:
        self.sweep()  # what a server before this one has left
        while not self._closed.wait(SWEEP_SECONDS):
            self.sweep()

    def sweep(self) -> None:
        """Delete what has expired. A sweep that fails costs no other, and is tried again a minute later."""
        for sweep in self.sweeps:
            try:
                sweep()
            except Exception:  # noqa: BLE001 - whatever it is: the promise to delete must outlive it
                _log.exception("a sweep failed; it is tried again in %g s", SWEEP_SECONDS)


def _ran(result: ToolResult) -> dict[str, Any]:
    return {"tool": result.name, "version": result.version, "seconds": round(result.seconds, 3), "ok": not result.error}
