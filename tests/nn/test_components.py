"""Principal directions: unit, orthogonal, of the data's variance; copies of few rows give fewer."""

import numpy as np
import pytest

from pathasst.nn.components import principal, standardise


@pytest.mark.parametrize("shape", [(200, 12), (9, 40)])
def test_directions_are_orthogonal_and_of_the_right_variance(shape):
    rows = np.random.default_rng(0).normal(size=shape).astype(np.float64) * np.linspace(1, 3, shape[1])
    normal = standardise(rows)[2]
    directions, variances = principal(normal, 5)
    assert directions @ directions.T == pytest.approx(np.eye(5), abs=1e-9)
    assert ((normal @ directions.T) ** 2).mean(0) == pytest.approx(variances)
    assert variances[0] == pytest.approx(np.linalg.svd(normal, compute_uv=False)[0] ** 2 / len(normal))


def test_copies_vary_in_fewer_directions():
    rows = np.random.default_rng(1).normal(size=(4, 30)).astype(np.float32)
    normal = standardise(np.repeat(rows, 5, axis=0))[2]
    directions, variances = principal(normal, 10)
    assert len(directions) == len(variances) == 3  # four places around their mean
    assert np.isfinite(directions).all()
