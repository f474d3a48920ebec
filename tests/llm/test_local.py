"""llama.cpp in this process: how many threads it gets."""

from __future__ import annotations

import os

import pytest

from pathasst.core.errors import BadSettings
from pathasst.llm.local import thread_count


@pytest.mark.parametrize(
    ("asked", "environment", "expected"),
    [
        (0, {}, 3),
        (5, {"PATHASST_THREADS": "2"}, 5),
        (0, {"PATHASST_THREADS": "2", "OMP_NUM_THREADS": "1"}, 2),
        (0, {"OMP_NUM_THREADS": "1"}, 1),
        (0, {"OMP_NUM_THREADS": "2,1"}, 2),
    ],
)
def test_one_core_stays_free_unless_somebody_says_otherwise(asked, environment, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    for name in ("PATHASST_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert thread_count(asked) == expected


def test_a_single_core_is_used_and_no_number_is_refused(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert thread_count() == 1
    monkeypatch.setenv("PATHASST_THREADS", "many")
    with pytest.raises(BadSettings, match="PATHASST_THREADS"):
        thread_count()
