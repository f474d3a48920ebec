"""A trained router: requests in, tools with their arguments out, or why none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pathasst.core import weights
from pathasst.core.errors import BadInput
from pathasst.core.records import ToolCall, ToolSpec, Turn
from pathasst.nn.compact import expanded
from pathasst.router.items import plain, tools_before
from pathasst.router.labels import PICTURE
from pathasst.router.network import BATCH, Encoder, build, padded, together, tool_vectors
from pathasst.router.route import Reason, Route
from pathasst.router.settings import RouterConfig
from pathasst.router.slot_filling import TRUE, Reading, read, unread

WEIGHTS = "model.safetensors"
NEAR = 0.3  # least probability of a tool that is an alternative
TAGGED, TAGGED_TEXT = 0.4, 0.15  # least probability of a token of a number, and of a text where one has at least one half
GUESSED = 0.15  # least probability of the likeliest value of a choice, which counts where the words spell none
GAP = 3  # tokens: a run that begins at most so far after the last belongs to it
LONGEST_QUERY = 500  # characters


class Router:
    """Made once, asked often; safe to ask from several threads.

    >>> Router.load("router-embedded").choose("How many platelets are there?")
    ['blood_cells']
    >>> Router.load("router-embedded").choose("And this field?", before=["ki67_cells"])
    ['ki67_cells']
    """

    def __init__(self, network: Any, encoder: Encoder, version: str = "") -> None:
        self.network, self.encoder, self.version = network.eval(), encoder, version
        self.config = encoder.config

    @classmethod
    def load(cls, source: str | Path = "router-embedded") -> Router:
        """`source`: an id of the registry of weights, or a folder that `train` wrote. Raises MissingWeights or BadInput."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(source) if Path(source).is_dir() else weights.path(str(source))
        config = RouterConfig.read(folder)
        encoder = Encoder(config)
        network = together([build(config, encoder.width) for _ in range(config.members)])
        try:
            network.load_state_dict(expanded(load_file(folder / WEIGHTS)))
        except (SafetensorError, OSError, RuntimeError) as error:
            raise BadInput(f"{folder / WEIGHTS} does not fit its config.json: {str(error)[:300]}") from error
        return cls(network, encoder, weights.version(str(source)))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the tools it knows."""
        return self.config.classes

    def probabilities(self, requests: Sequence[str], before: Sequence[Sequence[str]] | None = None) -> np.ndarray:
        """How likely each request asks for each tool: float32 [n, tools]. An empty request asks for none.

        `before`: the tools that the turn before each request called.
        """
        likely = np.zeros((len(requests), len(self.classes)), np.float32)
        worded = [n for n, r in enumerate(requests) if plain(r)]
        if worded:
            earlier = tool_vectors([before[n] if before else () for n in worded], self.classes)
            rows, _ = answers(self.network, self.encoder.states([plain(requests[n]) for n in worded]), earlier)
            likely[worded] = rows[:, : len(self.classes)]
        return likely

    def choose(self, request: str, before: Sequence[str] = ()) -> list[str]:
        """The tools that a request asks for, the likeliest first; empty when it asks for none.

        `before`: the tools that the turn before called, for "again" or "any papers on it?".
        """
        row = self._read(_single_blanks(request), [before]).rows[0] if plain(request) else np.zeros(0)
        return self._tools_of(row)

    def route(self, request: str, tools: Sequence[ToolSpec], *, pictures: int = 1, turns: Sequence[Turn] = ()) -> Route:
        """What to do about a request: the calls of the tools on offer, with their arguments, or why there are none.

        `pictures`: how many the person gave so far; `turns`: the conversation before the request.
        """
        words = _single_blanks(request)
        if not words:
            return Route(reason=Reason.SMALL_TALK, confidence=1.0)
        before = tools_before(turns)
        answer = self._read(words, [before, ()])
        likely = dict(zip(self.classes, map(float, answer.rows[0]), strict=False))
        intended, alone = self._tools_of(answer.rows[0]), self._tools_of(answer.rows[1])
        offered = {t.name: t for t in tools}
        if before and self._is_about_the_result(answer.rows[0]):
            return Route(reason=Reason.RESULT, confidence=self._reason(answer.rows[0])[1], alternatives=tuple(intended))
        near = tuple(n for n in sorted(likely, key=lambda n: -likely[n]) if likely[n] >= NEAR and n not in intended)
        ready = [n for n in intended if n in offered and (pictures or not offered[n].needs_image)]
        calls = [c for n in ready for c in self._calls(offered[n], answer, turns, again=n in before and n not in alone)]
        if ready:
            least = min(likely[n] for n in ready)
            return Route(calls=tuple(calls), reason=Reason.CALLS, confidence=least, tools=tuple(intended), alternatives=near)
        if intended:
            reason = Reason.NEEDS_PICTURE if any(n in offered for n in intended) else Reason.NOT_OFFERED
            return Route(reason=reason, confidence=likely[intended[0]], tools=tuple(intended), alternatives=near)
        reason, confidence = self._reason(answer.rows[0])
        return Route(reason=reason, confidence=confidence, alternatives=near)

    def reading(self, request: str, tool: str) -> Reading:
        """What the words say about the arguments of a tool, as far as these were learned. Places count within `request`."""
        return self._reading(self._read(request, [()]), tool)

    def _read(self, words: str, before: Sequence[Sequence[str]]) -> _Answer:
        """The words once through the encoder, then through the network after each of `before`."""
        tokens = self.encoder.tokens([words])
        states = self.encoder.read(tokens)
        rows, tags = answers(self.network, states * len(before), tool_vectors(before, self.classes))
        return _Answer(words, tokens[0].spans, rows, tags[-1])

    def _tools_of(self, row: np.ndarray) -> list[str]:
        """Names of the tools that are meant, the likeliest first: from the threshold on, and those beside them from `also` on.

        Where none reaches the threshold, but no reason for none is `sure` either, the likeliest from `lone` on.
        """
        likely = row[: len(self.classes)]
        if likely.max(initial=0.0) >= self.config.threshold:
            return [self.classes[n] for n in np.argsort(-likely) if likely[n] >= self.config.also]
        if likely.max(initial=0.0) >= self.config.lone and self._reason(row)[1] < self.config.sure:
            return [self.classes[int(likely.argmax())]]
        return []

    def _reason(self, row: np.ndarray) -> tuple[Reason, float]:
        """The likeliest reason for no call, and its probability."""
        first = len(self.classes)
        likely = {r: float(p) for r, p in zip(self.config.reasons, row[first:], strict=False) if r != Reason.CALLS}
        if not likely:
            return Reason.UNKNOWN, float(1 - row[:first].max(initial=0.0))
        best = max(likely, key=lambda r: likely[r])
        return Reason(best), likely[best]

    def _is_about_the_result(self, row: np.ndarray) -> bool:
        """Whether a question after a result rather asks about that than for another call."""
        reasons = dict(zip(self.config.reasons, row[len(self.classes) :], strict=False))
        result = reasons.get(Reason.RESULT, 0.0)
        unsure = result < self.config.sure and self._tools_of(row)
        return bool(result > reasons.get(Reason.CALLS, 1.0)) and not unsure

    def _calls(self, tool: ToolSpec, answer: _Answer, turns: Sequence[Turn], *, again: bool) -> list[ToolCall]:
        """The calls of a tool that the words ask for. `again`: they mean nothing alone; the arguments before count."""
        reading, words = self._reading(answer, tool.name), answer.words
        earlier = next((c.arguments for t in reversed(turns) for c in t.tool_calls if c.name == tool.name), {})
        calls = []
        for now in read(tool, words, reading):
            call = merged(earlier, now) if again else now
            for name in unread(tool, call, reading):
                schema = tool.parameters["properties"][name]
                if name in tool.parameters.get("required", ()) and schema.get("type") == "string" and "enum" not in schema:
                    call[name] = words[:LONGEST_QUERY]  # a search for all the words finds what a search for some does
            calls.append(ToolCall(name=tool.name, arguments=call | self._picture(tool, answer)))
        return calls

    def _picture(self, tool: ToolSpec, answer: _Answer) -> dict[str, Any]:
        """The picture that the words name, where the tool offers a choice of pictures."""
        handles = tool.parameters.get("properties", {}).get(PICTURE, {}).get("enum", [])
        first = len(self.classes) + len(self.config.reasons)
        for choice, likely in zip(self.config.choices, answer.rows[-1][first:], strict=True):
            name, _, number = choice.partition("=")
            if name == PICTURE and likely >= self.config.threshold and f"{PICTURE}{number}" in handles:
                return {PICTURE: f"{PICTURE}{number}"}
        return {}

    def _reading(self, answer: _Answer, tool: str) -> Reading:
        likely = answer.rows[-1][len(self.classes) + len(self.config.reasons) :]
        choices: dict[str, list[str]] = {}
        for n in np.argsort(-likely):
            name, _, value = self.config.choices[n].partition("=")
            choices.setdefault(name, [])
            if likely[n] >= self.config.threshold or (value != TRUE and not choices[name] and likely[n] >= GUESSED):
                choices[name].append(value)
        spans = {}
        for n, name in enumerate(self.config.spans):
            tags = answer.tags[:, n]
            least = TAGGED_TEXT if name.endswith(".query") and tags.max(initial=0.0) >= 0.5 else TAGGED
            spans[name] = spans_of(tags, answer.places, answer.words, least)
        own = {name: name.removeprefix(f"{tool}.") for name in (*choices, *spans) if name.startswith(f"{tool}.")}
        return Reading(
            learned=frozenset(own.values()),
            choices={own[n]: values for n, values in choices.items() if n in own},
            spans={own[n]: places for n, places in spans.items() if n in own},
        )


class _Answer:
    """What the network answers to one request: a row of answers for each turn before, and the tags of its tokens without any."""

    def __init__(self, words: str, places: Sequence[tuple[int, int]], rows: np.ndarray, tags: np.ndarray) -> None:
        self.words, self.places, self.rows, self.tags = words, places, rows, tags


def merged(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of an earlier call with what is said now in their place; a place said now replaces all earlier places."""
    has_place = any(isinstance(v, list) for v in now.values())
    return {n: v for n, v in earlier.items() if not (has_place and isinstance(v, list))} | dict(now)


