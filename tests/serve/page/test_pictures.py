"""Files that people give to the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from page_parts import slide

from pathasst.assistant.settings import ServeSettings
from pathasst.core.errors import BadInput, BadSettings, MissingWeights, Unreachable
from pathasst.imaging.pictures import encode_png
from pathasst.llm.transport import Refused
from pathasst.serve.image_input import InputImages
from pathasst.serve.page import pictures
from pathasst.serve.page.sessions import PageSession
from pathasst.serve.page.words import explained
from pathasst.serve.uploads import UploadStore

TOKEN = "0123456789abcdef" * 2


@pytest.fixture
def limits(tmp_path: Path) -> InputImages:
    serve = ServeSettings(home=tmp_path, picture_bytes=100_000, picture_pixels=10_000, pictures=2)
    return InputImages.of(serve, UploadStore(tmp_path / "uploads"))


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_picture_is_taken_and_its_upload_deleted(tmp_path: Path, limits: InputImages, spots: np.ndarray) -> None:
    session, file = PageSession(TOKEN), write(tmp_path / "<b>.png", encode_png(spots))
    given = pictures.take(session, file, limits)
    assert given is not None and (given.width, given.height) == (96, 96) and not file.exists()
    assert "&lt;b&gt;.png" in pictures.shown_html(session) and "96 × 96 px" in pictures.shown_html(session)
    pictures.put(session, spots, "two", most=2)
    with pytest.raises(BadInput, match="takes 2 pictures"):
        pictures.put(session, spots, "three", most=2)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no picture", "not a picture"),
        (b"", "is empty"),
        (b"\0" * 200_000, "pictures may have"),
        (encode_png(np.zeros((101, 100, 3), np.uint8)), "limit is 0 megapixels"),
    ],
    ids=["foreign", "empty", "heavy", "large"],
)
def test_what_cannot_be_taken_is_deleted_too(content: bytes, reason: str, tmp_path: Path, limits: InputImages) -> None:
    file = write(tmp_path / "a.png", content)
    with pytest.raises(BadInput, match=reason):
        pictures.take(PageSession(TOKEN), file, limits)
    assert not file.exists()


def test_regions_of_a_slide_keep_their_scale(tmp_path: Path, limits: InputImages) -> None:
    pytest.importorskip("openslide", reason="OpenSlide is not installed")
    session, file = PageSession(TOKEN), slide(tmp_path / "s.svs")
    assert pictures.take(session, file, limits) is None and not file.exists()
    shown = pictures.picker(session)
    assert (shown["width"], shown["height"], shown["scale"]) == (1024, 768, "0.5") and shown["src"].startswith("data:image/jpeg")
    given = pictures.cut(session, "500, 250, 100, 80")
    assert (given.width, given.height) == (100, 80) and given.um_per_px == pytest.approx(0.5)
    for wrong in ("0, 0, 5000, 5", "1, 2, 3", ""):
        with pytest.raises((BadInput, BadSettings)):
            pictures.cut(session, wrong)
    place = session.slide
    with pytest.raises(BadInput):  # one that cannot be opened leaves the one that is open
        pictures.take(session, write(tmp_path / "b.svs", b"II*\0 and no more"), limits)
    assert session.slide == place and pictures.cut(session, "0, 0, 9, 9", most=3).width == 9
    session.close()
    assert place is not None and not place.exists()


def test_a_region_of_a_picture_takes_its_place_until_it_was_asked_about(spots: np.ndarray) -> None:
    session = PageSession(TOKEN)
    with pytest.raises(BadInput, match="give a picture first"):
        pictures.frame(session)
    whole = pictures.put(session, spots, "spots.png", um_per_px=0.25)
    pictures.frame(session)
    shown = pictures.picker(session)
    assert (shown["width"], shown["height"], shown["scale"], shown["box"]) == (96, 96, "0.25", [24, 24, 48, 48])
    first = pictures.cut(session, "10, 20, 30, 40")
    assert (first.width, first.height, first.um_per_px) == (30, 40, 0.25)
    assert first.image == encode_png(spots[20:60, 10:40])
    assert first.origin == "region 10, 20, 30 × 40 px of spots.png"
    whole.handle = "image1"
    second = pictures.cut(session, "0, 0, 96, 96")  # another one of the same picture
    assert session.talk.pictures == [first, second]
    for outside in ("90, 0, 10, 10", "-1, 0, 10, 10", "0, 0, 0, 5"):
        with pytest.raises((BadInput, BadSettings)):
            pictures.cut(session, outside)


def test_a_slide_that_is_none_is_explained(tmp_path: Path, limits: InputImages) -> None:
    pytest.importorskip("openslide", reason="OpenSlide is not installed")
    session = PageSession(TOKEN)
    with pytest.raises(BadInput, match=r"fake\.svs cannot be opened as a slide"):
        pictures.take(session, write(tmp_path / "fake.svs", b"nothing"), limits)
    assert session.slide is None


VMS = """[Virtual Microscope Specimen]
NoLayers=1
NoJpegColumns=1
NoJpegRows=1
ImageFile=../secret.jpg
MapFile=../secret.jpg
"""


@pytest.mark.parametrize("name", ["a.vms", "a.svs", "a.mrxs"])
def test_a_slide_that_names_other_files_is_not_opened(tmp_path: Path, limits: InputImages, name: str) -> None:
    session, file = PageSession(TOKEN), write(tmp_path / name, VMS.encode())
    with pytest.raises(BadInput, match="one TIFF-based file"):
        pictures.take(session, file, limits)
    assert session.slide is None and not file.exists()


def test_errors_in_plain_words(caplog: pytest.LogCaptureFixture) -> None:
    missing = explained(MissingWeights("get it: pathasst models pull x"))
    assert "A model is not on this server" in missing and "pathasst models pull x" in missing
    unforeseen = explained(ZeroDivisionError("<secret path>"))
    assert "secret" not in unforeseen and "written to its log" in unforeseen and "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_the_brains_server_refuses_is_told_honestly(status: int) -> None:
    told = explained(Refused("http://gpu-7.intern:8000/v1/chat/completions refused the request (HTTP 401: no)", status))
    assert "refused" in told and "key" in told and "Asking again will not help" in told
    assert "gpu-7" not in told and "does not answer" not in told
    down = explained(Unreachable("http://gpu-7.intern:8000/v1/chat/completions gave no answer in 3 tries."))
    assert "gpu-7" not in down and "Try again in a minute" in down
