import numpy as np
import pyarrow as pa
import pytest

from pathasst.core.errors import BadDataset
from pathasst.core.records import Abstract, to_row
from pathasst.papers import documents as module
from pathasst.papers.documents import FOREIGN, Documents, key_of_id, write_documents
from pathasst.papers.filters import Filters


def abstracts(n):
    return [
        Abstract(
            pmid=str(500 + i),
            title=f"T{i}",
            abstract="x" * (i % 7),
            journal="Łódź J" if i % 2 else "Other",
            date=["2001-05", "", "1999", "2010-01-01"][i % 4],
            types=["Review"] if i % 3 == 0 else ["Journal Article", "Letter"],
            retracted=i % 5 == 0,
        )
        for i in range(n)
    ]


def batches(records, size=100):
    rows = [to_row(r) for r in records]
    return [pa.RecordBatch.from_pylist(rows[i : i + size], schema=module.SCHEMA) for i in range(0, len(rows), size)]


def test_rows_come_back_in_the_asked_order_through_many_buckets(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 64)
    monkeypatch.setattr(module, "BUCKET", 256)
    records = abstracts(1000)
    positions = np.random.default_rng(0).permutation(1000)
    write_documents(tmp_path, batches(records), positions)
    opened = Documents(tmp_path)
    assert len(opened) == 1000
    for i in (0, 1, 63, 64, 500, 999):
        row = int(positions[i])
        assert opened[row] == records[i]
        assert opened.key(row) == int(records[i].pmid)
    assert opened.find([int(r.pmid) for r in records]).tolist() == positions.tolist()
    assert opened.find([3, 10**12]).tolist() == [-1, -1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["documents.arrow", "keys.npy", "rows.npy"]


@pytest.mark.parametrize(
    ("filters", "keep"),
    [
        ({"since": 2000}, lambda a: a.date >= "2000"),
        ({"until": 2001}, lambda a: a.date and a.date[:4] <= "2001"),
        ({"since": 1999, "until": 1999}, lambda a: a.date == "1999"),
        ({"journals": ["łÓDŹ j"]}, lambda a: a.journal == "Łódź J"),
        ({"types": ["letter", "Nothing"]}, lambda a: "Letter" in a.types),
        ({"retracted": False}, lambda a: not a.retracted),
        (
            {"retracted": False, "types": ["review"], "since": 2000},
            lambda a: not a.retracted and "Review" in a.types and a.date >= "2000",
        ),
        ({}, lambda a: True),
    ],
)
def test_filters(tmp_path, filters, keep):
    records = abstracts(300)
    write_documents(tmp_path, batches(records), np.arange(300))
    assert Documents(tmp_path).allowed(Filters.of(filters)).tolist() == [bool(keep(r)) for r in records]


def test_no_abstracts_at_all(tmp_path):
    write_documents(tmp_path, [], np.zeros(0, np.int64))
    opened = Documents(tmp_path)
    assert (len(opened), opened.find([1]).tolist(), opened.allowed(Filters(since=2000)).tolist()) == (0, [-1], [])


def test_damage_is_told(tmp_path):
    write_documents(tmp_path, batches(abstracts(10)), np.arange(10))
    (tmp_path / "documents.arrow").write_bytes(b"ARROW1")
    with pytest.raises(BadDataset, match="build"):
        Documents(tmp_path)


@pytest.mark.parametrize("id", ["PMC7", "0012", "१२", "", "-5", "9" * 30, "x\ud800"])
def test_ids_that_are_no_pmids_have_keys_of_their_own(id):
    assert key_of_id(id) >= FOREIGN
    assert key_of_id("12") == 12
