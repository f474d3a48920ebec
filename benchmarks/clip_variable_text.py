"""PathCLIP's training beside OpenCLIP's own with variable text and length bucketing: same model, same pairs, one run.

python benchmarks/clip_variable_text.py --pairs out/pairs-labels --open-clip open_clip/src [--steps 8] [--batch 64]

OpenCLIP's releases (3.3.0 and before) have neither; the main branch has (`text_cfg.variable_text`, `--length-bucketing`).
`--open-clip` is the `src` of a checkout of it, which runs in processes of its own: `python -m open_clip_train.main` on shards of
WebDataset. Its variable text needs a tokenizer with a padding token, which CLIP's own has not. So two pairs are measured: the
embedded recipe's ViT and frozen MiniLM with a trained projection, which OpenCLIP runs in each step and we once; and the same
ViT with a trained text tower of CLIP's kind, where OpenCLIP computes all 77 places and ours end with the longest caption of a
batch.

Counted is CPU time of a process with its workers, of the further steps of a longer run beside a shorter one, so that neither the
start nor other work on the machine counts. Our pictures are decoded once before the first step, OpenCLIP's in each.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
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
from pathasst.dataset import read

OURS = "import sys; from clip_variable_text import train_ours; train_ours(*sys.argv[1:])"


def cpu_seconds(command: Sequence[str], path: str) -> float:
    """CPU time of a command and all its processes; one thread each. Raises SystemExit with its last words where it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": path}
    run = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"{' '.join(command[:6])} …\n{run.stdout[-1000:]}\n{run.stderr[-3000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def train_ours(pairs: str, text: str, batch: str, steps: str) -> None:
    """Our training up to a step, in a process of its own."""
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
    return [sys.executable, "-m", "open_clip_train.main", *(word for pair in options.items() for word in pair), *flags]


def main() -> None:
    """Print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--open-clip", required=True, help="src of a checkout of OpenCLIP's main branch")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    given = parser.parse_args()
    here = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    kept: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tar = shard(given.pairs, (given.steps + 2) * given.batch, folder)

        def rate(command: Any, path: str) -> float:
            """Pairs a CPU second of the steps after the second."""
            short, long = (cpu_seconds(command(steps), path) for steps in (2, given.steps + 2))
            return float(given.steps * given.batch / (long - short))

        for text in ("frozen", "trained"):
            ways = {"open_clip_train": (False, False)}
            if text == "frozen":
                ways["open_clip_train, variable text, length bucketing"] = (True, True)
            for way, (variable, bucketing) in ways.items():
                model = model_folder(given.pairs, text, variable, folder / f"{text}{variable}")

                def command(steps: int, model: Path = model, text: str = text, bucketing: bool = bucketing) -> list[str]:
                    return theirs(model, tar, text, given.batch, steps, bucketing=bucketing)

                kept[f"text tower {text}, {way}"] = {"pairs/CPU s": rate(command, given.open_clip)}
                print(text, way, kept[f"text tower {text}, {way}"], flush=True)

            def own(steps: int, text: str = text) -> list[str]:
                return [sys.executable, "-c", OURS, given.pairs, text, str(given.batch), str(steps)]

            kept[f"text tower {text}, pathasst"] = {"pairs/CPU s": rate(own, here)}
            peers = [values["pairs/CPU s"] for key, values in kept.items() if key.startswith(f"text tower {text}, open")]
            for key, values in kept.items():
                if key.startswith(f"text tower {text}"):
                    values["of its fastest"] = values["pairs/CPU s"] / max(peers)
    for key, values in kept.items():
        print(f"{key}: {values['pairs/CPU s']:.1f} pairs a CPU second, {values['of its fastest']:.2f} of OpenCLIP's fastest")
    save(given.json, kept)


if __name__ == "__main__":
    main()
