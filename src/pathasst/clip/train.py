"""Training a CLIP on pairs: OpenCLIP's model and loss, one recipe, exact resume.

Knows models, pictures and the loss; does not know where labels come from. Every random choice of a step is drawn from
(seed, step), and a checkpoint holds weights, optimiser and step: on a CPU, a run killed at any step and resumed ends with the
same bits as one that was not. Paper: "Training of PathCLIP".
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pathasst.clip.build import ClipConfig, build, load_own_state, lock_tower, own_state
from pathasst.clip.captions import Captions
from pathasst.clip.data import Pictures, load_pictures
from pathasst.clip.distill import FILE as LESSONS
from pathasst.clip.distill import Teaching, heads, take_lessons
from pathasst.clip.eval_callback import Watch, draw_log
from pathasst.clip.image_cache import forget
from pathasst.clip.lit import FILE as LOCKED
from pathasst.clip.lit import locked_features, standardise
from pathasst.clip.model import PathCLIP
from pathasst.clip.processes import Processes, join
from pathasst.clip.trainer import Steps, rate
from pathasst.core.errors import BadDataset, BadSettings
from pathasst.core.files import write_atomic
from pathasst.core.recipes import load_recipe
from pathasst.nn.pretrained import MEAN, STD, efficientnet_lite0

if TYPE_CHECKING:
    from torch import nn

CHECKPOINT, LOG = "checkpoint.pt", "log.jsonl"
PICTURES, FURTHER = "pictures.bin", "further.bin"  # decoded, while the run is not done
TOWER = "efficientnet-lite0"
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipRecipe:
    """A recipe of `pathasst train clip`. Raises BadSettings for values that cannot work."""

    model: dict[str, Any]  # OpenCLIP's model_cfg; or {"name": "ViT-B-16", "activation": "quick_gelu"}
    init: str = ""  # id or path of a PathCLIP to start from; empty: fresh weights
    tower: str = ""  # weights of the vision tower alone to start from: `efficientnet-lite0`, for a model with that timm tower
    unlocked: int = -1  # groups of layers of a timm tower that are trained, from the last (OpenCLIP's lock); −1: all
    views: int = 4  # of a locked tower (unlocked 0): augmented crops of each picture, seen once
    features: str = ""  # file in which a locked tower's features are kept, to be shared by runs; empty: in the run's folder
    data: list[str] = field(default_factory=list)  # datasets of Pair
    splits: list[str] = field(default_factory=lambda: ["train"])
    leave_out: list[str] = field(default_factory=list)  # sources to skip
    steps: int = 1000
    batch: int = 128
    lr: float = 1e-3
    warmup: int = 50  # steps
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    seed: int = 0
    cache_side: int = 256  # px of the pre-decoded pictures
    smallest: float = 0.6  # smallest crop, as a share of the side
    stain: float = 0.25  # strength of the stain augmentation
    keep_patches: float = 1.0  # share of patches a step sees (FLIP); the last tenth of the steps sees all
    balance: float = 0.4  # classes are drawn as (their size)^balance
    teach: Teaching = field(default_factory=Teaching)  # distillation; YAML: a mapping of its settings. No steps, weight 0: none
    anchors: bool = True  # add one caption of every concept to each batch, as further negatives and positives
    bf16: bool = True  # where the machine multiplies it in hardware (`precision`)
    save_every: int = 100  # steps
    watch: str = ""  # recipe of zero-shot tasks, measured with retrieval on the split val at every checkpoint; empty: none
    threads: int = 0  # of the model; 0 = all cores. On a shared machine 1 is faster than 2
    workers: int = 1  # further threads, which prepare the next batches: one prepares some 250 pictures a second

    def __post_init__(self) -> None:
        if isinstance(self.teach, dict):
            if unknown := sorted(set(self.teach) - {f.name for f in fields(Teaching)}):
                raise BadSettings(f"teach: unknown settings {', '.join(unknown)}.")
            object.__setattr__(self, "teach", Teaching(**self.teach))
        if self.steps < 1 or self.batch < 2 or self.workers < 1 or not 0 < self.keep_patches <= 1 or not 0 < self.smallest <= 1:
            raise BadSettings("steps ≥ 1, batch ≥ 2, workers ≥ 1, 0 < keep_patches ≤ 1 and 0 < smallest ≤ 1 are needed.")
        if self.timm and (self.teach.steps or self.teach.weight):
            raise BadSettings("teach: only a ViT is taught by distillation.")
        if (self.tower or self.unlocked >= 0) and not self.timm:
            raise BadSettings("tower and unlocked are for a timm tower (vision_cfg: timm_model_name).")
        if self.unlocked == 0 and not self.tower and not self.init:
            raise BadSettings("a locked tower needs weights: tower.")
        if self.tower not in ("", TOWER):
            raise BadSettings(f"tower {self.tower!r} is unknown; choose {TOWER}.")

    @classmethod
    def load(cls, recipe: Path | str = "embedded", **changes: Any) -> ClipRecipe:
        """A recipe by name or YAML path; `changes` overwrite its values. Raises BadSettings for unknown settings."""
        return replace(load_recipe("clip", str(recipe), cls), **changes)

    def config(self) -> ClipConfig:
        if "name" in self.model:
            return ClipConfig.of_name(self.model["name"], self.model.get("activation", "quick_gelu"))
        return ClipConfig(self.model, MEAN, STD) if self.timm else ClipConfig(self.model)

    @property
    def timm(self) -> str:
        """Name of the timm tower; empty for a ViT of OpenCLIP's own."""
        return str(self.model.get("vision_cfg", {}).get("timm_model_name") or "")


