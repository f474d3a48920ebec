"""Lets the tests of this room import `assistant_parts`, also in worker processes; its fixtures."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from assistant_fixtures import chat_server, registry, spots

__all__ = ["chat_server", "registry", "spots"]
