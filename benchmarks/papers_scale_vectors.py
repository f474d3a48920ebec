"""Vectors from the distribution of real embeddings, in any number, and how hard they are beside the real ones.

    python benchmarks/papers_scale_vectors.py     # hardness: real and drawn, at equal size

A drawn vector is a sample of the Gaussian around a real embedding: its 32 nearest real neighbours give mean and covariance, whose
spread is widened until as many clusters must be visited for the same recall as with real vectors (`SPREAD`). Neighbourhoods
overlap, so topics flow into each other as real ones do (Gaussian mixtures over k-means cells are easier to search).
384 values are lifted to 768 by appending tanh(c·W·x), W orthogonal: that keeps who is near to whom.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pathasst.papers.clusters import ClusterSettings, find_centroids, nearest_centroids
from pathasst.papers.embed import Embedder, from_bytes, to_bytes, version_of
from pathasst.papers.vectors import read_shipped

NEIGHBOURS, SPREAD, BEND = 32, 1.4, 1.5
BLOCK, ANCHORS = 1 << 16, 2048  # vectors drawn at a time, around how many real ones
SEED = 0


def real_vectors() -> NDArray[np.float32]:
    """The shipped embeddings of 33,272 abstracts, in random order, float32 [n, 384]."""
    shipped = read_shipped(version_of("minilm"))
    if shipped is None:
        raise SystemExit("the shipped vectors (papers-vectors) are not here")
    return from_bytes(shipped[1][np.random.default_rng(SEED).permutation(len(shipped[1]))])


class Drawer:
    """Draws unit vectors [n, dim]; `dim` 384 or 768."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.real = torch.from_numpy(real_vectors())
        self.neighbours = torch.cat([(block @ self.real.T).topk(NEIGHBOURS)[1] for block in self.real.split(2048)])
        generator = torch.Generator().manual_seed(SEED)
        self.turn = torch.linalg.qr(torch.randn(384, 384, generator=generator))[0] * (BEND * 384**0.5)

    def __call__(self, n: int, seed: int) -> NDArray[np.float32]:
        """At most BLOCK vectors, in random order."""
        rng = torch.Generator().manual_seed(seed)
        each = -(-n // min(ANCHORS, n))
        near = self.real[self.neighbours[torch.randint(len(self.real), (-(-n // each),), generator=rng)]]
        noise = torch.randn(len(near), each, NEIGHBOURS, generator=rng) * (SPREAD / NEIGHBOURS**0.5)
        shares = 1 / NEIGHBOURS + noise - noise.mean(2, keepdim=True)  # mean + Σ noise·(neighbour − mean)
        flat = torch.bmm(shares, near).flatten(0, 1)[torch.randperm(len(near) * each, generator=rng)[:n]]
        flat = torch.nn.functional.normalize(flat, dim=1)
        if self.dim == 768:
            bent = torch.tanh(flat @ self.turn)
            flat = torch.cat([flat, torch.nn.functional.normalize(bent, dim=1)], dim=1) / 2**0.5
        return flat.numpy()

    def to_file(self, path: Path, n: int, seed: int, look: Callable[[int, NDArray[np.float32]], None]) -> None:
        """`n` vectors as signed bytes, int8 [n, dim], straight to the disk; `look` sees every block before it is rounded."""
        out = np.lib.format.open_memmap(path, mode="w+", dtype=np.int8, shape=(n, self.dim))
        for block, start in enumerate(range(0, n, BLOCK)):
            vectors = self(min(BLOCK, n - start), seed + block)
            look(start, vectors)
            out[start : start + BLOCK] = to_bytes(vectors)
        out.flush()


def hardness(name: str, collection: NDArray[np.float32], queries: NDArray[np.float32]) -> str:
    """One line: cosines of the 1st and 10th neighbour, intrinsic dimension (median), recall@10 by share of clusters visited."""
    scores = queries @ collection.T
    top = np.argsort(-scores, axis=1)[:, :20]
    near = np.take_along_axis(scores, top, 1)
    distance = np.sqrt(np.maximum(2 - 2 * near, 1e-9))
    dimension = np.median(-1 / np.log(distance[:, :-1] / distance[:, -1:]).mean(axis=1))
    settings = ClusterSettings()
    lists = settings.lists_for(len(collection))
    centroids = find_centroids(collection, lists, settings)
    order = np.argsort(-(queries @ centroids.T), axis=1)
    place = np.argsort(order, axis=1)  # of every cluster in the order of visits
    needed = np.take_along_axis(place, nearest_centroids(collection, centroids)[top[:, :10]], 1)
    recalls = "  ".join(f"{share:.1%} {(needed < share * lists).mean():.3f}" for share in (1 / 64, 1 / 32, 1 / 16, 1 / 8))
    cosines = f"cos@1 {near[:, 0].mean():.3f}  cos@10 {near[:, 9].mean():.3f}"
    return f"{name:12} {cosines}  dimension {dimension:.1f}  clusters: {recalls}"


def questions_of(data: Path) -> list[str]:
    """The experts' questions of PubMedQA."""
    rows = json.loads((data / "abstracts" / "pubmedqa_questions.json").read_text(encoding="utf-8"))
    return [str(row if isinstance(row, str) else row["question"]) for row in (rows.values() if isinstance(rows, dict) else rows)]


def main() -> None:
    """Real and drawn vectors of one size side by side."""
    real, n = real_vectors(), 30_000
    print(f"{n:,} vectors, 500 others as queries")
    print(hardness("real 384", real[:n], real[n : n + 500]))
    if data := os.environ.get("PATHASST_DATA"):  # what people ask is farther from the abstracts than these are from each other
        questions = questions_of(Path(data))
        print(hardness("questions 384", real[:n], Embedder("minilm", threads=1).queries(questions)))
    for dim in (384, 768):
        draw = Drawer(dim)
        print(hardness(f"drawn {dim}", draw(n, 1), draw(500, 2)))


if __name__ == "__main__":
    main()
