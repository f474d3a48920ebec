"""A slide's tiles in groups that look alike, and the places of other slides that look like one of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.files import write_atomic
from pathasst.imaging.contact_sheet import contact_sheet
from pathasst.imaging.drawing import PALETTE, rgb
from pathasst.imaging.geojson import feature, shape_geometry
from pathasst.imaging.pictures import encode_jpeg
from pathasst.imaging.slides import Slide
from pathasst.wsi.features import SlideFeatures

EXAMPLES = 4
"""Tiles of each cluster that the contact sheet shows."""


@dataclass(frozen=True)
class TileClusters:
    """`labels` int [n]: the cluster of each tile, the largest is 0. `centres` float32 [k, d], unit rows."""

    labels: np.ndarray
    centres: np.ndarray

    @classmethod
    def of(cls, features: SlideFeatures, count: int, seed: int = 0) -> TileClusters:
        """K-means on the tiles' unit vectors. Raises BadSettings for fewer tiles than clusters, or fewer than two clusters."""
        from sklearn.cluster import KMeans

        if not 2 <= count <= len(features.features):
            raise BadSettings(f"{count} clusters of {len(features.features)} tiles: give 2 or more, at most as many as tiles.")
        fitted = KMeans(count, n_init=10, random_state=seed).fit(features.features)
        order = np.argsort(-np.bincount(fitted.labels_, minlength=count), kind="stable")
        place = np.empty(count, int)
        place[order] = np.arange(count)
        centres = fitted.cluster_centers_[order]
        return cls(place[fitted.labels_], (centres / np.linalg.norm(centres, axis=1, keepdims=True)).astype(np.float32))

    def examples(self, features: SlideFeatures, cluster: int, count: int = EXAMPLES) -> np.ndarray:
        """The tiles nearest to a cluster's centre, best first: int [≤ count], rows of `features`."""
        members = np.flatnonzero(self.labels == cluster)
        return members[np.argsort(-(features.features[members] @ self.centres[cluster]), kind="stable")[:count]]


def write_clusters(slide: Slide, features: SlideFeatures, clusters: TileClusters, out: Path) -> list[Path]:
    """`clusters.geojson` (one area a cluster, for QuPath), `clusters.jpg` (the slide) and `clusters-examples.jpg` (tiles)."""
    import cv2
    from shapely import box, union_all

    out.mkdir(parents=True, exist_ok=True)
    picture = np.ascontiguousarray(slide.overview(1600).image)
    factor = slide.size[0] / picture.shape[1]
    colours = [rgb(PALETTE[n % len(PALETTE)]) for n in range(len(clusters.centres))]
    tint = picture.copy()
    for (x, y), n in zip(features.coords / factor, clusters.labels, strict=True):
        side = features.side / factor
        cv2.rectangle(tint, (round(x), round(y)), (round(x + side), round(y + side)), colours[n], -1)
    picture = cv2.addWeighted(tint, 0.45, picture, 0.55, 0)
    areas, examples = [], []
    for n in range(len(clusters.centres)):
        members = features.coords[clusters.labels == n]
        corners = np.minimum(members + features.side, slide.size)
        area = union_all(box(members[:, 0], members[:, 1], corners[:, 0], corners[:, 1]))
        label, share = f"cluster {n + 1}", round(100 * len(members) / len(features.coords), 1)
        areas.append(feature(shape_geometry(area), label, label, {"tiles": len(members), "percent": share}, kind="annotation"))
        top = 26 * n + 10
        cv2.rectangle(picture, (10, top), (30, top + 18), colours[n], -1)
        cv2.putText(picture, f"{n + 1}: {share} %", (38, top + 15), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (20, 20, 20), 1, cv2.LINE_AA)
        for tile in clusters.examples(features, n):
            image = _tile(slide, features, int(tile))
            examples.append(
                (encode_jpeg(image), f"{label} ({share} %), {features.coords[tile][0]}, {features.coords[tile][1]} px")
            )
    files = [out / "clusters.geojson", out / "clusters.jpg", out / "clusters-examples.jpg"]
    write_atomic(files[0], json.dumps({"type": "FeatureCollection", "features": areas}).encode())
    write_atomic(files[1], encode_jpeg(picture, 88))
    contact_sheet(examples, slide.name, EXAMPLES).save(files[2])
    return files


def nearest_places(query: np.ndarray, others: Sequence[SlideFeatures], count: int) -> list[tuple[SlideFeatures, int, int, float]]:
    """The tiles of several slides nearest to a unit vector, best first: file, x, y of its finest level, cosine.

    Raises BadInput when the slides were embedded by different models.
    """
    if len(encoders := {one.encoder for one in others}) > 1:
        raise BadInput(
            f"these slides were embedded by different models ({', '.join(sorted(encoders))}): embed them again by one."
        )
    places = [(one, *place) for one in others for place in one.nearest(query, count)]
    return sorted(places, key=lambda place: -place[3])[:count]


def _tile(slide: Slide, features: SlideFeatures, number: int) -> np.ndarray:
    x, y = features.coords[number].tolist()
    width, height = min(features.side, slide.size[0] - x), min(features.side, slide.size[1] - y)
    return slide.read((x, y, width, height), downsample=max(features.side / 256, 1.0)).image
