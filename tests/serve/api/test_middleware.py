"""What every request passes: host, origin, key, rate and size, on a real server; and what the server writes down."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from assistant_parts import HITS, CountDark, Shelf
from server_parts import Running, data_url, running

from pathasst.imaging.pictures import encode_png
from pathasst.serve.api.middleware import Rate
from pathasst.serve.keys import KeyStore
from pathasst.tools.protocol import Registry

QUESTION = {"messages": [{"role": "user", "content": "Count the spots of patient Mueller."}]}


def registry() -> Registry:
    made = Registry()
    for tool in (CountDark(), Shelf(HITS)):
        made.add(tool)
    return made


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """As on loopback: no keys."""
    with running(tmp_path_factory.mktemp("open"), registry(), body_bytes=100_000) as server:
        yield server


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("closed")


@pytest.fixture(scope="module")
def keys(home: Path) -> dict[str, str]:
    store = KeyStore(home / "keys.json")
    return {name: store.add(name)[1] for name in ("anna", "bert", "gone")}


@pytest.fixture(scope="module")
def closed_server(home: Path, keys: dict[str, str]) -> Iterator[Running]:
    """As beyond loopback: every request needs a key."""
    with running(home, registry(), keys_required=True) as server:
        yield server


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


# keys


def test_every_path_needs_a_key(closed_server: Running) -> None:
    schema = closed_server.service  # the paths come from the application itself, so that a new one cannot be forgotten
    assert schema is not None
    paths = [
        ("GET", "/v1/models"), ("GET", "/v1/models/pathasst"), ("POST", "/v1/chat/completions"), ("POST", "/v1/embeddings"),
        ("GET", "/v1/tools"), ("POST", "/v1/tools/count_dark/run"), ("POST", "/v1/papers/search"), ("POST", "/v1/files"),
        ("GET", "/v1/files"), ("GET", "/v1/files/file-" + "0" * 32), ("DELETE", "/v1/files/file-" + "0" * 32),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"), ("GET", "/docs"), ("GET", "/docs-files/swagger-ui.css"), ("GET", "/"), ("GET", "/nonesuch"),
        ("POST", "/logout"), ("GET", "//v1/models"), ("GET", "/health/../v1/models"), ("GET", "/login/../v1/models"),
        ("GET", "/V1/models"), ("GET", "/v1/models/"), ("GET", "/health%2f..%2fv1/models"),
    ]  # fmt: skip
    for method, path in paths:
        answer = httpx.request(method, closed_server.url + path)
        assert answer.status_code == 401, (method, path)
        assert answer.json()["error"]["type"] == "authentication_error"
        assert answer.headers["www-authenticate"] == "Bearer"


def test_the_list_of_paths_is_whole(closed_server: Running, keys: dict[str, str]) -> None:
    """Every path of the schema but the health checks is refused without a key."""
    schema = httpx.get(f"{closed_server.url}/openapi.json", headers=bearer(keys["anna"])).json()
    for path, methods in schema["paths"].items():
        for method in methods:
            answer = httpx.request(method, closed_server.url + path.replace("{name}", "x").replace("{id}", "file-" + "0" * 32))
            assert answer.status_code == (200 if path in ("/health", "/ready") else 401), (method, path)


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer x", "Bearer pa-00000000-" + "A" * 43, "Basic cGE6cGE=", "Bearer null", "bearer undefined", "pa-1"],
)
def test_wrong_keys(closed_server: Running, header: str) -> None:
    assert httpx.get(f"{closed_server.v1}/models", headers={"Authorization": header} if header else {}).status_code == 401


def test_a_right_key_and_its_end(closed_server: Running, keys: dict[str, str], home: Path) -> None:
    assert httpx.get(f"{closed_server.v1}/models", headers=bearer(keys["gone"])).status_code == 200
    KeyStore(home / "keys.json").revoke(keys["gone"].split("-")[1])
    assert httpx.get(f"{closed_server.v1}/models", headers=bearer(keys["gone"])).status_code == 401


def test_two_users_do_not_see_each_other(closed_server: Running, keys: dict[str, str], spots: np.ndarray) -> None:
    with httpx.Client(base_url=closed_server.url) as web:
        stored = web.post("/v1/files", files={"file": ("a.png", encode_png(spots))}, headers=bearer(keys["anna"])).json()
        for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
            assert web.request(method, f"/v1/files/{stored['id']}{path}", headers=bearer(keys["bert"])).status_code == 404
        assert web.get("/v1/files", headers=bearer(keys["bert"])).json()["data"] == []
        body = {"image": stored["id"]}
        assert web.post("/v1/tools/count_dark/run", json=body, headers=bearer(keys["bert"])).status_code == 400
        assert web.post("/v1/tools/count_dark/run", json=body, headers=bearer(keys["anna"])).json()["numbers"] == {"count": 5}


def test_a_conversation_is_remembered_for_its_user_alone(closed_server: Running, keys: dict[str, str]) -> None:
    """The same words from another user do not bring the first one's sources."""
    first = {"messages": [{"role": "user", "content": "Find papers."}], "pathasst": {"footer": False}}
    with httpx.Client(base_url=closed_server.url) as web:
        text = web.post("/v1/chat/completions", json=first, headers=bearer(keys["anna"])).json()["choices"][0]["message"][
            "content"
        ]
        again = {
            "messages": [
                *first["messages"],
                {"role": "assistant", "content": text},
                {"role": "user", "content": "See [PMID 11111111]?"},
            ],
            "pathasst": {"footer": False, "tools": []},
        }
        said = {
            name: web.post("/v1/chat/completions", json=again, headers=bearer(keys[name])).json()["choices"][0]["message"][
                "content"
            ]
            for name in ("anna", "bert")
        }
    assert "~~" not in said["anna"]
    assert "~~[PMID 11111111]~~" in said["bert"]


