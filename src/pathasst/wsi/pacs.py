"""A hospital's archive over DICOMweb: find slides (QIDO-RS), fetch one (WADO-RS), put a result beside it (STOW-RS).

Nothing is sent unless a function here is called. The archive's login is read from the environment: `PATHASST_PACS_TOKEN` (bearer)
or `PATHASST_PACS_USER` and `PATHASST_PACS_PASSWORD`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.core.errors import BadInput, BadSettings, MissingPackage, Unreachable

if TYPE_CHECKING:
    from dicomweb_client.api import DICOMwebClient
    from pydicom import Dataset

SLIDE = "SM"
"""DICOM's modality of slide microscopy."""
ANY_SYNTAX = (("application/dicom", "*"),)
"""Instances as they are stored: nothing is decoded or compressed anew on the way."""
MOST_BYTES = 50 * 2**30
"""Of one study."""
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_FAILED = "00081198"
"""The attribute of STOW's answer that lists what was not stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideSeries:
    """One slide of the archive: a series of modality SM."""

    study: str  # Study Instance UID
    series: str  # Series Instance UID
    patient: str = ""  # Patient ID
    accession: str = ""
    date: str = ""  # of the study, YYYYMMDD
    description: str = ""
    files: int = 0  # instances: levels, label, overview


class Pacs:
    """An archive at `url`, such as https://pacs.example.org/dicom-web. `seconds`: longest wait for an answer to begin.

    Raises BadSettings for what is no address, MissingPackage without dicomweb-client.
    """

    def __init__(self, url: str, seconds: float = 60.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise BadSettings(f"a DICOMweb address begins with https:// or http://, not {url[:60]!r}.")
        try:
            from dicomweb_client.api import DICOMwebClient
            from requests import Session
        except ImportError as error:
            raise MissingPackage(f"an archive needs the extra `dicom`: pip install 'pathasst[dicom]' ({error})") from None

        session = Session()
        session.trust_env = False  # no proxy and no .netrc: pictures of patients go to this address alone
        token, user = os.environ.get("PATHASST_PACS_TOKEN"), os.environ.get("PATHASST_PACS_USER")
        if token:
            session.headers["Authorization"] = f"Bearer {token}"
        elif user:
            session.auth = (user, os.environ.get("PATHASST_PACS_PASSWORD", ""))
        self.url = url.rstrip("/")
        self._client: DICOMwebClient = DICOMwebClient(self.url, session=session, timeout=seconds)

    def slides(self, patient: str = "", accession: str = "", study: str = "", most: int = 100) -> list[SlideSeries]:
        """Slides of a patient, an accession number or a study, by exact value. Raises Unreachable, BadInput for no UID."""
        filters = {"PatientID": patient, "AccessionNumber": accession, "StudyInstanceUID": _uid(study) if study else ""}
        filled = {name: value for name, value in filters.items() if value}
        with self._answers():
            studies = self._client.search_for_studies(search_filters={**filled, "ModalitiesInStudy": SLIDE}, limit=most)
            return [
                SlideSeries(
                    study=_text(entry, "0020000D"),
                    series=_text(one, "0020000E"),
                    patient=_text(entry, "00100020"),
                    accession=_text(entry, "00080050"),
                    date=_text(entry, "00080020"),
                    description=_text(one, "0008103E") or _text(entry, "00081030"),
                    files=int(_text(one, "00201209") or 0),
                )
                for entry in studies
                for one in self._client.search_for_series(_text(entry, "0020000D"), search_filters={"Modality": SLIDE})
            ]

    def fetch(
        self,
        study: str,
        series: str,
        folder: Path,
        *,
        most_bytes: int = MOST_BYTES,
        on_file: Callable[[Path], None] | None = None,
    ) -> Path:
        """A slide as a folder of DICOM files, one an instance, which `open_slide` reads; the folder. One is in memory at a time.

        Files that are there are not fetched again. Raises BadInput for a series without a slide, or of more than `most_bytes`,
        Unreachable.
        """
        study, series, size = _uid(study), _uid(series), 0
        place = folder / series
        with self._answers():
            instances = [_text(i, "00080018") for i in self._client.search_for_instances(study, series)]
            if not instances:
                raise BadInput(f"the archive has no series {series} in the study {study}.")
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            for instance in instances:
                file = place / f"{_uid(instance)}.dcm"
                if not file.exists():
                    self._save(self._client.retrieve_instance(study, series, instance, media_types=ANY_SYNTAX), file)
                size += file.stat().st_size
                if size > most_bytes:
                    raise BadInput(f"the slide has more than {most_bytes >> 30} GB; allow more, or fetch it another way.")
                if on_file is not None:
                    on_file(file)
        return place

    def send(self, files: Sequence[Path]) -> list[str]:
        """Store DICOM files in the archive, each in the study that it names; their SOP Instance UIDs.

        Raises BadInput for what is no DICOM file, or is refused by the archive, with the archive's reason code; Unreachable.
        """
        import pydicom
        from pydicom.errors import InvalidDicomError

        datasets = []
        for file in files:
            try:
                datasets.append(pydicom.dcmread(file))
            except (InvalidDicomError, OSError) as error:
                raise BadInput(f"{file} cannot be read as DICOM: {error}") from error
        with self._answers():
            answer = self._client.store_instances(datasets)
        refused = [f"{one.ReferencedSOPInstanceUID} (reason {one.get('FailureReason', '?')})" for one in answer.get(_FAILED, ())]
        if refused:
            raise BadInput(f"the archive did not store {', '.join(refused)}.")
        return [str(dataset.SOPInstanceUID) for dataset in datasets]

    def _save(self, dataset: Dataset, file: Path) -> None:
        """Whole or not at all."""
        part = file.with_suffix(".part")
        try:
            dataset.save_as(part, enforce_file_format=True)
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)

    @contextmanager
    def _answers(self) -> Iterator[None]:
        """What the network or the archive refuses, as Unreachable."""
        from requests import HTTPError, RequestException

        try:
            yield
        except HTTPError as error:
            status = error.response.status_code if error.response is not None else "?"
            hint = "; set PATHASST_PACS_TOKEN, or PATHASST_PACS_USER and PATHASST_PACS_PASSWORD" if status in (401, 403) else ""
            raise Unreachable(f"the archive at {self.url} answers {status}{hint}.") from error
        except RequestException as error:
            raise Unreachable(f"the archive at {self.url} does not answer: {type(error).__name__}.") from error


def _uid(value: str) -> str:
    """A UID, which becomes part of addresses and file names. Raises BadInput for anything else."""
    if not _UID.fullmatch(value) or len(value) > 64:
        raise BadInput(f"{value[:70]!r} is no DICOM UID: digits and dots, such as 1.2.840.10008.")
    return value


def _text(entry: dict[str, Any], tag: str) -> str:
    """The first value of an attribute of DICOM JSON."""
    values = entry.get(tag, {}).get("Value") or [""]
    return str(values[0])
