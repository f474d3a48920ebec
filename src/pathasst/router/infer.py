"""A trained router: requests in, tools out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pathasst.core import weights
from pathasst.core.errors import BadInput
from pathasst.core.records import ToolCall, ToolSpec, Turn
from pathasst.router.compact import expanded
from pathasst.router.items import plain, tools_before
from pathasst.router.network import BATCH, Encoder, build, called, padded, together
from pathasst.router.route import Reason, Route
from pathasst.router.settings import RouterConfig
from pathasst.router.slot_filling import Said, read

WEIGHTS = "model.safetensors"
SURE, POSSIBLE = 0.9, 0.02  # least probability of a clause's tool, in the clause and in the whole (chosen on the split val)
MOST_CLAUSES = 40  # of a request that are read one by one: pasted text has any number
NEAR = 0.25  # least probability of a tool that is an alternative
GAP = 3  # tokens: a run that begins at most so far after the last belongs to it
_CLAUSE = re.compile(r"[.;?!:,] | (?:and|then|plus|also|as well as|besides|&|\+) ", re.IGNORECASE)  # of words with single blanks


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
        config = RouterConfig.load(folder)
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
        found = np.zeros((len(requests), len(self.classes)), np.float32)
        said = [n for n, r in enumerate(requests) if plain(r)]
        if said:
            earlier = called([before[n] if before else () for n in said], self.classes)
            rows, _ = answers(self.network, self.encoder.states([plain(requests[n]) for n in said]), earlier)
            found[said] = rows[:, : len(self.classes)]
        return found

    def choose(self, request: str, before: Sequence[str] = ()) -> list[str]:
        """The tools that a request asks for, the likeliest first; empty when it asks for none.

        `before`: the tools that the turn before called, for "again" or "any papers on it?". Of a request that asks for something,
        each clause is also read alone: the second wish of a sentence is easily overheard.
        """
        parts = clauses(request)
        rows = self.probabilities([request, *parts], [before, *[()] * len(parts)])
        row, alone = rows[0], rows[1:].max(0, initial=0.0)
        asked = row >= self.config.threshold
        if asked.any():
            asked |= (alone >= SURE) & (row >= POSSIBLE)
        return [self.classes[n] for n in np.argsort(-row) if asked[n]]

    def route(self, request: str, tools: Sequence[ToolSpec], *, pictures: int = 1, turns: Sequence[Turn] = ()) -> Route:
        """What to do about a request: the calls of the tools on offer, with their arguments, or why there are none.

        `pictures`: how many the person gave so far; `turns`: the conversation before the request.
        """
        words = " ".join(plain(request).split())
        before = tools_before(turns)
        row = self.probabilities([words], [before])[0]
        likely = dict(zip(self.classes, map(float, row), strict=True))
        meant = tuple(self.choose(words, before))
        offered = {t.name: t for t in tools}
        alternatives = tuple(n for n, p in sorted(likely.items(), key=lambda i: -i[1]) if p >= NEAR and n not in meant)
        ready = [n for n in meant if n in offered and (pictures or not offered[n].needs_image)]
        if ready:
            calls = [c for n in ready for c in self._calls(offered[n], words, turns)]
            least = min(likely[n] for n in ready)
            return Route(calls=tuple(calls), reason=Reason.CALLS, confidence=least, tools=meant, alternatives=alternatives)
        if meant:
            reason = Reason.NEEDS_PICTURE if any(n in offered for n in meant) else Reason.NOT_OFFERED
            return Route(reason=reason, confidence=likely[meant[0]], tools=meant, alternatives=alternatives)
        nothing = float(1 - row.max(initial=0.0))
        return Route(reason=Reason.UNKNOWN, confidence=nothing, alternatives=alternatives)

    def _calls(self, tool: ToolSpec, words: str, turns: Sequence[Turn]) -> list[ToolCall]:
        """The calls of a tool that the words ask for; what is required and not in the words is left out."""
        again = tool.name in tools_before(turns) and tool.name not in self.choose(words)
        earlier = next((c.arguments for t in reversed(turns) for c in t.tool_calls if c.name == tool.name), {})
        calls = read(tool, words, self.said(words, tool.name))
        return [ToolCall(name=tool.name, arguments=merged(earlier, call) if again else call) for call in calls]

    def said(self, request: str, tool: str) -> Said:
        """What the words say about the arguments of a tool, as far as these were learned. Places count within `request`."""
        if not any(name.startswith(f"{tool}.") for name in (*self.config.choices, *self.config.spans)):
            return Said()  # nothing learned, nothing to encode
        rows, tags = answers(self.network, self.encoder.states([request]), called([()], self.classes))
        places = self.encoder.tokens([request])[0].spans
        likely = rows[0, len(self.classes) :]
        choices: dict[str, list[str]] = {}
        for n in np.argsort(-likely):
            name, _, value = self.config.choices[n].partition("=")
            choices.setdefault(name, [])
            if likely[n] >= self.config.threshold:
                choices[name].append(value)
        spans = {name: spans_of(tags[0][:, n], places, request) for n, name in enumerate(self.config.spans)}
        own = {name: name.removeprefix(f"{tool}.") for name in (*choices, *spans) if name.startswith(f"{tool}.")}
        return Said(
            learned=frozenset(own.values()),
            choices={own[n]: found for n, found in choices.items() if n in own},
            spans={own[n]: found for n, found in spans.items() if n in own},
        )


def merged(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of an earlier call with what is said now in their place; a place said now replaces all earlier places."""
    moved = any(isinstance(v, list) for v in now.values())
    return {n: v for n, v in earlier.items() if not (moved and isinstance(v, list))} | dict(now)


def clauses(request: str) -> list[str]:
    """The clauses of a request of several, of at least two words each; the first MOST_CLAUSES of them."""
    words = " ".join(plain(request).split())
    found = [c for c in _CLAUSE.split(words, maxsplit=MOST_CLAUSES) if len(c.split(None, 2)) > 1][:MOST_CLAUSES]
    return found if len(found) > 1 else []


def answers(network: Any, states: Sequence[np.ndarray], before: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The network's probabilities for texts of these states after `before`: n × questions, and of each text tokens × spans."""
    import torch

    order = sorted(range(len(states)), key=lambda n: len(states[n]))
    found = np.zeros((len(states), network.questions), np.float32)
    tags: list[np.ndarray] = [np.zeros((0, 0))] * len(states)
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            asked, tagged = network(*padded([states[n] for n in chosen]), torch.from_numpy(before[chosen]))
            found[chosen] = asked.sigmoid().numpy()
            for n, row in zip(chosen, tagged.sigmoid().numpy(), strict=True):
                tags[n] = row[: len(states[n])]
    return found, tags


def spans_of(tags: np.ndarray, places: Sequence[tuple[int, int]], words: str) -> list[tuple[int, int]]:
    """Where a value stands: runs of tokens tagged with at least one half, over small gaps, widened to whole words.

    `tags`: a probability a token; `places`: where each token stands in `words`.
    """
    found: list[list[int]] = []
    last = -GAP - 1
    for n, (tag, (start, end)) in enumerate(zip(tags, places, strict=True)):
        if tag < 0.5 or start == end:
            continue
        if n - last <= GAP:
            found[-1][1] = end
        else:
            found.append([start, end])
        last = n
    for span in found:
        while span[0] > 0 and words[span[0] - 1].isalnum():
            span[0] -= 1
        while span[1] < len(words) and words[span[1]].isalnum():
            span[1] += 1
    return [(start, end) for start, end in found]
