"""Pictures and figures that the tests of `curate` draw themselves."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image

from pathasst.core.records import Figure, Source
from pathasst.dataset import Unit


def texture(seed: int, height: int = 200, width: int = 260, tint: tuple[int, int, int] = (190, 120, 170)) -> np.ndarray:
    """A picture full of detail: soft blobs and dark dots on a tinted ground."""
    rng = np.random.default_rng(seed)
    field = cv2.GaussianBlur(rng.normal(0, 1, (height, width, 3)).astype(np.float32), (0, 0), 6) * 300
    out = np.clip(np.array(tint, np.float32) + field, 20, 215).astype(np.uint8)
    for _ in range(120):
        at = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        cv2.circle(out, at, int(rng.integers(2, 5)), (70, 40, 110), -1, cv2.LINE_AA)
    return out


def compound(pictures: list[np.ndarray], columns: int, letters: str = "", gutter: int = 14, ground: int = 255) -> np.ndarray:
    """Pictures of one size in a grid, with "(a)" printed below each when `letters` are given."""
    height, width = pictures[0].shape[:2]
    below = 34 if letters else 0
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (height + below + gutter) + gutter, columns * (width + gutter) + gutter, 3), ground, np.uint8)
    for n, picture in enumerate(pictures):
        y, x = gutter + n // columns * (height + below + gutter), gutter + n % columns * (width + gutter)
        sheet[y : y + height, x : x + width] = picture
        if letters:
            at = (x + width // 2 - 14, y + height + 24)
            cv2.putText(sheet, f"({letters[n]})", at, cv2.FONT_HERSHEY_SIMPLEX, 0.7, (0, 0, 0), 2, cv2.LINE_AA)
    return sheet


def png(picture: np.ndarray) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(picture).save(sink, "PNG")
    return sink.getvalue()


def figure(name: str, picture: np.ndarray | None, caption: str, **source: object) -> Figure:
    article = str(source.pop("article_id", "PMC1.1"))
    return Figure(
        figure_id=f"{article}/{name}",
        source=Source(article_id=article, licence=str(source.pop("licence", "CC-BY-4.0")), **source),  # type: ignore[arg-type]
        caption=caption,
        image=b"" if picture is None else png(picture),
        width=0 if picture is None else picture.shape[1],
        height=0 if picture is None else picture.shape[0],
    )


class Rows:
    """Work of a stage that hands out figures made beforehand."""

    def __init__(self, shards: dict[str, list[Figure]]) -> None:
        self.shards = shards

    def __call__(self, unit: Unit) -> list[Figure]:
        return self.shards[unit.key]


def onnx_file(path, rows: np.ndarray):
    """A detector as ONNX, written byte by byte: it answers with the same rows (n, k) for every picture of 512 px."""
    count, size = rows.shape

    def number(value: int) -> bytes:
        out = b""
        while value > 127:
            out, value = out + bytes([value & 127 | 128]), value >> 7
        return out + bytes([value])

    def put(key: int, value: int | bytes | str) -> bytes:
        if isinstance(value, int):
            return number(key << 3) + number(value)
        raw = value.encode() if isinstance(value, str) else value
        return number(key << 3 | 2) + number(len(raw)) + raw

    def tensor(name: str, values: np.ndarray) -> bytes:
        shape = b"".join(put(1, int(d)) for d in values.shape)
        return shape + put(2, 1) + put(8, name) + put(9, values.astype("<f4").tobytes())

    def node(kind: str, inputs: list[str], output: str) -> bytes:
        return b"".join(put(1, i) for i in inputs) + put(2, output) + put(4, kind)

    def described(name: str, shape: tuple[int, ...]) -> bytes:
        dims = b"".join(put(1, put(1, d)) for d in shape)
        return put(1, name) + put(2, put(1, put(1, 1) + put(2, dims)))

    graph = put(1, node("ReduceMean", ["images"], "mean")) + put(1, node("Mul", ["mean", "zero"], "nothing"))
    graph += put(1, node("Add", ["rows", "nothing"], "output")) + put(2, "detector")
    graph += put(5, tensor("rows", rows[None])) + put(5, tensor("zero", np.zeros(1)))
    graph += put(11, described("images", (1, 3, 512, 512))) + put(12, described("output", (1, 1, count, size)))
    path.write_bytes(put(1, 8) + put(7, graph) + put(8, put(1, "") + put(2, 13)))
    return path
