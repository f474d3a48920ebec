"""Training a CLIP on pairs: OpenCLIP's model and loss, one recipe, exact resume.

Knows models, pictures and the loss; does not know where labels come from. Every random choice of a step is drawn from
(seed, step), and a checkpoint holds weights, optimiser and step: on a CPU, a run killed at any step and resumed ends with the
same bits as one that was not. Paper: "Training of PathCLIP".
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pathasst.clip.augment import crop, recolour, stain_matrices
from pathasst.clip.build import ClipConfig, build, load_own_state, own_state, token_counter, tokenizer_of
from pathasst.clip.data import Pictures, load_pictures, sentence_windows
from pathasst.clip.model import PathCLIP, trim
from pathasst.clip.watch import Watch, draw_log
from pathasst.dataset.manifest import write_atomic
from pathasst.errors import BadDataset, BadSettings
from pathasst.recipes import load_recipe

if TYPE_CHECKING:
    import torch
    from torch import nn

CHECKPOINT, LOG = "checkpoint.pt", "log.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipRecipe:
    """A recipe of `pathasst train clip`. Raises BadSettings for values that cannot work."""

    model: dict[str, Any]  # OpenCLIP's model_cfg; or {"name": "ViT-B-16", "activation": "quick_gelu"}
    init: str = ""  # id or path of a PathCLIP to start from; empty: fresh weights
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
    anchors: bool = True  # add one caption of every concept to each batch, as further negatives and positives
    bf16: bool = True
    save_every: int = 100  # steps
    watch: str = ""  # recipe of zero-shot tasks to measure on the split val at every checkpoint; empty: none
    threads: int = 0  # of the model, one more prepares the next batch; 0 = all cores. On a shared machine 1 is faster than 2

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 2 or not 0 < self.keep_patches <= 1 or not 0 < self.smallest <= 1:
            raise BadSettings("steps ≥ 1, batch ≥ 2, 0 < keep_patches ≤ 1 and 0 < smallest ≤ 1 are needed.")

    @classmethod
    def load(cls, recipe: Path | str = "embedded", **changes: Any) -> ClipRecipe:
        """A recipe by name or YAML path; `changes` overwrite its values. Raises BadSettings for unknown settings."""
        return replace(load_recipe("clip", str(recipe), cls), **changes)

    def config(self) -> ClipConfig:
        if "name" in self.model:
            return ClipConfig.of_name(self.model["name"], self.model.get("activation", "quick_gelu"))
        return ClipConfig(self.model)


def train(
    recipe: ClipRecipe, out: Path | str, *, stop_at: int = 0, report: Callable[[dict[str, Any]], None] | None = None
) -> PathCLIP:
    """Train, or go on from the checkpoint in `out`; writes `out/model.safetensors` when all steps are done, and `log.png`.

    `stop_at` ends the run early after that step, with a checkpoint. `report` gets each logged line (step, loss, seconds).
    Raises BadDataset when `out` holds a run of another recipe.
    """
    import torch

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    _same_recipe(recipe, out)
    pictures = load_pictures(recipe.data, recipe.splits, recipe.cache_side, leave_out=recipe.leave_out)
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    model, config = _start(recipe)
    texts = Captions(model, config, pictures.texts)
    optimiser = _optimiser(model, recipe)
    first = _resume(model, optimiser, out)
    trainer = _Trainer(recipe, model, config, pictures, texts, optimiser)
    watch = Watch(recipe.data, recipe.watch) if recipe.watch else None
    last = min(recipe.steps, stop_at or recipe.steps)
    started = time.monotonic()
    for step, loss in enumerate(trainer.steps(first, last), first):
        if step % 10 == 9 or step == last - 1:
            seconds = round(time.monotonic() - started, 1)
            line = {"step": step + 1, "loss": round(loss, 4), "lr": rate(recipe, step), "seconds": seconds}
            line |= {"captions_too_long": round(texts.too_long, 4)} if step < first + 10 else {}
            _log(line, out, report)
        if (step + 1) % recipe.save_every == 0 or step == last - 1:
            _save(model, optimiser, step + 1, out)
            if watch:
                scores = watch(PathCLIP(model, config))
                _log({"step": step + 1, "loss": round(loss, 4), "zeroshot": scores}, out, report)
    draw_log(out / LOG).save(out / "log.png")
    clip = PathCLIP(model, ClipConfig(config.model, config.mean, config.std, {"recipe": asdict(recipe), "steps": last}))
    if last == recipe.steps:
        clip.save(out)
    return clip


class Captions:
    """Captions, ready for the text tower: embedded once when the tower is frozen, tokenised once when it is not.

    A caption longer than the context becomes several `windows` of whole sentences that fit; a step draws one of them.
    """

    def __init__(self, model: nn.Module, config: ClipConfig, captions: list[str]) -> None:
        import torch

        self.model, self.config, self.frozen = model, config, config.has_hf_text
        count = token_counter(config)
        length = int(config.model["text_cfg"].get("context_length", 77))
        texts: list[str] = []
        self.windows: list[list[int]] = []  # caption → rows of `ids`
        for caption in captions:
            parts = sentence_windows(caption, count, length)
            self.windows.append(list(range(len(texts), len(texts) + len(parts))))
            texts += parts
        self.too_long = sum(count(c) > length for c in captions) / max(1, len(captions))  # share of the captions
        ids = tokenizer_of(config)(texts)
        self.ids, self.pooled = ids, torch.zeros(0)
        if self.frozen:
            tower = model.text.eval()  # type: ignore[union-attr]
            order = (ids != 0).sum(dim=1).argsort()
            pooled = torch.zeros(len(texts), int(tower.transformer.config.hidden_size))  # type: ignore
            with torch.inference_mode():
                for rows in order.split(128):
                    batch = trim(ids[rows], config)
                    mask = (batch != 0).long()
                    pooled[rows] = tower.pooler(tower.transformer(input_ids=batch, attention_mask=mask), mask)  # type: ignore[operator]
            self.pooled = pooled

    def draw(self, captions: list[int], chance: np.random.Generator) -> list[int]:
        """Rows for `encode`: the caption, or one of its windows."""
        windows = (self.windows[c] for c in captions)
        return [w[0] if len(w) == 1 else int(chance.choice(w)) for w in windows]

    def encode(self, rows: list[int]) -> torch.Tensor:
        """Rows from `draw` → float [m, d], unit rows, with gradient to what is trained of the text tower."""
        import torch.nn.functional as F

        if self.frozen:
            return F.normalize(self.model.text.proj(self.pooled[rows]).float(), dim=-1)  # type: ignore[operator, union-attr]
        return self.model.encode_text(self.ids[rows], normalize=True).float()  # type: ignore[operator]


@dataclass(frozen=True, slots=True)
class _Batch:
    rows: list[int]  # of `Captions`, the extra ones of `anchors` last
    truth: torch.Tensor  # bool [n, len(rows)]
    patches: torch.Tensor
    kept: torch.Tensor


class _Trainer:
    def __init__(
        self, recipe: ClipRecipe, model: nn.Module, config: ClipConfig, pictures: Pictures, texts: Captions, optimiser: Any
    ) -> None:
        from pathasst.clip.loss import TrueCaptionsLoss

        self.recipe, self.model, self.config, self.pictures = recipe, model, config, pictures
        self.texts, self.optimiser, self.loss = texts, optimiser, TrueCaptionsLoss()
        self.odds = pictures.sampling(recipe.balance)
        self.rows_of: dict[str, list[int]] = {}
        for row, concept in enumerate(pictures.concepts):
            if concept:
                self.rows_of.setdefault(concept, []).append(row)

    def steps(self, first: int, last: int) -> Iterator[float]:
        """The losses of the steps `first` … `last`; the next batch is prepared in a thread meanwhile."""
        with ThreadPoolExecutor(1) as pool:
            batches = {first: pool.submit(self.prepare, first)} if first < last else {}
            for number in range(first, last):
                if number + 1 < last:
                    batches[number + 1] = pool.submit(self.prepare, number + 1)
                yield self.step(number, batches.pop(number).result())

    def prepare(self, number: int) -> _Batch:
        """The batch of a step, every choice drawn from (seed, step)."""
        import torch

        chance = np.random.default_rng([self.recipe.seed, number])
        chosen = chance.choice(len(self.odds), self.recipe.batch, p=self.odds).tolist()
        rows = [int(chance.choice(self.pictures.captions(n))) for n in chosen]
        if self.recipe.anchors:
            rows += [int(chance.choice(r)) for r in self.rows_of.values()]
        patches, kept = self.patches(chosen, number, chance)
        truth = self.pictures.truth(chosen, rows)
        return _Batch(self.texts.draw(rows, chance), *(torch.from_numpy(a) for a in (truth, patches, kept)))

    def step(self, number: int, batch: _Batch) -> float:
        """One optimiser step; returns the loss."""
        import torch

        for group in self.optimiser.param_groups:
            group["lr"] = rate(self.recipe, number)
        self.model.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.bf16):
            seen = encode_patches(self.model.visual, batch.patches, batch.kept)
            said = self.texts.encode(batch.rows)
        scale = self.model.logit_scale.exp()  # type: ignore[operator, union-attr]
        seen = torch.nn.functional.normalize(seen.float(), dim=-1)
        loss = self.loss(seen, said.float(), scale, batch.truth, self.recipe.batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in self.model.parameters() if p.requires_grad], self.recipe.clip_norm)
        self.optimiser.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, math.log(100))  # type: ignore[operator, union-attr]
        return float(loss.detach())

    def patches(self, chosen: list[int], number: int, chance: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Augmented, normalised patches float32 [n, k, 3·p·p] and their places int64 [n, k] in the grid."""
        n, size, patch = len(chosen), self.config.image_size, int(self.config.model["vision_cfg"]["patch_size"])
        grid = size // patch
        pixels = np.stack([crop(self.pictures.shown[c].pixels, size, chance, self.recipe.smallest) for c in chosen])
        cut = pixels.reshape(n, grid, patch, grid, patch, 3).transpose(0, 1, 3, 2, 4, 5).reshape(n, grid * grid, -1)
        all_in = number >= 0.9 * self.recipe.steps
        keep = grid * grid if all_in else max(1, round(self.recipe.keep_patches * grid * grid))
        kept = np.sort(chance.random((n, grid * grid)).argsort(axis=1)[:, :keep], axis=1)
        cut = np.take_along_axis(cut, kept[:, :, None], axis=1).reshape(n, -1, 3)
        colour = recolour(cut, *stain_matrices(n, chance, self.recipe.stain))
        colour -= np.asarray(self.config.mean, np.float32)
        colour /= np.asarray(self.config.std, np.float32)
        colour = colour.reshape(n, keep, patch * patch, 3).swapaxes(2, 3)
        return np.ascontiguousarray(colour).reshape(n, keep, 3 * patch * patch), kept


