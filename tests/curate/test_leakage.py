from __future__ import annotations

import cv2
import numpy as np
import pytest
from curate_samples import png, texture

from pathasst.core.errors import BadSettings
from pathasst.curate.leakage import index_of


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "eval"
    folder.mkdir()
    for n in range(3):
        (folder / f"{n}.png").write_bytes(png(texture(n, 200, 200)))
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def test_a_turned_mirrored_and_scaled_copy_is_found(pictures):
    index = index_of([pictures])
    copy = cv2.resize(np.rot90(texture(1, 200, 200)[:, ::-1]).copy(), (150, 150))
    (leak,) = index.check(copy)
    assert (leak.by, leak.name) == ("hash", "eval/1.png")
    assert index.check(texture(9, 200, 200)) == []


def test_repeated_texts_are_found_and_common_phrases_are_not(tmp_path):
    path = tmp_path / "eval.csv"
    question = "Photomicrograph of a poorly differentiated adenocarcinoma invading the muscular layer of the sigmoid colon"
    path.write_text(f"image,caption\nnone.png,{question}\nnone.png,Tumour of colon\n")
    index = index_of([path])
    assert index.check(None, f"{question}.")[0].by == "text"
    assert index.check(None, "Tumour of colon") == []
    assert index.check(None, "Photomicrograph of normal liver with portal tract and central vein in the middle") == []


def test_an_encoder_finds_what_the_hash_misses(pictures):
    index = index_of([pictures], encoder=lambda pictures: np.array([[p.mean(), p.std(), 1.0] for p in pictures]))
    assert "embedding" in {x.by for x in index.check(np.roll(texture(2, 200, 200), 60, axis=1))}


def test_a_source_that_is_not_there_says_so(tmp_path):
    with pytest.raises(BadSettings):
        index_of([tmp_path / "none"])
    with pytest.raises(BadSettings, match="no pictures"):
        index_of([tmp_path])
