"""`pathasst train preferences`: a vision–language model learns which of two answers is preferred (DPO, Rafailov et al. 2023).

TRL's `DPOTrainer` trains peft adapters; the untrained model, its adapters switched off, is the reference. Ids and masks are those
of `train vlm`: of both answers the loss counts exactly what the template adds. An exported PathAsst is such a model, too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch.nn.functional import pad

from pathasst.core.errors import BadDataset, BadInput, BadSettings, MissingPackage
from pathasst.core.files import write_atomic
from pathasst.core.hardware import device_of, uses_bfloat16
from pathasst.core.records import ToolSpec, Turn
from pathasst.core.settings import Field, Settings
from pathasst.mllm.preferences import Preference, fingerprint_of, of_calls, of_feedback, write_provenance
from pathasst.mllm.settings import LoraSettings
from pathasst.mllm.vlm import VlmTraining, adapted_layers, load
from pathasst.mllm.vlm_samples import IGNORED, NoPrefix, VlmSample, VlmTemplate
from pathasst.training import checkpoint
from pathasst.training.loop import processes
from pathasst.training.settings import BatchSize, LearningRate, Precision, Warmup

BY_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "labels")
"""Inputs that have one value a token, and are filled up to the longer answer; others are of pictures."""


class PreferenceTraining(Settings):
    """How a model learns preferences."""

    room: ClassVar[str] = "preferences"

    model: str = Field(default="", description="Folder of the model (transformers), with its processor and chat template.")
    beta: float = Field(default=0.1, gt=0, description="How much departing from the untrained model costs.")
    loss: Literal["sigmoid", "ipo", "hinge", "robust"] = Field(default="sigmoid", description="As TRL calls them; sigmoid: DPO.")
    epochs: float = Field(default=1.0, gt=0, description="How often each pair is read.")
    batch: BatchSize = Field(default=8, description="Pairs of an optimiser step, of all processes together.")
    lr: LearningRate = 5e-6
    warmup: Warmup = 0.1
    lora: LoraSettings = LoraSettings()
    max_length: int = Field(default=4096, ge=1, description="Tokens of a prompt with an answer; longer pairs are left out.")
    gradient_checkpointing: bool = Field(default=False, description="Less memory, a third slower.")
    precision: Precision = "auto"
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto: the GPU if there is one.")
    seed: int = Field(default=0, ge=0, description="All random choices follow from it.")
    save_every: int = Field(default=50, ge=1, description="Steps between checkpoints.")


def train(
    conversations: Sequence[Path | str],
    out: Path | str,
    settings: PreferenceTraining,
    specs: Sequence[ToolSpec] = (),
    *,
    feedback: Path | str | None = None,
    say: Any = print,
) -> Path:
    """Train on failed calls in datasets of Conversations and on a file of feedback; returns the folder of the adapter.

    Interrupted runs resume with the same call. `out` also holds `pairs.jsonl` (where each pair is from) and `log.jsonl` (losses,
    margins). Raises BadDataset without a pair, BadSettings for a folder that holds no model or another run, MissingPackage
    without TRL.
    """
    try:
        from datasets import Dataset
        from trl import DPOConfig, DPOTrainer  # type: ignore[attr-defined]
    except ImportError as error:
        raise MissingPackage("`train preferences` needs TRL: pip install 'pathasst[preferences]'.") from error
    from peft import LoraConfig

    out, device = Path(out), device_of(settings.device)
    world = processes(device)
    pairs = list(of_calls(conversations))
    if feedback:
        judged, left_out = of_feedback(feedback)
        say(f"{len(judged)} pairs of verdicts, {left_out} verdicts without a partner, or with a picture, left out")
        pairs += judged
    model, processor = load(_as_vlm(settings))
    template = VlmTemplate(processor, {s.name: s for s in specs})
    pairs, samples = _usable(pairs, template, settings.max_length, say)
    if settings.batch % world.num_processes:
        raise BadSettings(f"batch: {settings.batch} pairs cannot be shared by {world.num_processes} processes.")
    if world.is_main_process:
        out.mkdir(parents=True, exist_ok=True)
        checkpoint.claim(out, {"settings": settings.plain(), "data": fingerprint_of(pairs)})
        write_provenance(pairs, out / "pairs.jsonl")
    bf16 = uses_bfloat16(settings.precision, device)
    config = DPOConfig(
        output_dir=str(out / "checkpoints"),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=settings.batch // world.num_processes,
        num_train_epochs=settings.epochs,
        learning_rate=settings.lr,
        lr_scheduler_type="cosine",
        warmup_steps=settings.warmup,
        beta=settings.beta,
        loss_type=[settings.loss],
        max_length=None,
        gradient_checkpointing=settings.gradient_checkpointing,
        bf16=bf16,
        use_cpu=device == "cpu",
        seed=settings.seed,
        save_steps=settings.save_every,
        save_total_limit=1,
        logging_steps=1,
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
    )
    lora = LoraConfig(
        r=settings.lora.rank,
        lora_alpha=settings.lora.alpha,
        target_modules=adapted_layers(model, settings.lora.modules),
        bias="none",
    )
    torch.manual_seed(settings.seed)
    trainer = DPOTrainer(
        model=model,
        args=config,
        data_collator=_Collator(template, processor, samples),
        # Places of samples, which the collator reads; `images` tells TRL to leave pictures and words to it.
        train_dataset=Dataset.from_list([{"place": n, "images": []} for n in range(len(samples))]),
        processing_class=processor,
        peft_config=lora,
    )
    say(f"{len(pairs)} pairs ({', '.join(f'{n} of {kind}s' for kind, n in _counts(pairs).items())})")
    trainer.train(resume_from_checkpoint=bool(list((out / "checkpoints").glob("checkpoint-*"))))
    final = out / "adapter"
    if world.is_main_process:
        log = [line for line in trainer.state.log_history if "rewards/margins" in line]
        write_atomic(out / "log.jsonl", "".join(json.dumps(line) + "\n" for line in log).encode())
        tuned: Any = trainer.model
        tuned.save_pretrained(str(final))
        processor.save_pretrained(final)
        say(f"margin of the preferred answer: {log[0]['rewards/margins']:.3g} → {log[-1]['rewards/margins']:.3g}")
    world.wait_for_everyone()
    say(f"finished: {final}")
    return final


class _Collator:
    """Pairs as TRL's inputs: all chosen answers, then all rejected ones, with `completion_mask` where an answer is."""

    def __init__(self, template: VlmTemplate, processor: Any, samples: Sequence[tuple[VlmSample, VlmSample]]) -> None:
        self.template, self.samples = template, samples
        self.filler = processor.tokenizer.pad_token_id or processor.tokenizer.eos_token_id or 0

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        chosen, rejected = zip(*(self.samples[example["place"]] for example in examples), strict=True)
        encoded = [self.template.encode(sample) for sample in (*chosen, *rejected)]
        longest = max(one["input_ids"].shape[1] for one in encoded)
        fillers = {"input_ids": self.filler, "labels": IGNORED}
        batch: dict[str, torch.Tensor] = {}
        for name in encoded[0]:
            tensors = [one[name] for one in encoded if name in one]
            if name in BY_TOKEN:
                tensors = [pad(t, (0, longest - t.shape[1]), value=fillers.get(name, 0)) for t in tensors]
            batch[name] = torch.cat(tensors)
        batch["completion_mask"] = (batch.pop("labels") != IGNORED).long()
        return batch


