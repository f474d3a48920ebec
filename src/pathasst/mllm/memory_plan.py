"""What a training would take, before it starts: parameters, memory a device, tokens, time. Knows settings and datasets.

Memory is what the training allocates: its own network, loss and optimiser take two steps on torch's `meta` device, which has
sizes and no numbers, and each tensor is counted from its birth to its death (the tests hold it within a tenth of what torch's
allocator gave out).
On several devices FSDP shares weights, gradients and moments out; embedding, head and two layers are whole at a time.
Not counted: the allocator's gaps, CUDA's own gigabyte, buffers of the collectives, the tower, which has left the device.
Time is 4 FLOPs a parameter and token (forward, and backward through frozen weights; 6 when every weight is trained) over the
device's assumed rate, so it is an order of magnitude.
"""

from __future__ import annotations

import copy
import json
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pathasst import dataset
from pathasst.core.errors import BadSettings
from pathasst.core.records import IMAGE, Conversation
from pathasst.mllm.pack import Row
from pathasst.mllm.settings import MllmTraining, ModelSettings, PhaseSettings
from pathasst.mllm.tree_attention import TreePiece
from pathasst.training.optimizers import moment_bytes

if TYPE_CHECKING:
    import torch

CHARACTERS_A_TOKEN = 3.6  # of English prose in byte-level BPE vocabularies of 32 to 150 thousand
GIB = 2**30
NF4 = 0.53  # bytes of a weight in four bits, with its block's scale
SIZES = {
    "smollm2-135m": {"hidden": 576, "layers": 30, "intermediate": 1536, "heads": 9, "kv": 3, "vocabulary": 49152, "tied": True},
    "qwen3-8b": {"hidden": 4096, "layers": 36, "intermediate": 12288, "heads": 32, "kv": 8, "vocabulary": 151936},
    "vicuna-13b": {"hidden": 5120, "layers": 40, "intermediate": 13824, "heads": 40, "kv": 40, "vocabulary": 32000},
}
"""Language models whose size is known without their folder."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on one device. `peak`: the most at one time, at most the sum of the parts."""

    weights: float  # with what FSDP holds whole
    gradients: float
    moments: float  # AdamW's two, in 32 or 8 bits
    activations: float  # of a row, with the logits and all else that is there for a moment
    peak: float
    trained: float = 0.0  # weights that learn, of all devices

    def __str__(self) -> str:
        parts = {"weights": self.weights, "gradients": self.gradients, "moments": self.moments, "activations": self.activations}
        return f"{self.peak / GIB:.1f} GiB a device (" + ", ".join(f"{n} {b / GIB:.1f}" for n, b in parts.items()) + ")"


@dataclass(frozen=True, slots=True)
class Tower:
    """What the vision tower gives: tokens of a picture, and their width."""

    tokens: int = 196
    width: int = 768  # ViT-B/16


def llm_config(llm: str) -> Any:
    """transformers' configuration of a known LLM, or of the one in the folder `llm`. Raises BadSettings for another."""
    from transformers import AutoConfig, LlamaConfig

    if llm in SIZES:
        size = SIZES[llm]
        return LlamaConfig(
            vocab_size=size["vocabulary"],
            hidden_size=size["hidden"],
            num_hidden_layers=size["layers"],
            intermediate_size=size["intermediate"],
            num_attention_heads=size["heads"],
            num_key_value_heads=size["kv"],
            tie_word_embeddings=bool(size.get("tied")),
        )
    if not (Path(llm) / "config.json").is_file():
        raise BadSettings(f"the size of {llm!r} is not known; give the folder of a Hugging Face model as llm.")
    return AutoConfig.from_pretrained(llm)


