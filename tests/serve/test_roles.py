"""Who may do what: roles of keys, names from a proxy, slides by key, and a server below another path."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from server_parts import RuleBrain, Running, running, settings
from starlette.testclient import TestClient

from pathasst.core.errors import BadSettings
from pathasst.serve.api import create_app
from pathasst.serve.api.middleware import Peer
from pathasst.serve.keys import ADMIN, KeyStore
from pathasst.serve.service import Service
from pathasst.tools.protocol import Registry

ASK = {"messages": [{"role": "user", "content": "Hello"}]}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_metrics_and_audit_are_for_admins(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys.json")
    user, admin = store.add("a")[1], store.add("b", ADMIN)[1]
    with running(tmp_path, Registry(), keys_required=True) as served:
        assert httpx.post(f"{served.v1}/chat/completions", json=ASK, headers=bearer(user)).status_code == 200
        for path in ("/metrics", "/v1/audit"):
            assert httpx.get(served.url + path, headers=bearer(user)).status_code == 403
            assert httpx.get(served.url + path, headers=bearer(admin)).status_code == 200
        lines = httpx.get(f"{served.v1}/audit?last=1", headers=bearer(admin)).json()["data"]
        assert [line["user"] for line in lines] == [f"key:{user.split('-')[1]}"]
    with pytest.raises(BadSettings, match="role"):
        store.add("c", "root")


def test_keys_of_before_roles_are_read(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    KeyStore(file).add("a")
    rows = json.loads(file.read_text())
    file.write_text(json.dumps([{k: v for k, v in row.items() if k not in ("role", "slides")} for row in rows]))
    (key,) = KeyStore(file).list()
    assert (key.role, key.slides) == ("user", ("*",))


def by_proxy(home: Path, peer: str) -> TestClient:
    """A server behind a proxy that logs people in; requests come from `peer`."""
    serve = settings(
        home, keys_required=True, user_header="X-Forwarded-User", proxies=("10.0.0.1",), admins=("eve",), hosts=("*",)
    )
    app = create_app(service=Service(serve, brain=RuleBrain(), registry=Registry()), page=False)
    return TestClient(Peer(app), client=(peer, 1))


def test_a_name_is_believed_from_the_proxy_alone(tmp_path: Path) -> None:
    with by_proxy(tmp_path / "a", "10.0.0.1") as web:
        assert web.get("/v1/models").status_code == 401
        assert web.post("/v1/chat/completions", json=ASK, headers={"X-Forwarded-User": "anna"}).status_code == 200
        assert web.get("/metrics", headers={"X-Forwarded-User": "anna"}).status_code == 403
        assert web.get("/metrics", headers={"X-Forwarded-User": "eve"}).status_code == 200
        line = json.loads((tmp_path / "a" / "audit.jsonl").read_text().splitlines()[-1])
        assert line["user"] == "user:anna"
    with by_proxy(tmp_path / "b", "10.0.0.2") as web:
        assert web.get("/v1/models", headers={"X-Forwarded-User": "anna"}).status_code == 401
    with pytest.raises(BadSettings, match="proxies"):
        settings(tmp_path, user_header="X-Forwarded-User")


def test_slides_by_key(tmp_path: Path) -> None:
    from pathasst.serve.viewer import Shelf
    from pathasst.serve.viewer.shelf import Entry

    store = KeyStore(tmp_path / "keys.json")
    all_, one = store.add("a")[1], store.add("b", slides=("study1/*",))[1]
    shelf = Shelf()
    for number in (1, 2):
        path = tmp_path / f"s{number}.svs"
        shelf.entries[f"k{number}"] = Entry(f"k{number}", path, name=f"study{number}/{path.name}")
    service = Service(settings(tmp_path, keys_required=True, hosts=("*",)), brain=RuleBrain(), registry=Registry())
    pytest.importorskip("openslide", reason="the extra slides is not installed")
    with TestClient(create_app(service=service, page=False, slides=shelf)) as web:
        assert [name in web.get("/slide/", headers=bearer(all_)).text for name in ("s1.svs", "s2.svs")] == [True, True]
        assert [name in web.get("/slide/", headers=bearer(one)).text for name in ("s1.svs", "s2.svs")] == [True, False]
        assert web.get("/slide/k1", headers=bearer(one)).status_code == 200
        for path in ("/slide/k2", "/slide/k2/info", "/slide-tiles/k2/image_files/0/0_0.jpg", "/slide-tiles/k2/region.png"):
            refused = web.get(path, params={"x": 0, "y": 0, "width": 9, "height": 9}, headers=bearer(one))
            assert refused.status_code == 404, path


@pytest.mark.parametrize("path", ["pathasst", "/", "/a/"])
def test_a_root_path_has_its_form(tmp_path: Path, path: str) -> None:
    with pytest.raises(BadSettings, match="root_path"):
        settings(tmp_path, root_path=path)


def test_a_server_below_another_path(tmp_path: Path) -> None:
    """A proxy shows it at /tools/pathasst and takes that off; keys, login and page know where they are."""
    secret = KeyStore(tmp_path / "keys.json").add("a")[1]
    service = Service(
        settings(tmp_path, keys_required=True, hosts=("*",), root_path="/tools/pathasst"), brain=RuleBrain(), registry=Registry()
    )
    pytest.importorskip("gradio", reason="Gradio is not installed")
    with TestClient(create_app(service=service), root_path="/tools/pathasst", follow_redirects=False) as web:
        asked = web.get("/", headers={"accept": "text/html"})
        assert (asked.status_code, asked.headers["location"]) == (303, "/tools/pathasst/login")
        given = web.post("/login", data={"key": secret})
        assert (given.status_code, given.headers["location"]) == (303, "/tools/pathasst/")
        assert "/tools/pathasst" in web.get("/config").json()["root"]
        assert web.get("/v1/models").status_code == 401  # the cookie is the page's alone
        assert web.get("/v1/models", headers=bearer(secret)).status_code == 200
        assert web.get("/health").status_code == 200


def ask_on_the_page(served: Running, key: str, token: str, question: str) -> None:
    """As a browser that has logged in with this key."""
    with httpx.Client(base_url=served.url, timeout=60) as web:
        assert web.post("/login", data={"key": key}).status_code == 303
        config = web.get("/config").json()
        names = {c["id"]: c["props"].get("elem_id") for c in config["components"]}
        inputs = ("pa-token", "pa-question")
        number = next(d["id"] for d in config["dependencies"] if tuple(names[i] for i in d["inputs"]) == inputs)
        session = secrets.token_hex(6)
        asked: dict[str, Any] = {"data": [token, question], "fn_index": number, "session_hash": session}
        web.post("/gradio_api/queue/join", json=asked).raise_for_status()
        with web.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as answer:
            for line in answer.iter_lines():
                if "process_completed" in line:
                    assert json.loads(line.removeprefix("data: "))["success"], line
                    return


def test_the_page_is_audited_under_the_key_and_a_tab_belongs_to_it(tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="Gradio is not installed")
    store = KeyStore(tmp_path / "keys.json")
    anna, bert = store.add("anna"), store.add("bert")
    token = secrets.token_hex(16)
    with running(tmp_path, Registry(), keys_required=True, page=True) as served:
        for (_, secret), question in ((anna, "One?"), (anna, "Two?"), (bert, "Three?")):
            ask_on_the_page(served, secret, token, question)
        lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
        assert [line["user"] for line in lines] == [f"key:{anna[0].id}", f"key:{anna[0].id}", f"key:{bert[0].id}"]
        assert token not in (tmp_path / "audit.jsonl").read_text()
        questions = [len([t for t in turns if t.role == "user"]) for turns in served.brain.given]
        assert questions == [1, 2, 1]  # the same token with another key is another tab


def test_a_small_slide_file_of_many_pixels_is_opened_in_little_memory(tmp_path: Path) -> None:
    """8,192 × 8,192 px in some 200 kB, without smaller copies: once 8 bytes a pixel, 537 MB."""
    tracked = pytest.importorskip("resource")
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    from pathasst.serve.image_input import InputImages
    from pathasst.serve.page import pictures
    from pathasst.serve.page.sessions import PageSession
    from pathasst.serve.uploads import UploadStore

    file = tmp_path / "flat.tif"
    tile = np.full((1024, 1024, 3), 200, np.uint8)
    form = {"shape": (8192, 8192, 3), "dtype": np.uint8, "tile": (1024, 1024), "photometric": "rgb"}
    tifffile.imwrite(file, (tile for _ in range(64)), compression="deflate", **form)
    assert file.stat().st_size < 500_000
    session, before = PageSession("0" * 32, home=tmp_path / "sessions"), tracked.getrusage(tracked.RUSAGE_SELF).ru_maxrss
    serve = settings(tmp_path, picture_bytes=100_000).serve
    assert pictures.take(session, file, InputImages.of(serve, UploadStore(tmp_path / "uploads"))) is None
    shown = pictures.picker(session)
    assert (shown["width"], shown["height"]) == (8192, 8192)
    assert tracked.getrusage(tracked.RUSAGE_SELF).ru_maxrss - before < 400 * 1024  # kB
    session.close()