def train(
    recipe: ClipRecipe, out: Path | str, *, stop_at: int = 0, report: Callable[[dict[str, Any]], None] | None = None
) -> PathCLIP:
    """Train, or go on from the checkpoint in `out`; writes `out/model.safetensors` when all steps are done, and `log.png`.

    `stop_at` ends the run early after that step, with a checkpoint and the model so far in `out/at-<step>`.
    `report` gets each logged line (step, loss, seconds).
    Under `torchrun` every process calls this; `batch` is that of all together, and the first process writes and reports.
    Raises BadDataset when `out` holds a run of another recipe, BadSettings when the processes cannot share the batch.
    """
    import torch

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    processes = join()
    if recipe.batch % processes.world:
        raise BadSettings(f"a batch of {recipe.batch} cannot be shared by {processes.world} processes.")
    _same_recipe(recipe, out, processes)
    steps, config = _prepare(recipe, out, processes)
    first = _resume(steps, out)
    if processes.first:
        _forget(out / LOG, first)
    watch = Watch(recipe.data, recipe.watch) if recipe.watch and processes.first else None
    last = min(recipe.steps, stop_at or recipe.steps)
    started = time.monotonic()
    for step, losses in enumerate(steps.run(first, last), first):
        rounded = {k: round(v, 4) for k, v in losses.items()}
        if processes.first and (step % 10 == 9 or step == last - 1):
            seconds = round(time.monotonic() - started, 1)
            line = {"step": step + 1, **rounded, "lr": rate(recipe, step), "seconds": seconds}
            line |= {"captions_too_long": round(steps.texts.too_long, 4)} if step < first + 10 else {}
            _log(line, out, report)
        if (step + 1) % recipe.save_every == 0 or step == last - 1:
            if processes.first:
                _save(steps, step + 1, out)
                scores = watch(PathCLIP(steps.model, config)) if watch and step >= recipe.teach.steps else None
                if scores is not None:
                    _log({"step": step + 1, **rounded, "scores": scores}, out, report)
            processes.wait()  # for the first process to have written the checkpoint, and measured
    extra = {"recipe": asdict(recipe), "steps": last} | ({"tower": recipe.tower} if recipe.unlocked == 0 else {})
    clip = PathCLIP(steps.model, replace(config, extra=extra))
    if processes.first:
        _finish(clip, out, "" if last == recipe.steps else f"at-{last}")
    return clip


def _finish(clip: PathCLIP, out: Path, early: str) -> None:
    """Curve and weights of a run that is done, or that was stopped `early` and will go on from the same pictures."""
    draw_log(out / LOG).save(out / "log.png")
    clip.save(out / early)
    if not early:
        forget(out / PICTURES)
        forget(out / FURTHER)


