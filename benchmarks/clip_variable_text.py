"""PathCLIP's training beside OpenCLIP's own with variable text and length bucketing: same model, same pairs, one run.

python benchmarks/clip_variable_text.py --pairs out/pairs-labels --open-clip open_clip/src [--steps 8] [--batch 64]

OpenCLIP's releases (3.3.0 and before) have neither; the main branch has (`text_cfg.variable_text`, `--length-bucketing`).
`--open-clip` is the `src` of a checkout of it; its `open_clip_train.main` runs in a process of its own, on shards of WebDataset.
It wants an older webdataset than ours: `pip install --no-deps --target OLD "webdataset<=0.2.86" braceexpand` and
`--open-clip open_clip/src:OLD`.

OpenCLIP's variable text needs a tokenizer with a padding token, which CLIP's own has not. So two pairs are measured: the embedded
recipe's ViT and frozen MiniLM with a trained projection, which OpenCLIP runs in each step and we once; and the same ViT with a
trained text tower of CLIP's kind, where OpenCLIP computes all 77 places and ours end with the longest caption of a batch.

Counted is CPU time of a process and its workers from one step of the optimizer to the next, the first two left out, so that
neither the start nor waiting counts. Our pictures are decoded once before the first step, OpenCLIP's in each.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from clip_throughput import recipe
from measured import command_line, save

from pathasst.core import weights
from pathasst.core.hardware import has_fast_bfloat16
from pathasst.core.records import Pair
from pathasst.core.statistics import Interval
from pathasst.dataset import read

RUN = "import sys; from clip_variable_text import run; run(sys.argv[1], sys.argv[2:])"
SKIPPED = 2
"""Steps that warm up."""


def run(trainer: str, arguments: list[str]) -> None:
    """A training in a process of its own: prints, as the last line, the CPU seconds at the end of each step."""
    import psutil
    from torch.optim.optimizer import register_optimizer_step_post_hook

    process, ends = psutil.Process(), []

    def note(*_: object) -> None:
        family = [process, *process.children(recursive=True)]
        ends.append(sum(times.user + times.system for times in (p.cpu_times() for p in family)))

    register_optimizer_step_post_hook(note)
    if trainer == "ours":
        train_ours(*arguments)
    else:
        from open_clip_train.main import main

        main(arguments)
    print("\n" + json.dumps(ends))


def seconds(command: Sequence[str], path: str) -> list[float]:
    """CPU seconds of each step but the first two, one thread a process. Raises SystemExit with its last words where it fails."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", RUN, *command], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:6])} …\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")
    ends = json.loads(done.stdout.splitlines()[-1])
    return [after - before for before, after in itertools.pairwise(ends)][SKIPPED - 1 :]


def train_ours(pairs: str, text: str, batch: str, steps: str) -> None:
    """Our training up to a step."""
    from pathasst.clip.train import train

    with tempfile.TemporaryDirectory() as out:
        train(recipe(pairs, text, int(batch), 1000, keep_patches=1.0), out, stop_at=int(steps))


def shard(pairs: str, count: int, folder: Path) -> Path:
    """The first pairs of the split val as a WebDataset shard."""
    path = folder / "pairs.tar"
    with tarfile.open(path, "w") as tar:
        written = 0
        for pair in read(pairs, Pair):
            if pair.split != "val" or written == count:
                continue
            for suffix, content in (("jpg", pair.image), ("txt", pair.caption.encode())):
                member = tarfile.TarInfo(f"{written:06d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, BytesIO(content))
            written += 1
    if written < count:
        raise SystemExit(f"the split val has {written} pairs; {count} are needed.")
    return path


def model_folder(pairs: str, text: str, variable: bool, folder: Path) -> Path:
    """The recipe's model as OpenCLIP reads it from a folder."""
    config: dict[str, Any] = dict(recipe(pairs, text, 8, 1).model)
    folder.mkdir(parents=True)
    if text == "frozen":
        minilm = weights.path("minilm")
        names = {"hf_model_name": str(minilm), "hf_tokenizer_name": str(minilm), "hf_model_pretrained": True}
        config["text_cfg"] = {**config["text_cfg"], **names, "variable_text": variable}
        for file in minilm.iterdir():
            if file.suffix in (".json", ".txt"):
                shutil.copy(file, folder)  # OpenCLIP looks for the tokenizer here
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    return folder


def theirs(model: Path, tar: Path, text: str, batch: int, steps: int, *, bucketing: bool) -> list[str]:
    """The command of OpenCLIP's training for so many steps."""
    options = {
        "--model": f"local-dir:{model}",
        "--train-data": str(tar),
        "--dataset-type": "webdataset",
        "--train-num-samples": str(steps * batch),
        "--batch-size": str(batch),
        "--epochs": "1",
        "--workers": "1",
        "--precision": "amp_bf16" if has_fast_bfloat16() else "fp32",
        "--device": "cpu",
        "--lr": "1e-3",
        "--warmup": "1",
        "--grad-clip-norm": "1.0",
        "--save-frequency": "0",
        "--logs": str(model),
    }
    flags = [
        *(["--lock-text"] if text == "frozen" else []),
        *(["--length-bucketing", "--bucket-pool", "512"] if bucketing else []),
    ]
    return ["theirs", *(word for pair in options.items() for word in pair), *flags]


def main() -> None:
    """Print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--open-clip", required=True, help="src of a checkout of OpenCLIP's main branch")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--text", nargs="+", choices=["frozen", "trained"], default=["frozen", "trained"])
    parser.add_argument("--batch", type=int, default=64)
    given = parser.parse_args()
    here = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    kept: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tar = shard(given.pairs, (given.steps + SKIPPED) * given.batch, folder)

        def rate(command: Any, path: str) -> dict[str, Any]:
            """Pairs a CPU second: of the median step, the slowest and the fastest."""
            each = sorted(given.batch / s for s in seconds(command(given.steps + SKIPPED), path))
            return {"pairs/CPU s": Interval(statistics.median(each), each[0], each[-1])}

        for text in given.text:
            ways = {"open_clip_train": (False, False)}
            if text == "frozen":
                ways["open_clip_train, variable text, length bucketing"] = (True, True)
            for way, (variable, bucketing) in ways.items():
                model = model_folder(given.pairs, text, variable, folder / f"{text}{variable}")

                def command(steps: int, model: Path = model, text: str = text, bucketing: bool = bucketing) -> list[str]:
                    return theirs(model, tar, text, given.batch, steps, bucketing=bucketing)

                kept[f"text tower {text}, {way}"] = rate(command, os.pathsep.join([given.open_clip, here]))
                print(text, way, kept[f"text tower {text}, {way}"], flush=True)

            def own(steps: int, text: str = text) -> list[str]:
                return ["ours", given.pairs, text, str(given.batch), str(steps)]

            kept[f"text tower {text}, pathasst"] = rate(own, here)
            peers = [values["pairs/CPU s"].value for key, values in kept.items() if key.startswith(f"text tower {text}, open")]
            for key, values in kept.items():
                if key.startswith(f"text tower {text}"):
                    values["of its fastest"] = values["pairs/CPU s"].value / max(peers)
    for key, values in kept.items():
        print(f"{key}: {values['pairs/CPU s']} pairs a CPU second, {values['of its fastest']:.2f} of OpenCLIP's fastest")
    save(given.json, kept)


if __name__ == "__main__":
    main()
