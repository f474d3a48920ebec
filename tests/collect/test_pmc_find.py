import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

import pytest

from pathasst.collect import pmc_find
from pathasst.collect.pmc_find import newest_only, normal_id, read_ids, search
from pathasst.collect.polite import PoliteClient
from pathasst.core.errors import BadInput, BadSettings


@pytest.fixture
def eutils():
    """A server that answers like esearch for 12 articles and remembers what it was asked."""
    asked: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = {k: v[0] for k, v in parse_qs(urlparse(self.path).query).items()}
            asked.append(query)
            start, size = int(query["retstart"]), int(query["retmax"])
            ids = [str(n) for n in range(1, 13)][start : start + size]
            body = (
                b"oops" if "broken" in query["term"] else json.dumps({"esearchresult": {"count": "12", "idlist": ids}}).encode()
            )
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_search_pages_filters_and_names_itself(eutils, monkeypatch) -> None:
    base, asked = eutils
    monkeypatch.setattr(pmc_find, "PAGE", 5)
    found = list(
        search("carcinoma", PoliteClient(rate=1000), since="2026-08-01", base=base, contact="me@example.org", api_key="key")
    )
    assert found == [f"PMC{n}" for n in range(1, 13)]
    assert [a["retstart"] for a in asked] == ["0", "5", "10"]
    assert "open_access[Filter]" in asked[0]["term"] and '"2026/08/01"[pmclivedate]' in asked[0]["term"]
    assert (asked[0]["email"], asked[0]["api_key"], asked[0]["tool"]) == ("me@example.org", "key", "pathasst")


def test_search_limit_and_nonsense(eutils) -> None:
    base, _ = eutils
    assert len(list(search("carcinoma", PoliteClient(rate=1000), base=base, limit=7))) == 7
    with pytest.raises(BadInput, match="not understood"):
        list(search("broken", PoliteClient(rate=1000), base=base))


@pytest.mark.parametrize(("text", "id_"), [("123", "PMC123"), (" pmc123 ", "PMC123"), ("PMC123.2", "PMC123.2")])
def test_ids(text: str, id_: str) -> None:
    assert normal_id(text) == id_


def test_ids_of_a_file(tmp_path) -> None:
    (tmp_path / "a").write_text("PMCID\nPMC1,x\n2 # comment\n\nPMC1\n")
    assert read_ids(tmp_path / "a") == ["PMC1", "PMC2"]
    (tmp_path / "b").write_text("10.1/abc\n")
    with pytest.raises(BadSettings, match="no PMC id"):
        read_ids(tmp_path / "b")
    with pytest.raises(BadSettings, match="cannot be read"):
        read_ids(tmp_path / "none")


def test_the_newest_version_alone() -> None:
    assert newest_only(["PMC1", "PMC2.1", "PMC2.3", "PMC2.2", "PMC1", "PMC3"]) == ["PMC1", "PMC2.3", "PMC3"]
