"""A run in other programs' formats, read again by their own readers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from spots import MPP, Spots, places, settings

from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.records import Annotation, ToolResult
from pathasst.imaging import rle
from pathasst.imaging.slides import open_slide
from pathasst.wsi.exports import export
from pathasst.wsi.run import SlideRun, run_slide


class Outlines(Spots):
    """The spots as masks with a hole, so that they are outlines."""

    def run(self, arguments: object, image: np.ndarray) -> ToolResult:
        import cv2

        marks = []
        for mark in super().run(arguments, image).annotations:  # type: ignore[arg-type]
            mask = np.zeros(image.shape[:2], np.uint8)
            middle = (round(mark.coordinates[0]), round(mark.coordinates[1]))
            cv2.circle(mask, middle, 8, 1, -1)
            cv2.circle(mask, middle, 3, 0, -1)
            rows, columns = np.nonzero(mask)
            box = [float(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]
            marks.append(Annotation(kind="mask", label=mark.label, coordinates=box, rle=rle.encode(mask.astype(bool))))
        return ToolResult(name=self.name, annotations=marks)


@pytest.fixture(scope="module")
def points(spots_slide: Path, tmp_path_factory: pytest.TempPathFactory) -> SlideRun:
    with open_slide(spots_slide) as slide:
        return run_slide(slide, Spots(), tmp_path_factory.mktemp("points"), settings(), progress=False)


@pytest.fixture(scope="module")
def outlines(spots_slide: Path, tmp_path_factory: pytest.TempPathFactory) -> SlideRun:
    with open_slide(spots_slide) as slide:
        return run_slide(slide, Outlines(), tmp_path_factory.mktemp("outlines"), settings(), progress=False)


def test_a_mask_has_the_cells_where_they_lie_at_every_level(spots_slide: Path, points: SlideRun, tmp_path: Path) -> None:
    import tifffile

    with open_slide(spots_slide) as slide:
        file = export(points, slide, "ome-tiff", tmp_path / "mask.ome.tif", point_um=6.0)
    middles, brown = places()
    with tifffile.TiffFile(file) as mask:
        assert mask.is_ome and len(mask.series[0].levels) == 3
        assert f'PhysicalSizeX="{MPP}"' in (mask.ome_metadata or "")
        first, second = re.findall(r"[12] (positive|negative)", mask.ome_metadata or "")
        classes = {first: 1, second: 2}
        for level in mask.series[0].levels:
            pixels = level.asarray()
            shrink = 3000 / pixels.shape[1]
            at = (middles / shrink).astype(int)
            labels = np.where(brown, classes["positive"], classes["negative"])
            assert (pixels[at[:, 1], at[:, 0]] == labels).all()
            share = 400 * np.pi * 6.0**2 / 3000**2  # discs of 6 px radius at 0.5 µm/px
            assert (pixels > 0).mean() == pytest.approx(share, rel=0.15)
    with open_slide(file) as opened:
        assert opened.um_per_px == pytest.approx(MPP)


def test_holes_of_outlines_stay_holes(spots_slide: Path, outlines: SlideRun, tmp_path: Path) -> None:
    import tifffile

    with open_slide(spots_slide) as slide:
        file = export(outlines, slide, "ome-tiff", tmp_path / "mask.ome.tif")
    pixels = tifffile.imread(file)
    at = places()[0].astype(int)
    assert (pixels[at[:, 1], at[:, 0]] == 0).all()
    assert (pixels[at[:, 1], at[:, 0] + 6] > 0).all()


def test_coco_is_read_by_supervision(spots_slide: Path, outlines: SlideRun, tmp_path: Path) -> None:
    with open_slide(spots_slide) as slide:
        file = export(outlines, slide, "coco", tmp_path / "coco.json")
    content = json.loads(file.read_text(encoding="utf-8"))
    assert len(content["annotations"]) == 400
    assert {c["name"] for c in content["categories"]} == {"positive", "negative"}
    first = content["annotations"][0]
    assert first["bbox"][2] == pytest.approx(17, abs=1)
    assert first["area"] == pytest.approx(np.pi * (8.5**2 - 3.5**2), rel=0.2)


@pytest.mark.parametrize("kind", ["points", "outlines"])
def test_yolo_labels_lie_on_the_cells(spots_slide: Path, kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    import supervision as sv

    with open_slide(spots_slide) as slide:
        file = export(request.getfixturevalue(kind), slide, "yolo", tmp_path / "yolo")
    with_masks = kind == "outlines"
    labelled = sv.DetectionDataset.from_yolo(
        str(file.parent / "images/train"), str(file.parent / "labels/train"), str(file), force_masks=with_masks
    )
    assert sum(len(detections) for _, _, detections in labelled) == 400
    dark = 0
    for _, image, detections in labelled:
        for x1, y1, x2, y2 in detections.xyxy.astype(int):
            dark += image[max(y1, 0) : y2, max(x1, 0) : x2].min() < 110
    assert dark == 400


def test_dicom_objects_lie_in_the_study_of_the_slide(tmp_path: Path) -> None:
    import sys

    hd = pytest.importorskip("highdicom", reason="the extra dicom is not installed")
    import pydicom

    sys.path.insert(0, str(Path(__file__).parents[1] / "imaging/slides"))
    from make import SPOTS, dicom

    folder = dicom(tmp_path)

    class Shadows(Spots):
        def run(self, arguments: object, image: np.ndarray) -> ToolResult:
            marks = [Annotation(kind="point", label="positive", coordinates=list(spot), score=0.5) for spot in SPOTS]
            return ToolResult(name=self.name, annotations=marks)

    chosen = settings(tissue=False).model_copy(update={"tile": 2048, "overlap": 0})
    with open_slide(folder) as slide:
        run = run_slide(slide, Shadows(), tmp_path / "run", chosen, progress=False)
        file = export(run, slide, "dicom", tmp_path / "annotations.dcm")
        report = hd.sr.srread(export(run, slide, "dicom-sr", tmp_path / "report.dcm"))
    annotations = hd.ann.annread(str(file))
    (group,) = annotations.get_annotation_groups()
    assert group.label == "positive" and group.number_of_annotations == len(SPOTS)
    spots = np.concatenate(group.get_graphic_data("2D"))
    assert np.allclose(spots[np.argsort(spots[:, 0])], sorted(SPOTS), atol=0.01)
    assert annotations.PatientID == "0" and annotations.Modality == "ANN"

    assert report.Modality == "SR" and report.content.is_root and report.VerificationFlag == "UNVERIFIED"
    slide_file = pydicom.dcmread(folder / "level0.dcm", stop_before_pixels=True)
    assert report.StudyInstanceUID == annotations.StudyInstanceUID == slide_file.StudyInstanceUID
    (whole,) = report.content.get_image_measurement_groups()
    values = {m.name.meaning: (m.value, m.unit.value) for m in whole.get_measurements()}
    score = run.summary["score"]
    assert values["Ki67 index"] == (100.0, "%") and values["Number of positive"] == (len(SPOTS), "1")
    assert values["Ki67 index, lower end of the 95 % interval"] == (score["low"], "%")
    assert values["Area of tissue looked at"] == (pytest.approx(run.summary["area_mm2"]), "mm2")
    texts = [item.TextValue for item in report.ContentSequence if item.ValueType == "TEXT"]
    assert run.summary["sentences"][0] in texts and run.summary["notice"] in texts


def test_what_cannot_be_is_said(spots_slide: Path, points: SlideRun, tmp_path: Path) -> None:
    with open_slide(spots_slide) as slide:
        with pytest.raises(BadSettings, match="coco, yolo, ome-tiff, dicom, dicom-sr"):
            export(points, slide, "shapefile", tmp_path / "x")
        with pytest.raises(BadInput, match="no DICOM slide"):
            export(points, slide, "dicom", tmp_path / "x.dcm")
        pytest.importorskip("highdicom", reason="the extra dicom is not installed")
        with pytest.raises(BadInput, match="no DICOM slide"):
            export(points, slide, "dicom-sr", tmp_path / "x.dcm")
    Image.new("RGB", (64, 64)).save(tmp_path / "other.png")
    with open_slide(tmp_path / "other.png", 0.5) as other, pytest.raises(BadInput, match="3000×3000 px and 64×64 px"):
        export(points, other, "coco", tmp_path / "x.json")
    assert not list(tmp_path.glob("x*"))
