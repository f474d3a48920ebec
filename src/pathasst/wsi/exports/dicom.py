"""A run's objects as DICOM Microscopy Bulk Simple Annotations (Supplement 222), beside the slide in the same study."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pathasst.core.errors import BadInput, MissingPackage
from pathasst.core.files import write_atomic
from pathasst.imaging.drawing import colours_of, rgb
from pathasst.imaging.slides import Slide
from pathasst.wsi.exports.source import Objects

if TYPE_CHECKING:
    from pydicom import Dataset

TYPE_2 = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime",
    "ReferringPhysicianName",
)  # fmt: skip
"""Attributes that every object of a study carries, empty where nothing is known; converters leave some out."""


def write_dataset(content: Dataset, file: Path) -> Path:
    """A DICOM object as a file, whole or not at all."""
    sink = io.BytesIO()
    content.save_as(sink, enforce_file_format=True)
    write_atomic(file, sink.getvalue())
    return file


def bulk_annotations(objects: Objects, slide: Slide) -> Dataset:
    """One annotation group a class, two-dimensional in px of the finest level; points stay points.

    Raises BadInput when the slide is not DICOM or the run found nothing, MissingPackage without highdicom.
    """
    try:
        import highdicom as hd
        from highdicom.sr.coding import CodedConcept
        from pydicom.sr.codedict import codes
    except ImportError as error:
        raise MissingPackage(f"DICOM annotations need the extra `dicom`: pip install 'pathasst[dicom]' ({error})") from None
    from pathasst import __version__

    if not len(objects):
        raise BadInput("the run found no object: DICOM has no annotation without one.")
    source = finest_header(slide)
    algorithm = hd.AlgorithmIdentificationSequence(
        name=objects.tool, family=codes.DCM.ArtificialIntelligence, version=objects.version or "unknown"
    )
    groups = []
    for number, (label, members) in enumerate(objects.by_class(), 1):
        kind, data = _graphics(objects, members)
        score = hd.ann.Measurements(
            name=CodedConcept("score", "99PATHASST", "Score of the model"),
            values=objects.scores[members],
            unit=codes.UCUM.NoUnits,
        )
        groups.append(
            hd.ann.AnnotationGroup(
                number=number,
                uid=hd.UID(),
                label=label[:64],
                annotated_property_category=codes.SCT.AnatomicalStructure,
                annotated_property_type=codes.SCT.Cell if kind != "POLYGON" else codes.SCT.Tissue,
                algorithm_type="AUTOMATIC",
                algorithm_identification=algorithm,
                graphic_type=kind,
                graphic_data=data,
                measurements=[score],
                description=f"{label}, by {objects.tool}"[:1024],
                display_color=hd.color.CIELabColor.from_rgb(*rgb(colours_of([label])[label])),
            )
        )
    return hd.ann.MicroscopyBulkSimpleAnnotations(
        source_images=[source],
        annotation_coordinate_type="2D",
        annotation_groups=groups,
        series_instance_uid=hd.UID(),
        series_number=100,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="PathAsst",
        manufacturer_model_name=objects.tool,
        software_versions=__version__,
        device_serial_number="0",
        content_label=objects.tool.upper().replace("-", "_")[:16],
        content_description="Research use only",
    )


def _graphics(objects: Objects, members: np.ndarray) -> tuple[str, list[np.ndarray]]:
    """The graphic type of a class and its coordinates, float32 [k, 2] each: outlines if all have one, else boxes, else points."""
    if objects.points[members].all():
        middles = (objects.boxes[members, :2] + objects.boxes[members, 2:]) / 2
        return "POINT", list(middles[:, None])
    if all(objects.rings[n] for n in members):
        return "POLYGON", [objects.rings[n][0][:-1] for n in members]
    x1, y1, x2, y2 = objects.boxes[members].T
    return "RECTANGLE", list(np.stack([np.stack(c, -1) for c in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))], 1))


def finest_header(slide: Slide) -> Dataset:
    """The header of the slide's finest level, without pixels, completed by empty attributes that every object has.

    Raises BadInput for a slide that is not DICOM.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    files = sorted(slide.path.iterdir()) if slide.path.is_dir() else sorted(slide.path.parent.glob(f"*{slide.path.suffix}"))
    for file in files:
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True)
        except (InvalidDicomError, OSError):
            continue
        size = header.get("TotalPixelMatrixColumns"), header.get("TotalPixelMatrixRows")
        if size == slide.size:
            for name in TYPE_2:
                if name not in header:
                    setattr(header, name, None)
            return header
    raise BadInput(
        f"{slide.name} is no DICOM slide, and DICOM annotations and reports lie in the study of one. Convert the slide first "
        "(wsidicomizer), or take the run's GeoJSON."
    )
