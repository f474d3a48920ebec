"""Training PathAsst in the paper's two phases: the FC layer on descriptions, then FC layer and LLM; PathCLIP frozen
throughout.

`train` is one run from conversations to an adapter folder (`adapter.py`); each phase is a training of the one loop, in a folder
of its own (`phase1`, `phase2`). Knows nothing of how conversations are made. Paper: "Training of PathAsst".
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst import dataset
from pathasst.core import weights
from pathasst.core.errors import BadDataset, BadSettings
from pathasst.core.files import fingerprint
from pathasst.core.hardware import device_of, uses_bfloat16
from pathasst.core.records import Conversation, ToolSpec
from pathasst.mllm import adapter, full_finetune, lora
from pathasst.mllm.data import CHOOSE, FeatureTable, common_lists, cut_after_call, samples_of
from pathasst.mllm.model import Parts, build
from pathasst.mllm.pack import PicturePlace, Sample
from pathasst.mllm.packed_loss import tree
from pathasst.mllm.settings import MllmTraining, PhaseSettings
from pathasst.mllm.whiten import Basis, first_guess

if TYPE_CHECKING:
    import torch

    from pathasst.training.loop import Trained

FEATURES = "features.f16"


def train(
    conversations: Sequence[Path | str],
    out: Path | str,
    settings: MllmTraining,
    specs: Sequence[ToolSpec] = (),
    *,
    say: Any = print,
) -> Path:
    """Train both phases on datasets of Conversations and return the folder of the finished adapter, or of the whole checkpoint
    where phase 2 is `full`.

    Uses the splits train and val. Interrupted runs resume with the same call; a finished one is left as it is. Raises BadDataset
    when nothing can be trained on, BadSettings when `out` holds a run with other settings or data.
    """
    import torch

    from pathasst.training.loop import processes

    out, device = Path(out), device_of(settings.device)
    out.mkdir(parents=True, exist_ok=True)
    final = out / ("checkpoint" if settings.phase2.full else "adapter")
    world = processes(device)
    if world.is_main_process:
        _claim(out, conversations, settings)
    else:
        say = _silent
    if final.is_dir() and not list(out.glob("phase*/checkpoints")):
        say(f"already finished: {final}")
        return final
    dtype = torch.bfloat16 if uses_bfloat16(settings.precision, device) else torch.float32
    parts = build(settings.model, dtype, settings.seed)
    parts.model.model.vision_tower.to(world.device)  # the rest follows when a phase begins, in shards where it is sharded
    table, places, train_samples, val_samples = _load(conversations, out, parts, settings, specs, say, world)
    freeze(parts)
    adapters = _start(parts, settings.start)
    if settings.four_bits:  # in phase 1 as in phase 2
        lora.quantise(parts.llm, settings.phase2.lora.modules)
    basis, table = _whitened(parts, table, places, train_samples, settings)
    trained = []
    for number, phase in enumerate((settings.phase1, settings.phase2), start=1):
        if not phase.take:
            continue
        parts = _whole(parts, settings, dtype)
        unfreeze(parts, phase, adapters, settings.seed)
        trained.append(_phase(number, phase, settings, parts, table, places, train_samples, val_samples, out, say))
    parts.model.model.multi_modal_projector = _whole_projector(parts)
    if basis:
        basis.leave(parts.projector.linear_1)
    if settings.phase2.full:
        full_finetune.save(parts, final, dtype, main=world.is_main_process)
    else:
        adapter.save(parts, final, settings, main=world.is_main_process)
    world.wait_for_everyone()
    if world.is_main_process:
        for phase_run in trained:
            phase_run.remove_checkpoints()
    say(f"finished: {final}; losses in phase1 and phase2 of {out}: log.csv and curves.png")
    return final


def _whitened(
    parts: Parts, table: torch.Tensor, places: Sequence[PicturePlace], samples: Sequence[Sample], settings: MllmTraining
) -> tuple[Basis | None, torch.Tensor]:
    """The basis in which the projector is trained, which it is brought into, and the features in it; none without `whiten`."""
    if not settings.whiten or settings.model.projector == "pixel-shuffle":  # whose first layer is a norm, which has no basis
        return None, table
    basis = Basis.of(table)
    basis.enter(parts.projector.linear_1)
    table = basis.apply(table)
    if settings.first_guess and not settings.start and settings.model.projector == "linear":
        described = [s for s in samples if s.kind == "describe"]
        words = parts.llm.get_input_embeddings().weight.detach().cpu()
        wholes = table[[place.first for place in places]] if settings.model.tiles else table  # pictures, without their tiles
        first_guess(parts.projector.linear_1, words, described, wholes)
    return basis, table


def _phase(
    number: int,
    phase: PhaseSettings,
    settings: MllmTraining,
    parts: Parts,
    table: torch.Tensor,
    places: Sequence[PicturePlace],
    train_samples: Sequence[Sample],
    val_samples: Sequence[Sample],
    out: Path,
    say: Any,
) -> Trained:
    """Train one phase, or resume it; the last weights are in `parts` afterwards."""
    from pathasst.mllm.phase import PhaseTask, chosen
    from pathasst.training import fit
    from pathasst.training.loop import processes

    samples = chosen(train_samples, phase, phase.take, settings.seed)
    if not samples:
        raise BadDataset(f"phase {number}: no conversation of the kinds {', '.join(phase.take)}.")
    val = chosen(val_samples, phase, dict.fromkeys(phase.take, settings.val_samples // len(phase.take)), settings.seed)
    checkpointing = settings.gradient_checkpointing and (phase.full or phase.lora.rank > 0)
    if checkpointing:
        parts.llm.gradient_checkpointing_enable({"use_reentrant": False})
    task = PhaseTask(number, phase, parts, table, samples, val, places=places, seed=settings.seed, checkpointing=checkpointing)
    tokens = sum(s.supervised for s in samples)
    say(f"phase {number}: {len(samples)} conversations, {tokens} supervised tokens an epoch, {len(task.steps)} steps")
    before = 0.0

    def log(line: dict[str, Any]) -> None:
        nonlocal before
        values = [f"{name} {value:.4g}" for name, value in line.items() if name in ("loss", "val_loss")]
        if "supervised_tokens" in line and line["seconds"] > before:
            values.append(f"{10 * line['supervised_tokens'] / (line['seconds'] - before):.0f} supervised tokens/s")
        before = line["seconds"]
        say(f"phase {number} step {line['step']}/{len(task.steps)}: {', '.join(values)}")

    varlen = attends_varlen(settings, parts.llm.config)
    if settings.compile:
        if not varlen:
            raise BadSettings("compile: only with attention: varlen, since each row has pieces of its own.")
        for layer in parts.llm.layers:
            layer.compile(dynamic=True)  # one by one, for any length of a row
    with tree(parts, varlen=varlen):
        loop = settings.loop(phase, len(task.steps), processes().num_processes)
        return fit(task, loop, out / f"phase{number}", log=log)


def attends_varlen(settings: MllmTraining, llm: Any) -> bool:
    """Whether packed rows are attended over in one call of the kernel. `llm`: transformers' configuration. Raises BadSettings
    where the settings want it and it cannot be."""
    device = device_of(settings.device)
    reasons = {
        "it needs a GPU": device != "cuda",
        "it needs precision: bf16": not uses_bfloat16(settings.precision, device),
        "this LLM caps its scores": bool(getattr(llm, "attn_logit_softcapping", None)),
    }
    against = [reason for reason, holds in reasons.items() if holds]
    if settings.attention == "varlen" and against:
        raise BadSettings(f"attention: varlen is not possible ({', '.join(against)}); leave it at auto.")
    return settings.attention != "pieces" and not against


def _claim(out: Path, conversations: Sequence[Path | str], settings: MllmTraining) -> None:
    """Write down what this run is; refuse a folder in which another was begun."""
    from pathasst.training import checkpoint

    stamps = [dataset.Manifest.load(Path(c)).model_dump()["shards"] for c in conversations]
    data = fingerprint({"shards": [[s["sha256"] for s in m] for m in stamps]})
    checkpoint.claim(out, {"settings": settings.identity(), "data": data})


def _load(
    folders: Sequence[Path | str],
    out: Path,
    parts: Parts,
    settings: MllmTraining,
    specs: Sequence[ToolSpec],
    say: Any,
    world: Any,
) -> tuple[torch.Tensor, list[PicturePlace], list[Sample], list[Sample]]:
    started = time.monotonic()
    by_name = {s.name: s for s in specs}
    lists = common_lists(by_name, settings.tool_lists, settings.seed) if specs else []
    roles = chosen_ids(folders, settings)
    by_split: dict[str, list[Sample]] = {"train": [], "val": []}
    left_out: list[dataset.Dropped] = []
    with world.main_process_first():  # the first computes the features; the others read its file
        table = FeatureTable.open(out / FEATURES, parts, write=world.is_main_process)
        for folder in folders:
            for conversation in dataset.read(folder, Conversation):
                if conversation.conversation_id not in roles:
                    continue
                if roles[conversation.conversation_id] == CHOOSE:
                    conversation = cut_after_call(conversation)
                samples, dropped = samples_of(
                    [conversation], parts, table, by_name, max_length=settings.max_length, tool_lists=lists
                )
                by_split[conversation.split] += samples
                left_out += dropped
        features = table.tensor(parts)
    if not by_split["train"]:
        raise BadDataset("no conversation can be trained on; look into them with `pathasst show-mask`.")
    for drop in left_out[:3]:
        say(f"left out {drop.id}: {drop.detail}")
    say(
        f"{len(by_split['train'])} conversations to train on, {len(by_split['val'])} to validate, {len(left_out)} left out; "
        f"{len(table.places)} pictures, {table.computed} of them through the tower now; {time.monotonic() - started:.0f} s"
    )
    return features, table.places, by_split["train"], by_split["val"]


def chosen_ids(folders: Sequence[Path | str], settings: MllmTraining) -> dict[str, str]:
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
            limits = [t[role] for t in take if role in t]
            if split not in ("train", "val") or not limits:
                continue
            most = settings.val_samples if split == "val" else 0 if 0 in limits else max(limits)
            chosen |= dict.fromkeys(members[: most or None], role)
            members = members[most or len(members) :]
    return chosen


def _start(parts: Parts, start: str) -> dict[str, torch.Tensor]:
    """Put the projector of the adapter that the run goes on from in place, and return its low-rank parts (empty: none)."""
    if not start:
        return {}
    projector, adapters = adapter.tensors(Path(start) if Path(start).is_dir() else weights.path(start))
    parts.projector.load_state_dict({n: t.float() for n, t in projector.items()}, strict=False)
    return adapters


def freeze(parts: Parts) -> None:
    """Nothing learns but the projector, in float32 (its second layer only where it is not the fixed identity)."""
    parts.model.requires_grad_(False)
    parts.projector.float().requires_grad_(True)
    if parts.model.config.projector_hidden_act == "linear":
        parts.projector.linear_2.requires_grad_(False)


def unfreeze(parts: Parts, phase: PhaseSettings, adapters: dict[str, torch.Tensor], seed: int) -> None:
    """What a phase trains of the LLM: all of it, adapters, or nothing."""
    if phase.full:
        full_finetune.unfreeze(parts, adapters, phase.lora.alpha / max(1, phase.lora.rank))
    elif phase.lora.rank:
        lora.attach(parts.llm, phase.lora.rank, phase.lora.alpha, phase.lora.modules, seed, phase.lora.bits)
        lora.load_state(parts.llm, adapters)


def _whole(parts: Parts, settings: MllmTraining, dtype: torch.dtype) -> Parts:
    """The parts for the next phase: built anew where the phase before sharded them, which has no way back, with its projector."""
    projector = _whole_projector(parts)
    if projector is parts.projector:
        return parts
    parts = build(settings.model, dtype, settings.seed)
    parts.model.model.multi_modal_projector = projector
    freeze(parts)
    return parts


def _whole_projector(parts: Parts) -> Any:
    """The projector, put together where it is sharded over processes. All processes must call it."""
    import torch

    from pathasst.training.checkpoint import full_tensor

    state = parts.projector.state_dict()
    if not any(hasattr(tensor, "full_tensor") for tensor in state.values()):
        return parts.projector
    projector = type(parts.projector)(parts.model.config)
    if "image_newline" in state:
        projector.image_newline = torch.nn.Parameter(torch.empty(state["image_newline"].shape))
    projector.load_state_dict({name: full_tensor(tensor).cpu() for name, tensor in state.items()})
    for name, parameter in parts.projector.named_parameters():
        projector.get_parameter(name).requires_grad_(parameter.requires_grad)
    return projector


def _silent(_: str) -> None:
    """What the other processes say."""
