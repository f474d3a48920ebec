"""Our own model as the brain: a PathAsst checkpoint in this process (paper, "Training of PathAsst")."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.assistant.brains.calls import calls_of
from pathasst.assistant.brains.messages import result_words
from pathasst.assistant.brains.settings import BrainSettings, ReplyOptions
from pathasst.assistant.grounding import Grounding
from pathasst.assistant.images import ARGUMENT
from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.records import IMAGE, ImageBytes, ToolSpec, Turn
from pathasst.core.text import shortened
from pathasst.router.items import plain, tools_before
from pathasst.router.route import Reason, Route
from pathasst.router.slot_filling import read
from pathasst.tools.registry import SPECIALISTS

if TYPE_CHECKING:
    from pathasst.mllm import PathAsstModel
    from pathasst.router import Router

RESULT_CHARACTERS = 1500  # of one tool result: the embedded model was trained on 2,048 tokens
_SHORTER = (600, 200)  # tried in turn when a conversation does not fit


@dataclass(slots=True)
class LocalBrain:
    """PathAsst behind the Brain protocol. It sees; tools, if any, are written into its own template as it was trained.

    With a `router` the model is not asked which tools to call, a question too hard for a small one: the router decides, the
    arguments are read from the words (`calls`), and after the results the model answers. Its words are held to the results
    where every brain's are (`assistant.checking`). Tools that the router does not know are left to the model.
    """

    model: PathAsstModel
    name: str
    max_tokens: int = 512
    sees: bool = True
    router: Router | None = None
    grounding: Grounding = Grounding.CHECKED
    forced: str | None = None  # the tool that the next reply calls, see `ReplyOptions.tool`

    @classmethod
    def open(cls, settings: BrainSettings) -> LocalBrain:
        """The brain of a checkpoint that is here; nothing is loaded before it is used, or before `load`.

        Raises MissingWeights with the command that fetches it.
        """
        from pathasst.core import weights

        model: Any = Later(partial(_load_model, settings.model))
        router_id = settings.chooses_tools
        router: Any = None
        if router_id and (Path(router_id).is_dir() or weights.present(router_id)):
            router = Later(partial(_load_router, router_id))
        name = f"{weights.version(settings.model)}, tools chosen by {weights.version(router_id) if router else 'itself'}"
        return cls(model, name, settings.max_tokens, router=router, grounding=settings.grounding)

    def load(self) -> None:
        """Load what answers need; the checkpoint of a composing brain, whose words nobody reads, still waits until it is used.

        Raises BadInput or BadDataset for damaged files.
        """
        parts = [self.router] if self.grounding is Grounding.COMPOSED else [self.router, self.model]
        for part in parts:
            if isinstance(part, Later):
                part.load()

    def with_options(self, options: ReplyOptions) -> LocalBrain:
        """The same model with a program's wishes. Raises BadSettings for sampling and JSON, which it does not do.

        It takes the likeliest token each time, so that a seed and `top_p` hold by themselves; who asks cuts at stop words.
        """
        if options.temperature:
            raise BadSettings("this model does not sample: leave out temperature, or send 0.")
        if options.json_schema is not None:
            raise BadSettings("this model writes no JSON of a schema; leave out response_format, or choose another brain.")
        return replace(self, max_tokens=min(options.max_tokens or self.max_tokens, self.max_tokens), forced=options.tool)

    def route(self, question: str, tools: Sequence[ToolSpec], pictures: int, turns: Sequence[Turn]) -> Route:
        """Which tools a question asks for, by the router; without one, nothing is known."""
        if self.router is None:
            return Route(reason=Reason.UNKNOWN, confidence=0.0)
        return self.router.route(question, tools, pictures=pictures, turns=turns)

    def reply(self, turns: Sequence[Turn], images: Sequence[ImageBytes], tools: Sequence[ToolSpec]) -> Turn:
        """The assistant's next turn; a conversation longer than the model reads loses its oldest questions first.

        Raises BadInput when even the last question alone does not fit.
        """
        return next(piece for piece in self.stream(turns, images, tools) if isinstance(piece, Turn))

    def stream(
        self, turns: Sequence[Turn], images: Sequence[ImageBytes], tools: Sequence[ToolSpec]
    ) -> Generator[str | Turn, None, None]:
        """As `reply`, with the words as they are made, and the Turn last."""
        shortened, images = self._fit_context(turns, images, tools)
        decided = self._decided(shortened, images, tools)
        if isinstance(decided, Turn):
            yield from filter(None, [decided.content])
            yield decided
            return
        for piece in self.model.stream(shortened, images, _as_trained(tools), max_new_tokens=self.max_tokens, calls=decided):
            yield self._corrected(piece, turns, tools) if isinstance(piece, Turn) else piece

    def reply_many(self, requests: Sequence[tuple[Sequence[Turn], Sequence[ImageBytes], Sequence[ToolSpec]]]) -> list[Turn]:
        """A reply to each of several (turns, images, tools), generated together. Raises as `reply`, for all of them."""
        shortened = [(*self._fit_context(*request), request[2]) for request in requests]
        replies = [self._decided(*request) for request in shortened]
        for calls in (True, False):
            open_ = [n for n, reply in enumerate(replies) if reply is calls]
            requests_ = [(turns, images, _as_trained(tools)) for turns, images, tools in (shortened[n] for n in open_)]
            turns_ = self.model.reply_many(requests_, max_new_tokens=self.max_tokens, calls=calls) if requests_ else []
            for n, turn in zip(open_, turns_, strict=True):
                replies[n] = self._corrected(turn, requests[n][0], requests[n][2])
        return [reply for reply in replies if isinstance(reply, Turn)]

    def _corrected(self, reply: Turn, turns: Sequence[Turn], tools: Sequence[ToolSpec]) -> Turn:
        """The model's turn; its calls with the arguments that the person's words fix."""
        if self.router is None or not reply.tool_calls:
            return reply
        specs = {t.name: t for t in tools}
        words = plain(turns[-1].content) if turns[-1].role == "user" else ""
        fixed = {name: read(specs[name], words)[0] for c in reply.tool_calls if (name := c.name) in specs}
        calls = [replace(c, arguments=c.arguments | fixed.get(c.name, {})) for c in reply.tool_calls]
        return replace(reply, tool_calls=calls)

    def _decided(self, turns: Sequence[Turn], images: Sequence[ImageBytes], tools: Sequence[ToolSpec]) -> Turn | bool:
        """The turn as far as the router decides it, else whether the model, which then says it, may call tools."""
        if self.forced is not None and tools:
            name = self.forced or (tools[0].name if len(tools) == 1 else "")
            if not name:
                raise BadSettings("this model cannot be made to choose among several tools: name one in tool_choice.")
            return Turn(role="assistant", tool_calls=[self.model.write_call(turns, images, _as_trained(tools), name)])
        if self.router is None or not tools:
            return True
        # A specialist model that came after this router was trained is not left to the language model: it would call at random.
        tools = [t for t in tools if t.name in self.router.classes or t.name not in SPECIALISTS]
        by_name = {t.name: t for t in tools if t.name in self.router.classes}
        if turns[-1].role != "user":
            return len(by_name) < len(tools)  # the results are there: answer
        route = self.router.choose(turns[-1].content, tools_before(turns[:-1]))
        ready = [n for n in route if n in by_name and (images or not by_name[n].needs_image)]
        if ready:
            write = partial(self.model.write_call, turns, images, _as_trained(tools))
            calls = [c for name in ready for c in calls_of(by_name[name], turns, self.router, write)]
            return Turn(role="assistant", tool_calls=calls)
        if blind := [n for n in route if n in by_name]:
            return Turn(role="assistant", content=f"Please attach the picture: {', '.join(blind)} needs one.")
        if route and len(by_name) == len(tools):
            words = f"For this I would need the tool {', '.join(route)}, which is not on offer here."
            return Turn(role="assistant", content=words)
        return len(by_name) < len(tools)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, as this model counts; a guess while it has not been loaded."""
        if isinstance(self.model, Later) and not self.model.loaded:
            return -(-len(text) // 4)
        return self.model.count_tokens(text)

    def _fit_context(
        self, turns: Sequence[Turn], images: Sequence[ImageBytes], tools: Sequence[ToolSpec]
    ) -> tuple[list[Turn], list[ImageBytes]]:
        """The conversation, shortened as far as the model needs it. Raises BadInput."""
        turns, images = list(turns), list(images)
        while True:
            for longest in (RESULT_CHARACTERS, *_SHORTER):
                try:
                    self.model.prompt_ids(cut := _cut(turns, longest), len(images), _as_trained(tools))
                except BadInput as error:
                    too_long = error
                else:
                    return cut, images
            older = _without_oldest(turns, images)
            if older is None:
                raise too_long
            turns, images = older


class Later:
    """Something that is made when it is first used."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make, self._value, self._lock = make, None, threading.Lock()

    @property
    def loaded(self) -> bool:
        """Whether it was made."""
        return self._value is not None

    def load(self) -> Any:
        """Make it now, unless it was made."""
        with self._lock:
            if self._value is None:
                self._value = self._make()
        return self._value

    def __getattr__(self, name: str) -> Any:
        return getattr(self.load(), name)


def _load_model(name: str) -> PathAsstModel:
    from pathasst.mllm import PathAsstModel

    return PathAsstModel.load(name)


def _load_router(name: str) -> Router:
    from pathasst.router import Router

    return Router.load(name)


def _cut(turns: Sequence[Turn], longest: int) -> list[Turn]:
    """Tool results cut to what a small model can read; no lists of pictures, no advice, which it was never taught to use."""
    return [
        replace(t, content=shortened(result_words(replace(t, attachments=[])), longest)) if t.role == "tool" else t for t in turns
    ]


def _as_trained(tools: Sequence[ToolSpec]) -> list[ToolSpec]:
    """The specs without the choice of picture, which the embedded model was never taught; it means the person's latest."""
    plain = []
    for tool in tools:
        properties = {k: v for k, v in tool.parameters.get("properties", {}).items() if k != ARGUMENT}
        plain.append(replace(tool, parameters={**tool.parameters, "properties": properties}))
    return plain


def _without_oldest(turns: list[Turn], images: list[ImageBytes]) -> tuple[list[Turn], list[ImageBytes]] | None:
    """The conversation without its oldest question and all that answered it; its pictures move to the next question.

    None when only one question is left.
    """
    starts = [n for n, turn in enumerate(turns) if turn.role == "user"]
    if len(starts) < 2:
        return None
    marks = sum(t.content.count(IMAGE) for t in turns[: starts[1]])
    rest = turns[starts[1] :]
    if marks and not rest[0].content.count(IMAGE):
        rest[0] = replace(rest[0], content=f"{IMAGE}\n" * marks + rest[0].content)
        return rest, images
    return rest, images[marks:]
