from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest

from pathasst.core.errors import MissingWeights
from pathasst.curate import ocr


def printed(text: str, width: int) -> np.ndarray:
    """Black text on white, 48 px high, as BGR."""
    crop = np.full((48, width, 3), 255, np.uint8)
    cv2.putText(crop, text, (10, 36), cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 0, 0), 2, cv2.LINE_AA)
    return crop


def test_letters_of_all_widths_are_read_together():
    found = ocr.recognise([printed("(c)", 76), printed("B", 40), printed("H&E stain", 180), np.full((48, 60, 3), 255, np.uint8)])
    assert [text for text, _ in found[:2]] == ["(c)", "B"]
    assert min(score for _, score in found[:2]) > 0.9
    assert found[3] == ("", 0.0)
    assert ocr.recognise([]) == []


def test_a_crop_is_read_alike_alone_and_among_others():
    crops = [printed("A", 44), printed("D)", 60), printed("(f)", 80)]
    together = ocr.recognise(crops)
    for crop, (text, score) in zip(crops, together, strict=True):
        assert ocr.recognise([crop]) == [(text, pytest.approx(score, abs=1e-4))]


def test_neither_rapidocr_itself_nor_torch_is_imported():
    code = "import sys, numpy as np; from pathasst.curate.ocr import recognise; recognise([np.zeros((48, 40, 3), np.uint8)]); "
    code += "print([m for m in ('rapidocr', 'torch', 'omegaconf') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_the_package_the_command_that_brings_it_is_named(monkeypatch):
    monkeypatch.setattr(ocr, "find_spec", lambda name: None)
    ocr._recogniser.cache_clear()
    with pytest.raises(MissingWeights, match="pip install"):
        ocr.recognise([np.zeros((48, 40, 3), np.uint8)])
