"""One run for a lent GPU: PathAsst of 1–2 B weights in both phases, its export in transformers, PathCLIP ViT-B/16 at batch 1,024.

accelerate launch --config_file recipes/paper/accelerate.yaml --num_processes 1 benchmarks/mllm_gpu.py --json "$OUT/mllm_gpu.json"
python benchmarks/mllm_gpu.py --size tiny        # the same lines on a CPU, in a minute

Weights are random and pictures are noise: what is measured is tokens a second, the share of the device's peak (MFU), and the most
memory beside what `--plan` says. Packed rows, FSDP2 where Accelerate's configuration says so, gradient checkpointing, bfloat16.
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from measured import command_line, save

from pathasst import dataset, training
from pathasst.core.records import Conversation, Pair, Source, Turn
from pathasst.mllm.memory_plan import llm_config, parameters_of, phase_memory, pictures_of
from pathasst.mllm.pack import build_row
from pathasst.mllm.settings import MllmTraining, ModelSettings, PhaseSettings
from pathasst.mllm.train import train

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "llm": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
        "tower": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2},
        "side": 32,
        "patch": 8,
        "conversations": 24,
        "row_tokens": 512,
        "batch": 2,
        "clip": {"batch": 8, "steps": 3, "pairs": 24, "side": 64},
    },
    "1b": {  # the shape of Llama 3.2 1B, and of ViT-L/14
        "llm": {
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
        },
        "tower": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
        "side": 224,
        "patch": 14,
        "conversations": 1500,
        "row_tokens": 4096,
        "batch": 4,
        "clip": {"batch": 1024, "steps": 12, "pairs": 2048, "side": 256},
    },
}
PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12}  # dense bfloat16, FLOP/s, as the maker says
WORDS = [
    "nuclei",
    "glands",
    "stroma",
    "mitoses",
    "lymphocytes",
    "necrosis",
    "atypia",
    "keratin",
    "mucin",
    "small",
    "large",
    "pale",
]


def parts(folder: Path, size: dict[str, Any]) -> ModelSettings:
    """A random LLM with a tokenizer of English letters, and a random CLIP tower."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        CLIPVisionModel,
        LlamaConfig,
        LlamaForCausalLM,
        PreTrainedTokenizerFast,
    )

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        WORDS, trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.save_pretrained(folder / "llm")
    torch.manual_seed(0)
    vocabulary = 128_256 if size["side"] > 100 else len(tokenizer)
    config = LlamaConfig(**size["llm"], vocab_size=vocabulary, max_position_embeddings=8192, tie_word_embeddings=True)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder / "llm")
    CLIPVisionModel(CLIPVisionConfig(**size["tower"], image_size=size["side"], patch_size=size["patch"])).save_pretrained(
        folder / "tower"
    )
    square = {"height": size["side"], "width": size["side"]}
    CLIPImageProcessor(size={"shortest_edge": size["side"]}, crop_size=square).save_pretrained(folder / "tower")
    return ModelSettings(vision=str(folder / "tower"), llm=str(folder / "llm"), projector="mlp2x_gelu")


def noise(seed: int, side: int) -> bytes:
    """A picture, JPEG."""
    import io

    from PIL import Image

    coarse = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((side, side)).save(out, "JPEG")
    return out.getvalue()


def conversations(folder: Path, size: dict[str, Any]) -> Path:
    """Descriptions of 30 to 150 words, each of a picture of its own."""

    def one(n: int) -> Conversation:
        rng = np.random.default_rng(n)
        words = " ".join(rng.choice(WORDS, int(rng.integers(30, 150))))
        turns = [Turn(role="user", content="<image>\nDescribe."), Turn(role="assistant", content=words)]
        about = {"kind": "describe", "source": Source(article_id="noise"), "split": "val" if n % 50 == 0 else "train"}
        return Conversation(conversation_id=str(n), turns=turns, images=[noise(n, size["side"])], **about)

    return write(folder / "conversations", Conversation, (one(n) for n in range(size["conversations"])))


def write(folder: Path, record: Any, items: Any) -> Path:
    """A dataset of records."""
    unit = dataset.Unit("all", [], "1")
    dataset.run_stage(folder, stage="noise", record=record, units=[unit], work=lambda _: items, progress=False)
    return folder


