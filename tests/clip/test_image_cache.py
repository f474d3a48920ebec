from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pathasst.clip import image_cache as module
from pathasst.clip.image_cache import forget, load_pixels


def encoded(seed: int) -> tuple[str, bytes]:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (12, 9, 3), dtype=np.uint8)).save(out, "PNG")
    return str(seed), out.getvalue()


PICTURES = [encoded(n) for n in range(150)]
PICTURES[3] = ("3", b"no picture")


def test_a_file_holds_what_memory_holds(tmp_path: Path) -> None:
    found, mapped = load_pixels(PICTURES, 8), load_pixels(PICTURES, 8, tmp_path / "s.bin")
    assert list(found) == list(mapped) == [m for m, _ in PICTURES if m != "3"]
    assert found["0"].shape == (8, 8, 3) and all((found[m] == mapped[m]).all() for m in found)
    assert (tmp_path / "s.bin").stat().st_size == 149 * 8 * 8 * 3
    forget(tmp_path / "s.bin")
    assert list(tmp_path.iterdir()) == []
    assert load_pixels([("3", b"no picture")], 8, tmp_path / "s.bin") == {}


def test_a_killed_run_decodes_only_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP", 1)

    def dies() -> Iterator[tuple[str, bytes]]:
        yield from PICTURES[:140]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_pixels(dies(), 8, tmp_path / "s.bin")
    seen: list[bytes] = []
    decode = module._square
    monkeypatch.setattr(module, "_square", lambda content, size: (seen.append(content), decode(content, size))[1])
    again = load_pixels(PICTURES, 8, tmp_path / "s.bin")
    assert len(seen) == 150 - 128
    seen.clear()
    whole = load_pixels(PICTURES, 8)
    assert list(again) == list(whole) and all((again[m] == whole[m]).all() for m in whole)


def test_a_lost_file_or_another_size_is_decoded_anew(tmp_path: Path) -> None:
    load_pixels(PICTURES[:5], 8, tmp_path / "s.bin")
    (tmp_path / "s.bin").unlink()
    assert load_pixels(PICTURES[:5], 8, tmp_path / "s.bin")["1"].any()
    assert load_pixels(PICTURES[:5], 6, tmp_path / "s.bin")["1"].shape == (6, 6, 3)
