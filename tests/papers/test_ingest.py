import shutil

import pytest
from paper_samples import record

from pathasst.core.records import Abstract
from pathasst.dataset import validate
from pathasst.papers import sources
from pathasst.papers.ingest import ingest, living


def alive(folder):
    return {r["pmid"]: r["abstract"] for b in living(folder).batches() for r in b.to_pylist()}


def test_revisions_and_deletions_are_applied_in_order(medline, tmp_path):
    files = [
        medline("n1.xml", record(1, abstract="old"), record(2), record(3), record(4, abstract="full")),
        medline("n2.xml.gz", record(1, abstract="new"), record(4, abstract=""), deleted=(2, 99)),
        medline("n3.xml.gz", record(2, abstract="back")),
    ]
    manifest = ingest(files, tmp_path / "out", progress=False)
    found = living(tmp_path / "out")
    assert alive(tmp_path / "out") == {"1": "new", "2": "back", "3": "An abstract."}
    assert found.deleted.tolist() == [99]
    assert found.empty == 1
    assert manifest.rows == 7
    assert validate(tmp_path / "out", Abstract) == []


def test_one_bad_file_loses_no_other(medline, tmp_path):
    bad = tmp_path / "a0.xml"
    bad.write_text("<html/>")
    manifest = ingest([bad, medline("b.xml", record(1))], tmp_path / "out", progress=False)
    assert alive(tmp_path / "out") == {"1": "An abstract."}
    assert [f.failed for f in manifest.failures] == [
        "a0.xml is no MEDLINE/PubMed XML: it begins with <html>, not with a PubmedArticleSet."
    ]


def test_files_without_a_record_leave_an_empty_collection(medline, tmp_path):
    ingest([medline("a.xml")], tmp_path / "out", progress=False)
    assert alive(tmp_path / "out") == {}


def test_nothing_is_read_twice_and_a_new_download_is(medline, tmp_path):
    out = tmp_path / "out"
    files = [medline("a.xml", record(1)), medline("b.xml", record(2))]
    ingest(files, out, progress=False)
    before = {p.name: p.stat().st_mtime_ns for p in out.glob("*.parquet")}
    (tmp_path / "b.xml").unlink()
    files[1] = medline("b.xml", record(2, abstract="A longer one."))
    ingest(files, out, progress=False)
    after = {p.name: p.stat().st_mtime_ns for p in out.glob("*.parquet")}
    assert [name for name in before if before[name] == after[name]] == ["00000-a.parquet"]
    assert alive(out)["2"] == "A longer one."


@pytest.mark.parametrize("workers", [2])
def test_two_processes_give_the_same_bytes(medline, tmp_path, workers):
    files = [medline(f"f{n}.xml.gz", *[record(100 * n + i) for i in range(50)]) for n in range(4)]
    ingest(files, tmp_path / "one", progress=False)
    ingest(files, tmp_path / "two", workers=workers, progress=False)
    for shard in sorted((tmp_path / "one").glob("*.parquet")):
        assert shard.read_bytes() == (tmp_path / "two" / shard.name).read_bytes()


def test_an_interrupted_run_is_finished_with_the_same_rows(medline, tmp_path):
    files = [medline(f"f{n}.xml", record(n)) for n in range(1, 4)]
    ingest(files, tmp_path / "whole", progress=False)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for name in ("manifest.json", "00002-f3.json"):
        (tmp_path / "cut" / name).unlink()
    ingest(files, tmp_path / "cut", progress=False)
    assert alive(tmp_path / "cut") == alive(tmp_path / "whole")


def test_a_large_file_is_read_in_parts_that_keep_the_order(medline, tmp_path, monkeypatch):
    records = [record(n % 90, abstract=f"version {n}") for n in range(1, 180)]
    path = medline("a.xml", *records, deleted=(3,))
    ingest([path], tmp_path / "whole", progress=False)
    monkeypatch.setattr(sources, "PART", path.stat().st_size // 4)
    manifest = ingest([path], tmp_path / "parts", workers=2, progress=False)
    assert len(manifest.shards) == 5
    assert manifest.rows == 179
    assert alive(tmp_path / "parts") == alive(tmp_path / "whole")
    assert "3" not in alive(tmp_path / "parts")
    monkeypatch.setattr(sources, "MANY_FILES", 0)
    assert sources.parts_of([path]) == [1]
