"""The page's server without a browser: what Gradio would let a request reach, it must not reach here."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from assistant_parts import CountDark
from server_parts import Running, running

from pathasst.imaging.pictures import encode_png
from pathasst.tools.protocol import Registry

pytest.importorskip("gradio", reason="Gradio is not installed")
META = {"meta": {"_type": "gradio.FileData"}}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    registry = Registry()
    registry.add(CountDark())
    home = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))
        with running(home, registry, page=True) as server:
            yield server


def event(site: Running, inputs: tuple[str, ...], *values: Any) -> str:
    """What the page answers to the event that takes these parts, and nothing else, as JSON lines."""
    config = httpx.get(f"{site.url}/config").json()
    names = {c["id"]: c["props"].get("elem_id") for c in config["components"]}
    number = next(d["id"] for d in config["dependencies"] if tuple(names[i] for i in d["inputs"]) == inputs)
    session = secrets.token_hex(6)
    asked = {"data": values, "fn_index": number, "session_hash": session}
    httpx.post(f"{site.url}/gradio_api/queue/join", json=asked).raise_for_status()
    lines = []
    with httpx.stream("GET", f"{site.url}/gradio_api/queue/data", params={"session_hash": session}, timeout=60) as answer:
        for line in answer.iter_lines():
            lines.append(line)
            if "process_completed" in line:
                break
    return "\n".join(lines)


@pytest.mark.parametrize("stream", [False, True], ids=["file", "stream"])
@pytest.mark.parametrize("part", ["pa-file", "pa-region"], ids=["as a file", "as text"])
def test_a_request_reaches_no_file_of_the_server(
    site: Running, tmp_path: Path, spots: np.ndarray, part: str, *, stream: bool
) -> None:
    """Neither read, nor copied to where it can be fetched, nor taken for an upload and deleted."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(encode_png(spots))
    given = {"path": str(secret), "orig_name": "a.png", "is_stream": stream, **META}
    said = event(site, ("pa-token", part), secrets.token_hex(16), [given] if part == "pa-file" else given)
    assert json.loads(said.splitlines()[-1].removeprefix("data: "))["success"] is False
    assert "data:image" not in said
    assert secret.exists()
    copies = Path(os.environ["GRADIO_TEMP_DIR"]).rglob("secret.png")
    assert list(copies) == []


def test_a_request_makes_the_server_fetch_nothing(site: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    from gradio import processing_utils

    fetched: list[str] = []

    async def fetch(url: str, **_: Any) -> str:
        fetched.append(url)
        raise OSError

    monkeypatch.setattr(processing_utils, "async_ssrf_protected_download", fetch)
    given = {"path": "https://example.com/a.png", "orig_name": "a.png", **META}
    for part, value in (("pa-file", [given]), ("pa-region", given)):
        said = event(site, ("pa-token", part), secrets.token_hex(16), value)
        assert json.loads(said.splitlines()[-1].removeprefix("data: "))["success"] is False
    assert fetched == []


def test_an_upload_is_taken_and_leaves_nothing_behind(site: Running, spots: np.ndarray) -> None:
    sent = httpx.post(f"{site.url}/gradio_api/upload", files={"files": ("spots.png", encode_png(spots))}).json()
    said = event(site, ("pa-token", "pa-file"), secrets.token_hex(16), [{"path": sent[0], "orig_name": "spots.png", **META}])
    assert "spots.png" in said and "data:image/jpeg" in said
    assert [file for file in Path(os.environ["GRADIO_TEMP_DIR"]).rglob("*") if file.is_file() and file.stat().st_size] == []


@pytest.mark.parametrize(
    "path",
    ["file=/etc/passwd", "file=README.md", "file=http://169.254.169.254/", "proxy=http://127.0.0.1:22/", "file=../../etc/passwd",
     "mcp/sse", "reload", "vibe-code"],
)  # fmt: skip
def test_gradios_own_paths_lead_nowhere(site: Running, path: str) -> None:
    answer = httpx.get(f"{site.url}/gradio_api/{path}")
    assert answer.status_code in (400, 403, 404, 405)
    assert "root:" not in answer.text


def test_unknown_paths_have_the_apis_shape(site: Running) -> None:
    answer = httpx.get(f"{site.url}/nonesuch")
    assert answer.status_code == 404 and answer.json()["error"]["type"] == "invalid_request_error"