def pathasst(folder: Path, size: dict[str, Any], device: str) -> tuple[Path, dict[str, dict[str, float]]]:
    """Both phases: where the checkpoint is, and of each phase seconds, tokens, MFU, memory beside the plan."""
    model = parts(folder, size)
    common = {"take": {"describe": 0}, "row_tokens": size["row_tokens"], "batch": size["batch"]}
    settings = MllmTraining(
        model=model,
        phase1=PhaseSettings(**common, projector_lr=1e-3, epochs=0.5),
        phase2=PhaseSettings(**common, lr=1e-5, full=True),
        precision="bf16" if device == "cuda" else "fp32",
        device=device,
        gradient_checkpointing=True,
        optimizer="adamw-fused",
        whiten=False,
        save_every=10**6,
        evaluate_every=0,
    )
    config = llm_config(model.llm)
    measured: dict[str, dict[str, float]] = {}
    fit = training.fit

    def timed(task: Any, loop: Any, out: Path, **rest: Any) -> Any:
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        result = fit(task, loop, out, **rest)
        rows = [build_row([task.samples[n] for n in row]) for step in task.steps for row in step]
        tokens, parameters = sum(len(row.ids) for row in rows), parameters_of(config)
        flops = (6 if task.phase.full else 4) * parameters * tokens / result.seconds
        plan = phase_memory(
            config,
            task.phase,
            max(rows, key=lambda row: len(row.ids)),
            pictures_of(model),
            projector=model.projector,
            bf16=device == "cuda",
            checkpointing=task.checkpointing,
            varlen=device == "cuda",
        )
        name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
        peak = next((p for key, p in PEAK.items() if key in name), 0.0)
        measured[out.name] = {
            "tokens": tokens,
            "seconds": result.seconds,
            "tokens_a_second": tokens / result.seconds,
            "mfu": flops / peak if peak else 0.0,
            "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0,
            "plan_gib": plan.peak / 2**30,
        }
        print(out.name, measured[out.name], flush=True)
        return result

    training.fit = timed  # type: ignore[assignment]
    try:
        checkpoint = train([conversations(folder, size)], folder / "run", settings)
    finally:
        training.fit = fit
    return checkpoint, measured


def decoded(checkpoint: Path, device: str, side: int) -> dict[str, float]:
    """transformers alone on the exported checkpoint: tokens a second of one greedy answer."""
    import io

    from PIL import Image
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = LlavaForConditionalGeneration.from_pretrained(checkpoint, dtype=dtype).to(device)
    processor = AutoProcessor.from_pretrained(checkpoint)
    picture = Image.open(io.BytesIO(noise(1, side)))
    messages = [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": "Describe."}]}]
    inputs = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    ).to(device, dtype)
    times = []
    for most in (8, 72):  # the first also warms up
        started = time.perf_counter()
        model.generate(**inputs, min_new_tokens=most, max_new_tokens=most, do_sample=False)
        times.append(time.perf_counter() - started)
    return {"tokens_a_second": 72 / times[1]}


def pathclip(folder: Path, size: dict[str, Any], device: str) -> dict[str, float]:
    """PathCLIP ViT-B/16 from fresh weights: pictures a second over the steps after the first two."""
    from pathasst.clip.settings import ClipTraining
    from pathasst.clip.task import ClipTask
    from pathasst.clip.train import train as train_clip

    clip = size["clip"]

    def one(n: int) -> Pair:
        words = " ".join(np.random.default_rng(n).choice(WORDS, 12))
        return Pair(pair_id=str(n), source=Source(article_id="noise"), image=noise(n, clip["side"]), caption=words)

    pairs = write(folder / "pairs", Pair, (one(n) for n in range(clip["pairs"])))
    model: dict[str, Any] = {"name": "ViT-B-16", "activation": "quick_gelu"}
    if size["side"] < 100:
        model = {
            "embed_dim": 32,
            "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16},
            "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
        }
    settings = ClipTraining.load(
        "paper", model=model, start="", data=[str(pairs)], batch=clip["batch"], steps=clip["steps"], device=device, workers=4
    )
    times: list[float] = []
    loss = ClipTask.loss

    def timed(self: ClipTask, network: Any, batch: Any) -> Any:
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter())
        return loss(self, network, batch)

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    ClipTask.loss = timed  # type: ignore[method-assign]
    try:
        train_clip(settings, folder / "clip")
    finally:
        ClipTask.loss = loss  # type: ignore[method-assign]
    rate = clip["batch"] * (len(times) - 2) / (times[-1] - times[1])
    return {"pictures_a_second": rate, "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0}


def main() -> None:
    """Run all three; a part that fails is named and loses nothing of the others."""
    parser = command_line(__doc__)
    parser.add_argument("--size", choices=list(SIZES), default="1b")
    args = parser.parse_args()
    device, size = ("cuda" if torch.cuda.is_available() else "cpu"), SIZES[args.size]
    if device == "cpu" and args.size != "tiny":
        raise SystemExit("no GPU is here; try --size tiny.")
    values: dict[str, Any] = {"device": torch.cuda.get_device_name() if device == "cuda" else "CPU", "size": args.size}
    with TemporaryDirectory() as place:
        folder = Path(place)
        steps = {
            "pathasst": lambda: pathasst(folder, size, device)[1],
            "decode": lambda: decoded(folder / "run" / "checkpoint", device, size["side"]),
            "pathclip": lambda: pathclip(folder, size, device),
        }
        for name, work in steps.items():
            try:
                values[name] = work()
            except Exception as error:  # noqa: BLE001 - a lent GPU is paid for by the minute
                values[name] = {"failed": f"{type(error).__name__}: {error}"}
            print(name, values[name], flush=True)
            save(args.json, values)


if __name__ == "__main__":
    main()
