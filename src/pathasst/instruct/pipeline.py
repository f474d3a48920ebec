"""The stage: Pairs → Conversations (PathInstruct). Knows the dataset's stages and the makers of this room.

A shard of pairs becomes a shard of descriptions and conversations; tool conversations are units of their own, so that their
number does not hang on the pairs. Every unit depends on its input and the settings alone: a killed run goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from pydantic import model_validator

from pathasst import dataset
from pathasst.core.errors import BadInput
from pathasst.core.files import fingerprint
from pathasst.core.records import Conversation, Pair, ToolSpec
from pathasst.core.settings import Field, Settings
from pathasst.instruct.balance import Balance
from pathasst.instruct.converse import alone, converse
from pathasst.instruct.describe import describe, word_count
from pathasst.instruct.invoke import SHARES, Invoker
from pathasst.instruct.lexicon import DOMAINS, lexicon
from pathasst.instruct.rewrite import Rewriter, client_of
from pathasst.instruct.wordings import Wordings
from pathasst.llm import LLMSettings

CODE = 5  # raised when the same wordings and settings give other rows
PASSING = ("max_cost", "parallel", "timeout", "attempts", "backoff", "max_wait", "price_in", "price_out", "key_env", "base_url")
PER_INVOKE_UNIT = 500
PER_LLM_BATCH = 32  # pairs asked about together
POOL_SHARDS, POOL_PAIRS = 24, 150  # pictures of the tool conversations: from so many shards, so many a split and kind
_LIGHT = ["pair_id", "caption", "label", "source", "split"]


class InstructSettings(Settings):
    """Settings of `pathasst instruct`: how many conversations of which kind, and who writes them (paper, PathInstruct)."""

    room: ClassVar[str] = "instruct"

    seed: int = Field(0, description="seed of all random choices")
    min_words: int = Field(12, ge=0, description="captions must have more words than this (paper, step 4)")
    labels_exempt: bool = Field(True, description="captions composed from class labels may be shorter")
    descriptions: int = Field(1, ge=0, description="detailed descriptions per pair")
    conversations: int = Field(1, ge=0, description="question–answer conversations per pair")
    turns: int = Field(4, ge=1, description="questions per conversation, at most")
    invoke: int = Field(4000, ge=0, description="tool conversations in all")
    shares: dict[str, float] = Field(default_factory=lambda: dict(SHARES), description="share of each kind of tool conversation")
    abstracts: str = Field("", description="file of real abstracts (.jsonl, .gz, .xz); empty: invented ones")
    llm: dict[str, Any] | None = Field(None, description="language model that writes: `preset` and fields of LLMSettings")
    llm_writes: list[str] = Field(default_factory=lambda: ["describe", "converse"], description="kinds the language model writes")
    wordings: str = Field("", description="folder whose files replace the packaged wordings")
    test_share: float = Field(0.1, ge=0, lt=1, description="share of the tool conversations in the test split")
    val_share: float = Field(0.05, ge=0, lt=1, description="share of the tool conversations in the val split")

    @model_validator(mode="after")
    def _consistent(self) -> InstructSettings:
        if unknown := set(self.llm_writes) - {"describe", "converse"}:
            raise ValueError(f"llm_writes: {', '.join(sorted(unknown))} is unknown; choose describe, converse")
        if self.llm is not None:
            LLMSettings.of(self.llm)  # a wrong one is reported before anything starts
        for name in ("abstracts", "wordings"):
            if getattr(self, name) and not Path(getattr(self, name)).exists():
                raise ValueError(f"{name}: {getattr(self, name)} does not exist")
        return self


def run(
    pairs: Sequence[Path | str],
    out: Path | str,
    settings: InstructSettings | None = None,
    specs: Sequence[ToolSpec] = (),
    *,
    workers: int = 1,
    runner: str = "native",
    progress: bool = True,
) -> dataset.Manifest:
    """Make the conversations of one or more pair datasets; without `specs` there are no tool conversations."""
    settings = settings or InstructSettings()
    work = InstructWork(settings, list(specs), [str(Path(p)) for p in pairs], str(Path(out) / "llm"))
    return dataset.run_stage(
        out,
        stage="instruct",
        record=Conversation,
        units=units(work),
        work=work,
        settings=_decisive(settings, specs),
        inputs=work.pairs,
        workers=workers,
        runner=runner,
        progress=progress,
    )


def _decisive(settings: InstructSettings, specs: Sequence[ToolSpec]) -> dict[str, Any]:
    """What decides the rows. A budget does not: a run that goes on with a higher one keeps its finished shards."""
    plain = settings.plain()
    if plain["llm"]:
        plain["llm"] = {k: v for k, v in plain["llm"].items() if k not in PASSING}
    stamp = Wordings(settings.wordings).stamp()
    return {**plain, "code": CODE, "wordings": stamp, "tools": [asdict(s) for s in specs]}


def units(work: InstructWork) -> list[dataset.Unit]:
    """One unit per shard of pairs, and one per 500 tool conversations."""
    units = [
        replace(unit, key=f"{n}-{unit.key}" if len(work.pairs) > 1 else f"pairs-{unit.key}")
        for n, folder in enumerate(work.pairs)
        for unit in dataset.units_of_dataset(folder)
    ]
    shards, stamp = work.pool(), fingerprint({"pool": [u.stamp for u in units]})
    count = work.settings.invoke if work.specs else 0
    starts = range(0, count, PER_INVOKE_UNIT)
    return units + [dataset.Unit(f"invoke-{start:06d}", shards, stamp) for start in starts]


@dataclass(frozen=True)
class InstructWork:
    """The work on one unit; picklable."""

    settings: InstructSettings
    specs: list[ToolSpec]
    pairs: list[str]
    llm_folder: str = ""

    def pool(self) -> list[str]:
        """Some shards of the pairs, evenly chosen: tools are asked about their pictures, questions balanced by their terms."""
        shards = [p for folder in self.pairs for u in dataset.units_of_dataset(folder) for p in u.paths]
        return shards[:: max(1, len(shards) // POOL_SHARDS)][:POOL_SHARDS]

    def __call__(self, unit: dataset.Unit) -> Iterator[Conversation | dataset.Dropped]:
        if unit.key.startswith("invoke-"):
            yield from self.invoked(unit)
            return
        wordings = Wordings(self.settings.wordings)
        pairs = (pair for path in unit.paths for pair in dataset.read(path, Pair))
        while batch := list(islice(pairs, PER_LLM_BATCH)):
            fit = []
            for pair in batch:
                reason = self.unfit(pair)
                if reason:
                    yield dataset.Dropped(pair.pair_id, reason, pair.caption)
                else:
                    fit.append(pair)
            yield from self.descriptions(fit, wordings)
            yield from self.conversations(fit, wordings)

    def unfit(self, pair: Pair) -> str:
        """Why a pair is left out, or nothing (paper, step 4: captions exceeding 12 words)."""
        words = word_count(pair.caption)
        exempt = self.settings.labels_exempt and pair.source.kind == "labels"
        return "no-caption" if not words else "" if exempt or words > self.settings.min_words else "short-caption"

    def descriptions(self, pairs: Sequence[Pair], wordings: Wordings) -> Iterator[Conversation | dataset.Dropped]:
        """The descriptions of some pairs, the first by a language model if one is set."""
        first = 0
        if self._llm_writes("describe") and self.settings.descriptions:
            yield from self._rewriter(wordings).descriptions(pairs)
            first = 1
        for pair in pairs:
            for n in range(first, self.settings.descriptions):
                rng = Random(f"{self.settings.seed}:{pair.pair_id}:describe:{n}")
                try:
                    yield _numbered(describe(pair, rng, wordings), n)
                except BadInput as error:
                    yield dataset.Dropped(f"{pair.pair_id}#describe", str(error), pair.caption)

    def conversations(self, pairs: Sequence[Pair], wordings: Wordings) -> Iterator[Conversation | dataset.Dropped]:
        """The conversations about some pairs, the first by a language model if one is set and what it writes is grounded."""
        first: dict[str, int] = {}
        if self._llm_writes("converse") and self.settings.conversations:
            first = {p.pair_id: 1 for p in pairs}
            for result in self._rewriter(wordings).dialogues(pairs):
                if isinstance(result, Pair):
                    first.pop(result.pair_id)
                else:
                    yield result
        balance = term_balance(tuple(self.pool()), str(self.pairs), wordings)
        for pair in pairs:
            for n in range(first.get(pair.pair_id, 0), self.settings.conversations):
                rng = Random(f"{self.settings.seed}:{pair.pair_id}:converse:{n}")
                try:
                    yield _numbered(converse(pair, rng, wordings, turns=self.settings.turns, balance=balance), n)
                except BadInput as error:
                    yield dataset.Dropped(f"{pair.pair_id}#converse", str(error), pair.caption)

    def _llm_writes(self, kind: str) -> bool:
        return self.settings.llm is not None and kind in self.settings.llm_writes

    def _rewriter(self, wordings: Wordings) -> Rewriter:
        assert self.settings.llm is not None
        return Rewriter(client_of(self.settings.llm, Path(self.llm_folder)), wordings, self.settings.seed)

    def invoked(self, unit: dataset.Unit) -> Iterator[Conversation]:
        """The tool conversations of one unit."""
        s = self.settings
        invoker = Invoker(self.specs, Wordings(s.wordings), s.abstracts, s.seed, s.shares, s.test_share, s.val_share)
        start = int(unit.key.split("-")[1])
        pools = picture_pool(tuple(unit.paths), unit.stamp, invoker.wordings, s.seed)
        for number in range(start, min(start + PER_INVOKE_UNIT, s.invoke)):
            yield invoker.make(number, pools)


@lru_cache(maxsize=1)
def term_balance(shards: tuple[str, ...], stamp: str, wordings: Wordings) -> Balance:
    """How often each term is true among the pairs of some shards. Read once a process; `stamp` changes with their content."""
    balance, words = Balance(), lexicon(wordings)
    for path in shards:
        for pair in dataset.read(path, Pair, columns=_LIGHT):
            domain = domain_of(pair, wordings) if pair.source.kind == "labels" else ""
            balance.add(alone(pair.caption, words), domain)
    return balance


@lru_cache(maxsize=1)
def picture_pool(shards: tuple[str, ...], stamp: str, wordings: Wordings, seed: int) -> dict[str, dict[str, list[Pair]]]:
    """split → domain → some pairs with their pictures, drawn evenly; the domain is empty where the pair does not tell it.

    Read once a process; `stamp` changes with the shards' content.
    """
    rng = Random(f"{seed}:pictures")
    by_domain: dict[tuple[str, str], list[str]] = {}
    for path in shards:
        for pair in dataset.read(path, Pair, columns=_LIGHT):
            by_domain.setdefault((pair.split, domain_of(pair, wordings)), []).append(pair.pair_id)
    sampled = {i for _, ids in sorted(by_domain.items()) for i in rng.sample(ids, min(POOL_PAIRS, len(ids)))}
    pools: dict[str, dict[str, list[Pair]]] = {}
    for path in shards:
        for pair in dataset.read(path, Pair):
            if pair.pair_id in sampled and pair.image:
                pools.setdefault(pair.split, {}).setdefault(domain_of(pair, wordings), []).append(pair)
    return pools


def domain_of(pair: Pair, wordings: Wordings) -> str:
    """cytology, blood, ihc, he, or empty: from the caption, else, for composed captions, from the collection's title."""
    words = lexicon(wordings)
    domain = words.domain(f"{pair.caption} {pair.original}")
    if not domain and pair.source.kind == "labels":
        domain = words.domain(f"{pair.source.title} {pair.label}")
    return domain if domain in DOMAINS else ""


def _numbered(conversation: Conversation, n: int) -> Conversation:
    return replace(conversation, conversation_id=f"{conversation.conversation_id}{n}") if n else conversation
