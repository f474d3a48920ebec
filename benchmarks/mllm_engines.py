"""The same questions about a picture to PathAsst in llama.cpp (xllamacpp) and in transformers: agreement and speed side by side.

Agreement is measured at the same precision (F16 files against float32 arithmetic), speed with the engines as `PathAsstModel.load`
makes them. First token: a new 224 px picture and a question, the system turn alone remembered. Tokens a second: of the rest.

Example: python benchmarks/mllm_engines.py --model pathasst-embedded --threads 2
"""

from __future__ import annotations

import io
import time
from pathlib import Path

import torch
from measured import command_line, save
from PIL import Image

from pathasst.core import weights
from pathasst.core.records import Turn
from pathasst.mllm import adapter
from pathasst.mllm.export import export
from pathasst.mllm.generate import PathAsstModel
from pathasst.mllm.llamacpp import LlamaEngine
from pathasst.mllm.transformers_engine import TransformersEngine

QUESTIONS = [
    "What does this picture show?",
    "Describe this image in detail.",
    "Which stain is this?",
    "From which organ was this taken?",
    "Is this malignant?",
    "What do you see in this micrograph?",
    "Is there adenocarcinoma?",
    "Name the tissue.",
]


def pictures(count: int) -> list[bytes]:
    """Crops of a real immunohistochemistry picture, 224 px."""
    import skimage.data

    whole, made = Image.fromarray(skimage.data.immunohistochemistry()), []
    for n in range(count):
        out = io.BytesIO()
        left, top = (n % 3) * 140, (n // 3 % 3) * 140
        whole.crop((left, top, left + 224, top + 224)).save(out, "PNG")
        made.append(out.getvalue())
    return made


def timed(assistant: PathAsstModel, question: str, picture: bytes, most: int) -> tuple[str, float, float, int]:
    """The answer, seconds to its first piece, seconds of the rest, pieces of the rest (a token each)."""
    started, first, pieces, text = time.perf_counter(), 0.0, 0, ""
    for piece in assistant.stream([Turn(role="user", content=f"<image>\n{question}")], [picture], max_new_tokens=most):
        if isinstance(piece, Turn):
            text = piece.content
        elif not first:
            first = time.perf_counter() - started
        else:
            pieces += 1
    return text, first, time.perf_counter() - started - first, pieces


def main() -> None:
    """Ask all engines and print answers, agreement and speed."""
    parser = command_line(__doc__)
    parser.add_argument("--model", default="pathasst-embedded")
    parser.add_argument("--work", type=Path, default=Path("out/engines"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--speed", nargs="*", default=["Q8_0", "Q4_1"], help="Quantisations whose speed is measured.")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    folder = Path(args.model) if Path(args.model).is_dir() else weights.path(args.model)
    asked = list(zip(QUESTIONS, pictures(len(QUESTIONS)), strict=True))
    exact = PathAsstModel(TransformersEngine(adapter.load(folder, torch.float32)))
    own = [exact.reply([Turn(role="user", content=f"<image>\n{q}")], [p], max_new_tokens=args.tokens).content for q, p in asked]
    engines: dict[str, PathAsstModel] = {"transformers": PathAsstModel.load(args.model, engine="transformers")}
    for kind in ("F16", *args.speed):
        export(args.model, args.work / kind, "gguf", kind)
        engines[f"llama.cpp {kind}"] = PathAsstModel(LlamaEngine(args.work / kind, threads=args.threads))
    kept: dict[str, object] = {"questions": len(asked), "threads": args.threads}
    for name, engine in engines.items():
        timed(engine, "What is it?", asked[-1][1], 4)  # warm
        said = [timed(engine, q, p, args.tokens) for q, p in asked]
        same = sum(a == text for a, (text, _, _, _) in zip(own, said, strict=True))
        first = sorted(s[1] for s in said)
        rate = sum(s[3] for s in said) / max(sum(s[2] for s in said), 1e-9)
        print(
            f"{name:16} same answer as float32 {same}/{len(asked)}; first token {first[len(first) // 2]:.2f} s (median), "
            f"{first[-1]:.2f} s (worst); {rate:.0f} tokens/s, {args.threads} thread(s)",
            flush=True,
        )
        seconds = {"first token, s": first[len(first) // 2], "first token, worst, s": first[-1]}
        kept[name] = {"same answer as float32": same, **seconds, "tokens/s": rate}
    save(args.json, kept)


if __name__ == "__main__":
    main()
