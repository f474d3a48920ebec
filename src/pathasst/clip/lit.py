"""A locked tower (LiT): its features of some augmented crops of each picture, computed once; training then costs next to nothing.

Knows a convolutional tower of OpenCLIP's (timm) and pictures. Crops are drawn from the seed and the picture itself: runs that
differ in their pictures share what they have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pathasst.clip.augment import crop, recolour, stain_matrices
from pathasst.clip.build import ClipConfig
from pathasst.clip.data import TrainingImage
from pathasst.core.hardware import has_fast_bfloat16

FILE = "locked.safetensors"
BATCH, KEEP = 32, 16  # crops seen at once; batches after which the features are kept


def compute_lit_features(
    trunk: Any,
    config: ClipConfig,
    images: Sequence[TrainingImage],
    views: int,
    smallest: float,
    stain: float,
    seed: int,
    path: Path,
) -> np.ndarray:
    """float16 [pictures, views, d]: the trunk's embeddings of random crops with other stain. Kept in `path`, and completed there.

    Kept as they come, so that a killed run loses little. Up to 90 crops a second a core for EfficientNet-Lite0 at 224 px, where
    bfloat16 is fast.
    """
    from safetensors import safe_open
    from safetensors.numpy import load_file

    settings = f"{views} {smallest} {stain} {seed} {config.image_size}"
    features: dict[str, np.ndarray] = {}
    if path.is_file():
        with safe_open(path, "np") as file:
            same = (file.metadata() or {}).get("settings") == settings
        features = load_file(path) if same else {}
    missing = [s for s in images if s.md5 not in features]
    for start in range(0, len(missing), BATCH):
        part = missing[start : start + BATCH]
        embedded = _see(trunk, config, part, views, smallest, stain, seed)
        features |= {s.md5: f for s, f in zip(part, embedded, strict=True)}
        if start + BATCH >= len(missing) or (start // BATCH) % KEEP == KEEP - 1:
            _keep(features, path, settings)
    return np.stack([features[s.md5] for s in images])


def _keep(features: dict[str, np.ndarray], path: Path, settings: str) -> None:
    from safetensors.numpy import save_file

    temporary = path.with_name(f".{path.name}")
    save_file(features, temporary, metadata={"settings": settings})
    temporary.replace(path)


def standardise(model: Any, features: np.ndarray) -> None:
    """Fit the standardisation of a head that has one (`nn.multiscale`) to features [pictures, views, d] of the training set."""
    norm = getattr(model.visual.head, "norm", None)
    if norm is not None:
        norm.fit(features.reshape(-1, features.shape[-1]))


def _see(
    trunk: Any, config: ClipConfig, images: Sequence[TrainingImage], views: int, smallest: float, stain: float, seed: int
) -> np.ndarray:
    out = []
    rngs = [np.random.default_rng([seed, int(s.md5[:12], 16)]) for s in images]
    mean, std = np.asarray(config.mean, np.float32), np.asarray(config.std, np.float32)
    for _ in range(views):
        crops = np.stack([crop(s.pixels, config.image_size, c, smallest) for s, c in zip(images, rngs, strict=True)])
        stains = [stain_matrices(1, c, stain) for c in rngs]
        flat = recolour(
            crops.reshape(len(images), -1, 3), np.concatenate([m for m, _ in stains]), np.concatenate([t for _, t in stains])
        )
        out.append(embed_pixels(trunk, ((flat - mean) / std).reshape(crops.shape)))
    return np.stack(out, axis=1).astype(np.float16)


def embed_pixels(trunk: Any, pixels: np.ndarray) -> np.ndarray:
    """Trunk embeddings of normalised images, float32 [n, S, S, 3] → [n, d], on its device, in bfloat16 where that is fast."""
    import torch

    device = next((p.device for p in trunk.parameters()), torch.device("cpu"))
    channels_last = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=has_fast_bfloat16(str(device))):
        embedded: np.ndarray = trunk(channels_last).float().cpu().numpy()
    return embedded
