"""`pathasst train vlm`: a finished vision–language model (Qwen-VL, LLaVA-OneVision, MedGemma …) learns our conversations.

The model stays a model of transformers: its processor makes pictures and words into inputs, peft puts low-rank adapters on its
language model, and its connector between the two may learn too. What is written is a peft adapter with the processor beside it,
which transformers, vLLM and peft load without us.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

from pathasst import dataset
from pathasst.core.errors import BadDataset, BadInput, BadSettings
from pathasst.core.files import fingerprint
from pathasst.core.hardware import device_of, uses_bfloat16
from pathasst.core.records import Conversation, ToolSpec
from pathasst.core.settings import Field
from pathasst.mllm.settings import Kind, LoraSettings
from pathasst.mllm.vlm_samples import IGNORED, VlmSample, VlmTemplate
from pathasst.training import Task, fit
from pathasst.training.loop import processes
from pathasst.training.settings import BatchSize, Every, LearningRate, Steps, TrainingSettings, WeightDecay

LANGUAGE = ("language_model", "text_model")
"""What transformers calls the language model inside a vision–language model."""
CONNECTORS = ("multi_modal_projector", "connector", "merger")
"""What it calls the layers between tower and language model."""
Batch = list[tuple[dict[str, torch.Tensor], float]]


class VlmTraining(TrainingSettings):
    """How a finished vision–language model is tuned."""

    room: ClassVar[str] = "vlm"

    model: str = Field(default="", description="Folder of the model (transformers), with its processor and chat template.")
    take: dict[Kind, int] = Field(
        default={"describe": 0, "converse": 0, "invoke": 0}, description="Conversations of each kind, drawn by the seed; 0: all."
    )
    epochs: float = Field(default=1.0, gt=0, description="How often each conversation is read; `steps` may end it earlier.")
    lora: LoraSettings = LoraSettings()
    connector: bool = Field(default=False, description="Also train the layers between vision tower and language model, whole.")
    max_length: int = Field(default=4096, ge=1, description="Tokens of a conversation, those of its pictures among them.")
    val_samples: int = Field(default=64, ge=0, description="Conversations of the split val that are measured.")
    gradient_checkpointing: bool = Field(default=False, description="Less memory, a third slower.")
    steps: Steps = 1_000_000
    batch: BatchSize = 8
    lr: LearningRate = 1e-4
    weight_decay: WeightDecay = 0.0
    evaluate_every: Every = 200
    device: Literal["auto", "cpu", "cuda"] = "auto"


def train(
    conversations: Sequence[Path | str],
    out: Path | str,
    settings: VlmTraining,
    specs: Sequence[ToolSpec] = (),
    *,
    say: Any = print,
) -> Path:
    """Tune the model and return the folder of the adapter. Interrupted runs resume with the same call.

    Raises BadSettings for a folder that holds no vision–language model or another run, and for modules that the model lacks;
    BadDataset when no conversation can be trained on.
    """
    out = Path(out)
    model, processor = load(settings)
    adapt(model, settings)
    template = VlmTemplate(processor, {s.name: s for s in specs})
    samples, val = read_samples(conversations, template, settings, say)
    steps = min(settings.steps, math.ceil(len(samples) * settings.epochs / settings.batch))
    task = VlmTask(model, template, samples, val, settings)
    task.data = fingerprint({"samples": [[s.conversation.conversation_id, s.last, list(s.learnt)] for s in samples]})
    say(f"{len(samples)} samples to train on, {len(val)} to validate, {steps} steps")

    def log(line: Mapping[str, Any]) -> None:
        say("  ".join(f"{k} {v:.4g}" for k, v in line.items() if k in ("step", "loss", "val_loss")))

    share = settings.batch // processes().num_processes
    training = fit(task, settings.replace(steps=steps, accumulate=max(1, share), workers=0), out, log=log)
    final = out / "adapter"
    if processes().is_main_process:
        save(model, processor, final, settings)
        training.remove_checkpoints()
    say(f"finished: {final}; losses in {out}: log.csv and curves.png")
    return final


def load(settings: VlmTraining) -> tuple[Any, Any]:
    """Model and processor of a local folder, weights in bfloat16 where hardware multiplies it (and NF4 with `lora.bits: 4`)."""
    from transformers import AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig

    folder = Path(settings.model)
    if not (folder / "config.json").is_file():
        raise BadSettings(f"model: {settings.model!r} is no folder of a transformers model; download one and name it by --model.")
    dtype = torch.bfloat16 if uses_bfloat16(settings.precision, device_of(settings.device)) else torch.float32
    extra: dict[str, Any] = {}
    if settings.lora.bits == 4:
        extra["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype, local_files_only=True, **extra)
    except (ValueError, OSError, KeyError) as error:
        raise BadSettings(f"{folder} holds no vision–language model that transformers can load: {error}") from error
    return model, processor


def adapt(model: Any, settings: VlmTraining) -> None:
    """Put adapters on the language model, in place; everything else is frozen but the connector where it is to learn.

    Raises BadSettings where no layer has one of the names.
    """
    from peft import LoraConfig, inject_adapter_in_model

    model.requires_grad_(False)
    names = [name for name, _ in model.named_modules()]
    targets = adapted_layers(model, settings.lora.modules) if settings.lora.rank else []
    connector = [n for n in names if n.rpartition(".")[2] in CONNECTORS] if settings.connector else []
    if settings.connector and not connector:
        raise BadSettings(f"connector: the model has none of {', '.join(CONNECTORS)}.")
    config = LoraConfig(r=settings.lora.rank, lora_alpha=settings.lora.alpha, target_modules=targets, bias="none")
    torch.manual_seed(settings.seed)
    inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        trained = "lora_" in name or any(name.startswith(f"{c}.") for c in connector)
        parameter.requires_grad_(trained)
        if trained:
            parameter.data = parameter.data.float()
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()


def adapted_layers(model: Any, modules: Sequence[str]) -> list[str]:
    """Names of the language model's layers that are called so. Raises BadSettings where none is."""
    inside = [n for n, _ in model.named_modules() if any(f".{part}." in f".{n}." for part in LANGUAGE)]
    targets = [n for n in inside if n.rpartition(".")[2] in modules]
    if not targets:
        last = sorted({n.rpartition(".")[2] for n, m in model.named_modules() if isinstance(m, nn.Linear)})
        raise BadSettings(f"lora.modules: the language model has no layer {tuple(modules)}; it has {', '.join(last)}.")
    return targets