# the page's login


def test_a_browser_logs_in(closed_server: Running, keys: dict[str, str]) -> None:
    with httpx.Client(base_url=closed_server.url) as web:
        led = web.get("/docs", headers={"Accept": "text/html"})
        assert (led.status_code, led.headers["location"]) == (303, "/login")
        assert web.post("/login", data={"key": "pa-00000000-" + "A" * 43}).status_code == 401
        assert not web.cookies
        given = web.post("/login", data={"key": keys["anna"]})
        assert given.status_code == 303
        cookie = given.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert keys["anna"].split("-", 2)[2] not in given.headers["set-cookie"]
        assert web.get("/docs").status_code == 200
        assert web.get("/openapi.json").status_code == 200
        assert web.get("/v1/models").status_code == 401  # the API takes keys alone
        web.post("/logout")
        assert web.get("/docs").status_code == 401


# host and origin


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil.example:80", "169.254.169.254"])
def test_other_names_are_refused(open_server: Running, host: str) -> None:
    """A page that points its own name at 127.0.0.1 (DNS rebinding) reaches nothing."""
    assert httpx.get(f"{open_server.v1}/models", headers={"Host": host}).status_code == 421
    assert httpx.get(f"{open_server.url}/ready", headers={"Host": host}).json() == {"status": "ready"}


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1", "[::1]:80", "[::1]"])
def test_own_names_are_answered(open_server: Running, host: str) -> None:
    assert httpx.get(f"{open_server.v1}/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "file://"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_pages_of_other_origins_are_refused(open_server: Running, headers: dict[str, str]) -> None:
    for content_type in ("application/json", "text/plain"):
        answer = httpx.post(
            f"{open_server.v1}/chat/completions", content=json.dumps(QUESTION), headers={**headers, "Content-Type": content_type}
        )
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


def test_the_own_page_is_answered(open_server: Running) -> None:
    headers = {"Origin": open_server.url, "Sec-Fetch-Site": "same-origin"}
    assert httpx.post(f"{open_server.v1}/chat/completions", json=QUESTION, headers=headers).status_code == 200


def test_cors_is_off_unless_asked_for(open_server: Running, tmp_path: Path) -> None:
    asked = {
        "Origin": "https://lab.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    assert httpx.options(f"{open_server.v1}/chat/completions", headers=asked).status_code == 403
    with running(tmp_path, registry(), origins=("https://lab.example",)) as server:
        preflight = httpx.options(f"{server.v1}/chat/completions", headers=asked)
        assert preflight.headers["access-control-allow-origin"] == "https://lab.example"
        answer = httpx.post(f"{server.v1}/chat/completions", json=QUESTION, headers={"Origin": "https://lab.example"})
        assert answer.headers["access-control-allow-origin"] == "https://lab.example"
        assert (
            httpx.post(f"{server.v1}/chat/completions", json=QUESTION, headers={"Origin": "https://b.example"}).status_code == 403
        )


# sizes, rates, headers


def test_bodies_are_limited_as_declared_and_as_sent(open_server: Running) -> None:
    at = f"{open_server.v1}/chat/completions"
    assert httpx.post(at, content=b"x" * 100_001, headers={"Content-Type": "application/json"}).status_code == 413
    sent = httpx.post(at, content=(b"x" * 10_000 for _ in range(20)), headers={"Content-Type": "application/json"})
    assert sent.status_code == 413
    assert sent.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("length", ["-1", "1e9", "99999999999999999999", "abc"])
def test_lengths_that_lie(open_server: Running, length: str) -> None:
    """Sent by hand: no client library would."""
    parts = urlsplit(open_server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=5) as raw:
        raw.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{{}}".encode())
        assert raw.recv(100).split()[1] in (b"400", b"413")


def test_deep_json_is_an_error_and_no_crash(open_server: Running) -> None:
    answer = httpx.post(f"{open_server.v1}/chat/completions", content=b"[" * 90_000, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 500)
    assert httpx.get(f"{open_server.url}/health").status_code == 200


def test_rates_are_limited_by_user(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys.json")
    anna, bert = store.add("anna")[1], store.add("bert")[1]
    with running(tmp_path, registry(), keys_required=True, per_minute=5) as server:
        statuses = [httpx.get(f"{server.v1}/models", headers=bearer(anna)).status_code for _ in range(7)]
        assert statuses == [200] * 5 + [429] * 2
        refused = httpx.get(f"{server.v1}/models", headers=bearer(anna))
        assert int(refused.headers["retry-after"]) >= 1
        assert httpx.get(f"{server.v1}/models", headers=bearer(bert)).status_code == 200
        assert [httpx.post(f"{server.url}/login", data={"key": "x"}).status_code for _ in range(7)] == [401] * 5 + [429] * 2


def test_a_rate_forgets_old_names() -> None:
    rate = Rate(10, most_names=3)
    for n in range(100):
        rate.take(f"user {n}")
    assert len(rate._left) == 3


@pytest.mark.parametrize("path", ["/v1/models", "/health", "/docs", "/nonesuch", "/v1/files/x"])
def test_headers_of_every_answer(open_server: Running, path: str) -> None:
    headers = httpx.get(open_server.url + path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"
    if path.startswith("/v1"):
        assert headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    "path",
    ["/docs-files/../app.py", "/docs-files/..%2f..%2f..%2fapp.py", "/docs-files/%2e%2e/%2e%2e/app.py", "/v1/files/..%2fkeys.json",
     "/v1/files/..%2f..%2fkeys.json/content", "/v1/files/%00", "/..%2f..%2fetc/passwd", "/v1/models/..%2f..%2fkeys.json"],
)  # fmt: skip
def test_paths_do_not_climb(open_server: Running, path: str) -> None:
    answer = httpx.get(open_server.url + path)
    assert answer.status_code in (400, 404)
    assert "sha256" not in answer.text
    assert "import" not in answer.text


def test_unforeseen_errors_tell_nothing(tmp_path: Path) -> None:
    class Failing:
        name, sees = "failing@1", True

        def reply(self, *_: object) -> None:
            raise ZeroDivisionError("secret/path")

    with running(tmp_path, registry(), Failing()) as server:
        answer = httpx.post(f"{server.v1}/chat/completions", json=QUESTION)
        assert answer.status_code == 500
        assert "secret" not in answer.text


# what is written down


@pytest.mark.parametrize("with_text", [False, True])
def test_the_audit_log(tmp_path: Path, spots: np.ndarray, with_text: bool) -> None:
    body = {"messages": [{"role": "user", "content": [
        {"type": "text", "text": "Count the spots of patient Mueller."},
        {"type": "image_url", "image_url": {"url": data_url(encode_png(spots))}},
    ]}]}  # fmt: skip
    with running(tmp_path, registry(), audit_text=with_text) as server:
        assert httpx.post(f"{server.v1}/chat/completions", json=body).status_code == 200
        httpx.post(f"{server.v1}/papers/search", json={"query": "patient Mueller"})
    file = tmp_path / "audit.jsonl"
    assert file.stat().st_mode & 0o077 == 0
    text = file.read_text()
    entries = [json.loads(line) for line in text.splitlines()]
    assert entries[0]["event"] == "question"
    assert entries[0]["user"] == "local"
    assert entries[0]["pictures"] == 1
    assert entries[0]["ran"][0]["tool"] == "count_dark"
    assert ("Mueller" in text) is with_text
    assert "iVBOR" not in text