def encode_patches(visual: Any, patches: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """OpenCLIP's `VisionTransformer` on some of the patches: the same modules, the rest never computed. float [n, d]."""
    import torch
    import torch.nn.functional as F

    x = F.linear(patches, visual.conv1.weight.flatten(1))
    places = visual.positional_embedding
    x = x + places[1:][kept]
    head = (visual.class_embedding + places[0]).expand(len(x), 1, -1)
    x = visual.ln_pre(torch.cat([head.to(x.dtype), x], dim=1))
    pooled, _ = visual._pool(visual.transformer(x))
    return pooled @ visual.proj


def rate(recipe: ClipRecipe, step: int) -> float:
    """Learning rate of a step: linear warm-up, then cosine to zero."""
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    share = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * share))


def _log(line: dict[str, Any], out: Path, report: Callable[[dict[str, Any]], None] | None) -> None:
    with (out / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    if report:
        report(line)


def _start(recipe: ClipRecipe) -> tuple[nn.Module, ClipConfig]:
    if recipe.init:
        clip = PathCLIP.load(recipe.init)
        return clip.model, clip.config
    config = recipe.config()
    return build(config), config


def _optimiser(model: nn.Module, recipe: ClipRecipe) -> Any:
    """AdamW; gains, biases and the logit scale without weight decay, as OpenCLIP does."""
    import torch

    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    plain = [p for n, p in named if p.ndim < 2 or "ln_" in n or "logit_scale" in n]
    decayed = [p for n, p in named if not (p.ndim < 2 or "ln_" in n or "logit_scale" in n)]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": recipe.weight_decay}]
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98), eps=1e-6)


def _same_recipe(recipe: ClipRecipe, out: Path) -> None:
    text = json.dumps(asdict(recipe), sort_keys=True, indent=1)
    path = out / "recipe.json"
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise BadDataset(f"{out} holds a run of another recipe; choose another folder, or remove it.")
    write_atomic(path, text.encode())


def _save(model: nn.Module, optimiser: Any, step: int, out: Path) -> None:
    import torch

    temporary = out / f".{CHECKPOINT}"
    torch.save({"step": step, "model": own_state(model), "optimiser": optimiser.state_dict()}, temporary)
    temporary.replace(out / CHECKPOINT)


def _resume(model: nn.Module, optimiser: Any, out: Path) -> int:
    import torch

    path = out / CHECKPOINT
    if not path.is_file():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    load_own_state(model, state["model"], str(path))
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])
