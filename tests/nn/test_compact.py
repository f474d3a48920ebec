"""Eight bits a weight: near, half the bytes, and the same when done twice."""

from __future__ import annotations

import torch

from pathasst.nn.compact import LEAST, compact, expanded


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    wide = torch.randn(64, LEAST // 64) * torch.logspace(-3, 2, 64)[:, None]
    return {"wide": wide, "small": torch.randn(4, 4), "bias": torch.randn(LEAST), "nothing": torch.zeros(64, LEAST // 64)}


def test_a_weight_moves_by_no_more_than_its_rows_step() -> None:
    made, given = expanded(compact(state())), state()
    assert set(made) == set(given)
    assert all(w.dtype == torch.float32 for w in made.values())
    step = given["wide"].abs().amax(1, keepdim=True) / 127
    assert ((made["wide"] - given["wide"]).abs() <= step * 0.501).all()
    assert torch.equal(made["small"], given["small"].half().float())
    assert torch.equal(made["bias"], given["bias"].half().float())
    assert not made["nothing"].any()


def test_matrices_take_half_of_float16_and_stay_when_kept_again() -> None:
    kept = compact(state())
    assert kept["wide"].dtype == torch.int8
    assert kept["small"].dtype == torch.float16
    again = compact(expanded(kept))
    assert all(torch.allclose(kept[n].float(), again[n].float(), rtol=1e-6) for n in kept)


def test_plain_float16_is_read_too() -> None:
    plain = {n: w.half() for n, w in state().items()}
    assert all(torch.equal(w.float(), expanded(plain)[n]) for n, w in plain.items())
