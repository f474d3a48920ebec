from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from pathasst.assistant.images import ChatPictures, PictureInput
from pathasst.core.errors import BadInput
from pathasst.core.records import Picture, ToolSpec
from pathasst.imaging.pictures import encode_png

SPEC = ToolSpec(name="t", description="d", parameters={"type": "object", "properties": {"a": {"type": "integer"}}})


def test_pictures_of_every_kind_become_the_same_pixels(spots: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "spots.png"
    path.write_bytes(encode_png(spots))
    chat_pictures = ChatPictures()
    for given in (path, str(path), path.read_bytes(), spots, Image.fromarray(spots)):
        assert (chat_pictures.pixels(chat_pictures.add(given)) == spots).all()
    assert [s.name for s in chat_pictures.entries] == ["spots.png", "spots.png", "picture", "picture", "picture"]


def test_what_else_a_file_holds_goes_no_further(spots: np.ndarray) -> None:
    out, exif = io.BytesIO(), Image.Exif()
    exif[0x010E] = "patient name"
    Image.fromarray(spots).save(out, "JPEG", exif=exif)
    shown = ChatPictures().add(out.getvalue() + b"trailing secret")
    assert b"patient name" not in shown.image
    assert b"secret" not in shown.image


@pytest.mark.parametrize("image", [7, np.zeros((4, 4)), np.zeros((4, 4, 3)), "/no/such/file.png"])
def test_other_things_are_refused(image: object) -> None:
    with pytest.raises(BadInput):
        ChatPictures().add(image)


def test_a_call_means_the_persons_latest_picture(spots: np.ndarray) -> None:
    chat_pictures = ChatPictures()
    assert chat_pictures.choose() is None
    chat_pictures.add_outputs([Picture(name="drawn", image=encode_png(spots))], by="draw")
    assert chat_pictures.choose().handle == "image1"  # type: ignore[union-attr]
    chat_pictures.add(spots)
    chat_pictures.add_outputs([Picture(name="overlay", image=encode_png(spots))], by="count")
    assert chat_pictures.choose().handle == "image2"  # type: ignore[union-attr]
    for handle in ("image3", "Image 3", 3, "3", "overlay"):
        assert chat_pictures.choose(handle).number == 3  # type: ignore[union-attr]
    with pytest.raises(BadInput, match="image1, image2, image3"):
        chat_pictures.choose("image9")


def test_the_choice_is_offered_when_there_is_one(spots: np.ndarray) -> None:
    chat_pictures = ChatPictures()
    assert chat_pictures.offer([SPEC]) == [SPEC]
    chat_pictures.add(spots)
    assert chat_pictures.offer([SPEC]) == [SPEC]
    chat_pictures.add(spots)
    (offered,) = chat_pictures.offer([SPEC])
    assert offered.parameters["properties"]["image"]["enum"] == ["image1", "image2"]
    assert "image" not in SPEC.parameters["properties"]
    own = ToolSpec(name="t", description="d", parameters={"properties": {"image": {"type": "integer"}}})
    assert chat_pictures.offer([own]) == [own]


def test_a_files_own_scale_is_the_pictures_unless_another_is_given():
    sink = io.BytesIO()
    tifffile.imwrite(sink, np.full((16, 16, 3), 200, np.uint8), photometric="rgb", resolution=(20000, 20000), resolutionunit=3)
    chat_pictures = ChatPictures()
    assert chat_pictures.add(sink.getvalue()).um_per_px == pytest.approx(0.5)
    assert chat_pictures.add(PictureInput(sink.getvalue(), um_per_px=0.25)).um_per_px == 0.25