def save(model: Any, processor: Any, folder: Path, settings: VlmTraining) -> None:
    """Write the adapter as peft does (`adapter_model.safetensors`, `adapter_config.json`), with the processor beside it."""
    from peft import LoraConfig
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors, targets, whole = {}, set(), set()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if "lora_" in name:
            targets.add(name.partition(".lora_")[0])
        else:
            whole.add(next(p for p in _parents(name) if p.rpartition(".")[2] in CONNECTORS))
        stored = name.replace(".default.", ".").replace(".default", "")
        tensors[f"base_model.model.{stored}"] = parameter.detach().cpu().contiguous()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = LoraConfig(
        r=settings.lora.rank,
        lora_alpha=settings.lora.alpha,
        target_modules=sorted(targets),
        modules_to_save=sorted(whole) or None,
        bias="none",
        base_model_name_or_path=str(Path(settings.model).resolve()),
        inference_mode=True,
    )
    config.save_pretrained(str(folder))
    processor.save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps(settings.plain(), indent=1) + "\n", encoding="utf-8")


def read_samples(
    folders: Sequence[Path | str], template: VlmTemplate, settings: VlmTraining, say: Any
) -> tuple[list[VlmSample], list[VlmSample]]:
    """Samples of the splits train and val; what cannot be trained on is counted and said. Raises BadDataset when nothing can."""
    samples: dict[str, list[VlmSample]] = {"train": [], "val": []}
    left_out: list[str] = []
    for conversation in _chosen(folders, settings):
        try:
            samples[conversation.split] += template.samples(conversation, settings.max_length)
        except BadInput as error:
            left_out.append(str(error))
    for reason in left_out[:3]:
        say(f"left out {reason}")
    if left_out:
        say(f"{len(left_out)} conversations left out")
    if not samples["train"]:
        raise BadDataset("no conversation can be trained on; look at the reasons above.")
    return samples["train"], samples["val"]


