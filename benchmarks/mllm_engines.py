"""The same questions, without pictures, to PathAsst's exported LLM in llama.cpp (xllamacpp) and in transformers.

Do their greedy answers agree, and how fast is each? Pictures in llama.cpp need a projector file, which is not exported yet.

Example: python benchmarks/mllm_engines.py --model pathasst-embedded --work /tmp/engines --quantisation F16
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from pathasst.mllm.chat import render
from pathasst.mllm.export import export
from pathasst.mllm.generate import PathAsst
from pathasst.records import Turn

QUESTIONS = ["What is Ki67?", "What does HER2 mean in breast cancer?", "What is a goblet cell?", "Who are you?", "What is HSIL?"]


def engine(files: list[Path]) -> Any:
    """llama.cpp on two threads."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(files[0])
    params.n_ctx, params.n_parallel, params.warmup = 2048, 1, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
    params.verbosity = 0
    params.port = 0
    return xllamacpp.Server(params)


def ask(server: Any, prompt: str, most: int) -> dict[str, Any]:
    """One greedy completion of a raw prompt."""
    answer: dict[str, Any] = server.handle_completions({"prompt": prompt, "temperature": 0.0, "n_predict": most})
    return answer


def main() -> None:
    """Ask both and print answers, agreement and tokens a second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pathasst-embedded")
    parser.add_argument("--work", type=Path, default=Path("out/engines"))
    parser.add_argument("--quantisation", default="Q8_0")
    parser.add_argument("--tokens", type=int, default=24)
    args = parser.parse_args()
    ours = PathAsst.load(args.model)
    server = engine(export(args.model, args.work, "gguf", args.quantisation))
    parts, same, rate = ours.parts, 0, []
    for question in QUESTIONS:
        turns = [Turn(role="user", content=question)]
        prompt = parts.tokenizer.decode(render(turns, parts.tokenizer, parts.template, prompt=True).ids)
        theirs = ask(server, prompt, args.tokens)
        text, rate = theirs["choices"][0]["text"].strip(), [*rate, theirs["timings"]["predicted_per_second"]]
        started = time.perf_counter()
        own = ours.reply(turns, max_new_tokens=args.tokens).content
        same += text == own
        print(f"{question}\n  llama.cpp    {rate[-1]:5.1f} tokens/s  {text}")
        print(f"  transformers {time.perf_counter() - started:5.2f} s in all  {own}", flush=True)
    print(f"the same answer: {same} of {len(QUESTIONS)}")


if __name__ == "__main__":
    main()
