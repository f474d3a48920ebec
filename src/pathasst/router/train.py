"""Training a router on tool conversations (`pathasst instruct`), and its scores on wordings it never saw.

The encoder is frozen, so its states are computed once and kept on disk; after that an epoch takes a minute or two.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pathasst import dataset
from pathasst.core import weights
from pathasst.core.errors import BadDataset, BadSettings
from pathasst.core.files import fingerprint
from pathasst.core.records import Conversation
from pathasst.core.statistics import mean_interval
from pathasst.router.compact import compact, expanded
from pathasst.router.examples import Example, Examples
from pathasst.router.infer import WEIGHTS, Router, answers
from pathasst.router.items import Item, items_of
from pathasst.router.labels import learnable
from pathasst.router.network import Encoder, build, called, padded, together
from pathasst.router.settings import RouterConfig, TrainSettings

if TYPE_CHECKING:
    import torch

COLUMNS = ["conversation_id", "kind", "scenario", "tool", "turns", "split", "trail"]
WARMUP = 0.03  # share of the steps
CHUNK = 2048  # texts embedded between two lines of progress


def train(
    conversations: Sequence[Path | str],
    out: Path | str,
    settings: TrainSettings,
    *,
    say: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Train on the split train; return the scores on val and test, which are also written as `scores.json`.

    Raises BadDataset when there is no tool conversation to train on.
    """
    import torch
    from safetensors.torch import save_file

    items = [i for folder in conversations for i in items_of(dataset.read(folder, Conversation, columns=COLUMNS)) if i.text]
    split = {name: [i for i in items if i.split == name] for name in ("train", "val", "test")}
    classes = tuple(sorted({t for i in split["train"] for t in i.tools}))
    if not classes:
        raise BadDataset("no tool conversation to train on; make some with `pathasst instruct`, whose `invoke` is above 0.")
    choices, spans = learnable(split["train"])
    if 0 < settings.take < len(split["train"]):
        drawn = np.random.default_rng(settings.seed).choice(len(split["train"]), settings.take, replace=False)
        split["train"] = [split["train"][n] for n in sorted(drawn)]
        items = [i for held in split.values() for i in held]
    config = RouterConfig(
        classes=classes,
        choices=choices,
        spans=spans,
        encoder=settings.encoder,
        layers=settings.layers,
        width=settings.width,
        heads=settings.heads,
    )
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    states = States(items, config, out, say)
    torch.manual_seed(settings.seed)
    member = build(config, states.width, settings.dropout)
    if settings.start:
        _begin(member, config, settings.start)
    _fit(member, split["train"], states, config, settings, say)
    network = together([member]).eval()
    kept = compact(network.state_dict())
    save_file(kept, out / WEIGHTS)
    network.load_state_dict(expanded(kept))  # what is measured is what is kept
    config.save(out)
    found = {
        name: measure([i.tools for i in held], _chosen(network, held, states, config), held)
        for name, held in split.items()
        if held and name != "train"
    }
    (out / "scores.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def join(runs: Sequence[Path | str], out: Path | str) -> None:
    """Put the networks of several runs into one router that averages their probabilities: what one overhears, another may hear.

    Raises BadSettings when they learned other tools or arguments, or are of different shapes.
    """
    from safetensors.torch import save_file

    routers = [Router.load(run) for run in runs]
    if len({replace(c.config, members=1) for c in routers}) != 1:
        raise BadSettings(f"{', '.join(map(str, runs))} are of other tools, arguments or shapes and cannot be joined.")
    members = [member for c in routers for member in c.network.members]
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    save_file(compact(together(members).state_dict()), out / WEIGHTS)
    replace(routers[0].config, members=len(members)).save(out)


def _begin(network: Any, config: RouterConfig, start: str) -> None:
    """Give a network the weights of an earlier router of the same tools; what that one did not know stays as it is.

    Raises BadSettings when the two are of different shapes.
    """
    earlier = Router.load(start)
    if (earlier.classes, earlier.config.layers, earlier.config.width) != (config.classes, config.layers, config.width):
        raise BadSettings(f"router: start: {start} has other tools, layers or width than this one is to have.")
    own = network.state_dict()
    known = len(own["bias"]) if earlier.config.choices == config.choices else len(config.classes)
    for name, weight in earlier.network.members[0].state_dict().items():
        if name in ("queries", "heads", "bias"):
            own[name][:known] = weight[:known]
        elif own[name].shape == weight.shape:
            own[name] = weight
    network.load_state_dict(own)


class States:
    """The encoder's states of every text, float16 on disk (`states.npy`), computed once for the same texts and encoder."""

    def __init__(self, items: Sequence[Item], config: RouterConfig, out: Path, say: Callable[[str], object]) -> None:
        texts = sorted({i.text for i in items})
        self.places = {t: n for n, t in enumerate(texts)}
        encoder = Encoder(config)
        self.width = encoder.width
        self.tokens = encoder.tokens(texts)
        lengths = [len(t.ids) for t in self.tokens]
        self.starts = np.concatenate([[0], np.cumsum(lengths)])
        stamp = fingerprint({"texts": texts, "encoder": weights.version(config.encoder), "layers": config.layers})
        path, about = out / "states.npy", out / "states.json"
        if not (about.is_file() and json.loads(about.read_text(encoding="utf-8")) == {"stamp": stamp}):
            about.unlink(missing_ok=True)
            rows = np.lib.format.open_memmap(path, "w+", np.float16, (int(self.starts[-1]), self.width))
            started, order = time.monotonic(), np.argsort(lengths, kind="stable")
            for at in range(0, len(order), CHUNK):
                chosen = order[at : at + CHUNK]
                for n, found in zip(chosen, encoder.states([texts[n] for n in chosen]), strict=True):
                    rows[self.starts[n] : self.starts[n + 1]] = found
                say(f"read {at + len(chosen)} of {len(texts)} requests, {time.monotonic() - started:.0f} s")
            rows.flush()
            about.write_text(json.dumps({"stamp": stamp}), encoding="utf-8")
        self.rows = np.load(path, mmap_mode="r")

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where each token stands in the text."""
        return self.tokens[self.places[text]].spans

    def __call__(self, text: str) -> np.ndarray:
        place = self.places[text]
        return np.asarray(self.rows[self.starts[place] : self.starts[place + 1]])


def _fit(
    network: Any,
    items: Sequence[Item],
    states: States,
    config: RouterConfig,
    settings: TrainSettings,
    say: Callable[[str], object],
) -> None:
    import torch

    examples = Examples(items, states, config, settings, np.random.default_rng(settings.seed))
    optimiser = torch.optim.AdamW(network.parameters(), settings.lr, weight_decay=settings.weight_decay)
    steps = max(1, round(settings.epochs * len(items) / settings.batch))
    waiting: list[np.ndarray] = []
    mean, started = 0.0, time.monotonic()
    network.train()
    for step in range(steps):
        waiting = waiting or examples.batches()
        rate = min(1.0, (step + 1) / max(1, WARMUP * steps)) * 0.5 * (1 + np.cos(np.pi * step / steps))
        for group in optimiser.param_groups:
            group["lr"] = settings.lr * rate
        loss = _loss(network, [examples.drawn(int(n)) for n in waiting.pop()], settings.smoothing)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        mean = float(loss.detach()) if not step else 0.98 * mean + 0.02 * float(loss.detach())
        if (step + 1) % 200 == 0 or step + 1 == steps:
            say(f"step {step + 1} of {steps}: loss {mean:.4f}, {time.monotonic() - started:.0f} s")


def _loss(network: Any, batch: Sequence[Example], smoothing: float) -> torch.Tensor:
    """Cross-entropy of the tools; and of choices and tags, over the examples that tell them."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits as loss_of

    tokens, nothing = padded([e.tokens for e in batch])
    asked, tagged = network(tokens, nothing, torch.from_numpy(np.stack([e.before for e in batch])))
    told = torch.tensor([e.told for e in batch])
    tools = torch.from_numpy(np.stack([e.tools for e in batch])) * (1 - 2 * smoothing) + smoothing
    loss = loss_of(asked[:, : tools.shape[1]], tools)
    if told.any() and asked.shape[1] > tools.shape[1]:
        choices = torch.from_numpy(np.stack([e.choices for e in batch]))
        loss = loss + loss_of(asked[told, tools.shape[1] :], choices[told])
    if told.any() and tagged.shape[2]:
        tags, _ = padded([e.tags for e in batch])
        loss = loss + loss_of(tagged[told][~nothing[told]], tags[told][~nothing[told]])
    return loss


def _chosen(network: Any, items: Sequence[Item], states: States, config: RouterConfig) -> list[tuple[str, ...]]:
    before = called([i.before for i in items], config.classes)
    found, _ = answers(network, [states(i.text) for i in items], before)
    asked = found[:, : len(config.classes)] >= config.threshold
    return [tuple(c for c, yes in zip(config.classes, row, strict=True) if yes) for row in asked]


def measure(wanted: Sequence[Sequence[str]], chosen: Sequence[Sequence[str]], items: Sequence[Item]) -> dict[str, Any]:
    """Share of requests whose tools are exactly right, in all and by kind; share of false calls where none is wanted.

    95 % intervals, bootstrap over wordings (`Item.group`), 1,000 draws, seed 0.
    """
    right = np.array([set(w) == set(c) for w, c in zip(wanted, chosen, strict=True)], float)
    groups = np.array([i.group for i in items])
    kinds = np.array([i.kind for i in items])
    free = np.array([not w for w in wanted])
    false = np.array([float(bool(c)) for c in chosen])
    found = {"all": _interval(right, groups)}
    found |= {str(k): _interval(right[kinds == k], groups[kinds == k]) for k in sorted(set(kinds))}
    if free.any():
        found["false calls"] = _interval(false[free], groups[free])
    return found


def _interval(values: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    made = mean_interval(values, list(groups))
    return {"value": round(made.value, 4), "low": round(made.low, 4), "high": round(made.high, 4), "n": len(values)}
