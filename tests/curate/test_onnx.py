from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from curate_samples import texture

from pathasst.core.errors import MissingWeights
from pathasst.curate.onnx import OnnxClassifier, detector
from pathasst.curate.select import CLASSES, Selector
from pathasst.nn.classifier import Classifier, ClassifierConfig
from pathasst.nn.classifier.model import build
from pathasst.nn.detector.infer import Detector, save
from pathasst.nn.detector.nets import build as build_detector
from pathasst.nn.detector.onnx import OnnxReader
from pathasst.nn.detector.settings import DetectorSettings

TINY = ClassifierConfig(
    classes=CLASSES, backbone="convnext_tiny", size=32, temperature=0.5, options={"dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PATHASST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "onnx"


def test_a_compiled_classifier_gives_what_torch_gives_and_is_written_once_for_each_content(tmp_path, cache):
    torch.manual_seed(0)
    Classifier(build(TINY), TINY).save(tmp_path / "a")
    pictures = [texture(n, 40 + n, 60) for n in range(3)]
    slow = Classifier.load(tmp_path / "a")
    slow.bf16 = False
    quick = OnnxClassifier(tmp_path / "a")
    assert quick.predict(pictures, batch=2) == pytest.approx(slow.predict(pictures), abs=1e-5)
    assert quick.predict([]).shape == (0, 2)
    OnnxClassifier(tmp_path / "a")
    assert len(list(cache.iterdir())) == 1
    Classifier(build(TINY), TINY).save(tmp_path / "a")  # other weights under the same name
    assert np.abs(OnnxClassifier(tmp_path / "a").predict(pictures) - quick.predict(pictures)).max() > 1e-4
    assert len(list(cache.iterdir())) == 2


def test_a_compiled_detector_finds_the_boxes_that_torch_finds(tmp_path):
    torch.manual_seed(1)
    settings = DetectorSettings(classes=("panel", "letter"), channels=16, blocks=1, size=64, overlap=0, min_score=0.0)
    save(build_detector(settings), settings, tmp_path)
    quick, slow = detector(tmp_path), Detector.load(tmp_path)
    slow.reader.bf16 = False
    assert isinstance(quick.reader, OnnxReader)
    picture = texture(1, 50, 64)
    (found,), (wanted,) = quick.detect([picture]), slow.detect([picture])
    assert len(found) > 3
    assert found.scores == pytest.approx(wanted.scores, abs=1e-4)


def test_a_folder_without_weights_says_so(tmp_path):
    TINY.save(tmp_path)
    with pytest.raises(MissingWeights, match=r"model\.safetensors"):
        Selector.load(tmp_path)
    with pytest.raises(MissingWeights):
        detector(tmp_path)


def test_a_worker_with_a_compiled_classifier_imports_no_torch(tmp_path):
    Classifier(build(TINY), TINY).save(tmp_path)
    OnnxClassifier(tmp_path)
    code = f"""
import sys
from pathasst.curate.settings import CurateSettings
from pathasst.curate.curator import Curator, _one_thread
_one_thread()
curator = Curator(CurateSettings(select={str(tmp_path)!r}))
curator.selector, curator.detector
print([m for m in ("torch", "timm", "sklearn") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
