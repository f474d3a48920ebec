from __future__ import annotations

import numpy as np

from pathasst.core.records import Annotation
from pathasst.imaging import rle
from pathasst.imaging.geojson import feature_collection


def test_points_boxes_and_masks_are_features_as_qupath_writes_them() -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:10, 6:16] = True
    marks = [
        Annotation(kind="point", label="positive", coordinates=[3.5, 4.5], score=0.9),
        Annotation(kind="box", label="RBC", coordinates=[1.0, 2.0, 5.0, 6.0]),
        Annotation(kind="mask", label="gland", coordinates=[6.0, 5.0, 16.0, 10.0], rle=rle.encode(mask)),
    ]
    point, box, gland = feature_collection(marks, mask.shape)["features"]
    assert point["geometry"] == {"type": "Point", "coordinates": [3.5, 4.5]}
    assert point["properties"]["classification"]["name"] == "positive"
    assert point["properties"]["measurements"] == {"score": 0.9}
    assert box["geometry"]["coordinates"][0][0] == box["geometry"]["coordinates"][0][-1] == [1.0, 2.0]
    (ring,) = gland["geometry"]["coordinates"]
    assert {tuple(corner) for corner in ring} == {(6.0, 5.0), (16.0, 5.0), (16.0, 10.0), (6.0, 10.0)}  # edges of px
    assert len({f["id"] for f in (point, box, gland)}) == 3
    assert feature_collection(marks, mask.shape)["features"][0]["id"] == point["id"]
    assert feature_collection([]) == {"type": "FeatureCollection", "features": []}
