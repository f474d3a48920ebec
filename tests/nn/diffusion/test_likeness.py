"""The benchmark's measures of drawn cells: distances grow with the difference, copies are found."""

import runpy
from pathlib import Path

import numpy as np

LIKENESS = runpy.run_path(str(Path(__file__).parents[3] / "benchmarks" / "likeness.py"))


def test_copies_are_found_whatever_way_they_are_turned_and_distances_grow():
    rng = np.random.default_rng(0)
    known = rng.integers(0, 255, (20, 24, 24, 3)).astype(np.uint8)
    turned = np.stack([np.rot90(known[3]), known[7][:, ::-1], rng.integers(0, 255, (24, 24, 3)).astype(np.uint8)])
    distance, index = LIKENESS["nearest"](turned, known)
    assert index[:2].tolist() == [3, 7] and (distance[:2] < 0.01).all() and distance[2] > 0.8
    a, b = rng.normal(size=(400, 6)), rng.normal(size=(400, 6))
    space = LIKENESS["Space"](a, 4)
    same, moved = LIKENESS["frechet"](space(a), space(b)), LIKENESS["frechet"](space(a), space(b + 1.0))
    assert same < 0.5 * moved
