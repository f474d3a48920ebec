"""Embeddings on disk, by model and content: measuring a PathCLIP again on the same pictures and captions costs no forward pass.

Knows PathCLIP and no task. One file a model, named by the hash of its parameters; a record is a 16-byte key and the vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pathasst.clip.model import BATCH, DualEncoder
from pathasst.evaluate.predictions import key_of

if TYPE_CHECKING:
    from pathasst.clip.model import Picture


class KeptCLIP(DualEncoder):
    """A PathCLIP that encodes every picture and text once; a killed run loses at most one batch."""

    def __init__(self, clip: DualEncoder, folder: Path) -> None:
        self.clip, self.config, self.version = clip, clip.config, clip.version
        self.path = folder / f"clip-{clip.fingerprint()[:16]}.bin"
        self._record = np.dtype([("key", "V16"), ("vector", "<f4", (clip.config.model["embed_dim"],))])
        self._vectors = self._read()

    def encode_image(self, images: Iterable[Picture], batch: int = BATCH) -> np.ndarray:
        rows: list[np.ndarray] = []
        pile: list[Picture] = []
        for image in images:
            pile.append(image)
            if len(pile) == batch:
                rows, pile = [*rows, self._images(pile)], []
        return np.concatenate([*rows, self._images(pile)])

    def encode_text(self, texts: Sequence[str], batch: int = 256) -> np.ndarray:
        parts = [texts[n : n + batch] for n in range(0, max(len(texts), 1), batch)]
        return np.concatenate([self._cached(part, [key_of(t) for t in part], self.clip.encode_text) for part in parts])

    @property
    def logit_scale(self) -> float:
        return self.clip.logit_scale

    def fingerprint(self) -> str:
        return self.clip.fingerprint()

    def _images(self, pile: list[Picture]) -> np.ndarray:
        keys = [key_of(p.shape, p.tobytes()) for p in map(np.asarray, pile)]
        return self._cached(pile, keys, self.clip.encode_image)

    def _cached(self, items: Sequence[Any], keys: list[str], encode: Callable[[list[Any]], np.ndarray]) -> np.ndarray:
        """The vectors of the items, float32 [n, d]; `encode` gets those that are not known, each once."""
        new = {key: item for key, item in zip(keys, items, strict=True) if key not in self._vectors}
        if new:
            rows = np.zeros(len(new), self._record)
            rows["key"] = np.frombuffer(bytes.fromhex("".join(new)), "V16")
            rows["vector"] = encode(list(new.values()))
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(rows.tobytes())
            self._vectors |= dict(zip(new, rows["vector"], strict=True))
        return np.stack([self._vectors[key] for key in keys]) if keys else encode([])

    def _read(self) -> dict[str, np.ndarray]:
        """What is on disk; a record that a kill cut off is cut away."""
        if not self.path.is_file():
            return {}
        content = self.path.read_bytes()
        complete = len(content) - len(content) % self._record.itemsize
        if complete < len(content):
            with self.path.open("r+b") as file:
                file.truncate(complete)
        rows = np.frombuffer(content[:complete], self._record)
        return {key.tobytes().hex(): vector for key, vector in zip(rows["key"], rows["vector"], strict=True)}
