"""Our packed rows beside TRL's packing and its padded batches (Hugging Face's `Trainer`): same model, same words, one run.

TRL packs no pictures ("Packing is not supported for vision datasets"), so all ways learn the conversations without theirs: the
LLM with adapters on every linear layer, by a rate of 0, so that the mean loss of a supervised token is the same.
Counted are supervised tokens a second of CPU time over one epoch, optimiser included, which other work on the machine does not
change; packing itself is not counted for TRL, and is for us. One thread: OMP_NUM_THREADS=1.
On a CPU TRL's rows go through transformers' SDPA under a block mask made of the positions; its flash attention is for GPUs.

Example: python benchmarks/mllm_packing.py out/conversations --samples 24
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from measured import command_line, save
from mllm_training import conversations, number_type, prepared

from pathasst.core.records import IMAGE, Conversation
from pathasst.mllm.data import FeatureTable, common_lists, samples_of
from pathasst.mllm.model import Parts
from pathasst.mllm.pack import Sample, build_row, plan
from pathasst.mllm.packed_loss import features_of, row_loss, tree
from pathasst.tools.registry import all_specs


def without_pictures(conversation: Conversation) -> Conversation:
    """The same words, no picture."""
    turns = [replace(turn, content=turn.content.replace(f"{IMAGE}\n", "").replace(IMAGE, "")) for turn in conversation.turns]
    return replace(conversation, turns=turns, images=[])


def ours(parts: Parts, samples: Sequence[Sample], row_tokens: int, *, share: bool) -> dict[str, float]:
    """One epoch of our rows. `share`: conversations of one list of tools compute it once a row."""
    parts.projector.requires_grad_(False)  # no picture passes it
    optimiser = torch.optim.AdamW([p for p in parts.model.parameters() if p.requires_grad], lr=0.0)
    started, total, count, tokens = time.process_time(), 0.0, 0, 0
    empty = torch.zeros(0, *parts.feature_shape)
    with tree(parts):
        for members in plan(samples, row_tokens, 0, share=share):
            row = build_row([samples[n] for n in members], share=share)
            loss = row_loss(parts, row, features_of(row, empty))
            (loss / row.targets.sum()).backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            total, count, tokens = total + loss.item(), count + int(row.targets.sum()), tokens + len(row.ids)
    return {"loss": total / count, "supervised": count, "tokens": tokens, "CPU seconds": time.process_time() - started}


def trl(parts: Parts, samples: Sequence[Sample], row_tokens: int, *, batch: int = 0) -> dict[str, float]:
    """One epoch of TRL's `SFTTrainer`; `batch`: padded batches of so many, 0: packed rows."""
    from datasets import Dataset
    from transformers import LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]

    with torch.device("meta"):
        model = LlamaForCausalLM(parts.llm.config)
    model.model, model.lm_head = parts.llm, parts.model.lm_head
    labels = [np.where(sample.mask, sample.ids, -100).tolist() for sample in samples]
    data = Dataset.from_dict({"input_ids": [sample.ids.tolist() for sample in samples], "labels": labels})
    counts: list[tuple[int, int]] = []
    with TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            packing=not batch,
            max_length=row_tokens,
            per_device_train_batch_size=batch or 1,
            num_train_epochs=1,
            learning_rate=0.0,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            disable_tqdm=True,
        )
        trainer = SFTTrainer(model=model, args=config, train_dataset=data, processing_class=parts.tokenizer)
        collate = trainer.data_collator

        def counting(examples: list[dict[str, Any]]) -> dict[str, Any]:
            made: dict[str, Any] = collate(examples)
            counts.append((int((made["labels"] != -100).sum()), made["input_ids"].numel()))
            return made

        trainer.data_collator = counting
        started = time.process_time()
        trainer.train()
        seconds = time.process_time() - started
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    count = sum(c for c, _ in counts[: len(losses)])
    total = sum(loss * c for loss, (c, _) in zip(losses, counts, strict=False))
    return {
        "loss": total / count,
        "supervised": count,
        "tokens": sum(t for _, t in counts[: len(losses)]),
        "CPU seconds": seconds,
    }


def main() -> None:
    """Run all four and print a table."""
    parser = command_line(__doc__)
    parser.add_argument("conversations", type=Path)
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--batch", type=int, default=8, help="conversations of a padded batch")
    parser.add_argument("--row-tokens", type=int, default=2048)
    args = parser.parse_args()
    specs = {spec.name: spec for spec in all_specs()}
    chosen = [without_pictures(c) for c in conversations(args.conversations, args.samples)]
    parts = prepared()
    samples, _ = samples_of(chosen, parts, FeatureTable(), specs, tool_lists=common_lists(specs, 8, 0))
    results: dict[str, dict[str, float]] = {}
    for name, way in {
        "pathasst, shared": lambda: ours(parts, samples, args.row_tokens, share=True),
        "pathasst, each its own tools": lambda: ours(prepared(), samples, args.row_tokens, share=False),
        "TRL packed": lambda: trl(prepared(), samples, args.row_tokens),
        "TRL padded": lambda: trl(prepared(), samples, args.row_tokens, batch=args.batch),
    }.items():
        results[name] = way()
        print(name, results[name], flush=True)
    print(f"{len(samples)} conversations without pictures, {torch.get_num_threads()} thread(s), {number_type()}")
    kept: dict[str, dict[str, float]] = {}
    packed = results["TRL packed"]["supervised"] / results["TRL packed"]["CPU seconds"]
    for name, m in results.items():
        rate = m["supervised"] / m["CPU seconds"]
        kept[name] = {**m, "supervised/s": rate, "of TRL packed": rate / packed}
        tokens = f"{m['supervised']:.0f} supervised of {m['tokens']:.0f} tokens"
        print(f"{name}: loss {m['loss']:.4f}, {tokens}, {rate:.1f}/s, {rate / packed:.2f} of TRL packed")
    save(args.json, kept)


if __name__ == "__main__":
    main()
