"""Training in packed rows against the plain way: Hugging Face `Trainer`, padded batches, live vision tower. Same data, one run.

Both train the same FC layer and adapters on the same conversations, with a rate of 0, so that the mean loss of a supervised token
must be the same. Counted are supervised tokens a second over the whole pass, optimiser included; the tower's one pass over
the pictures counts against the packed way, though a real training shares it among epochs and phases.

Example: python benchmarks/mllm_training.py out/conversations --samples 96 --batch 8
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from measured import command_line, save

from pathasst import dataset
from pathasst.core.hardware import has_fast_bfloat16
from pathasst.core.records import IMAGE, Conversation
from pathasst.mllm import lora
from pathasst.mllm.chat import render
from pathasst.mllm.data import FeatureTable, common_lists, cut_after_call, regrouped, samples_of
from pathasst.mllm.model import ModelSettings, Parts, build, pixels
from pathasst.mllm.pack import build_row, plan
from pathasst.mllm.packed_loss import features_of, row_loss, tree
from pathasst.mllm.settings import LLAMA_LINEARS
from pathasst.tools.registry import all_specs

SHARE = {"converse": 0.45, "invoke": 0.5, "describe": 0.05}  # about the mix of the shipped model's phase 2


def conversations(folder: Path, count: int) -> list[Conversation]:
    """Train conversations of each kind, neighbours as training takes them; tool conversations end with their last call."""
    left = {kind: round(share * count) for kind, share in SHARE.items()}
    chosen = []
    for c in dataset.read(folder, Conversation):
        if c.split == "train" and left.get(c.kind, 0) > 0:
            left[c.kind] -= 1
            chosen.append(replace(cut_after_call(c), kind="invoke") if c.kind == "invoke" else c)
        if not any(left.values()):
            break
    return chosen


def number_type() -> torch.dtype:
    """bfloat16 where the machine multiplies it in hardware: elsewhere it would be emulated, at a fortieth of float32's speed."""
    return torch.bfloat16 if has_fast_bfloat16() else torch.float32


def prepared() -> Parts:
    """The model with adapters on every linear layer; trained parts in float32."""
    parts = build(ModelSettings(), number_type())
    parts.model.requires_grad_(False)
    parts.projector.linear_1.requires_grad_(True)
    lora.attach(parts.llm, 16, 32, LLAMA_LINEARS)
    return parts


def packed(parts: Parts, chosen: list[Conversation], row_tokens: int) -> dict[str, float]:
    """Our way: pictures through the tower once, rows that share system turns and pictures."""
    named = {s.name: s for s in all_specs()}
    started, table = time.perf_counter(), FeatureTable()
    samples, _ = samples_of(chosen, parts, table, named, tool_lists=common_lists(named, 8, 0))
    features = table.tensor(parts)
    optimiser = torch.optim.AdamW([p for p in parts.model.parameters() if p.requires_grad], lr=0.0)
    total = count = read = 0.0
    with tree(parts):
        for members in plan(samples, row_tokens, 0):
            row = build_row([samples[n] for n in members])
            loss = row_loss(parts, row, features_of(row, features))
            (loss / row.targets.sum()).backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            total, count, read = total + loss.item(), count + row.targets.sum(), read + len(row.ids)
    seconds = time.perf_counter() - started
    return {"loss": total / count, "supervised": count, "tokens": read, "seconds": seconds}


class Padded:
    """The plain collator: ids padded to the longest of a batch, labels of what is not supervised at −100, pixels."""

    def __init__(self, parts: Parts) -> None:
        self.parts, self.counts, self.tokens = parts, [], 0
        self.specs = {s.name: s for s in all_specs()}
        self.lists = common_lists(self.specs, 8, 0)

    def __call__(self, batch: list[Conversation]) -> dict[str, Any]:
        parts, rendered = self.parts, []
        for c in batch:
            tools = [self.specs[n] for n in regrouped(c, self.lists)]
            shown = {"tools": tools, "images": len(c.images), "image_tokens": parts.image_tokens}
            rendered.append(render(c.turns, parts.tokenizer, parts.template, **shown))
        longest = max(len(r.ids) for r in rendered)
        pad = parts.tokenizer.pad_token_id or 0
        ids = torch.tensor([r.ids + [pad] * (longest - len(r.ids)) for r in rendered])
        seen = torch.tensor([[1] * len(r.ids) + [0] * (longest - len(r.ids)) for r in rendered])
        mask = torch.tensor([r.mask + [False] * (longest - len(r.mask)) for r in rendered])
        self.counts.append(int(mask.sum()))
        self.tokens += ids.numel()
        images = [i for c in batch for i in c.images]
        made = {"input_ids": ids, "attention_mask": seen, "labels": ids.masked_fill(~mask, -100)}
        assert int((ids == parts.tokenizer.convert_tokens_to_ids(IMAGE)).sum()) == len(images) * parts.image_tokens
        return made | ({"pixel_values": pixels(parts, images)} if images else {})


def plain(parts: Parts, chosen: list[Conversation], batch: int) -> dict[str, float]:
    """Hugging Face's `Trainer`, one epoch."""
    from transformers import Trainer, TrainingArguments

    collate = Padded(parts)
    with TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=batch,
            num_train_epochs=1,
            learning_rate=0.0,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            remove_unused_columns=False,
            disable_tqdm=True,
        )
        trainer = Trainer(model=parts.model, args=arguments, train_dataset=chosen, data_collator=collate)
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    losses = [e["loss"] for e in trainer.state.log_history if "loss" in e]
    total = sum(loss * count for loss, count in zip(losses, collate.counts, strict=False))
    count = sum(collate.counts[: len(losses)])
    return {"loss": total / count, "supervised": count, "tokens": collate.tokens, "seconds": seconds}


def main() -> None:
    """Run both and print a table."""
    parser = command_line(__doc__)
    parser.add_argument("conversations", type=Path)
    parser.add_argument("--samples", type=int, default=96)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--row-tokens", type=int, default=2048)
    args = parser.parse_args()
    chosen = conversations(args.conversations, args.samples)
    made = {"packed": packed(prepared(), chosen, args.row_tokens), "Trainer": plain(prepared(), chosen, args.batch)}
    print(f"{len(chosen)} conversations, {torch.get_num_threads()} thread(s), {number_type()}")
    for name, m in made.items():
        rate, read = m["supervised"] / m["seconds"], f"{m['supervised']:.0f} supervised of {m['tokens']:.0f} tokens read"
        print(f"{name:8} loss {m['loss']:.4f}, {read}, {rate:.1f} a second")
    ours, theirs = made["packed"], made["Trainer"]
    ratio = (ours["supervised"] / ours["seconds"]) / (theirs["supervised"] / theirs["seconds"])
    print(f"packed is {ratio:.1f} times as fast; losses differ by {abs(ours['loss'] - theirs['loss']):.4f}")
    save(args.json, {"conversations": len(chosen), "ratio": ratio, **made})


if __name__ == "__main__":
    main()