def answers(network: Any, states: Sequence[np.ndarray], before: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The network's probabilities for texts of these states after `before`: n × questions, and of each text tokens × spans."""
    import torch

    order = sorted(range(len(states)), key=lambda n: len(states[n]))
    rows = np.zeros((len(states), network.questions), np.float32)
    tags: list[np.ndarray] = [np.zeros((0, 0))] * len(states)
    device = next(network.parameters()).device
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            part = order[start : start + BATCH]
            tokens = (*padded([states[n] for n in part]), torch.from_numpy(before[part]))
            logits, tagged = network(*(t.to(device) for t in tokens))
            rows[part] = logits.sigmoid().cpu().numpy()
            for n, row in zip(part, tagged.sigmoid().cpu().numpy(), strict=True):
                tags[n] = row[: len(states[n])]
    return rows, tags


def spans_of(tags: np.ndarray, places: Sequence[tuple[int, int]], words: str, least: float = 0.5) -> list[tuple[int, int]]:
    """Where a value stands: runs of tokens tagged with at least `least`, over small gaps, widened to whole words.

    `tags`: a probability a token; `places`: where each token stands in `words`.
    """
    spans: list[list[int]] = []
    last = -GAP - 1
    for n, (tag, (start, end)) in enumerate(zip(tags, places, strict=True)):
        if tag < least or start == end:
            continue
        if n - last <= GAP:
            spans[-1][1] = end
        else:
            spans.append([start, end])
        last = n
    for span in spans:
        while span[0] > 0 and _in_word(words, span[0] - 1) and _in_word(words, span[0]):
            span[0] -= 1
        while span[1] < len(words) and _in_word(words, span[1]) and _in_word(words, span[1] - 1):
            span[1] += 1
    return [(start, end) for start, end in spans]


def _in_word(words: str, at: int) -> bool:
    """Whether a character is one of a word of letters with blanks around, its hyphens too; Chinese has none."""
    if words[at] == "-":
        return 0 < at < len(words) - 1 and words[at - 1].isalnum() and words[at + 1].isalnum()
    return words[at].isalnum() and words[at] < "\u2e80"


def _single_blanks(request: str) -> str:
    return " ".join(plain(request).split())  # what reads values looks at each blank only so often
