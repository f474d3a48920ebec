"""Pictures by address: from listed hosts with public addresses alone; redirects and names are checked again, and pinned."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pathasst.core.errors import BadInput, Unreachable
from pathasst.serve.fetch import Fetcher, public

HOST = "pictures.example"
PRIVATE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "198.18.0.1",
    "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00::1",
    "ff02::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "64:ff9b::7f00:1", "2002:7f00:1::", "2002:a00:1::", "2001:db8::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe", "not an address", "",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses(address: str) -> None:
    assert public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/a.png", "http://localhost/a.png", "http://[::1]/a.png", "http://0/a.png", "http://2130706433/a.png",
        "http://0x7f.1/a.png", "http://017700000001/a.png", "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd",
        "ftp://pictures.example/a.png", "gopher://pictures.example/", "http://pictures.example:22/",
        "http://pictures.example:99999/",
        "http://user:secret@pictures.example/a.png", "http://pictures.example@127.0.0.1/a.png", "http://evil.example/a.png",
        "http://pictures.example.evil.example/a.png", "http://sub.pictures.example/a.png",
        "//pictures.example/a.png", "a.png", "",
        "http://", "http:///a.png", "http://[::1/a.png", "http://pictures.example\\@127.0.0.1/", "javascript:alert(1)",
        "http://ⓟictures.example/a.png", "http://pictures.example\t.evil/a", "data:text/html,x",
    ],
)  # fmt: skip
def test_addresses_that_are_never_fetched(url: str) -> None:
    looked_up: list[str] = []

    def resolve(host: str) -> list[str]:
        looked_up.append(host)
        return ["127.0.0.1"]

    with pytest.raises(BadInput):
        Fetcher([HOST], resolve=resolve).get(url)
    assert set(looked_up) <= {HOST}


@pytest.mark.parametrize("found", [["10.0.0.1"], ["8.8.8.8", "127.0.0.1"], []])
def test_a_listed_host_with_a_private_address_is_not_fetched(found: list[str]) -> None:
    with pytest.raises(BadInput, match="not public"):
        Fetcher([HOST], resolve=lambda host: found).get(f"http://{HOST}/a.png")


def test_without_a_list_nothing_is_fetched() -> None:
    with pytest.raises(BadInput, match="data URL"):
        Fetcher().get("https://pictures.example/a.png")


@pytest.fixture
def web() -> Iterator[ThreadingHTTPServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.server.asked.append((self.headers["Host"], self.path))  # type: ignore[attr-defined]
            status, headers, body = self.server.pages[self.path.split("?")[0]]  # type: ignore[attr-defined]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            for block in body:
                try:
                    self.wfile.write(block)
                except OSError:
                    return

        def log_message(self, *args: Any) -> None:
            pass

    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.pages = [], {}
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def fetcher(web: Any, resolve: Any = lambda host: ["127.0.0.1"], **more: Any) -> Fetcher:
    """One that takes the loopback server for a public one; everything else is as it is."""
    return Fetcher([HOST], resolve=resolve, public=lambda a: a == "127.0.0.1", ports=(None, web.server_port), **more)


def test_a_listed_host_is_fetched_under_its_own_name(web: Any) -> None:
    web.pages["/a.png"] = (200, {}, [b"picture"])
    assert fetcher(web).get(f"http://{HOST}:{web.server_port}/a.png?x=1#y") == b"picture"
    assert web.asked == [(f"{HOST}:{web.server_port}", "/a.png?x=1")]


@pytest.mark.parametrize(
    "to",
    [
        "http://169.254.169.254/",
        "http://localhost:{port}/b",
        "file:///etc/passwd",
        "//evil.example/b",
        "http://127.0.0.1:{port}/b",
    ],
)
def test_a_redirect_is_checked_like_an_address(web: Any, to: str) -> None:
    web.pages["/a"] = (302, {"Location": to.format(port=web.server_port)}, [])
    web.pages["/b"] = (200, {}, [b"secret"])
    with pytest.raises(BadInput):
        fetcher(web).get(f"http://{HOST}:{web.server_port}/a")
    assert [path for _, path in web.asked] == ["/a"]


def test_a_name_that_changes_its_address_is_caught_at_the_redirect(web: Any) -> None:
    web.pages["/a"] = (302, {"Location": "/b"}, [])
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    with pytest.raises(BadInput, match="not public"):
        fetcher(web, lambda host: next(answers)).get(f"http://{HOST}:{web.server_port}/a")


def test_a_name_is_looked_up_once_per_address(web: Any) -> None:
    """The connection goes to the address that was checked: there is no second look-up that could answer otherwise."""
    web.pages["/a"] = (200, {}, [b"x"])
    looked_up: list[str] = []

    def resolve(host: str) -> list[str]:
        looked_up.append(host)
        return ["127.0.0.1"]

    fetcher(web, resolve).get(f"http://{HOST}:{web.server_port}/a")
    assert looked_up == [HOST]


def test_redirects_end(web: Any) -> None:
    web.pages["/a"] = (302, {"Location": "/a"}, [])
    with pytest.raises(BadInput, match="more than 3"):
        fetcher(web).get(f"http://{HOST}:{web.server_port}/a")
    assert len(web.asked) == 4


def test_too_large_too_slow_and_errors(web: Any) -> None:
    def slowly() -> Iterator[bytes]:
        for _ in range(50):
            time.sleep(0.05)
            yield b"x" * 70_000

    web.pages["/large"] = (200, {}, (b"x" * 100_000 for _ in range(100)))
    web.pages["/slow"] = (200, {}, slowly())
    web.pages["/gone"] = (404, {}, [])
    at = f"http://{HOST}:{web.server_port}"
    with pytest.raises(BadInput, match="more than"):
        fetcher(web, max_bytes=2**20).get(f"{at}/large")
    with pytest.raises(Unreachable):
        fetcher(web, seconds=0.3).get(f"{at}/slow")
    with pytest.raises(Unreachable, match="HTTPStatusError"):
        fetcher(web).get(f"{at}/gone")
