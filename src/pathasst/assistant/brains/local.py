"""Our own model as the brain: a PathAsst checkpoint in this process (paper, "Training of PathAsst")."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pathasst.assistant.album import ARGUMENT, GIVEN, MADE
from pathasst.assistant.brain import BrainSettings
from pathasst.errors import BadInput
from pathasst.records import ImageBytes, ToolSpec, Turn

if TYPE_CHECKING:
    from pathasst.mllm import PathAsst

IMAGE = "<image>"
RESULT_CHARACTERS = 1500  # of one tool result: the embedded model was trained on 2,048 tokens
_SHORTER = (600, 200)  # tried in turn when a conversation does not fit


@dataclass(slots=True)
class LocalBrain:
    """PathAsst behind the Brain protocol. It sees; tools, if any, are written into its own template as it was trained."""

    model: PathAsst
    name: str
    max_tokens: int = 512
    sees: bool = True

    @classmethod
    def open(cls, settings: BrainSettings) -> LocalBrain:
        """Load the checkpoint. Raises MissingWeights with the command that fetches it."""
        from pathasst import weights
        from pathasst.mllm import PathAsst

        model = PathAsst.load(settings.model)
        return cls(model, weights.version(settings.model), settings.max_tokens)

    def reply(self, turns: Sequence[Turn], images: Sequence[ImageBytes], tools: Sequence[ToolSpec]) -> Turn:
        """The assistant's next turn; a conversation longer than the model reads loses its oldest questions first.

        Raises BadInput when even the last question alone does not fit.
        """
        return next(piece for piece in self.stream(turns, images, tools) if isinstance(piece, Turn))

    def stream(
        self, turns: Sequence[Turn], images: Sequence[ImageBytes], tools: Sequence[ToolSpec]
    ) -> Generator[str | Turn, None, None]:
        """As `reply`, with the words as they are made, and the Turn last."""
        fitting, images = self._fitting(turns, images, tools)
        yield from self.model.stream(fitting, images, _as_trained(tools), max_new_tokens=self.max_tokens)

    def reply_many(self, requests: Sequence[tuple[Sequence[Turn], Sequence[ImageBytes], Sequence[ToolSpec]]]) -> list[Turn]:
        """A reply to each of several (turns, images, tools), generated together. Raises as `reply`, for all of them."""
        fitting = [(*self._fitting(*request), _as_trained(request[2])) for request in requests]
        return self.model.reply_many(fitting, max_new_tokens=self.max_tokens)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, as this model counts."""
        return self.model.count_tokens(text)

    def _fitting(
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


def _cut(turns: Sequence[Turn], longest: int) -> list[Turn]:
    """Tool results cut to what a small model can read; no lists of pictures, which it was never taught to use."""
    cut = []
    for turn in turns:
        if turn.role == "tool":
            turn = replace(turn, content=_short(turn.content.rsplit(MADE, 1)[0], longest))
        elif turn.role == "user" and turn.content.endswith(".)"):
            turn = replace(turn, content=turn.content.rsplit(GIVEN, 1)[0])
        cut.append(turn)
    return cut


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[:longest].rsplit(" ", 1)[0] + " …"


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
    kept = turns[starts[1] :]
    if marks and not kept[0].content.count(IMAGE):
        kept[0] = replace(kept[0], content=f"{IMAGE}\n" * marks + kept[0].content)
        return kept, images
    return kept, images[marks:]
