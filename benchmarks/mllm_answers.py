"""What PathAsst answers on held-out originals and held-out phrasings: yes/no questions, naming, tool choice, descriptions.

Reads the `test` split of a dataset of conversations (`pathasst instruct`): pictures whose originals, and tool requests whose
templates, training never saw. Beside every yes/no score stand the majority class and the image-blind model (the same model, a
blank picture); the questions of `instruct` are balanced term by term, so that neither knows much more than half. Intervals:
95 % bootstrap over groups (originals; for tool requests, templates), 1,000 draws, seed 0.

Example: python benchmarks/mllm_answers.py out/conversations --model pathasst-embedded --out answers.json
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np

from pathasst import dataset
from pathasst.core.records import Conversation, Turn
from pathasst.core.statistics import mean_interval
from pathasst.evaluate.asking import blank_picture
from pathasst.evaluate.curation import words_f1
from pathasst.instruct.lexicon import lexicon
from pathasst.instruct.wordings import Wordings
from pathasst.mllm.generate import PathAsstModel
from pathasst.tools.registry import all_specs


def verdict(text: str) -> str:
    """Strict: the first word that is yes or no decides."""
    found = re.search(r"\b(yes|no)\b", text.lower())
    return found.group(1) if found else "invalid"


def interval(values: list[float], groups: list[str]) -> dict[str, float]:
    """Mean with a 95 % interval; the bootstrap draws whole groups."""
    made = mean_interval(np.array(values), groups)
    return {"value": made.value, "low": made.low, "high": made.high, "n": len(values), "groups": len(set(groups))}


def yes_no(conversations: list[Conversation], model: PathAsstModel, count: int, record: list[dict]) -> dict:
    """Every yes/no question of the picture conversations, each asked alone."""
    items = []
    for c in conversations:
        for asked, answered in zip(c.turns, c.turns[1:], strict=False):
            if asked.role == "user" and c.kind == "converse" and re.match(r"(yes|no)\b", answered.content.lower()):
                items.append((c, asked.content.replace("<image>", "").strip(), verdict(answered.content)))
    Random(0).shuffle(items)
    items, scores = items[:count], {}
    groups = [c.group or c.conversation_id for c, _, _ in items]
    for name, picture in (("model", None), ("image-blind", blank_picture())):
        asks = [([Turn(role="user", content=f"<image>\n{q}")], [picture or c.images[0]], []) for c, q, _ in items]
        said = [t.content for t in model.reply_many(asks, max_new_tokens=8)]
        scores[name] = interval([float(verdict(s) == w) for s, (_, _, w) in zip(said, items, strict=True)], groups)
        scores[name]["invalid"] = sum(verdict(s) == "invalid" for s in said) / len(said)
        record += [
            {"part": f"yes/no {name}", "id": c.conversation_id, "asked": q, "wanted": w, "said": s}
            for s, (c, q, w) in zip(said, items, strict=True)
        ]
    most = Counter(w for _, _, w in items).most_common(1)[0][0]
    scores["majority"] = interval([float(w == most) for _, _, w in items], groups) | {"class": most}
    return scores


def tool_choice(conversations: list[Conversation], model: PathAsstModel, count: int, record: list[dict]) -> dict:
    """The first turn of tool conversations: the right tool called, or rightly none."""
    specs = {s.name: s for s in all_specs()}
    items = [c for c in conversations if c.kind == "invoke" and len(c.turns) > 1][:count]
    asks = [([c.turns[0]], c.images, [specs[n] for n in c.tools]) for c in items]
    said = model.reply_many(asks, max_new_tokens=64)
    rows = []
    for c, turn in zip(items, said, strict=True):
        wanted, got = ([call.name for call in t.tool_calls] for t in (c.turns[1], turn))
        same = [k.arguments for k in c.turns[1].tool_calls] == [k.arguments for k in turn.tool_calls]
        template = c.trail[0].note if c.trail else c.conversation_id
        rows.append((wanted, got, same, template))
        scenario = f"{c.scenario} {c.tool}".strip()
        text = c.turns[0].content
        row = {"part": "tools", "id": c.conversation_id, "scenario": scenario, "asked": text, "wanted": wanted, "got": got}
        record.append(row | {"said": turn.content})
    called = [r for r in rows if r[0]]
    free = [r for r in rows if not r[0]]
    return {
        "all": interval([float(set(w) == set(g)) for w, g, _, _ in rows], [r[3] for r in rows]),
        "tool wanted": interval([float(set(w) == set(g)) for w, g, _, _ in called], [r[3] for r in called]),
        "first tool right": interval([float(g[:1] == w[:1]) for w, g, _, _ in called], [r[3] for r in called]),
        "arguments exact": interval([float(s) for _, _, s, _ in called], [r[3] for r in called]),
        "false calls": interval([float(bool(g)) for _, g, _, _ in free], [r[3] for r in free]),
    }


def naming(conversations: list[Conversation], model: PathAsstModel, count: int, record: list[dict]) -> dict:
    """Open questions for the organ, stain, diagnosis …: whether the answer names the caption's own term."""
    words, asks = lexicon(Wordings()), Wordings().load("converse")["ask"]
    kinds = {template: kind for kind, node in asks.items() if kind != "finding" for template in node["test"]}
    items = []
    for c in conversations:
        note = next((m.note for m in c.trail if m.step == "instruct"), "")
        kind = kinds.get(note, "") if c.kind == "converse" else ""
        truth = words.find(c.caption).terms[kind] if kind else []
        if len(truth) == 1:
            items.append((c, kind, truth[0]))
    items, scores = items[:count], {}
    groups = [c.group or c.conversation_id for c, _, _ in items]
    for name, picture in (("model", None), ("image-blind", blank_picture())):
        said = [
            t.content
            for t in model.reply_many([([c.turns[0]], [picture or c.images[0]], []) for c, _, _ in items], max_new_tokens=16)
        ]
        right = [float(truth in words.find(s).terms[kind]) for s, (_, kind, truth) in zip(said, items, strict=True)]
        scores[name] = interval(right, groups)
        record += [
            {
                "part": f"naming {name}",
                "id": c.conversation_id,
                "asked": c.turns[0].content,
                "kind": kind,
                "wanted": truth,
                "said": s,
            }
            for s, (c, kind, truth) in zip(said, items, strict=True)
        ]
    most = {k: Counter(t for _, kind, t in items if kind == k).most_common(1)[0][0] for k in {kind for _, kind, _ in items}}
    scores["majority of each kind"] = interval([float(most[kind] == truth) for _, kind, truth in items], groups)
    return scores


