"""Tiny parts: a CLIP of one layer with CLIP's own text tower, and pairs of two textures."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pathasst.core.records import Mark, Pair, Source
from pathasst.dataset import Unit, run_stage

TINY = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 64, "patch_size": 16, "width": 64, "layers": 2, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def stripes(kind: str, seed: int, size: int = 64) -> bytes:
    """A PNG of pink bands or blue dots, each with its own phase and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    phase = rng.uniform(0, 9)
    wave = np.sin(x / 4 + phase) if kind == "bands" else np.sin(x / 3 + phase) * np.sin(y / 3)
    colour = np.array([200, 120, 160]) if kind == "bands" else np.array([90, 110, 200])
    noise = rng.normal(0, 10, (size, size, 3))
    pixels = np.clip(colour + 50 * wave[..., None] + noise, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def pair(number: int, kind: str, caption: str, concept: str, split: str) -> Pair:
    image = stripes(kind, number)
    return Pair(
        pair_id=f"{kind}/{number}:{caption}",
        source=Source(article_id="textures", kind="labels" if concept else "article"),
        image=image,
        md5=hashlib.md5(image).hexdigest(),
        width=64,
        height=64,
        caption=caption,
        label=f"textures/{kind}" if concept else "",
        concept=concept,
        group=f"{kind}-{number // 2}",
        split=split,
        trail=[Mark(step="labels", by="labels@1")],
    )


def all_pairs(_: Unit) -> list[Pair]:
    out = []
    for n in range(24):
        kind = "bands" if n % 2 else "dots"
        split = "train" if n < 16 else "test"
        out += [pair(n, kind, t.format(kind), kind, split) for t in ("An image of {}", "{} seen under the microscope")]
    out += [pair(100 + n, "bands", f"Figure with case number {n}.", "", "train" if n < 2 else "test") for n in range(4)]
    return out


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished dataset: 24 textures with two captions each, 4 pictures with their own caption."""
    out = tmp_path_factory.mktemp("pairs")
    run_stage(out, stage="labels", record=Pair, units=[Unit("only")], work=all_pairs, progress=False)
    return out


@pytest.fixture(scope="session")
def tiny() -> dict:
    """OpenCLIP's model_cfg of a CLIP small enough for a test."""
    return TINY


@pytest.fixture
def recipe_values(pairs: Path, tiny: dict) -> dict:
    """Values of a `ClipTraining` that trains in seconds."""
    return {
        "model": tiny,
        "data": [str(pairs)],
        "steps": 8,
        "batch": 8,
        "warmup": 0.25,
        "lr": 2e-3,
        "cache_side": 64,
        "keep_patches": 0.5,
        "save_every": 4,
        "threads": 1,
        "precision": "fp32",
    }
