"""Training a CLIP on pairs: OpenCLIP's model and loss, by the one training loop. Paper: "Training of PathCLIP"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.clip.build import ClipConfig, build, lock_tower
from pathasst.clip.captions import Captions
from pathasst.clip.data import Pictures, load_pictures
from pathasst.clip.distill import FILE as TEACHER
from pathasst.clip.distill import compute_teacher_features
from pathasst.clip.eval_callback import ValScores
from pathasst.clip.image_cache import forget
from pathasst.clip.lit import FILE as LIT
from pathasst.clip.lit import compute_lit_features, standardise
from pathasst.clip.model import PathCLIPModel
from pathasst.clip.settings import ClipTraining
from pathasst.core.errors import BadSettings
from pathasst.nn.pretrained import efficientnet_lite0

if TYPE_CHECKING:
    from torch import nn

    from pathasst.clip.task import ClipTask

PICTURES, FURTHER = "pictures.bin", "further.bin"  # decoded, while the training is not finished
Log = Callable[[dict[str, Any]], None]


def train(settings: ClipTraining, out: Path | str, log: Log | None = None, *, stop_at: int = 0) -> PathCLIPModel:
    """Train, or resume from the newest checkpoint in `out`; writes `out/model.safetensors` and what `training.fit` writes.

    `stop_at` ends the training early after that step, with a checkpoint and the model so far in `out/at-<step>`. `log` gets each
    line of the log. Every process of `accelerate launch` calls this; `batch` is that of all together, the first one writes.
    Raises BadDataset when there are no pairs, BadSettings for what cannot be trained (see `training.fit`), MissingWeights.
    """
    import torch

    from pathasst.training import fit
    from pathasst.training.loop import processes

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    world = processes(settings.device)
    task = _task(settings, out, world)
    if log and world.is_main_process and task.texts.too_long:
        log({"captions_too_long": round(task.texts.too_long, 4)})
    trained = fit(task, settings, out, log=log, stop_at=stop_at)
    task.limit_scale()
    extra = {"recipe": settings.plain(), "steps": trained.step} | ({"tower": settings.tower} if settings.unlocked == 0 else {})
    clip = PathCLIPModel(task.clip, replace(task.config, extra=extra))
    if world.is_main_process:
        clip.save(out if trained.finished else out / f"at-{trained.step}")
        trained.remove_checkpoints()
        if trained.finished:
            forget(out / PICTURES)
            forget(out / FURTHER)
    return clip


def _task(settings: ClipTraining, out: Path, world: Any) -> ClipTask:
    """Pictures and captions, the model, and the features of its teacher or of its locked tower: the first process computes them,
    the others read the files that it leaves."""
    import torch

    from pathasst.clip.task import ClipTask

    def load(data: tuple[str, ...], file: str) -> Pictures:
        with world.main_process_first():
            return load_pictures(data, settings.splits, settings.cache_side, leave_out=settings.leave_out, file=out / file)

    distill, pictures = settings.distill, load(settings.data, PICTURES)
    parts: dict[str, Any] = {"further": load(distill.data, FURTHER).images if distill.data else []}
    torch.manual_seed(settings.seed)
    model, config = initial(settings)
    model.to(world.device).eval()  # a locked tower's batch normalisation
    if distill.used:
        grid, images = config.image_size // config.patch_size, [*pictures.images, *parts["further"]]
        with world.main_process_first():
            parts["teacher"] = compute_teacher_features(images, distill, config.image_size, grid, settings.seed, out / TEACHER)
    texts = Captions(model, config, pictures.texts)
    if settings.unlocked == 0:
        path, crops = Path(settings.features or out / LIT), (settings.views, settings.smallest, settings.stain, settings.seed)
        trunk: Any = model.visual.trunk  # type: ignore[union-attr]
        with world.main_process_first():
            parts["lit_features"] = compute_lit_features(trunk, config, pictures.images, *crops, path)
        standardise(model, parts["lit_features"])
    if settings.tasks:
        parts["val_scores"] = ValScores(settings.data, settings.tasks)
    return ClipTask(settings, model, config, pictures, texts, **parts)


def initial(settings: ClipTraining) -> tuple[nn.Module, ClipConfig]:
    """The model that a training starts from: loaded, or fresh with a pretrained vision tower."""
    config = settings.config()
    if settings.start:
        arch = {"arch": settings.model.get("name", "")} if Path(settings.start).is_file() else {}
        clip = PathCLIPModel.load(settings.start, activation=config.activation, device="cpu", **arch)
        if (size := _size(clip.config)) != _size(config):
            raise BadSettings(f"start: {settings.start} is a model of {size}, the recipe's of {_size(config)}.")
        return _with_bias(clip.model, clip.config) if settings.loss == "sigmoid" else (clip.model, clip.config)
    model: Any = build(config)
    if settings.tower and settings.unlocked == 0:
        lock_tower(model)
    elif settings.tower:
        model.visual.trunk.load_state_dict(efficientnet_lite0().state_dict())
    if settings.unlocked > 0:
        model.visual.lock(settings.unlocked)
    return model, config


def _with_bias(model: Any, config: ClipConfig) -> tuple[nn.Module, ClipConfig]:
    """A model that was trained by softmax, with the bias that the sigmoid loss learns; it keeps its scale."""
    import torch
    from torch import nn

    config = config.with_bias()
    if model.logit_bias is None:
        model.logit_bias = nn.Parameter(torch.tensor(float(config.model["init_logit_bias"])))
    return model, config


def _size(config: ClipConfig) -> dict[str, Any]:
    """What tells architectures apart, of the vision tower."""
    vision = config.model["vision_cfg"]
    return {k: vision.get(k) for k in ("timm_model_name", "image_size", "patch_size", "width", "layers") if vision.get(k)}
