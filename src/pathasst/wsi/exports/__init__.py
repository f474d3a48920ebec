"""A finished run over a slide in the formats of other programs: COCO, YOLO, a label mask as OME-TIFF, DICOM."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from pathasst.core.errors import BadSettings
from pathasst.imaging.slides import Slide
from pathasst.wsi.run import SlideRun

if TYPE_CHECKING:
    from pydicom import Dataset

Format = Literal["coco", "yolo", "ome-tiff", "dicom", "dicom-sr"]
FORMATS: tuple[Format, ...] = get_args(Format)
POINT_UM = 10.0
"""Diameter that a cell gets which the tool placed as a point: about a nucleus."""


def export(run: SlideRun, slide: Slide, to: str, out: Path, *, um_per_px: float = 0.0, point_um: float = POINT_UM) -> Path:
    """Write a run's objects as one file, or for YOLO a folder.

    `slide`: the slide of the run. `um_per_px`: scale of YOLO's pictures and of the mask; 0: the one that the tool read at.
    `point_um`: diameter of the box or disc that a point becomes.
    Raises BadSettings for an unknown format, BadInput for a slide of another size or a format that this slide cannot have,
    BadDataset for an unfinished run.
    """
    from pathasst.wsi.exports.source import Objects

    objects = Objects.of(run, slide, point_um)
    out.parent.mkdir(parents=True, exist_ok=True)
    scale = um_per_px or float(run.summary["read_at_um_per_px"])
    match to:
        case "coco":
            from pathasst.wsi.exports.coco import write_coco

            return write_coco(objects, slide, out)
        case "yolo":
            from pathasst.wsi.exports.yolo import write_yolo

            return write_yolo(objects, slide, out, scale)
        case "ome-tiff":
            from pathasst.wsi.exports.ome import write_mask

            return write_mask(objects, slide, out, scale)
        case "dicom":
            from pathasst.wsi.exports.dicom import bulk_annotations, write_dataset

            return write_dataset(bulk_annotations(objects, slide), out)
        case "dicom-sr":
            from pathasst.wsi.exports.dicom import write_dataset

            return write_dataset(dicom_report(run, slide), out)
        case _:
            raise BadSettings(
                f"{to!r} is no format of `slide export`: {', '.join(FORMATS)}; GeoJSON for QuPath is in the run's folder."
            )


def dicom_annotations(run: SlideRun, slide: Slide, point_um: float = POINT_UM) -> Dataset:
    """The objects as Microscopy Bulk Simple Annotations in the slide's study, to be stored or sent.

    Raises BadInput for a slide that is not DICOM or not the run's, or without objects; MissingPackage without highdicom.
    """
    from pathasst.wsi.exports.dicom import bulk_annotations
    from pathasst.wsi.exports.source import Objects

    return bulk_annotations(Objects.of(run, slide, point_um), slide)


def dicom_report(run: SlideRun, slide: Slide) -> Dataset:
    """The result as a structured report (TID 1500) in the slide's study: counts, score with interval, hot spots, doubts.

    Raises as `dicom_annotations`, but a run without objects has a report too.
    """
    from pathasst.wsi.exports.structured import structured_report

    return structured_report(run, slide)
