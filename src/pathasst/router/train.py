"""Training a router on the wordings of this room and on tool conversations (`pathasst instruct`), and its scores on unseen ones.

The encoder is frozen, so its states are computed once and lie on disk; after that an epoch takes a minute or two. The loop is
`pathasst.training`'s: an interrupted training resumes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pathasst import dataset
from pathasst.core import weights
from pathasst.core.errors import BadDataset, BadSettings
from pathasst.core.files import fingerprint
from pathasst.core.records import Conversation
from pathasst.core.statistics import mean_interval
from pathasst.nn.compact import compact, expanded
from pathasst.router.examples import Examples
from pathasst.router.infer import WEIGHTS, Router
from pathasst.router.items import RequestItem, items_of
from pathasst.router.labels import learnable
from pathasst.router.network import Encoder, build, together
from pathasst.router.requests import RouterRequests, without
from pathasst.router.settings import RouterConfig, RouterTraining

if TYPE_CHECKING:
    pass

COLUMNS = ["conversation_id", "kind", "scenario", "tool", "turns", "split", "trail"]
CHUNK = 2048  # texts embedded between two lines of progress
LEFT_OUT = "left_out"


def train(
    conversations: Sequence[Path | str],
    out: Path | str,
    settings: RouterTraining,
    *,
    more: Iterable[Conversation] = (),
    held_out: Sequence[str] = (),
    say: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Train on the wordings of this room and on the split train of the conversations; return the scores, also in `scores.json`.

    `conversations`: folders; `more`: further ones; `held_out`: requests of test sets, whose words no training request may have.
    Raises BadDataset when there is no request for a tool to train on.
    """
    import torch
    from safetensors.torch import save_file

    from pathasst.router.task import RouterTask, chosen_tools
    from pathasst.training import fit

    read = chain(more, *(dataset.read(folder, Conversation, columns=COLUMNS) for folder in conversations))
    items = [i for i in items_of(read) if i.text]
    for name, count in (("train", settings.requests), ("val", settings.requests // 8)):
        items += RouterRequests(name, settings.wordings_seed).items(count)
    items = [_left_out(i, settings.leave_out) for i in without(_once(items), held_out)]
    split = {name: [i for i in items if i.split == name] for name in ("train", "val", "test", LEFT_OUT)}
    classes = tuple(sorted({t for i in split["train"] for t in i.tools}))
    if not classes:
        raise BadDataset("no request for a tool to train on: requests is 0, and there is no tool conversation.")
    choices, spans = learnable(split["train"])
    config = RouterConfig(
        classes=classes,
        reasons=tuple(sorted({i.reason for i in split["train"] if i.reason})),
        choices=choices,
        spans=spans,
        encoder=settings.encoder,
        layers=settings.layers,
        width=settings.width,
        heads=settings.heads,
    )
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    say(f"{len(split['train'])} requests to train on, {len(split['val'])} for val, {len(split['test'])} for test")
    states = States(items, config, Path(settings.states or out), say)
    torch.manual_seed(settings.seed)
    member = build(config, states.width, settings.dropout)
    if settings.start:
        _go_on(member, config, Router.load(settings.start))
    steps = settings.steps or max(1, round(settings.epochs * len(split["train"]) / settings.batch))
    task = RouterTask(member, Examples(split["train"], states, config, settings), split["val"])

    def tell(line: dict[str, Any]) -> None:
        if "loss" in line and (line["step"] % 200 == 0 or line["step"] == steps):
            say(f"step {line['step']} of {steps}: loss {line['loss']:.4f}, {line['seconds']:.0f} s")

    trained = fit(task, settings.replace(steps=steps), out, log=tell)
    network = together([member.cpu()]).eval()
    state = compact(network.state_dict())
    save_file(state, out / WEIGHTS)
    network.load_state_dict(expanded(state))  # what is measured is what is saved
    config.save(out)
    scores = {
        name: measure([i.tools for i in part], chosen_tools(network, part, task.examples), part)
        for name, part in split.items()
        if part and name != "train"
    }
    (out / "scores.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    trained.remove_checkpoints()
    return scores


def _go_on(member: Any, config: RouterConfig, earlier: Router) -> None:
    """Put an earlier router's weights into a new member; what it did not know (a tool, an argument) stays as it was drawn.

    Raises BadSettings when it read other states or has another width.
    """
    import torch

    old = earlier.config
    if (old.encoder, old.layers, old.width, old.heads) != (config.encoder, config.layers, config.width, config.heads):
        raise BadSettings("start: the earlier router has another encoder, layers, width or heads.")
    weights_before, rows = earlier.network.members[0].state_dict(), member.state_dict()
    names = {"queries": (old.questions, config.questions), "tags.weight": (old.spans, config.spans)}
    names |= {"heads": names["queries"], "bias": names["queries"], "tags.bias": names["tags.weight"]}
    with torch.no_grad():
        for name, row in rows.items():
            if name == "before.weight":  # width × classes
                for n, tool in enumerate(config.classes):
                    if tool in old.classes:
                        row[:, n] = weights_before[name][:, old.classes.index(tool)]
            elif name in names:
                before, now = names[name]
                for n, question in enumerate(now):
                    if question in before:
                        row[n] = weights_before[name][before.index(question)]
            else:
                row.copy_(weights_before[name])


def _left_out(item: RequestItem, names: Sequence[str]) -> RequestItem:
    """The item, in a split of its own where its language or hand is among the names."""
    return replace(item, split=LEFT_OUT) if {item.language, item.hand} & set(names) and item.hand else item


def _once(items: Iterable[RequestItem]) -> list[RequestItem]:
    """Items without those that are the same in all that is learned from them."""
    return list({(i.text.lower(), i.tools, i.before, i.split): i for i in items}.values())


def join(runs: Sequence[Path | str], out: Path | str) -> None:
    """Put the networks of several runs into one router that averages their probabilities: what one overhears, another may hear.

    Raises BadSettings when they learned other tools or arguments, or are of different shapes.
    """
    from safetensors.torch import save_file

    routers = [Router.load(run) for run in runs]
    if len({c.config.replace(members=1) for c in routers}) != 1:
        raise BadSettings(f"{', '.join(map(str, runs))} are of other tools, arguments or shapes and cannot be joined.")
    members = [member for c in routers for member in c.network.members]
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    save_file(compact(together(members).state_dict()), out / WEIGHTS)
    routers[0].config.replace(members=len(members)).save(out)


class States:
    """The encoder's states of every text, float16 in files of a folder; texts that an earlier run read are not read again."""

    def __init__(self, items: Sequence[RequestItem], config: RouterConfig, folder: Path, say: Callable[[str], object]) -> None:
        encoder = Encoder(config)
        self.width = encoder.width
        texts = sorted({i.text for i in items})
        self.tokens = dict(zip(texts, encoder.tokens(texts), strict=True))
        stamp = fingerprint(
            {"encoder": weights.version(config.encoder), "layers": config.layers, "max_tokens": config.max_tokens}
        )
        folder = folder / f"states-{stamp}"
        folder.mkdir(parents=True, exist_ok=True)
        self.rows: dict[str, np.ndarray] = {}
        parts = sorted(folder.glob("*.json"))
        for part in parts:
            self._open(part)
        new = sorted((t for t in texts if t not in self.rows), key=lambda t: len(self.tokens[t].ids))
        started = time.monotonic()
        for number, at in enumerate(range(0, len(new), CHUNK), len(parts)):
            chunk = new[at : at + CHUNK]
            states = encoder.read([self.tokens[t] for t in chunk])
            np.save(folder / f"{number:05d}.npy", np.concatenate(states))
            part = folder / f"{number:05d}.json"
            part.write_text(json.dumps([[t, len(s)] for t, s in zip(chunk, states, strict=True)]), encoding="utf-8")
            self._open(part)
            say(f"read {at + len(chunk)} of {len(new)} requests, {time.monotonic() - started:.0f} s")

    def _open(self, part: Path) -> None:
        rows, at = np.load(part.with_suffix(".npy"), mmap_mode="r"), 0
        for text, length in json.loads(part.read_text(encoding="utf-8")):
            self.rows[text] = rows[at : at + length]
            at += length

    def of(self, text: str) -> tuple[np.ndarray, list[tuple[int, int]]]:
        """float16 tokens × width, and where each token stands in the text."""
        return np.asarray(self.rows[text]), self.tokens[text].spans


def measure(
    expected: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], items: Sequence[RequestItem]
) -> dict[str, Any]:
    """Share of requests whose tools are exactly right, in all and by kind; share of false calls where none is wanted.

    95 % intervals, bootstrap over wordings (`RequestItem.group`), 1,000 draws, seed 0.
    """
    right = np.array([set(w) == set(c) for w, c in zip(expected, predicted, strict=True)], float)
    groups = np.array([i.group for i in items])
    kinds = np.array([i.kind for i in items])
    free = np.array([not w for w in expected])
    false = np.array([float(bool(c)) for c in predicted])
    scores = {"all": _interval(right, groups)}
    scores |= {str(k): _interval(right[kinds == k], groups[kinds == k]) for k in sorted(set(kinds))}
    if free.any():
        scores["false calls"] = _interval(false[free], groups[free])
    return scores


def _interval(values: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    share = mean_interval(values, list(groups))
    return {"value": round(share.value, 4), "low": round(share.low, 4), "high": round(share.high, 4), "n": len(values)}
