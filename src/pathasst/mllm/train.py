"""Training PathAsst in the paper's two phases: the FC layer on descriptions, then FC layer and LLM; PathCLIP frozen
throughout.

`train` is one run from conversations to an adapter folder (`adapter.py`). Everything random follows from the seed and the
step, and a checkpoint is one file holding what is trained and the optimiser's state, so a killed run goes on exactly where
it was. Knows samples, rows and the loss; knows nothing of how conversations are made. Paper: "Training of PathAsst".
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst import dataset
from pathasst.clip.processes import Processes
from pathasst.core import weights
from pathasst.core.errors import BadDataset, BadSettings
from pathasst.core.files import fingerprint, write_atomic
from pathasst.core.hardware import has_fast_bfloat16
from pathasst.core.records import Conversation, ToolSpec
from pathasst.mllm import adapter, distributed, full_finetune, lora
from pathasst.mllm.data import CHOOSE, FeatureTable, common_lists, cut_after_call, samples_of
from pathasst.mllm.model import Parts, build
from pathasst.mllm.pack import Sample, build_row, plan
from pathasst.mllm.packed_loss import mean_loss, row_loss, tree
from pathasst.mllm.settings import PhaseSettings, TrainSettings
from pathasst.mllm.training_log import Losses
from pathasst.mllm.whiten import Basis, first_guess

if TYPE_CHECKING:
    import torch

FEATURES, CHECKPOINT = "features.f16", "checkpoint.safetensors"


def train(
    conversations: Sequence[Path | str],
    out: Path | str,
    settings: TrainSettings,
    specs: Sequence[ToolSpec] = (),
    *,
    say: Any = print,
) -> Path:
    """Train both phases on datasets of Conversations and return the folder of the finished adapter, or of the whole checkpoint
    where phase 2 is `full`.

    Uses the splits train and val. Raises BadDataset when nothing can be trained on, BadSettings when `out` holds a run with other
    settings or data.
    """
    import torch

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    distributed.start(settings.device)
    if not _first():
        say = _silent
    else:
        _claim(out, conversations, settings)
    bf16 = has_fast_bfloat16(settings.device) if settings.precision == "auto" else settings.precision == "bf16"
    dtype = torch.bfloat16 if bf16 else torch.float32
    parts = build(settings.model, dtype, settings.seed)
    parts.model.to(_device(settings.device))
    table, train_samples, val_samples = _load(conversations, out, parts, settings, specs, say)
    _freeze(parts)
    adapters = _start(parts, settings.start)
    basis = Basis.of(table if settings.whiten else table[:0])
    basis.enter(parts.projector.linear_1)
    table = basis.apply(table) if settings.whiten else table
    if settings.whiten and settings.first_guess and not settings.start and settings.model.projector == "linear":
        described = [s for s in train_samples if s.kind == "describe"]
        first_guess(parts.projector.linear_1, parts.llm.get_input_embeddings().weight.detach().cpu(), described, table)
    for number, phase in enumerate((settings.phase1, settings.phase2), start=1):
        if not phase.take:
            continue
        given = phase.lora
        if phase.full:
            full_finetune.unfreeze(parts, adapters, given.alpha / max(1, given.rank))
        elif given.rank:
            lora.attach(parts.llm, given.rank, given.alpha, given.modules, settings.seed, given.bits)
            lora.load_state(parts.llm, adapters)
        if phase.full or (given.rank and given.bits == 16):  # FSDP does not shard four-bit weights: every device holds them all
            distributed.shard(parts.llm)
        with full_finetune.products(settings.device, dtype if phase.full else torch.float32):
            Phase(number, phase, settings, parts, table, out, say).run(train_samples, val_samples)
    basis.leave(parts.projector.linear_1)
    final = out / ("checkpoint" if settings.phase2.full else "adapter")
    if settings.phase2.full:
        full_finetune.save(parts, final, dtype)
    else:
        adapter.save(parts, final, settings)
    say(f"finished: {final}; losses in {out / 'losses.csv'} and losses.png")
    return final


def _claim(out: Path, conversations: Sequence[Path | str], settings: TrainSettings) -> None:
    """Write down what this run is; refuse a folder in which another was begun."""
    stamps = [dataset.Manifest.load(Path(c)).model_dump()["shards"] for c in conversations]
    claim = {"settings": settings.plain(), "data": fingerprint({"shards": [[s["sha256"] for s in m] for m in stamps]})}
    path = out / "run.json"
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != json.loads(json.dumps(claim)):
        raise BadSettings(f"{out} holds a run with other settings or data; choose another --out, or remove it.")
    write_atomic(path, json.dumps(claim, indent=1).encode())


def _load(
    folders: Sequence[Path | str], out: Path, parts: Parts, settings: TrainSettings, specs: Sequence[ToolSpec], say: Any
) -> tuple[torch.Tensor, list[Sample], list[Sample]]:
    started = time.monotonic()
    processes = Processes(*distributed.world())
    if not processes.first:  # the first computes the features; the others read its file
        processes.wait()
    table = FeatureTable.open(out / FEATURES, parts, write=processes.first)
    named = {s.name: s for s in specs}
    lists = common_lists(named, settings.tool_lists, settings.seed) if specs else []
    chosen = chosen_ids(folders, settings)
    by_split: dict[str, list[Sample]] = {"train": [], "val": []}
    lost: list[dataset.Dropped] = []
    for folder in folders:
        wanted = (c for c in dataset.read(folder, Conversation) if c.conversation_id in chosen)
        for conversation in wanted:
            if chosen[conversation.conversation_id] == CHOOSE:
                conversation = cut_after_call(conversation)
            made, dropped = samples_of([conversation], parts, table, named, max_length=settings.max_length, tool_lists=lists)
            by_split[conversation.split] += made
            lost += dropped
    features = table.tensor(parts)
    if processes.first:
        processes.wait()
    if not by_split["train"]:
        raise BadDataset("no conversation can be trained on; look into them with `pathasst show-mask`.")
    for drop in lost[:3]:
        say(f"left out {drop.id}: {drop.detail}")
    say(
        f"{len(by_split['train'])} conversations to train on, {len(by_split['val'])} to validate, {len(lost)} left out; "
        f"{len(features)} pictures, {table.computed} of them through the tower now; {time.monotonic() - started:.0f} s"
    )
    return features, by_split["train"], by_split["val"]


def chosen_ids(folders: Sequence[Path | str], settings: TrainSettings) -> dict[str, str]:
    """Which conversations the run reads, and as what: of each kind as many as the hungrier phase takes, drawn by the seed, and
    some of the val split. `choose` takes tool conversations that `invoke` left, to be cut after their last call.
    """
    take = [settings.phase1.take, settings.phase2.take]
    ids: dict[tuple[str, str], list[str]] = {}
    for folder in folders:
        for c in dataset.read(folder, Conversation, columns=["conversation_id", "kind", "turns", "split"]):
            ids.setdefault((c.split, c.kind), []).append(c.conversation_id)
    chosen: dict[str, str] = {}
    for (split, kind), members in sorted(ids.items()):
        members.sort(key=lambda id: hashlib.md5(f"{settings.seed}:{id}".encode(), usedforsecurity=False).digest())
        if kind == "invoke":
            members.sort()  # every one was drawn by chance, and neighbours share their pictures
        for role in (kind, CHOOSE) if kind == "invoke" else (kind,):
            wanted = [t[role] for t in take if role in t]
            if split not in ("train", "val") or not wanted:
                continue
            most = settings.validation_samples if split == "val" else 0 if 0 in wanted else max(wanted)
            chosen |= dict.fromkeys(members[: most or None], role)
            members = members[most or len(members) :]
    return chosen


def _device(device: str) -> str:
    """The device, if it is there. Raises BadSettings before anything is computed."""
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise BadSettings(f"device {device} was asked for, but torch sees no CUDA GPU; set device: cpu, or look at nvidia-smi.")
    return device


def _start(parts: Parts, start: str) -> dict[str, torch.Tensor]:
    """Put the projector of the adapter that the run goes on from in place, and return its low-rank parts (empty: none)."""
    if not start:
        return {}
    projector, adapters = adapter.tensors(Path(start) if Path(start).is_dir() else weights.path(start))
    parts.projector.load_state_dict({n: t.float() for n, t in projector.items()}, strict=False)
    return adapters


def _freeze(parts: Parts) -> None:
    """Nothing learns but the projector, in float32 (its second layer only where it is not the fixed identity)."""
    parts.model.requires_grad_(False)
    parts.projector.float()
    parts.projector.linear_1.requires_grad_(True)
    if parts.model.config.projector_hidden_act != "linear":
        parts.projector.linear_2.requires_grad_(True)


@dataclass(slots=True)
class Phase:
    """One phase of the training."""

    number: int
    phase: PhaseSettings
    settings: TrainSettings
    parts: Parts
    table: torch.Tensor
    out: Path
    say: Any

    def run(self, train_samples: Sequence[Sample], val_samples: Sequence[Sample]) -> None:
        """Train, or go on, or do nothing when the phase is already finished."""
        samples = self._chosen(train_samples, self.phase.take)
        if not samples:
            raise BadDataset(f"phase {self.number}: no conversation of the kinds {', '.join(self.phase.take)}.")
        held = self._chosen(val_samples, dict.fromkeys(self.phase.take, self.settings.validation_samples // len(self.phase.take)))
        steps = self._steps(samples)
        optimiser, trained = self._optimiser()
        losses = Losses(self.out, self.number)
        begun = self._restore(optimiser, trained)
        losses.silent = not _first()
        if begun >= len(steps):
            self.say(f"phase {self.number}: already finished ({begun} steps)")
            return
        losses.rewind(begun)
        held_rows = [build_row([held[n] for n in row]) for row in plan(held, self.phase.row_tokens, 0)]
        tokens = sum(s.supervised for s in samples)
        self.say(f"phase {self.number}: {len(samples)} conversations, {tokens} supervised tokens an epoch, {len(steps)} steps")
        with tree(self.parts):
            for step in range(begun, len(steps)):
                self._step(step, steps, samples, optimiser, trained, losses)
                done, last = step + 1, step + 1 == len(steps)
                if held_rows and (last or done % self.settings.validate_every == 0):
                    losses.validation(done, mean_loss(self.parts, held_rows, self.table))
                if last or done % self.settings.save_every == 0:
                    self._save(done, optimiser, trained)
                    self.say(losses.line(len(steps)))
        losses.draw()

    def _chosen(self, samples: Sequence[Sample], take: Mapping[str, int]) -> list[Sample]:
        chosen: list[Sample] = []
        for kind, most in take.items():
            longest = self.phase.longest or math.inf
            wanted = [s for s in samples if s.kind == kind and (s.paper or self.phase.subset != "paper")]
            fitting = [s for s in wanted if s.supervised <= longest]
            random.Random(self.settings.seed).shuffle(fitting)
            chosen += fitting[: most or None]
        return chosen

    def _steps(self, samples: Sequence[Sample]) -> list[list[list[int]]]:
        """The rows of every step of all epochs; the same for the same seed and samples."""
        rows: list[list[int]] = []
        for epoch in range(math.ceil(self.phase.epochs)):
            planned = plan(samples, self.phase.row_tokens, self.settings.seed * 1000 + self.number * 100 + epoch)
            rows += planned[: math.ceil(len(planned) * min(1.0, self.phase.epochs - epoch))]
        size = self.phase.rows_per_step
        return [rows[n : n + size] for n in range(0, len(rows), size)]

    def _optimiser(self) -> tuple[torch.optim.AdamW, dict[str, torch.Tensor]]:
        import torch

        projector = {f"projector.{n}": p for n, p in self.parts.projector.named_parameters() if p.requires_grad}
        adapters = {f"llm.{n}": p for n, p in self.parts.llm.named_parameters() if p.requires_grad}
        head, embedding = self.parts.model.lm_head.weight, self.parts.llm.get_input_embeddings().weight
        if head.requires_grad and head is not embedding:
            adapters["head"] = head
        groups = [{"params": list(projector.values()), "top": self.phase.projector_lr}]
        if adapters:
            groups.append({"params": list(adapters.values()), "top": self.phase.lr})
        optimiser = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.99), weight_decay=self.phase.weight_decay, foreach=False)
        return optimiser, {**projector, **adapters}

    def _step(
        self,
        step: int,
        steps: Sequence[Sequence[Sequence[int]]],
        samples: Sequence[Sample],
        optimiser: torch.optim.AdamW,
        trained: Mapping[str, torch.Tensor],
        losses: Losses,
    ) -> None:
        """One update; the loss is the mean over all supervised tokens of the step's rows."""
        started = time.perf_counter()
        rows = [build_row([samples[n] for n in row]) for row in steps[step]]
        count = sum(int(r.targets.sum()) for r in rows)
        rate = schedule(step, len(steps), self.phase.warmup)
        for group in optimiser.param_groups:
            group["lr"] = group["top"] * rate
        optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for row, weight in distributed.share(rows):
            loss = row_loss(self.parts, row, self.table) * (weight / count)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach()) / max(weight, 1.0)
        total = distributed.sum_of(total)
        distributed.average(trained.values())
        distributed.clip(trained.values(), self.phase.clip)
        optimiser.step()
        losses.add(step + 1, total, rate, count, sum(len(r.ids) for r in rows), time.perf_counter() - started)

    @property
    def _file(self) -> Path:
        return self.out / f"phase{self.number}-{CHECKPOINT}"

    def _save(self, step: int, optimiser: torch.optim.AdamW, trained: Mapping[str, torch.Tensor]) -> None:
        """One atomic file: weights, both moments, the step."""
        from safetensors.torch import save

        tensors = {f"weight/{n}": distributed.whole(p.detach()).cpu().contiguous() for n, p in trained.items()}
        for name, parameter in trained.items():
            for key in ("exp_avg", "exp_avg_sq"):
                tensors[f"{key}/{name}"] = distributed.whole(optimiser.state[parameter][key]).cpu().contiguous()
        if not _first():
            return
        write_atomic(self._file, save(tensors, {"step": str(step)}))

    def _restore(self, optimiser: torch.optim.AdamW, trained: Mapping[str, torch.Tensor]) -> int:
        """Put a checkpoint back and return its step; 0 when there is none."""
        import torch
        from safetensors import safe_open

        if not self._file.is_file():
            return 0
        with safe_open(self._file, "pt") as file, torch.no_grad():
            step = int(file.metadata()["step"])
            for name, parameter in trained.items():
                parameter.copy_(distributed.like(file.get_tensor(f"weight/{name}"), parameter))
                moments = {k: distributed.like(file.get_tensor(f"{k}/{name}"), parameter) for k in ("exp_avg", "exp_avg_sq")}
                optimiser.state[parameter] = {"step": torch.tensor(float(step)), **moments}
        return step


def _first() -> bool:
    return distributed.world()[0] == 0


def _silent(_: str) -> None:
    """What the other processes say."""


def schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the top learning rate at a step (0-based): linear warm-up, then half a cosine down to 0."""
    ramp = max(1, round(steps * warmup))
    if step < ramp:
        return (step + 1) / ramp
    return 0.5 * (1 + math.cos(math.pi * (step - ramp) / max(1, steps - ramp)))
