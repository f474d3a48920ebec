"""Training a chooser on tool conversations (`pathasst instruct`), and its scores on wordings it never saw.

The encoder is frozen, so its states are computed once and kept on disk; after that an epoch takes a minute or two.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pathasst import dataset, weights
from pathasst.chooser.infer import WEIGHTS, scores
from pathasst.chooser.items import Item, items_of
from pathasst.chooser.network import Encoder, build, called, padded
from pathasst.chooser.settings import ChooserConfig, TrainSettings
from pathasst.dataset.manifest import fingerprint
from pathasst.errors import BadDataset
from pathasst.intervals import mean_interval
from pathasst.records import Conversation

COLUMNS = ["conversation_id", "kind", "turns", "split", "trail"]
WARMUP = 0.03  # share of the steps
CHUNK = 2048  # texts embedded between two lines of progress; requests sorted by length at once, so that batches pad little


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
    config = ChooserConfig(
        classes=classes, encoder=settings.encoder, layers=settings.layers, width=settings.width, heads=settings.heads
    )
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    states = States(items, config, out, say)
    network = build(config, states.width, settings.dropout)
    _fit(network, split["train"], states, config, settings, say)
    network.eval()
    save_file({k: v.half().contiguous() for k, v in network.state_dict().items()}, out / WEIGHTS)
    config.save(out)
    found = {
        name: measure([i.tools for i in held], _chosen(network, held, states, config), held)
        for name, held in split.items()
        if held and name != "train"
    }
    (out / "scores.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


class States:
    """The encoder's states of every text, float16 on disk (`states.npy`), computed once for the same texts and encoder."""

    def __init__(self, items: Sequence[Item], config: ChooserConfig, out: Path, say: Callable[[str], object]) -> None:
        texts = sorted({i.text for i in items})
        self.places = {t: n for n, t in enumerate(texts)}
        encoder = Encoder(config)
        self.width = encoder.width
        lengths = [len(i) for i in encoder.ids(texts)]
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

    def __call__(self, text: str) -> np.ndarray:
        place = self.places[text]
        return np.asarray(self.rows[self.starts[place] : self.starts[place + 1]])


def _fit(
    network: Any,
    items: Sequence[Item],
    states: States,
    config: ChooserConfig,
    settings: TrainSettings,
    say: Callable[[str], object],
) -> None:
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits as loss_of

    draw = np.random.default_rng(settings.seed)
    truth = called([i.tools for i in items], config.classes)
    before = called([i.before for i in items], config.classes)
    optimiser = torch.optim.AdamW(network.parameters(), settings.lr, weight_decay=settings.weight_decay)
    steps = max(1, round(settings.epochs * len(items) / settings.batch))
    waiting: list[np.ndarray] = []
    mean, started = 0.0, time.monotonic()
    network.train()
    for step in range(steps):
        if not waiting:
            waiting = _batches(items, settings.batch, draw)
        drawn = [_drawn(int(n), items, truth, before, states, config, settings, draw) for n in waiting.pop()]
        rows, wanted, earlier = zip(*drawn, strict=True)
        goal = torch.from_numpy(np.stack(wanted)) * (1 - 2 * settings.smoothing) + settings.smoothing
        rate = min(1.0, (step + 1) / max(1, WARMUP * steps)) * 0.5 * (1 + np.cos(np.pi * step / steps))
        for group in optimiser.param_groups:
            group["lr"] = settings.lr * rate
        loss = loss_of(network(*padded(rows), torch.from_numpy(np.stack(earlier))), goal)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        mean = float(loss.detach()) if not step else 0.98 * mean + 0.02 * float(loss.detach())
        if (step + 1) % 200 == 0 or step + 1 == steps:
            say(f"step {step + 1} of {steps}: loss {mean:.4f}, {time.monotonic() - started:.0f} s")


def _batches(items: Sequence[Item], size: int, draw: np.random.Generator) -> list[np.ndarray]:
    """An epoch's batches in random order, each of requests of like length."""
    length = np.array([len(i.text) for i in items])
    order = draw.permutation(len(items))
    parts = np.array_split(order, max(1, len(items) // CHUNK))
    order = np.concatenate([part[np.argsort(length[part], kind="stable")] for part in parts])
    batches = [order[n : n + size] for n in range(0, len(order), size)]
    return [batches[n] for n in draw.permutation(len(batches))]


def _drawn(
    n: int,
    items: Sequence[Item],
    truth: np.ndarray,
    before: np.ndarray,
    states: States,
    config: ChooserConfig,
    settings: TrainSettings,
    draw: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One request as training sees it: now and then joined to another, with words lost, or after a turn that it does not need."""
    tokens, wanted, earlier = states(items[n].text), truth[n], before[n]
    room = config.max_tokens // 3
    if draw.random() < settings.joined and len(tokens) < room:
        other = int(draw.integers(len(items)))
        more = states(items[other].text)
        if len(more) < room and not items[other].before:
            tokens, wanted = np.concatenate([tokens[:-1], more[1:]]), np.maximum(wanted, truth[other])
    if not items[n].before and draw.random() < settings.later:
        earlier = called([[config.classes[draw.integers(len(config.classes))]]], config.classes)[0]
    if draw.random() < 1 / 3:
        kept = draw.random(len(tokens)) >= settings.lost
        kept[0] = True
        tokens = tokens[kept]
    return tokens, wanted, earlier


def _chosen(network: Any, items: Sequence[Item], states: States, config: ChooserConfig) -> list[tuple[str, ...]]:
    before = called([i.before for i in items], config.classes)
    found = scores(network, [states(i.text) for i in items], before) >= config.threshold
    return [tuple(c for c, yes in zip(config.classes, row, strict=True) if yes) for row in found]


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
