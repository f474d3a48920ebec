from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_features import Colours
from typer.testing import CliRunner

from pathasst.cli.slide import app
from pathasst.core.errors import BadInput, BadSettings
from pathasst.imaging.slides import open_slide
from pathasst.wsi.clusters import TileClusters, nearest_places, write_clusters
from pathasst.wsi.features import SlideFeatures, write_features


@pytest.fixture(scope="module")
def features(spots_slide: Path, tmp_path_factory: pytest.TempPathFactory) -> SlideFeatures:
    file = tmp_path_factory.mktemp("clusters") / "spots.h5"
    with open_slide(spots_slide) as slide:
        return write_features(slide, "", file, um_per_px=0.5, size=200, clip=Colours(), progress=False)


def test_tiles_that_look_alike_are_together(features: SlideFeatures) -> None:
    clusters = TileClusters.of(features, 3)
    sizes = np.bincount(clusters.labels)
    assert len(sizes) == 3 and (np.diff(sizes) <= 0).all()
    own = (features.features * clusters.centres[clusters.labels]).sum(1)
    assert (own >= (features.features @ clusters.centres.T).max(1) - 0.02).all()
    for n in range(3):
        assert (clusters.labels[clusters.examples(features, n)] == n).all()
    assert np.array_equal(TileClusters.of(features, 3).labels, clusters.labels)
    with pytest.raises(BadSettings, match="2 or more"):
        TileClusters.of(features, 1)


def test_the_areas_of_all_clusters_are_the_tiles(spots_slide: Path, features: SlideFeatures, tmp_path: Path) -> None:
    from shapely.geometry import shape

    with open_slide(spots_slide) as slide:
        files = write_clusters(slide, features, TileClusters.of(features, 3), tmp_path)
    areas = json.loads(files[0].read_text(encoding="utf-8"))["features"]
    assert [a["properties"]["classification"]["name"] for a in areas] == ["cluster 1", "cluster 2", "cluster 3"]
    assert sum(a["properties"]["measurements"]["tiles"] for a in areas) == len(features.coords)
    assert sum(shape(a["geometry"]).area for a in areas) == pytest.approx(len(features.coords) * features.side**2)
    with Image.open(files[1]) as overview, Image.open(files[2]) as examples:
        assert max(overview.size) == 1600 and examples.size[1] > 3 * 192


def test_a_place_finds_its_like_in_other_slides(features: SlideFeatures, tmp_path: Path) -> None:
    place = features.coords[5]
    best = nearest_places(features.features[5], [features], 3)
    assert best[0][3] == pytest.approx(1, abs=1e-5) and [b[3] for b in best] == sorted((b[3] for b in best), reverse=True)
    command = ["nearest", str(features.file), "--at", f"{place[0] + 9},{place[1] + 9}", "--in", str(features.file), "-k", "2"]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 0 and len(run.stdout.splitlines()) == 2 and run.stdout.startswith("1.000")
    assert isinstance(CliRunner().invoke(app, ["nearest", str(features.file), "--at", "here"]).exception, BadSettings)
    other = SlideFeatures(features.file)
    other.encoder = "another@1"
    with pytest.raises(BadInput, match="different models"):
        nearest_places(features.features[5], [features, other], 3)