def descriptions(conversations: list[Conversation], model: PathAsstModel, count: int, record: list[dict]) -> dict:
    """Token F1 with the reference descriptions."""
    items = [c for c in conversations if c.kind == "describe"][:count]
    groups = [c.group or c.conversation_id for c in items]
    scores = {}
    for name, picture in (("model", None), ("image-blind", blank_picture())):
        asks = [(c.turns[:1], [picture or c.images[0]], []) for c in items]
        said = [t.content for t in model.reply_many(asks, max_new_tokens=40)]
        scores[name] = interval([words_f1(s, c.turns[1].content) for s, c in zip(said, items, strict=True)], groups)
        record += [
            {"part": f"describe {name}", "id": c.conversation_id, "wanted": c.turns[1].content, "said": s}
            for s, c in zip(said, items, strict=True)
        ]
    return scores


def main() -> None:
    """Measure and write scores and every item."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("conversations", type=Path)
    parser.add_argument("--model", default="pathasst-embedded")
    parser.add_argument("--out", type=Path, default=Path("answers.json"))
    parser.add_argument("--split", default="test")
    parser.add_argument("--yes-no", type=int, default=200)
    parser.add_argument("--tools", type=int, default=200)
    parser.add_argument("--describe", type=int, default=60)
    parser.add_argument("--engine", default="transformers", help="transformers, llama.cpp or auto.")
    parser.add_argument("--naming", type=int, default=200)
    args = parser.parse_args()
    wanted = {"converse": 3 * (args.yes_no + args.naming), "invoke": args.tools, "describe": args.describe}
    light = ["conversation_id", "kind", "turns", "split"]
    ids: dict[str, list[str]] = {}
    for c in dataset.read(args.conversations, Conversation, columns=light):
        if c.split == args.split:
            ids.setdefault(c.kind, []).append(c.conversation_id)
    chosen = {i for k, v in ids.items() for i in Random(1).sample(sorted(v), min(wanted[k], len(v)))}
    picked = [c for c in dataset.read(args.conversations, Conversation) if c.conversation_id in chosen]
    model, record, scores = PathAsstModel.load(args.model, engine=args.engine), [], {}
    for name, part, count in (
        ("tool choice", tool_choice, args.tools),
        ("yes/no", yes_no, args.yes_no),
        ("naming", naming, args.naming),
        ("descriptions", descriptions, args.describe),
    ):
        if not count:
            continue
        scores[name] = part(picked, model, count, record)
        print(name, json.dumps(scores[name], indent=1), flush=True)
        args.out.write_text(json.dumps({"model": model.version, "scores": scores, "items": record}, indent=1))


if __name__ == "__main__":
    main()