def located(template: VlmTemplate, pair: Preference) -> tuple[VlmSample, VlmSample]:
    """The prompt with the chosen and with the rejected turn, of which that turn alone is learnt. Raises NoPrefix, BadInput."""

    def one(turn: Turn) -> VlmSample:
        conversation = replace(pair.prompt, turns=[*pair.prompt.turns, turn])
        count = len(template.messages(conversation))
        return template.located(VlmSample(conversation, count, (count - 1,)))

    return one(pair.chosen), one(pair.rejected)


def _usable(
    pairs: Sequence[Preference], template: VlmTemplate, max_length: int, say: Any
) -> tuple[list[Preference], list[tuple[VlmSample, VlmSample]]]:
    """The pairs that can be trained on, with their samples; others are counted and said. Raises BadDataset when none can."""
    usable, samples, reasons = [], [], []
    for pair in pairs:
        try:
            both = located(template, pair)
        except NoPrefix:
            reasons.append(f"{pair.ids[0]}: the template rewrites what stands before an answer")
        except BadInput as error:
            reasons.append(str(error))
        else:
            longest = max(sample.tokens for sample in both)
            if longest <= max_length:
                usable.append(pair)
                samples.append(both)
            else:
                reasons.append(f"{pair.ids[0]}: {longest} tokens, {max_length} are allowed")
    for reason in reasons[:3]:
        say(f"left out {reason}")
    if reasons:
        say(f"{len(reasons)} pairs left out")
    if not usable:
        raise BadDataset(
            "there is no pair to learn from: no tool call that failed and was put right, and no question with a good and a bad "
            "answer."
        )
    return usable, samples


def _counts(pairs: Sequence[Preference]) -> dict[str, int]:
    kinds = [pair.source for pair in pairs]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def _as_vlm(settings: PreferenceTraining) -> VlmTraining:
    return VlmTraining(model=settings.model, lora=settings.lora, precision=settings.precision, device=settings.device)
