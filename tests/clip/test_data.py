from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pathasst.clip.augment import crop, recolour, stain_matrices
from pathasst.clip.data import load_pictures, sentence_windows
from pathasst.core.errors import BadDataset
from pathasst.core.records import Pair, Source
from pathasst.dataset import Unit, run_stage


def test_pictures_are_kept_once_and_captions_by_concept(pairs: Path) -> None:
    pictures = load_pictures([pairs], ["train"], 32)
    assert len(pictures.images) == 18 and all(s.pixels.shape == (32, 32, 3) for s in pictures.images)
    assert len(pictures.texts) == 4 + 2
    bands = next(n for n, s in enumerate(pictures.images) if s.label == "textures/bands")
    alone = next(n for n, s in enumerate(pictures.images) if not s.label)
    truth = pictures.truth([bands, alone], range(6))
    said = {pictures.texts[j] for j in np.flatnonzero(truth[0])}
    assert said == {"An image of bands", "bands seen under the microscope"}
    assert [pictures.texts[j] for j in np.flatnonzero(truth[1])] == ["Figure with case number 0."]


def test_sampling_lifts_small_classes(pairs: Path) -> None:
    pictures = load_pictures([pairs], ["train"], 16)
    odds = pictures.sampling(0.0)
    share = {key: odds[[(s.label or s.source) == key for s in pictures.images]].sum() for key in ("textures/bands", "textures")}
    assert odds.sum() == pytest.approx(1) and share["textures/bands"] == pytest.approx(share["textures"])


def test_long_captions_become_runs_of_whole_sentences() -> None:
    caption = "One two three. Four five. Six seven eight nine. Ten."
    windows = sentence_windows(caption, lambda text: len(text.split()), 6)
    assert windows == ["One two three. Four five.", "Four five. Six seven eight nine.", "Six seven eight nine. Ten."]
    assert sentence_windows(caption, lambda text: len(text.split()), 99) == [caption]
    assert sentence_windows("a b c d", lambda text: len(text.split()), 2) == ["a b c d"]


def test_leaving_out_and_broken_pictures(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match="no pictures"):
        load_pictures([pairs], ["train"], 16, leave_out=["textures"])
    broken = Pair(pair_id="b", source=Source(article_id="x"), image=b"not a picture", md5="b", caption="c")
    run_stage(tmp_path, stage="labels", record=Pair, units=[Unit("one")], work=lambda _: [broken], progress=False)
    pictures = load_pictures([pairs, tmp_path], ["train"], 16)
    assert pictures.dropped == 1 and len(pictures.images) == 18


def test_augmentation_depends_on_the_seed_alone() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    one, two = (crop(pixels, 32, np.random.default_rng(3)) for _ in range(2))
    assert one.shape == (32, 32, 3) and one.dtype == np.uint8 and (one == two).all()
    assert (crop(pixels, 32, np.random.default_rng(4)) != one).any()


def test_stain_strength_zero_changes_nothing() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (2, 50, 3), dtype=np.uint8)
    same = recolour(pixels, *stain_matrices(2, np.random.default_rng(0), 0.0))
    np.testing.assert_allclose(same, (pixels + 1.0) / 256, atol=1e-4)


def test_stain_augmentation_keeps_white_white_and_moves_purple() -> None:
    pixels = np.array([[[255, 255, 255], [120, 60, 150]]] * 20, np.uint8)
    matrix, tint = stain_matrices(20, np.random.default_rng(0), 0.3)
    colours = recolour(pixels, matrix, 0 * tint)
    assert (colours[:, 0] > 0.99).all() and colours[:, 1].std(axis=0).min() > 0.02
