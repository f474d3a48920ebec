from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pathasst.clip.model import DualEncoder
from pathasst.core.errors import BadDataset, BadInput, BadSettings
from pathasst.imaging.slides import open_slide
from pathasst.wsi.features import SlideFeatures, load_slide_features, write_features, write_heat_map


class Colours(DualEncoder):
    """Pictures by how brown and how blue their spots are; the texts "brown" and "blue"."""

    version = "colours@1"

    def encode_image(self, images: Iterable[Any], batch: int = 64) -> np.ndarray:
        rows = [np.zeros((0, 3))]
        for image in images:
            dark = image[image.min(-1) < 110].astype(float)
            red, blue = (dark[:, 0] > dark[:, 2]).sum(), (dark[:, 0] <= dark[:, 2]).sum()
            rows.append(np.array([[red, blue, 5.0]]))
        stacked = np.concatenate(rows)
        return (stacked / np.maximum(np.linalg.norm(stacked, axis=1, keepdims=True), 1e-9)).astype(np.float32)

    def encode_text(self, texts: Sequence[str], batch: int = 256) -> np.ndarray:
        return np.array([[t == "brown", t == "blue", 0.0] for t in texts], np.float32)

    @property
    def logit_scale(self) -> float:
        return 20.0

    def fingerprint(self) -> str:
        return self.version


@pytest.fixture(scope="module")
def features(spots_slide: Path, tmp_path_factory: pytest.TempPathFactory) -> SlideFeatures:
    file = tmp_path_factory.mktemp("features") / "spots.h5"
    with open_slide(spots_slide) as slide:
        return write_features(slide, "", file, um_per_px=0.5, size=200, clip=Colours(), progress=False)


def test_the_file_has_tridents_layout(features: SlideFeatures) -> None:
    with h5py.File(features.file) as content:
        assert content["features"].dtype == np.float32 and content["features"].shape[1] == 3
        assert content["coords"].dtype == np.int64 and len(content["coords"]) == len(content["features"])
        attributes = dict(content["coords"].attrs)
    assert attributes["patch_size"] == 200 and attributes["patch_size_level0"] == 200 and attributes["overlap"] == 0
    assert attributes["target_magnification"] == 20 and attributes["level0_width"] == 3000


def test_texts_find_their_places(features: SlideFeatures) -> None:
    clip = Colours()
    brown = features.text_scores(clip, "brown")
    left = features.coords[:, 0] < 1200
    assert brown[left].mean() > brown[~left].mean() + 0.2
    assert features.nearest(clip.encode_text(["brown"])[0], 3)[0][2] == pytest.approx(float(brown.max()))
    odds = features.classify(clip, {"brown": ["brown"], "blue": ["blue"]}, top=5)
    assert sum(odds.values()) == pytest.approx(1) and next(iter(odds)) == max(odds, key=lambda k: odds[k])
    assert np.linalg.norm(features.embedding) == pytest.approx(1, abs=1e-5)
    x, y = features.coords[4]
    assert np.array_equal(features.vector_at(x + 3, y + 3), features.features[4])
    with pytest.raises(BadInput, match="no tile"):
        features.vector_at(5, 5)
    with pytest.raises(BadSettings, match="two or more"):
        features.classify(clip, {"brown": ["brown"]})


def test_heat_map_files(features: SlideFeatures, spots_slide: Path, tmp_path: Path) -> None:
    opened, same = load_slide_features(spots_slide, features.file)
    with opened as slide:
        files = write_heat_map(slide, same, same.text_scores(Colours(), "brown"), tmp_path, "brown", "brown")
    assert [f.suffix for f in files] == [".jpg", ".geojson"] and all(f.stat().st_size > 1000 for f in files)


def test_another_file_or_model_is_refused(features: SlideFeatures, tmp_path: Path) -> None:
    (tmp_path / "no.h5").write_bytes(b"no")
    with pytest.raises(BadDataset, match="no file of slide features"):
        SlideFeatures(tmp_path / "no.h5")
    other = Colours()
    other.version = "other"
    with pytest.raises(BadSettings, match="embed the slide again"):
        features.text_scores(other, "brown")
