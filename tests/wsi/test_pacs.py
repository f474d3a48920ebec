"""Slides from an archive and results back: against Orthanc with its DICOMweb plugin, a real server on loopback.

`apt-get install orthanc orthanc-dicomweb`; where it is missing, a small server that speaks the same standard stands in.
"""

from __future__ import annotations

import io
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from pathasst.core.errors import BadInput, BadSettings, Unreachable
from pathasst.imaging.slides import open_slide

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("dicomweb_client", reason="the extra dicom is not installed")
sys.path.insert(0, str(Path(__file__).parents[1] / "imaging/slides"))
from make import dicom  # noqa: E402

from pathasst.wsi.pacs import Pacs  # noqa: E402

ORTHANC = shutil.which("Orthanc")
PLUGINS = Path("/usr/share/orthanc/plugins")
USER, PASSWORD = "ward", "secret"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if ORTHANC is None or not (PLUGINS / "libOrthancDicomWeb.so").exists():
        pytest.skip("Orthanc is not installed: apt-get install orthanc orthanc-dicomweb")
    home, port = tmp_path_factory.mktemp("orthanc"), free_port()
    settings = {
        "StorageDirectory": str(home / "store"),
        "IndexDirectory": str(home / "store"),
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "DicomServerEnabled": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "Plugins": [str(PLUGINS / "libOrthancDicomWeb.so")],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (home / "orthanc.json").write_text(json.dumps(settings))
    log = (home / "log").open("w")
    process = subprocess.Popen([ORTHANC, str(home / "orthanc.json")], stdout=log, stderr=log)
    url, end = f"http://127.0.0.1:{port}", time.monotonic() + 60
    try:
        while True:
            try:
                assert httpx.get(f"{url}/system", auth=(USER, PASSWORD)).status_code == 200
                break
            except httpx.TransportError:
                assert process.poll() is None and time.monotonic() < end, (home / "log").read_text()
                time.sleep(0.1)
        yield f"{url}/dicom-web"
    finally:
        process.terminate()
        process.wait(30)


class Archive(BaseHTTPRequestHandler):
    """QIDO-RS, WADO-RS and STOW-RS (PS3.18), as little as a slide needs; for machines without Orthanc."""

    stored: ClassVar[dict[str, Any]] = {}

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if not self.allowed():
            return
        parts = path.strip("/").split("/")[1:]
        wanted = dict(pair.split("=", 1) for pair in query.split("&") if "=" in pair)
        uids = dict(zip(parts[::2], parts[1::2], strict=False))
        chosen = [d for d in self.stored.values() if matches(d, uids, wanted)]
        if len(parts) == 6:  # one instance
            self.answer(*multipart([encoded(d) for d in chosen]))
            return
        level = {1: "StudyInstanceUID", 3: "SeriesInstanceUID", 5: "SOPInstanceUID"}[len(parts)]
        unique = {str(d[level].value): d for d in chosen}
        rows = [{k: v for k, v in d.to_json_dict().items() if k < "0021" and "BulkDataURI" not in v} for d in unique.values()]
        for row in rows:
            row["00201209"] = {"vr": "IS", "Value": [len(chosen)]}
        self.answer("application/dicom+json", json.dumps(rows).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.allowed():
            return
        message = BytesParser().parsebytes(f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode() + body)
        for part in message.get_payload():
            dataset = pydicom.dcmread(io.BytesIO(part.get_payload(decode=True)))  # type: ignore[union-attr]
            self.stored[str(dataset.SOPInstanceUID)] = dataset
        self.answer("application/dicom+json", b"{}")

    def allowed(self) -> bool:
        import base64

        if self.headers.get("Authorization") == f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}":
            return True
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def answer(self, kind: str, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def matches(dataset: Any, uids: dict[str, str], wanted: dict[str, str]) -> bool:
    names = {"studies": "StudyInstanceUID", "series": "SeriesInstanceUID", "instances": "SOPInstanceUID"}
    exact = {**{names[k]: v for k, v in uids.items()}, **wanted}
    exact["Modality"] = exact.pop("ModalitiesInStudy", exact.get("Modality", ""))
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientID", "AccessionNumber", "Modality")
    return all(str(dataset.get(k, "")) == v for k, v in exact.items() if v and k in keywords)


def encoded(dataset: Any) -> bytes:
    sink = io.BytesIO()
    dataset.save_as(sink, enforce_file_format=True)
    return sink.getvalue()


def multipart(parts: list[bytes]) -> tuple[str, bytes]:
    content = b"".join(b"--b0undary\r\nContent-Type: application/dicom\r\n\r\n" + part + b"\r\n" for part in parts)
    return 'multipart/related; type="application/dicom"; boundary=b0undary', content + b"--b0undary--\r\n"


@pytest.fixture(scope="module")
def loopback() -> Iterator[str]:
    Archive.stored = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Archive)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/dicom-web"
    server.shutdown()


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATHASST_PACS_USER", USER)
    monkeypatch.setenv("PATHASST_PACS_PASSWORD", PASSWORD)


@pytest.mark.parametrize("server", ["orthanc", "loopback"])
def test_a_slide_comes_from_the_archive_and_its_result_goes_back(
    server: str, request: pytest.FixtureRequest, login: None, tmp_path: Path
) -> None:
    from spots import Spots
    from test_run import settings

    from pathasst.cli.main import app
    from pathasst.core.records import Annotation, ToolResult
    from pathasst.wsi.exports import export
    from pathasst.wsi.run import run_slide

    url, made = request.getfixturevalue(server), dicom(tmp_path)
    study = pydicom.uid.generate_uid()
    for file in made.iterdir():  # a scanner's files name their study; those of `make` do not agree on one
        dataset = pydicom.dcmread(file)
        dataset.StudyInstanceUID, dataset.AccessionNumber, dataset.StudyDate = study, "S26-1", "20261130"
        dataset.StudyID = dataset.StudyTime = dataset.PatientBirthDate = dataset.PatientSex = None
        dataset.save_as(file, enforce_file_format=True)
    pacs = Pacs(url)
    assert len(pacs.send(sorted(made.iterdir()))) == 2  # as the scanner would
    (found,) = pacs.slides(accession="S26-1")
    assert (found.study, found.patient, found.date, found.files) == (study, "0", "20261130", 2)
    assert pacs.slides(accession="S26-2") == []

    ran = CliRunner().invoke(app, ["pacs", "fetch", url, study, "--out", str(tmp_path / "slides")])
    assert ran.exit_code == 0, ran.output
    folder = tmp_path / "slides" / found.series
    with open_slide(made) as before, open_slide(folder) as slide:
        box = (100, 100, 400, 300)
        assert slide.size == before.size and np.array_equal(slide.read(box).image, before.read(box).image)

        class Shadows(Spots):
            def run(self, arguments: object, image: np.ndarray) -> ToolResult:
                return ToolResult(
                    name=self.name, annotations=[Annotation(kind="point", label="cell", coordinates=[700.0, 500.5])]
                )

        chosen = settings(tissue=False).model_copy(update={"tile": 2048, "overlap": 0})
        run = run_slide(slide, Shadows(), tmp_path / "run", chosen, progress=False)
        result = export(run, slide, "dicom", tmp_path / "result.dcm")
    ran = CliRunner().invoke(app, ["pacs", "send", url, str(result)])
    assert ran.exit_code == 0 and "stored " in ran.output, ran.output
    uid = ran.output.split()[-1]
    back = pydicom.dcmread(result)
    assert back.StudyInstanceUID == study and back.SOPInstanceUID == uid
    with httpx.Client(auth=(USER, PASSWORD)) as web:  # asked again, without the library
        rows = web.get(f"{url}/studies/{study}/series", params={"Modality": "ANN"}).json()
        assert [row["0020000E"]["Value"][0] for row in rows] == [back.SeriesInstanceUID]


def test_what_cannot_be_is_told(loopback: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadSettings):
        Pacs("pacs.example.org")
    with pytest.raises(Unreachable, match="401; set PATHASST_PACS_TOKEN"):
        Pacs(loopback).slides(patient="0")
    with pytest.raises(Unreachable, match="does not answer"):
        Pacs(f"http://127.0.0.1:{free_port()}/dicom-web", seconds=5).slides(patient="0")
    monkeypatch.setenv("PATHASST_PACS_USER", USER)
    monkeypatch.setenv("PATHASST_PACS_PASSWORD", PASSWORD)
    for name in ("../../etc", "1.2/../3", "1" * 70, ""):
        with pytest.raises(BadInput, match="no DICOM UID"):
            Pacs(loopback).fetch(name, "1.2", tmp_path)
    with pytest.raises(BadInput, match="no series"):
        Pacs(loopback).fetch("1.2", "1.2.3", tmp_path)
    (tmp_path / "x.dcm").write_bytes(b"no DICOM")
    with pytest.raises(BadInput, match="cannot be read"):
        Pacs(loopback).send([tmp_path / "x.dcm"])
    assert not [f for f in tmp_path.iterdir() if f.is_dir()]
