"""Zero-shot of a PathCLIP beside what there is to be reached, on one split: a table of macro F1.

python benchmarks/clip_zeroshot.py --pairs out/pairs-labels --model pathclip-embedded [--train-splits train val] [--out table.md]

- probe, tower: logistic regression on the frozen features of PathCLIP's own tower
- probe, Lite0: the same on EfficientNet-Lite0 with ImageNet weights, the tower's teacher, which never saw pathology
- colour histogram: the same on a joint RGB histogram (4×4×4) with mean and deviation of each channel
These three are fitted to labelled training pictures of the very set, their strength by cross-validation over its groups.
Untrained: the same architecture with fresh weights. Chance: guessing with equal odds. Intervals: 95 %, bootstrap over originals
(1000 draws, seed 0).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from measured import command_line, save

from pathasst.clip import baselines
from pathasst.clip import zeroshot as zs
from pathasst.clip.build import build
from pathasst.clip.model import PathCLIPModel

HEAD = [
    "task",
    "n (originals)",
    "single prompt",
    "ensemble",
    "probe, tower",
    "probe, Lite0",
    "colour histogram",
    "untrained",
    "chance",
]


def main() -> None:
    """Print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--model", default="pathclip-embedded")
    parser.add_argument("--tasks", default="embedded")
    parser.add_argument("--train-splits", nargs="+", default=["train", "val"])
    parser.add_argument("--test-splits", nargs="+", default=["test"])
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--no-probes", action="store_true", help="only zero-shot, untrained and chance")
    parser.add_argument("--out")
    options = parser.parse_args()

    import torch

    clip = PathCLIPModel.load(options.model)
    torch.manual_seed(0)
    fresh = PathCLIPModel(build(clip.config), clip.config)
    test_pairs, train_pairs = (zs.labelled(options.pairs, s) for s in (options.test_splits, options.train_splits))
    kept: dict[str, dict[str, Any]] = {}
    rows: list[list[object]] = []
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for task in zs.load_tasks(options.tasks).values():
        test = zs.examples_of_pairs(test_pairs, task)
        if not test or (options.only and task.name not in options.only):
            continue
        features, unlearnt = embed([clip, fresh], test)
        single, many = (zs.run(clip, task, test, features, ensemble=e).scores for e in (False, True))
        cells = [task.name, f"{single.n} ({single.clusters})", single.macro_f1, many.macro_f1]
        cells += ["–"] * 3 if options.no_probes else probes(clip, task, zs.examples_of_pairs(train_pairs, task), test)
        cells += [zs.run(fresh, task, test, unlearnt).scores.macro_f1, f"{baselines.chance(task, test):.3f}"]
        lines.append("| " + " | ".join(str(c) for c in cells) + " |")
        print(lines[-1], flush=True)
        kept[task.name] = dict(zip(HEAD[2:], cells[2:], strict=True)) | {"n": single.n, "originals": single.clusters}
        rows.append(cells)
    if options.out:
        Path(options.out).write_text("\n".join(lines) + "\n", encoding="utf-8")
    others = [v["single prompt"] for k, v in kept.items() if not k.startswith("LC25000")]
    spread = {"lowest": min(others, key=lambda i: i.value), "highest": max(others, key=lambda i: i.value)} if others else {}
    save(options.json, {**kept, **spread, "table": {"columns": HEAD, "rows": rows}})


def embed(clips: list[PathCLIPModel], test: list[zs.ZeroShotPicture]) -> list[np.ndarray]:
    """Embeddings of the pictures by each model; towers that are locked are the same one and look once."""
    if not clips[0].config.tower:
        return [clip.encode_image(e.picture() for e in test) for clip in clips]
    import torch

    parts = []
    for start in range(0, len(test), 64):
        pixels = torch.stack([clips[0].preprocess(e.picture()) for e in test[start : start + 64]])
        with torch.inference_mode():
            seen = clips[0].model.visual.trunk(pixels)  # type: ignore[union-attr, operator]
            parts.append([torch.nn.functional.normalize(c.model.visual.head(seen), dim=-1).numpy() for c in clips])  # type: ignore[union-attr, operator]
    return [np.concatenate(p) for p in zip(*parts, strict=True)]


def probes(
    clip: PathCLIPModel, task: zs.ZeroShotTask, train: list[zs.ZeroShotPicture], test: list[zs.ZeroShotPicture]
) -> list[object]:
    """Macro F1 of logistic regression on the tower's, the teacher's and colour features."""
    both = [*train, *test]
    kinds = [
        baselines.tower_features(clip, (e.picture() for e in both)),
        baselines.teacher_features(e.picture() for e in both),
        [baselines.histogram(e.picture()) for e in both],
    ]
    return [baselines.probe(task, dict(zip((e.id for e in both), f, strict=True)), train, test).macro_f1 for f in kinds]


if __name__ == "__main__":
    main()
