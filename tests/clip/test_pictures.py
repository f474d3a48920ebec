from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pathasst.clip import pictures
from pathasst.clip.build import ClipConfig, build
from pathasst.clip.model import BATCH, PathCLIPModel
from pathasst.clip.retrieval import retrieve
from pathasst.core.errors import BadInput
from pathasst.core.records import Pair, Source
from pathasst.dataset import Unit, run_stage
from pathasst.imaging.pictures import load


@pytest.fixture(scope="module")
def clip(tiny: dict) -> PathCLIPModel:
    torch.manual_seed(2)
    return PathCLIPModel(build(ClipConfig(tiny)), ClipConfig(tiny))


def png(seed: int, mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    values = np.random.default_rng(seed).integers(0, 255, (9, 9, 3), dtype=np.uint8)
    Image.fromarray(values).convert(mode).save(out, "PNG")
    return out.getvalue()


def bomb() -> bytes:
    """A PNG of 40,000 × 40,000 px in a few bytes: the header alone."""
    content = bytearray(png(0))
    content[16:24] = (40_000).to_bytes(4, "big") * 2
    return bytes(content)


def test_what_cannot_be_read_costs_that_picture_alone(clip: PathCLIPModel, tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(png(1))
    sources: list[Path | bytes] = [png(n) for n in range(BATCH + 3)]
    sources[1:1] = [bomb(), b"", png(3)[:40], tmp_path / "gone.png", tmp_path / "good.png", png(2, "LA")]
    done: list[int] = []
    vectors, rows = pictures.embed(clip, sources, done.append)
    assert rows == [0, *range(5, BATCH + 9)] and len(vectors) == len(rows) and sum(done) == len(sources)
    np.testing.assert_allclose(vectors[1], vectors[rows.index(8 - 1)], atol=1e-6)  # the file and the bytes of seed 1
    none, no_rows = pictures.embed(clip, [])
    assert none.shape == (0, 32) and no_rows == []


def test_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "half.png").write_bytes(png(0)[:50])
    with pytest.raises(BadInput, match=r"half\.png cannot be decoded"):
        load(tmp_path / "half.png")
    with pytest.raises(BadInput, match="No such file"):
        load(tmp_path / "gone.png")


def test_retrieval_leaves_out_what_cannot_be_read(clip: PathCLIPModel, tmp_path: Path) -> None:
    def pair(n: int, image: bytes) -> Pair:
        about = Source(article_id=f"PMC{n}", kind="article")
        return Pair(pair_id=str(n), source=about, image=image, md5=str(n), width=9, height=9, caption=f"Panel {n}.", split="test")

    made = [pair(n, png(n)) for n in range(4)] + [pair(9, bomb())]
    run_stage(tmp_path, stage="pairs", record=Pair, units=[Unit("only")], work=lambda _: made, progress=False)
    both = retrieve(clip, [tmp_path], ["test"])
    assert [(r.queries, r.items, r.unreadable, r.too_long) for r in both] == [(4, 4, 1, 0)] * 2