def _prepare(recipe: ClipRecipe, out: Path, processes: Processes) -> tuple[Steps, ClipConfig]:
    """Pictures and captions in memory, the model, and what its teacher said."""
    import torch

    teach = recipe.teach

    def load(data: list[str], file: str) -> Pictures:
        return load_pictures(data, recipe.splits, recipe.cache_side, leave_out=recipe.leave_out, file=out / file)

    pictures = _once(processes, lambda: load(recipe.data, PICTURES))
    further = _once(processes, lambda: load(teach.data, FURTHER)).shown if teach.data else []
    torch.manual_seed(recipe.seed)
    model, config = start(recipe)
    model.to(processes.device).eval()  # a locked tower's batch normalisation
    lessons = mouths = None
    if teach.steps or teach.weight:
        grid = config.image_size // config.patch_size
        shown = [*pictures.shown, *further]
        lessons = _once(processes, lambda: take_lessons(shown, teach, config.image_size, grid, recipe.seed, out / LESSONS))
        mouths = heads(int(config.model["vision_cfg"]["width"]), lessons)
    texts = Captions(model, config, pictures.texts)
    locked = None
    if recipe.unlocked == 0:
        path, look = Path(recipe.features or out / LOCKED), (recipe.views, recipe.smallest, recipe.stain, recipe.seed)
        trunk: Any = model.visual.trunk  # type: ignore[union-attr]
        locked = _once(processes, lambda: locked_features(trunk, config, pictures.shown, *look, path))
        standardise(model, locked)
    parts: dict[str, Any] = {"further": further, "lessons": lessons, "heads": mouths, "locked": locked, "processes": processes}
    return Steps(recipe, model, config, pictures, texts, **parts), config


def _once(processes: Processes, work: Callable[[], T]) -> T:
    """Work that leaves a file behind: the first process does it, the others wait and read the file."""
    done = work() if processes.first else None
    processes.wait()
    return work() if done is None else done


def _log(line: dict[str, Any], out: Path, report: Callable[[dict[str, Any]], None] | None) -> None:
    with (out / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    if report:
        report(line)


def _forget(log: Path, step: int) -> None:
    """Drop the lines after the step of the checkpoint: these steps are done again."""
    if log.is_file():
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]  # the last one may have been cut by the kill
        write_atomic(log, "".join(line for line in whole if json.loads(line)["step"] <= step).encode())


def start(recipe: ClipRecipe) -> tuple[nn.Module, ClipConfig]:
    """The model that a recipe starts from: loaded, or fresh with a pretrained vision tower."""
    config = recipe.config()
    if recipe.init:
        named = {"arch": recipe.model.get("name", "")} if Path(recipe.init).is_file() else {}
        clip = PathCLIP.load(recipe.init, activation=config.activation, device="cpu", **named)
        if (size := _size(clip.config)) != _size(config):
            raise BadSettings(f"init {recipe.init} is a model of {size}, the recipe's of {_size(config)}.")
        return clip.model, clip.config
    model: Any = build(config)
    if recipe.tower and recipe.unlocked == 0:
        lock_tower(model)
    elif recipe.tower:
        model.visual.trunk.load_state_dict(efficientnet_lite0().state_dict())
    if recipe.unlocked > 0:
        model.visual.lock(recipe.unlocked)
    return model, config


def _size(config: ClipConfig) -> dict[str, Any]:
    """What tells architectures apart, of the vision tower."""
    vision = config.model["vision_cfg"]
    return {k: vision.get(k) for k in ("timm_model_name", "image_size", "patch_size", "width", "layers") if vision.get(k)}


def _same_recipe(recipe: ClipRecipe, out: Path, processes: Processes) -> None:
    settings = asdict(recipe)
    del settings["workers"]  # any number of them prepares the same batches
    text = json.dumps(settings, sort_keys=True, indent=1)
    path = out / "recipe.json"
    processes.wait()
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise BadDataset(f"{out} holds a run of another recipe; choose another folder, or remove it.")
    processes.wait()
    if processes.first:
        write_atomic(path, text.encode())


def _save(steps: Steps, step: int, out: Path) -> None:
    import torch

    temporary = out / f".{CHECKPOINT}"
    state = {"step": step, "model": own_state(steps.model), "optimiser": steps.optimiser.state_dict()}
    state["heads"] = steps.heads.state_dict() if steps.heads is not None else {}
    torch.save(state, temporary)
    temporary.replace(out / CHECKPOINT)


def _resume(steps: Steps, out: Path) -> int:
    import torch

    path = out / CHECKPOINT
    if not path.is_file():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    load_own_state(steps.model, state["model"], str(path))
    if steps.heads is not None:
        steps.heads.load_state_dict(state["heads"])
    steps.optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])
