"""Teaching a SAM the user's own objects: its mask decoder alone, on pictures embedded once (Ma et al. 2024 tune MedSAM so).

Knows labelled objects and prompts, not file formats. What is learnt is small: `mask_decoder.safetensors`, with the name of the
network that it belongs to in its header.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from pathasst.core import weights
from pathasst.core.errors import BadDataset, BadSettings
from pathasst.imaging.annotations import group_of
from pathasst.nn.sam.masks import Object, Outlined, usable
from pathasst.nn.sam.model import DECODER, LOW, SIDE, Embedding, Sam
from pathasst.nn.sam.overlaps import inner_point, overlaps

Log = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamSettings:
    """How the mask decoder is tuned."""

    model: str = "mobilesam"  # id or folder of what is tuned
    steps: int = 300  # each one picture
    prompts: int = 8  # objects of it a step, each asked for by a box or a point
    lr: float = 1e-4
    warmup: int = 20
    weight_decay: float = 1e-4
    clip: float = 1.0
    jitter: float = 0.1  # how far a box's sides may be moved, in its own sides: nobody draws exactly
    points: float = 0.5  # share of the steps that ask by a point instead
    validation: float = 0.2  # share of the groups that are not trained on, where the labels name no split
    group: str = ""  # regular expression whose first group names the patient in a picture's file name; empty: the picture
    save_every: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.validation < 1 or not 0 <= self.points <= 1:
            raise BadSettings("validation and points are shares between 0 and 1")


def train(settings: SamSettings, pictures: Sequence[Outlined], out: Path, log: Log | None = None) -> dict[str, Any]:
    """Tune, and measure before and after on the pictures kept back; a killed run goes on with the same call.

    Writes `mask_decoder.safetensors`, `train.jsonl`, `scores.json`. Returns the scores: of `before` and `after`, as `Overlaps`
    has them, their `gain`, and why pictures were `skipped`. Raises BadDataset when no picture is left to train on.
    """
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    pictures, skipped = usable(pictures)
    if log:
        for reason in skipped:
            log({"left out": reason})
    learn, held = _parts(settings, pictures)
    sam = Sam(weights.path(settings.model), kept=1)
    before = overlaps(sam, held, settings.group)
    _fit(settings, sam, learn, out, log)
    state = {k: v.detach().cpu().contiguous() for k, v in sam.network.mask_decoder.state_dict().items()}
    save_file(state, out / DECODER, {"base": settings.model})
    scores: dict[str, Any] = {"pictures": len(learn), "skipped": skipped}
    if held:
        after = overlaps(sam, held, settings.group)
        scores |= {"held": len(held), "before": before.plain(), "after": after.plain(), "gain": after.gain(before)}
    (out / "scores.json").write_text(json.dumps({"scores": scores, "settings": asdict(settings)}, indent=1), encoding="utf-8")
    (out / "state.pt").unlink(missing_ok=True)
    return scores


def _parts(settings: SamSettings, pictures: Sequence[Outlined]) -> tuple[list[Outlined], list[Outlined]]:
    """Pictures to train on, and those kept back: as the labels say, else whole groups by chance."""
    if any(p.split for p in pictures):
        learn, held = ([p for p in pictures if (p.split == "train") is wanted] for wanted in (True, False))
    else:
        groups = sorted({group_of(p.name, settings.group) for p in pictures})
        n = round(settings.validation * len(groups))
        away = {groups[i] for i in np.random.default_rng(settings.seed).permutation(len(groups))[:n]}
        learn, held = ([p for p in pictures if (group_of(p.name, settings.group) in away) is kept] for kept in (False, True))
    if not learn:
        raise BadDataset("no picture is left to train on; lower `validation`, or name the split train.")
    return learn, held


def _fit(settings: SamSettings, sam: Sam, learn: Sequence[Outlined], out: Path, log: Log | None) -> None:
    torch.manual_seed(settings.seed)
    decoder = sam.network.mask_decoder
    optimiser = torch.optim.AdamW(decoder.parameters(), settings.lr, weight_decay=settings.weight_decay)
    embedded: dict[int, tuple[Embedding, list[Object]]] = {}  # 2 MB a picture
    recent: list[float] = []
    for step in range(_resume(out, settings, decoder, optimiser), settings.steps):
        rng = np.random.default_rng((settings.seed, step))
        place = int(rng.integers(len(learn)))
        if place not in embedded:
            embedded[place] = _embed(sam, learn[place])
        embedding, objects = embedded[place]
        warm = min((step + 1) / settings.warmup, 1.0)
        for group in optimiser.param_groups:
            group["lr"] = settings.lr * warm * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
        chosen = [objects[i] for i in rng.choice(len(objects), min(settings.prompts, len(objects)), replace=False)]
        loss = _loss(sam, replace(embedding, features=embedding.features.float()), chosen, settings, rng)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), settings.clip)
        optimiser.step()
        recent.append(float(loss.detach()))
        if (step + 1) % 10 == 0:
            entry = {"step": step + 1, "loss": round(float(np.mean(recent)), 4)}
            recent.clear()
            with (out / "train.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
            if log:
                log(entry)
        if (step + 1) % settings.save_every == 0:
            state = {"step": step + 1, "decoder": decoder.state_dict(), "optimiser": optimiser.state_dict()}
            torch.save({**state, "settings": json.dumps(asdict(settings))}, out / "state.pt.new")
            (out / "state.pt.new").replace(out / "state.pt")


def _resume(out: Path, settings: SamSettings, decoder: Any, optimiser: Any) -> int:
    file = out / "state.pt"
    state: dict[str, Any] = torch.load(file, weights_only=True) if file.is_file() else {"settings": ""}
    if state["settings"] != json.dumps(asdict(settings)):
        (out / "train.jsonl").unlink(missing_ok=True)
        return 0
    decoder.load_state_dict(state["decoder"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


def _embed(sam: Sam, picture: Outlined) -> tuple[Embedding, list[Object]]:
    image, objects = picture.read()
    found = sam.set_image(image)
    # A copy outside of inference mode, which gradients may pass by; in half precision, as many of them are kept.
    return replace(found, features=found.features.clone().half()), objects


def _loss(
    sam: Sam, embedding: Embedding, objects: Sequence[Object], settings: SamSettings, rng: np.random.Generator
) -> torch.Tensor:
    """Focal and Dice loss of the asked masks, and the squared error of the IoU that is foretold (SAM, appendix A)."""
    by_point = rng.random() < settings.points
    if by_point:
        asked = np.array([inner_point(o, rng) for o in objects])[:, None]
        logits, foretold = sam.decode(embedding, sam.place(embedding, asked), None, several=True)
    else:
        corners = np.array([_shaken(o.box, settings.jitter, rng) for o in objects], np.float32)
        boxes = sam.place(embedding, corners.reshape(-1, 2)).reshape(-1, 4)
        logits, foretold = sam.decode(embedding, None, boxes, several=False)
    height, width = (max(-(-s * LOW // SIDE), 1) for s in embedding.seen)
    logits = logits[..., :height, :width]
    target = torch.from_numpy(np.stack([_low(o, embedding, height, width) for o in objects]))[:, None].to(logits)
    probability = logits.sigmoid()
    plain = F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none")
    focal = (plain * (probability - target).abs() ** 2).mean((2, 3))
    dice = 1 - (2 * (probability * target).sum((2, 3)) + 1) / ((probability + target).sum((2, 3)) + 1)
    with torch.no_grad():
        found, true = logits > 0, target > 0.5
        iou = (found & true).sum((2, 3)) / (found | true).sum((2, 3)).clamp(min=1)
    each = 20 * focal + dice + (foretold - iou) ** 2
    return each.min(1).values.mean()  # of a point's three masks the one that fits: the others may mean parts or more


def _shaken(box: tuple[int, int, int, int], jitter: float, rng: np.random.Generator) -> np.ndarray:
    sides = np.array([box[2] - box[0], box[3] - box[1]] * 2, float)
    return np.asarray(box, float) + rng.uniform(-jitter, jitter, 4) * sides


def _low(one: Object, embedding: Embedding, height: int, width: int) -> np.ndarray:
    """The object's share of each cell of the network's small mask, float32."""
    import cv2

    whole = one.whole(embedding.height, embedding.width).astype(np.float32)
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA))
