"""Lets the tests of the server import `server_parts` and what the tests of the assistant share."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "assistant")]

from assistant_fixtures import chat_server, registry, spots  # noqa: E402

__all__ = ["chat_server", "registry", "spots"]