def _chosen(folders: Sequence[Path | str], settings: VlmTraining) -> list[Conversation]:
    """As many conversations of each kind as the settings take, drawn by the seed, and some of the split val."""
    take = {str(kind): count for kind, count in settings.take.items()}
    groups: dict[tuple[str, str], list[Conversation]] = {}
    for folder in folders:
        for conversation in dataset.read(folder, Conversation):
            if conversation.split in ("train", "val") and conversation.kind in take:
                groups.setdefault((conversation.split, conversation.kind), []).append(conversation)
    chosen: list[Conversation] = []
    for (split, kind), members in sorted(groups.items()):
        random.Random(settings.seed).shuffle(members)
        most = take[kind] if split == "train" else max(1, settings.val_samples // len(take))
        chosen += members[: most or None]
    return chosen


class VlmTask(Task):
    """One conversation at a time through the model: any family's inputs, whatever shapes its pictures have."""

    def __init__(
        self, model: Any, template: VlmTemplate, samples: Sequence[VlmSample], val: Sequence[VlmSample], settings: VlmTraining
    ) -> None:
        super().__init__(model)
        self.template, self.samples, self.val, self.settings = template, samples, val, settings

    def batch(self, step: int, places: range) -> Batch:
        """Inputs of the conversations, and the share of the step's supervised tokens that one token is."""
        members = [self.samples[n] for n in self._members(step)]
        count = sum(sample.supervised for sample in members)
        return [(self.template.encode(members[place]), 1 / count) for place in places]

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        # The step descends the mean of its parts' losses; each is its share of the sum over the step's tokens.
        total = torch.stack([_token_loss(model, inputs) * weight for inputs, weight in batch]).sum()
        return {"loss": total * (self.settings.batch / len(batch))}

    def optimizer(self, settings: TrainingSettings) -> torch.optim.Optimizer:
        trained = [p for p in self.model.parameters() if p.requires_grad]
        return torch.optim.AdamW(trained, lr=settings.lr, betas=(0.9, 0.99), weight_decay=settings.weight_decay, foreach=False)

    def train_mode(self, model: nn.Module) -> None:
        """Without dropout, but for layers that are computed again in the backward pass, which ask for training mode."""
        model.train(self.settings.gradient_checkpointing)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """The mean loss of a supervised token on the split val."""
        device = next(model.parameters()).device
        total, count = 0.0, 0
        for sample in self.val:
            inputs = {k: v.to(device) for k, v in self.template.encode(sample).items()}
            total += float(_token_loss(model, inputs))
            count += sample.supervised
        return {"val_loss": total / count} if count else {}

    def _members(self, step: int) -> list[int]:
        """Places of a step in the samples: each epoch has an order of its own."""
        first, size = step * self.settings.batch, len(self.samples)
        places = range(first, first + self.settings.batch)
        return [_order(size, self.settings.seed, place // size)[place % size] for place in places]


@lru_cache(maxsize=2)  # a step lies in one epoch or two, and each of its parts asks
def _order(size: int, seed: int, epoch: int) -> tuple[int, ...]:
    """The places of an epoch's samples, shuffled."""
    order = list(range(size))
    random.Random(f"{seed}:{epoch}").shuffle(order)
    return tuple(order)


def _token_loss(model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The summed cross-entropy of the supervised tokens."""
    labels = inputs["labels"]
    logits = model(**{k: v for k, v in inputs.items() if k != "labels"}).logits
    return F.cross_entropy(logits[0, :-1].float(), labels[0, 1:], ignore_index=IGNORED, reduction="sum")


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
