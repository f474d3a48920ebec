"""Linear heads on features: fitted, kept in half precision, and a distance that tells strangers."""

import numpy as np

from pathasst.nn.heads import Head, fit


def features(rng, n, shift):
    values = rng.normal(size=(n, 6192)).astype(np.float32)
    values[:, :300] += shift
    return values


def test_a_head_names_classes_tells_strangers_and_survives_its_file(tmp_path):
    rng = np.random.default_rng(0)
    labels = ["a"] * 30 + ["b"] * 30
    known = np.concatenate([features(rng, 30, -1.0), features(rng, 30, 1.0)])
    head = fit(known[None], labels, ["one"] * 60, ["a", "b", "c"])
    head.limit = float(np.quantile(head.judge(known).distances, 0.95))
    head.save(tmp_path)
    again = Head.load(tmp_path)
    fresh, strange = features(rng, 20, 1.0), 6 * features(rng, 20, 1.0)
    assert (again.judge(fresh).probabilities.argmax(1) == 1).all()
    assert again.judge(fresh).probabilities[:, 2].max() < 1e-3  # a class without a training picture
    assert again.judge(strange).distances.min() > again.judge(known).distances.max()
    assert np.allclose(again.judge(fresh).distances, head.judge(fresh).distances, rtol=0.02)
