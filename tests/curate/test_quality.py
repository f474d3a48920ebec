from __future__ import annotations

import cv2
import numpy as np
import pytest
from curate_samples import texture

from pathasst.core.errors import BadSettings
from pathasst.curate import quality
from pathasst.curate.quality import (
    HashIndex,
    QualitySettings,
    duplicates,
    is_english,
    phash,
    picture_fault,
    text_fault,
)

SETTINGS = QualitySettings()


def test_small_blank_and_blurred_pictures_are_faulted_and_a_sharp_one_is_not():
    sharp = texture(1)
    assert picture_fault(sharp, SETTINGS) == ("", "")
    assert picture_fault(sharp[:60], SETTINGS)[0] == "small"
    assert picture_fault(np.full((200, 200, 3), 250, np.uint8), SETTINGS)[0] == "blank"
    assert picture_fault(cv2.GaussianBlur(sharp, (0, 0), 9), SETTINGS)[0] == "blurred"


def test_captions_must_have_words_and_be_english():
    assert text_fault("Tumour of the colon.", SETTINGS) == ("", "")
    assert text_fault("HE.", SETTINGS)[0] == "short_caption"
    assert text_fault("Die Färbung zeigt den Tumor mit der Kapsel und dem Stroma.", SETTINGS)[0] == "language"


@pytest.mark.parametrize(
    ("text", "english"),
    [
        ("Invasive ductal carcinoma, grade 3", True),
        ("A granuloma composed of macrophages containing S. schenckii", True),
        ("Coupe histologique avec une infiltration des cellules dans le derme", False),
        ("Tinción con hematoxilina y eosina de la mucosa del colon", False),
        ("组织切片显示肿瘤细胞", False),
        ("", False),
    ],
)
def test_english_is_told_from_other_languages(text, english):
    assert is_english(text) is english


def test_a_hash_survives_scaling_jpeg_and_tone_but_tells_pictures_apart():
    one = texture(1)
    _, coded = cv2.imencode(".jpg", one, [cv2.IMWRITE_JPEG_QUALITY, 60])
    for copy in (
        cv2.resize(one, (150, 120)),
        cv2.imdecode(coded, cv2.IMREAD_COLOR),
        np.clip(one * 0.9 + 10, 0, 255).astype(np.uint8),
    ):
        assert (phash(one) ^ phash(copy)).bit_count() <= 4
    others = [phash(texture(n)) for n in range(2, 30)]
    assert min((phash(one) ^ o).bit_count() for o in others) > 8


def test_the_index_finds_every_hash_within_reach_and_no_other():
    rng = np.random.default_rng(0)
    index = HashIndex(4)
    values = [int(rng.integers(0, 2**63)) for _ in range(300)]
    for n, value in enumerate(values):
        index.add(value, str(n))
    for n, value in enumerate(values[:50]):
        flips = rng.choice(64, 4, replace=False)
        near = value
        for bit in flips:
            near ^= 1 << int(bit)
        assert index.find(near) == (str(n), 4)
        assert index.find(near ^ (1 << int(next(b for b in range(64) if b not in flips)))) is None


def test_the_first_of_equal_pictures_stays():
    assert duplicates([("a", 1), ("b", 1 << 60 | 0xFF), ("c", 3), ("d", 1)], 2) == {"c": "a", "d": "a"}


def test_settings_are_checked():
    with pytest.raises(BadSettings, match="licence"):
        QualitySettings(licence="free")
    assert quality.overlap(quality.shingles("a b c", 2), quality.shingles("a b d", 2)) == 0.5
