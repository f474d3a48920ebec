"""A run's result as a DICOM structured report (TID 1500, Measurement Report): counts, score with its interval, hot spots, doubts.

It lies beside the slide in the same study, as the annotations do; a hot spot is a circle on the slide's finest level.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pathasst.core.errors import MissingPackage
from pathasst.imaging.slides import Slide
from pathasst.wsi.exports.dicom import finest_header
from pathasst.wsi.exports.source import require_slide
from pathasst.wsi.run import SlideRun

if TYPE_CHECKING:
    from highdicom.sr import Measurement, QualitativeEvaluation
    from highdicom.sr.coding import CodedConcept
    from pydicom import Dataset

SCHEME, UTF_8 = "99PATHASST", "ISO_IR 192"
PERCENT, COUNT = ("%", "percent"), ("1", "no units")
AREA, PER_AREA = ("mm2", "square millimeter"), ("/mm2", "per square millimeter")
"""UCUM codes and their meanings."""


def structured_report(run: SlideRun, slide: Slide) -> Dataset:
    """A Comprehensive SR of the run, final flag unset and unverified: a person has to sign it.

    Raises BadInput when the slide is not DICOM or not that of the run, BadDataset for an unfinished run, MissingPackage without
    highdicom.
    """
    try:
        import highdicom as hd
        from pydicom.sr.codedict import codes
    except ImportError as error:
        raise MissingPackage(f"a DICOM report needs the extra `dicom`: pip install 'pathasst[dicom]' ({error})") from None
    from pathasst import __version__

    summary = run.summary
    require_slide(run, slide)
    source = finest_header(slide)
    image = {"referenced_sop_class_uid": source.SOPClassUID, "referenced_sop_instance_uid": source.SOPInstanceUID}
    algorithm = hd.sr.AlgorithmIdentification(name=summary["tool"], version=summary["version"] or "unknown")
    groups: list[Any] = [
        hd.sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=hd.sr.TrackingIdentifier(hd.UID(), "whole slide"),
            algorithm_id=algorithm,
            finding_type=codes.SCT.Cell,
            measurements=_of_slide(summary),
            qualitative_evaluations=_grades(summary["score"]),
            source_images=[hd.sr.SourceImageForMeasurementGroup(**image)],
        )
    ]
    for number, spot in enumerate(summary["hot_spots"], 1):
        x, y = spot["x"], spot["y"]
        circle = hd.sr.ImageRegion(
            graphic_type=hd.sr.GraphicTypeValues.CIRCLE,
            graphic_data=np.array([[x, y], [x + spot["radius_px"], y]]),
            source_image=hd.sr.SourceImageForRegion(**image),
            pixel_origin_interpretation=hd.sr.PixelOriginInterpretationValues.VOLUME,
        )
        groups.append(
            hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=hd.sr.TrackingIdentifier(hd.UID(), f"hot spot {number}"),
                referenced_region=circle,
                algorithm_id=algorithm,
                finding_type=codes.SCT.Cell,
                measurements=_spot(summary["score"]["name"], spot),
            )
        )
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=hd.UID(), name="PathAsst", manufacturer_name="PathAsst", model_name=summary["tool"]
    )
    report = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(
            observer_device_context=hd.sr.ObserverContext(codes.DCM.Device, device),
        ),
        procedure_reported=_code("slide-run", f"{summary['tool']} on a whole slide"),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    contains = hd.sr.RelationshipTypeValues.CONTAINS
    for text in (*summary["sentences"], *summary["warnings"], summary["notice"]):
        if text:
            report[0].ContentSequence.append(hd.sr.TextContentItem(codes.DCM.Comment, text, contains))
    content: Dataset = hd.sr.ComprehensiveSR(
        evidence=[source],
        content=report,
        series_instance_uid=hd.UID(),
        series_number=101,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="PathAsst",
        is_complete=True,
        is_final=False,
        is_verified=False,
        manufacturer_model_name=summary["tool"],
        software_versions=__version__,
        specific_character_set=UTF_8,
    )
    return content


def _of_slide(summary: Mapping[str, Any]) -> list[Measurement]:
    score = summary["score"]
    rows = [*_with_interval(score["name"], score["value"], score["low"], score["high"]), *_counts(score["counts"])]
    if "cps" in score["further"]:
        rows.append(_measurement("cps", "CPS", score["further"]["cps"], COUNT))
    rows.append(_measurement("area", "Area of tissue looked at", summary["area_mm2"], AREA))
    if summary["area_mm2"]:
        rows.append(_measurement("density", "Objects per area", round(summary["objects"] / summary["area_mm2"], 2), PER_AREA))
    return rows


def _spot(name: str, spot: Mapping[str, Any]) -> list[Measurement]:
    rows = _with_interval(name, spot.get("percent"), spot.get("low"), spot.get("high"))
    return [*rows, *_counts(spot["counts"]), _measurement("area", "Area of the hot spot", spot["mm2"], AREA)]


def _with_interval(name: str, value: float | None, low: float | None, high: float | None) -> list[Measurement]:
    if value is None or low is None or high is None:
        return []
    code = name.lower().replace(" ", "-")
    return [
        _measurement(code[:16], name, value, PERCENT),
        _measurement(f"{code[:12]}-low", f"{name}, lower end of the 95 % interval", low, PERCENT),
        _measurement(f"{code[:11]}-high", f"{name}, upper end of the 95 % interval", high, PERCENT),
    ]


def _counts(by_label: Mapping[str, int]) -> list[Measurement]:
    return [_measurement(f"n-{name}"[:16], f"Number of {name}"[:64], n, COUNT) for name, n in sorted(by_label.items())]


def _grades(score: Mapping[str, Any]) -> list[QualitativeEvaluation]:
    """HER2's score, which is a grade and no number."""
    from highdicom.sr import QualitativeEvaluation

    grade = score["further"].get("score")
    return [QualitativeEvaluation(_code("her2-score", "Estimated HER2 score"), _code(grade, f"HER2 {grade}"))] if grade else []


def _measurement(code: str, meaning: str, value: float, unit: tuple[str, str]) -> Measurement:
    from highdicom.sr import Measurement
    from highdicom.sr.coding import CodedConcept

    return Measurement(name=_code(code, meaning), value=float(value), unit=CodedConcept(unit[0], "UCUM", unit[1]))


def _code(value: str, meaning: str) -> CodedConcept:
    from highdicom.sr.coding import CodedConcept

    return CodedConcept(value, SCHEME, meaning)
