"""Lets the tests of the server import `server_parts` and what the tests of the assistant share."""

import functools
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "assistant")]

from assistant_fixtures import chat_server, registry, spots  # noqa: E402

__all__ = ["chat_server", "registry", "spots"]


@pytest.fixture(scope="session", autouse=True)
def _certificates_once() -> Iterator[None]:
    """Every `httpx.get` reads the certificates anew, which takes longer than the request; no test here speaks TLS."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", functools.cache(ssl.create_default_context))
        yield
