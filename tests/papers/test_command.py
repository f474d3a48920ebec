import json

import pytest
from paper_samples import corpus, record
from typer.testing import CliRunner

from pathasst.cli.main import app
from pathasst.core.errors import BadDataset, BadSettings

runner = CliRunner()


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs `pathasst papers …` as on a machine without weights."""
    monkeypatch.setenv("PATHASST_CACHE", str(tmp_path / "cache"))

    def call(*arguments, code=0):
        result = runner.invoke(app, ["papers", *map(str, arguments)])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result.output

    return call


def test_build_add_delete_search_info(run, medline, tmp_path):
    home = tmp_path / "mine"
    assert "abstracts  16" in run("build", medline("a.xml", *corpus(16)), "-i", home, "--workers", 1)
    assert "abstracts  17" in run("add", medline("b.xml", record(5, title="Zebra stripes.")), "-i", home, "--workers", 1)
    assert "PMID 5" in run("search", "zebra", "-i", home)
    rows = [json.loads(line) for line in run("search", "asbestos", "-i", home, "--json", "-k", 2).splitlines()]
    assert [r["pmid"] for r in rows] == ["1001", "1009"]
    assert "No abstract here is about this" in run("search", "zebra", "-i", home, "--until", 1900)
    assert "We studied" in run("search", "asbestos", "-i", home, "--full")
    run("delete", 5, "-i", home)
    assert "No abstract here is about this: none names zebra." in run("search", "zebra", "-i", home)
    assert "PMID 5 is not in this collection." in run("search", "PMID 5", "-i", home)
    run("compact", "-i", home)
    assert "sound" in run("info", "--check", "-i", home)
    next(home.glob("segments/*/documents.arrow")).write_bytes(b"")
    with pytest.raises(BadDataset, match="build the papers again"):
        run("info", "--check", "-i", home)


def test_where_the_index_goes_must_be_said(run, medline):
    with pytest.raises(BadSettings, match="--index"):
        run("build", medline("a.xml", record(1)))


@pytest.mark.parametrize("command", ["build", "add", "delete", "compact", "search", "serve", "info"])
def test_help_has_an_example(command):
    assert f"pathasst papers {command}" in " ".join(runner.invoke(app, ["papers", command, "--help"]).output.split())
