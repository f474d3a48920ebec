"""What the wordings are worth: templates, overlap of train and test, counts and tokens, and what mere words give away.

    python benchmarks/instruct_wordings.py [CONVERSATIONS]

The last table is a bag-of-words classifier (TF-IDF of words and word pairs, linear SVM) trained on train requests: what a model
without any understanding reaches on held-out wordings, and on requests that no template made (`instruct_fresh.yaml`). Seed 0.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from random import Random
from typing import Any

import yaml

from pathasst import dataset
from pathasst.core import weights
from pathasst.core.records import Conversation
from pathasst.instruct.invoke import Invoker
from pathasst.instruct.measure import overlaps, summary, user_templates
from pathasst.instruct.wordings import Template, Wordings
from pathasst.tools.registry import CLASSES, all_specs

FRESH = Path(__file__).with_name("instruct_fresh.yaml")
LIGHT = ["conversation_id", "kind", "turns", "tools", "split", "trail"]


def main() -> None:
    """Print every table."""
    wordings = Wordings()
    print(templates(wordings), end="\n\n")
    show_overlap(wordings)
    if len(sys.argv) > 1:
        show_conversations(Path(sys.argv[1]))
    show_baseline(wordings)


def templates(wordings: Wordings) -> str:
    """Templates by tool, as docs/measured/instruct.md shows them."""
    lines = ["| tool | train templates | their variants | test templates |", "|---|---|---|---|"]
    for tool in CLASSES:
        node = wordings.load(f"tools/{tool}")
        parts = {
            part: [t for kind in ("requests", "things", "acts") for ts in node[kind][part].values() for t in ts]
            for part in ("train", "test")
        }
        variants = sum(Template(t).variants() for t in parts["train"])
        lines.append(f"| {tool} | {len(parts['train']):,} | {variants:,} | {len(parts['test'])} |")
    train, test = (len(user_templates(wordings, part)) for part in ("train", "test"))
    said = f"With frames, plain talk and questions about pictures: {train:,} train and {test:,} test templates"
    return "\n".join([*lines, "", f"{said} (variants before slots, contexts and slips)."])


def show_overlap(wordings: Wordings) -> None:
    """How near the test wordings are to the train wordings."""
    near = overlaps(wordings)
    jaccard = [o.jaccard for o in near]
    longest = max(o.ngram for o in near)
    print(f"Test against the nearest train wording (slots masked, n = {len(near)}): longest shared run {longest} words,")
    print(f"word overlap (Jaccard) mean {statistics.mean(jaccard):.2f}, max {max(jaccard):.2f} ({near[0].template!r}).\n")


def show_conversations(folder: Path) -> None:
    """Counts and tokens of a dataset of conversations."""
    s = summary(dataset.read(folder, Conversation, columns=LIGHT))
    print("| split | " + " | ".join(kinds := sorted({k for _, k in s.kinds})) + " |\n|---|" + "---|" * len(kinds))
    for split in ("train", "val", "test"):
        print(f"| {split} | " + " | ".join(str(s.kinds[split, k]) for k in kinds) + " |")
    for name, counter in (("tool called", s.tools), ("kind of tool conversation", s.scenarios)):
        print(f"\n| {name} | train | val | test |\n|---|---|---|---|")
        for key in sorted({k for _, k in counter}):
            print(f"| {key} | " + " | ".join(str(counter[split, key]) for split in ("train", "val", "test")) + " |")
    print(f"\nYes/no answers: {dict(s.answers)}.")
    count = tokenizer()
    rng = Random(0)
    for kind, texts in s.texts.items():
        lengths = sorted(count(t) for t in rng.sample(texts, min(1000, len(texts))))
        print(f"Tokens of a {kind} conversation: median {lengths[len(lengths) // 2]}, 95 % {lengths[int(0.95 * len(lengths))]}.")
    lengths = sorted(count(t) for t in rng.sample(s.replies, min(3000, len(s.replies))))
    print(f"Tokens of an answer: median {lengths[len(lengths) // 2]}, 95 % {lengths[int(0.95 * len(lengths))]}.\n")


def tokenizer() -> Any:
    """SmolLM2's tokenizer if its weights are here, else words."""
    if not weights.present("smollm2-135m"):
        return lambda text: len(text.split())
    from transformers import AutoTokenizer

    folder = weights.path("smollm2-135m")
    loaded = AutoTokenizer.from_pretrained(folder, gguf_file=next(folder.glob("*.gguf")).name)
    return lambda text: len(loaded(text, add_special_tokens=False).input_ids)


def show_baseline(wordings: Wordings) -> None:
    """Tool choice by words alone."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    invoker = Invoker(all_specs(), wordings, shares={"single": 0.7, "plain": 0.15, "unable": 0.08, "off_topic": 0.07})
    said: dict[str, list[tuple[str, str]]] = {"train": [], "val": [], "test": []}
    for n in range(9000):
        made = invoker.make(n, {})
        calls = made.turns[1].tool_calls
        said[made.split].append((made.turns[0].content, calls[0].name if calls else ""))
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LinearSVC())
    model.fit([t for t, _ in said["train"]], [tool for _, tool in said["train"]])
    fresh = [(t, tool) for t, tool, _ in yaml.safe_load(FRESH.read_text())]
    print("| bag of words, tool or none | right | n | 95 % interval |\n|---|---|---|---|")
    for name, pairs in (("held-out wordings", said["test"]), ("fresh requests", fresh)):
        hits = [p == t for p, (_, t) in zip(model.predict([x for x, _ in pairs]), pairs, strict=True)]
        low, high = interval(hits)
        print(f"| {name} | {statistics.mean(hits):.3f} | {len(hits)} | {low:.3f}–{high:.3f} |")


def interval(hits: list[bool]) -> tuple[float, float]:
    """Bootstrap, 1,000 draws, seed 0."""
    rng = Random(0)
    means = sorted(statistics.mean(rng.choices(hits, k=len(hits))) for _ in range(1000))
    return means[24], means[974]


if __name__ == "__main__":
    main()
