"""Every tool against every kind of file that a person may upload by mistake: a reason to read or a result, never an exception."""

import io
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pathasst.tools.batch import run_one
from pathasst.tools.registry import default_registry

TOOLS = [name for name, tool in default_registry().tools.items() if tool.needs_image]
ARGUMENTS = {"segment": {"points": [[60.0, 60.0]]}}


def field(side: int = 128) -> np.ndarray:
    """A stained field: pale ground, blue and brown blobs."""
    import cv2

    rng = np.random.default_rng(2)
    image = np.full((side, side, 3), (232, 226, 224), np.uint8)
    for k in range(side // 8):
        x, y = (int(v) for v in rng.integers(8, side - 8, 2))
        cv2.circle(image, (x, y), 6, (112, 66, 32) if k % 2 else (108, 120, 186), -1, cv2.LINE_AA)
    return image


def grey(path: Path) -> None:
    Image.fromarray(field()).convert("L").save(path.with_suffix(".png"))


def fluorescence(path: Path) -> None:
    dark = np.zeros((128, 128, 3), np.uint8)
    dark[40:60, 40:60, 2] = 220
    Image.fromarray(dark).save(path.with_suffix(".png"))


def sixteen_bit(path: Path) -> None:
    Image.fromarray(field().mean(-1).astype(np.uint16) * 256).save(path.with_suffix(".tif"))


def tiny(path: Path) -> None:
    Image.fromarray(field()[:10, :10]).save(path.with_suffix(".png"))


@cache
def bomb() -> bytes:
    """A PNG of 900 megapixels. It takes 3 s to write."""
    sink = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(sink, "PNG")
    return sink.getvalue()


def huge(path: Path) -> None:
    path.with_suffix(".png").write_bytes(bomb())


def truncated(path: Path) -> None:
    sink = io.BytesIO()
    Image.fromarray(field()).save(sink, "JPEG")
    path.with_suffix(".jpg").write_bytes(sink.getvalue()[: len(sink.getvalue()) // 2])


def text(path: Path) -> None:
    path.with_suffix(".png").write_text("this is no picture")


REFUSED = {
    grey: "grey",
    fluorescence: "dark",
    sixteen_bit: "grey",
    tiny: "at least",
    huge: "megapixels",
    truncated: "damaged",
    text: "not a picture",
}
ANY_PICTURE = dict.fromkeys(("segment", "look", "similar_cases"), (grey, fluorescence, sixteen_bit))
"""Segmentation knows edges, no stain: it takes pictures without colour too."""


def made(tmp_path: Path, maker) -> Path:
    maker(tmp_path / "x")
    return next(tmp_path.glob("x.*"))


@pytest.mark.parametrize("maker", REFUSED, ids=lambda m: m.__name__)
@pytest.mark.parametrize("name", TOOLS)
def test_what_cannot_be_used_is_refused_with_its_reason(name, maker, tmp_path):
    if maker in ANY_PICTURE.get(name, ()):
        pytest.skip("this tool takes such pictures")
    result = run_one(default_registry().tools[name], made(tmp_path, maker), ARGUMENTS.get(name, {}))
    assert REFUSED[maker] in result.error
    assert not result.pictures and not result.numbers


def cmyk(path: Path) -> None:
    Image.fromarray(field()).convert("CMYK").save(path.with_suffix(".jpg"), quality=95)


def animated(path: Path) -> None:
    frames = [Image.fromarray(field()), Image.fromarray(255 - field())]
    frames[0].save(path.with_suffix(".gif"), save_all=True, append_images=frames[1:])


def transparent(path: Path) -> None:
    Image.fromarray(np.dstack([field(), np.full((128, 128), 200, np.uint8)])).save(path.with_suffix(".png"))


@pytest.mark.parametrize("maker", [cmyk, animated, transparent], ids=lambda m: m.__name__)
@pytest.mark.parametrize("name", TOOLS)
def test_unusual_but_right_pictures_give_a_result(name, maker, tmp_path):
    tool = default_registry().tools[name]
    if tool.missing():
        pytest.skip(f"the weights of {name} are not here")
    result = run_one(tool, made(tmp_path, maker), ARGUMENTS.get(name, {}))
    assert not result.error and result.text and result.numbers
