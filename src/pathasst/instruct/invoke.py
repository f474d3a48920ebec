"""Tool-use conversations (paper, "model-invoking instruction-following samples", Figure 2), made from wordings alone.

Decides what is drawn: the kind of conversation, the tool, the picture, and which tools are on offer. Knows tools only as
`ToolSpec`s that the caller passes, since `tools` lies to the right of this room; arguments a spec does not know are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random

from pathasst.core.errors import BadSettings
from pathasst.core.records import IMAGE, Conversation, Pair, Source, ToolSpec, Turn
from pathasst.instruct.lexicon import lexicon
from pathasst.instruct.literature import literature
from pathasst.instruct.requests import Requests
from pathasst.instruct.scenarios import Scenarios, Script
from pathasst.instruct.wordings import Wordings

SHARES: dict[str, float] = {
    "single": 0.32,
    "several": 0.07,
    "chain": 0.06,
    "not_offered": 0.13,
    "wrong_picture": 0.04,
    "no_picture": 0.03,
    "unable": 0.05,
    "off_topic": 0.05,
    "plain": 0.15,
    "plain_then_tool": 0.02,
    "failed": 0.02,
    "repeat": 0.02,
    "read_on": 0.02,
    "talk": 0.02,
}
"""Kind → share of the tool conversations. A recipe may set its own (`shares`)."""

NEAR: dict[str, tuple[str, ...]] = {
    "lbc_classify": ("lbc_detect", "lbc_generate"),
    "lbc_detect": ("lbc_classify", "segment", "blood_cells"),
    "blood_cells": ("lbc_detect", "segment"),
    "lbc_generate": ("lbc_classify", "lbc_detect"),
    "her2_cells": ("pdl1_cells", "ki67_cells"),
    "pdl1_cells": ("her2_cells", "ki67_cells"),
    "ki67_cells": ("her2_cells", "pdl1_cells"),
    "segment": ("blood_cells", "lbc_detect"),
    "papers_search": ("segment",),
}
"""The tools that are easily mistaken for one; they are offered beside it more often."""

OWN = Source(article_id="pathasst:invoke", kind="labels", title="PathAsst tool wordings", licence="Apache-2.0")
PER_PICTURE = 10  # conversations of a tool, one after the other, that share a picture: training then reads it once
AGAIN = 0.2  # of the second requests to a tool that must be told what of are for another of the same
Pool = Mapping[str, Sequence[Pair]]  # domain ("" = unknown) → pairs with pictures, of one split


@dataclass(frozen=True)
class Invoker:
    """Makes tool conversations; number `n` is always the same, whatever was made before it."""

    specs: Sequence[ToolSpec]
    wordings: Wordings
    abstracts: str = ""
    seed: int = 0
    shares: Mapping[str, float] | None = None
    test_share: float = 0.1
    val_share: float = 0.05

    def __post_init__(self) -> None:
        if unknown := set(self.shares or ()) - set(SHARES):
            raise BadSettings(f"shares: {', '.join(sorted(unknown))} is unknown; the kinds are {', '.join(SHARES)}.")
        if not self.tools:
            raise BadSettings(f"no wordings for any of the tools {[s.name for s in self.specs]}; add tools/<name>.yaml.")
        requests = Requests(self.wordings, literature(self.wordings, self.abstracts))
        object.__setattr__(self, "requests", requests)

    @cached_property
    def tools(self) -> list[str]:
        """Names of the tools that are both given and worded, in the order given."""
        worded = set(self.wordings.tool_names())
        return [s.name for s in self.specs if s.name in worded]

    def split_of(self, number: int) -> str:
        share = Random(f"{self.seed}:split:{number}").random()
        return "test" if share < self.test_share else "val" if share < self.test_share + self.val_share else "train"

    def make(self, number: int, pools: Mapping[str, Pool]) -> Conversation:
        """Conversation `number`. `pools`: split → domain → pairs whose pictures may be used."""
        rng, split = Random(f"{self.seed}:invoke:{number}"), self.split_of(number)
        pool = pools.get(split, {})
        shares = dict(self.shares or SHARES)
        scenario = rng.choices(list(shares), weights=list(shares.values()))[0]
        tool = self.tools[number % len(self.tools)]
        pictures = f"{self.seed}:{split}:{number // (PER_PICTURE * len(self.tools))}"
        return _Draw(self, rng, split, pool, pictures).conversation(number, scenario, tool)


class _Draw:
    """One conversation being drawn."""

    def __init__(self, invoker: Invoker, rng: Random, split: str, pool: Pool, pictures: str) -> None:
        self.pictures = pictures  # seed of the pictures: neighbours that want one for the same tool get the same
        self.invoker, self.rng, self.split, self.pool = invoker, rng, split, pool
        self.words = lexicon(invoker.wordings)
        self.write = Scenarios(invoker.wordings, invoker.requests, rng, split)  # type: ignore[attr-defined]

    def conversation(self, number: int, scenario: str, tool: str) -> Conversation:
        script, pair, offered = Script(), self._suitable_pair(tool), self._offered([tool])
        if scenario == "wrong_picture" and (other := self._wrong(tool)) is not None:
            pair, other_domain = other
            self.write.refused("wrong_picture", tool, script, seen=self.invoker.wordings.load("decline")["seen"][other_domain])
        elif scenario == "no_picture" and pair is not None and self._needs_picture(tool):
            pair = None
            self.write.refused("no_picture", tool, script)
        elif scenario == "not_offered":
            offered = [t for t in offered if t != tool]
            self.write.refused("not_offered", tool, script)
        elif scenario in ("unable", "off_topic", "plain"):
            pair = self._any()
            offered = self._offered([])
            if scenario == "plain":
                self.write.plain(pair, script)
            else:
                getattr(self.write, scenario)(script)
        elif scenario in ("several", "chain"):
            tools = [tool, self._partner(tool)]
            pair = self._suitable_pair(min(tools, key=lambda t: (self._domain(t) == "any", not self._needs_picture(t))))
            self.rng.shuffle(tools)
            offered = self._offered(tools)
            getattr(self.write, scenario)(tools, pair, script)
        elif scenario == "plain_then_tool":
            self.write.plain(pair, script)
            self.write.single(tool, pair, script)
        elif scenario in ("repeat", "read_on", "talk"):
            offered = self._offered([tool, "papers_search"] if scenario == "read_on" else [tool])
            getattr(self.write, scenario)(tool, pair, script)
        elif scenario == "failed" and self._needs_picture(tool):
            self.write.failed(tool, script)
        else:
            self.write.single(tool, pair, script)
        return self._finished(number, script, pair, offered)

    def _finished(self, number: int, script: Script, pair: Pair | None, offered: list[str]) -> Conversation:
        turns = [self._known_arguments(t) for t in script.turns]
        if pair is not None:
            turns[0] = replace(turns[0], content=f"{IMAGE}\n{turns[0].content}")
        return Conversation(
            conversation_id=f"invoke/{number:06d}",
            kind="invoke",
            scenario=script.scenario,
            tool=script.tool,
            turns=turns,
            images=[pair.image] if pair else [],
            tools=offered,
            source=pair.source if pair else OWN,
            pair_id=pair.pair_id if pair else "",
            caption=pair.caption if pair else "",
            group=(pair.group or pair.source.article_id) if pair else "",
            split=self.split,
            trail=script.marks,
        )

    def _known_arguments(self, turn: Turn) -> Turn:
        """Drop arguments that the tool's own schema does not name."""
        if not turn.tool_calls:
            return turn
        schemas = {s.name: s.parameters.get("properties", {}) for s in self.invoker.specs}
        calls = [replace(c, arguments={k: v for k, v in c.arguments.items() if k in schemas[c.name]}) for c in turn.tool_calls]
        return replace(turn, tool_calls=calls)

    def _domain(self, tool: str) -> str:
        return str(self.invoker.wordings.load(f"tools/{tool}")["domain"])

    def _needs_picture(self, tool: str) -> bool:
        return next(s.needs_image for s in self.invoker.specs if s.name == tool)

    def _required(self, tool: str) -> list[str]:
        return next(list(s.parameters.get("required", [])) for s in self.invoker.specs if s.name == tool)

    def _suitable_pair(self, tool: str) -> Pair | None:
        """A picture the tool works on; for a stain of one marker, none that names another marker if there is a choice."""
        domain = self._domain(tool)
        if domain == "any":
            return self._any() if self._needs_picture(tool) or self.rng.random() < 0.5 else None
        pairs, draw = list(self.pool.get(domain, ())), Random(f"{self.pictures}:{tool}")
        marker = self.invoker.wordings.load(f"tools/{tool}").get("marker")
        free = [p for p in draw.sample(pairs, min(6, len(pairs))) if not (set(self._markers(p)) - {marker})]
        return draw.choice(free or pairs) if pairs else None

    def _markers(self, pair: Pair) -> list[str]:
        return self.words.find(pair.caption).terms["marker"] if pair.caption else []

    def _any(self) -> Pair | None:
        domains = [d for d, pairs in self.pool.items() if pairs]
        if not domains:
            return None
        domain = self.rng.choice(domains)
        return Random(f"{self.pictures}:{domain}").choice(self.pool[domain])

    def _wrong(self, tool: str) -> tuple[Pair, str] | None:
        domain = self._domain(tool)
        others = [d for d, pairs in self.pool.items() if pairs and d and d != domain]
        if domain == "any" or not others:
            return None
        other_domain = self.rng.choice(others)
        return self.rng.choice(self.pool[other_domain]), other_domain

    def _partner(self, tool: str) -> str:
        """A second tool for the same picture: one of its kind of picture, one for any, or the same for another thing."""
        domain = self._domain(tool)
        if self._required(tool) and self.rng.random() < AGAIN:
            return tool
        fits = [t for t in self.invoker.tools if t != tool and (self._domain(t) in (domain, "any") or domain == "any")]
        return self.rng.choice(fits) if fits else tool

    def _offered(self, required: list[str]) -> list[str]:
        """Which tools are on offer, in their usual order: all of them, or the wanted, some that are near, and some others."""
        tools = self.invoker.tools
        if self.rng.random() < 0.35:
            return tools
        near = [n for w in required for n in NEAR.get(w, ()) if n in tools and self.rng.random() < 0.6]
        others = self.rng.sample(tools, self.rng.randint(1 if not required else 0, len(tools)))
        if self.rng.random() < 0.4:
            others = others[:2]
        offered = {*required, *near, *others}
        return [t for t in tools if t in offered]