def parameters_of(config: Any) -> int:
    """All weights of an LLM, its head among them."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())


def pictures_of(settings: ModelSettings) -> Tower:
    """What the projector takes of the settings' pictures; with tiles, of those cut into the most."""
    tower = tower_of(settings.vision)
    if settings.projector == "pixel-shuffle":
        return Tower(tower.tokens // 4, tower.width * 4)
    return Tower(tower.tokens * (1 + max((rows * columns for rows, columns in settings.tiles), default=0)), tower.width)


def tower_of(vision: str) -> Tower:
    """Of the tower in a folder or of a shipped one; a ViT-B/16 where it is not here."""
    from pathasst.clip.build import CONFIG
    from pathasst.core import weights
    from pathasst.core.errors import MissingWeights

    try:
        folder = Path(vision) if Path(vision).is_dir() else weights.path(vision)
    except (BadSettings, MissingWeights):
        return Tower()
    for name, key in ((CONFIG, "model_cfg"), ("config.json", "")):
        if (folder / name).is_file():
            config = json.loads((folder / name).read_text(encoding="utf-8"))
            config = config.get(key, config)
            vision_config = config.get("vision_cfg") or config.get("vision_config") or config
            width = vision_config.get("hidden_size") or vision_config.get("width")
            if width and vision_config.get("patch_size"):
                return Tower((vision_config["image_size"] // vision_config["patch_size"]) ** 2, width)
    return Tower()


def typical_row(tokens: int, conversation: int, supervised: float, pictures: int, tower: Tower) -> Row:
    """A row of conversations of one length, `supervised` of whose tokens (0–1) are, of which `pictures` have a picture."""
    ids, targets = np.ones(tokens, np.int64), np.zeros(tokens, bool)
    pieces = [TreePiece(start, min(start + conversation, tokens)) for start in range(0, tokens, conversation)]
    pictured = [piece for piece in pieces[:pictures] if piece.end - piece.start > tower.tokens]
    for piece in pictured:
        ids[piece.start : piece.start + tower.tokens] = 0
    for piece in pieces:
        targets[piece.end - max(1, round((piece.end - piece.start) * supervised)) : piece.end] = True
    targets[0] = False
    return Row(ids, np.arange(tokens) % conversation, targets, pieces, list(range(len(pictured))))


def phase_memory(
    config: Any,
    phase: PhaseSettings,
    row: Row,
    tower: Tower,
    *,
    projector: str = "linear",
    bf16: bool = True,
    checkpointing: bool = False,
    devices: int = 1,
    bits: int = 16,
    optimizer: str = "adamw",
    varlen: bool = False,
) -> Memory:
    """One phase on `devices` that share it (FSDP). `bits`: of the frozen weights, in both phases; `varlen`: attention in one
    call. Of a deep LLM two and four layers are counted: what each further one takes is the same."""

    def counted(layers: int) -> Memory:
        shallow = copy.deepcopy(config)
        shallow.num_hidden_layers = layers
        if getattr(config, "layer_types", None):
            shallow.layer_types = config.layer_types[:layers]
        return _memory(shallow, phase, row, tower, projector, bf16, checkpointing, devices, bits, optimizer, varlen)

    if config.num_hidden_layers <= 4:
        return counted(config.num_hidden_layers)
    two, four = counted(2), counted(4)
    further = (config.num_hidden_layers - 4) / 2
    return Memory(*(getattr(four, f.name) + further * (getattr(four, f.name) - getattr(two, f.name)) for f in fields(Memory)))


def _memory(
    config: Any,
    phase: PhaseSettings,
    row: Row,
    tower: Tower,
    projector: str,
    bf16: bool,
    checkpointing: bool,
    devices: int,
    bits: int,
    optimizer: str,
    varlen: bool,
) -> Memory:
    import torch
    from torch import nn

    # In bfloat16 a fully trained LLM has float32 weights, which autocast, or FSDP, copies to bfloat16 for the products.
    copies = phase.full and bf16
    network = _network(config, phase, tower, projector, torch.bfloat16 if bf16 else torch.float32, float32=not copies)
    sizes = [p.numel() for p in network.model.parameters() if p.requires_grad]
    trained, moments = sum(sizes), sum(moment_bytes(size, optimizer) for size in sizes)
    rows = 1 if -(-phase.batch // devices) == 1 else 2
    activations, peak = _run(network, row, rows, checkpointing=checkpointing, varlen=varlen)
    weights = float(sum(p.nbytes for p in network.model.parameters()))
    if bits == 4:
        linears = [m for n, m in network.llm.named_modules() if n.split(".")[-1] in (*phase.lora.modules, "base")]
        saved = sum(m.weight.numel() * (m.weight.element_size() - NF4) for m in linears if isinstance(m, nn.Linear))
        weights, peak = weights - saved, peak - saved
    if devices == 1:
        if copies:  # float32 weights beside bfloat16 ones
            weights += 4 * trained
            peak = weights + 12 * trained + activations
        return Memory(weights, 4.0 * trained, moments, activations, peak - 8 * trained + moments, trained)
    outer, layer = _gathered(network)
    shards = (weights + (2 * trained if copies else 0)) / devices
    weights = shards + sum(p.nbytes for p in outer) + 2 * sum(p.nbytes for p in layer)
    gradients = 4 * trained / devices + sum(p.nbytes for p in outer + layer if p.requires_grad)
    moments /= devices
    return Memory(weights, gradients, moments, activations, weights + gradients + moments + activations, trained)


def _network(config: Any, phase: PhaseSettings, tower: Tower, projector: str, dtype: Any, *, float32: bool) -> Any:
    """The phase's network without numbers: `float32` off leaves what is trained of the LLM in `dtype`, to be computed with."""
    import torch
    from transformers import CLIPVisionConfig

    from pathasst.mllm import layouts
    from pathasst.mllm.model import Parts
    from pathasst.mllm.train import freeze, unfreeze

    # Tiles are a picture's further tokens here; pixel shuffle takes a quarter of the width that its projector has.
    width = tower.width // 4 if projector == "pixel-shuffle" else tower.width
    vision = CLIPVisionConfig(
        hidden_size=width, num_hidden_layers=1, num_attention_heads=1, intermediate_size=1, image_size=32, patch_size=16
    )
    settings = ModelSettings(projector=projector, vision_feature_layer=-1)  # type: ignore[arg-type]
    layout = layouts.configuration(settings, vision, config, image_token=0, side=32)
    with torch.device("meta"):
        model = layouts.network_class(layout.model_type)(layout).to(dtype).eval()
    model.model.vision_tower = torch.nn.Identity()
    parts = Parts(model, _Tokenizer(), None, None)  # type: ignore[arg-type]
    freeze(parts)
    unfreeze(parts, phase.replace(lora=phase.lora.replace(bits=16)), {}, 0)
    if not float32:
        parts.llm.to(dtype)
        parts.model.lm_head.to(dtype)
    return parts


class _Tokenizer:
    def convert_tokens_to_ids(self, _: str) -> int:
        return 0


def _run(network: Any, row: Row, rows: int, *, checkpointing: bool, varlen: bool) -> tuple[float, float]:
    """Two optimiser steps: (bytes beside weights, gradients and moments; bytes of all), each the most at one time."""
    import torch

    from pathasst.mllm.layouts import PatchTokens
    from pathasst.mllm.packed_loss import row_loss, tree

    if checkpointing:
        network.llm.gradient_checkpointing_enable({"use_reentrant": False})
        network.llm.train()
    trained = [p for p in network.model.parameters() if p.requires_grad]
    optimizer: torch.optim.Optimizer = torch.optim.AdamW(trained, foreach=False)
    width = network.projector.linear_1.in_features
    tokens = int((row.ids == 0).sum()) // max(1, len(row.images))
    shuffled = 4 if network.model.config.model_type == "aya_vision" else 1
    live = _counter()
    for parameter in network.model.parameters():
        live.add(parameter)
    hooks = [p.register_post_accumulate_grad_hook(lambda p: live.gradient(p.grad)) for p in trained]
    with live, tree(network, varlen=varlen):
        for _ in range(2):
            live.states = live.live
            live.others = 0.0
            for _ in range(rows):
                tiles = torch.zeros(len(row.images), tokens * shuffled, width // shuffled, device="meta", dtype=torch.float16)
                row_loss(network, row, PatchTokens(tiles, torch.zeros(len(row.images), 2))).backward()
            others = live.others
            torch.nn.utils.clip_grad_norm_(trained, 1.0, foreach=False)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            live.gradients.clear()
    for hook in hooks:
        hook.remove()
    return others, float(live.peak)


def _counter() -> Any:
    """A mode in which the bytes of all storages that live are counted, with the most at one time."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_map_only

    class Counter(TorchDispatchMode):
        live = peak = 0
        states = others = 0.0  # bytes before a step; the most beside them and the gradients

        def __init__(self) -> None:
            super().__init__()
            self.storages: set[int] = set()
            self.gradients: dict[int, int] = {}

        def add(self, tensor: torch.Tensor) -> None:
            storage = tensor.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            if key in self.storages:
                return
            self.storages.add(key)
            self.live += size
            self.peak = max(self.peak, self.live)
            self.others = max(self.others, self.live - self.states - sum(self.gradients.values()))
            weakref.finalize(storage, self.drop, key, size)

        def drop(self, key: int, size: int) -> None:
            self.storages.discard(key)
            self.gradients.pop(key, None)
            self.live -= size

        def gradient(self, tensor: torch.Tensor | None) -> None:
            if tensor is not None:
                self.gradients[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            tree_map_only(torch.Tensor, self.add, result)
            return result

    return Counter()


def _gathered(network: Any) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The weights that FSDP puts together at once: those outside of the layers, and those of one layer."""
    inside = {id(p) for p in network.llm.layers.parameters()}
    outside = {id(p): p for p in network.model.parameters() if id(p) not in inside}
    return list(outside.values()), list(network.llm.layers[0].parameters())


def estimate(settings: MllmTraining, conversations: Sequence[Path | str], *, devices: int = 1, teraflops: float = 0.15) -> str:
    """The plan of both phases as text. `teraflops`: what one device reaches in such a training (two busy CPU cores: about 0.15;
    A100: about 150). Raises BadDataset or BadSettings."""
    import torch

    from pathasst.core.hardware import uses_bfloat16

    config, tower = llm_config(settings.model.llm), pictures_of(settings.model)
    lengths: dict[str, list[int]] = {}
    answers = pictures = count = 0
    for folder in conversations:
        for c in dataset.read(folder, Conversation, columns=["conversation_id", "kind", "turns", "tools", "split"]):
            if c.split == "train":
                words = sum(len(t.content) + 60 * len(t.tool_calls) for t in c.turns) / CHARACTERS_A_TOKEN
                marks = sum(t.content.count(IMAGE) for t in c.turns)
                lengths.setdefault(c.kind, []).append(int(words) + marks * tower.tokens + 6 * len(c.turns) + 20)
                replies = sum(len(t.content) + 60 * len(t.tool_calls) for t in c.turns if t.role == "assistant")
                answers, pictures, count = answers + int(replies / CHARACTERS_A_TOKEN), pictures + bool(marks), count + 1
    total = max(1, sum(map(sum, lengths.values())))
    parameters = parameters_of(config)
    lines = [f"{settings.model.llm}: {parameters / 1e6:,.0f} M parameters, {devices} device(s) at {teraflops:g} TFLOP/s each"]
    for number, phase in enumerate((settings.phase1, settings.phase2), start=1):
        if not phase.take:
            continue
        tokens = 0
        for kind, most in phase.take.items():
            of_kind = lengths.get(kind, [])
            tokens += int(min(most or len(of_kind), len(of_kind)) * sum(of_kind) / max(1, len(of_kind)) * phase.epochs)
        each = min(phase.row_tokens, max(tower.tokens + 8, total // max(1, count)))
        row = typical_row(
            phase.row_tokens, each, answers / total, round(phase.row_tokens / each * pictures / max(1, count)), tower
        )
        memory = phase_memory(
            config,
            phase,
            row,
            tower,
            projector=settings.model.projector,
            bf16=settings.precision == "bf16" or uses_bfloat16(settings.precision),
            checkpointing=settings.gradient_checkpointing and (phase.full or phase.lora.rank > 0),
            devices=devices,
            bits=4 if settings.four_bits else 16,
            optimizer=settings.optimizer,
            varlen=settings.attention == "varlen" or (settings.attention == "auto" and torch.cuda.is_available()),
        )
        hours = (6 if phase.full else 4) * parameters * tokens / (teraflops * 1e12 * devices) / 3600
        time = f"about {hours * 60:,.0f} min" if hours > 1 / 60 else "under a minute"
        trained = memory.trained
        lines.append(
            f"phase {number}: {trained / 1e6:,.1f} M trained, about {tokens / 1e3:,.1f} thousand tokens, {memory}, {time}"
        )
    return "\n".join(lines)
