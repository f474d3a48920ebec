"""What the workers of the tests run: imported by their processes, so nothing heavy is imported here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pathasst.core.errors import MissingWeights


def small(home: Path, **serve: Any) -> Any:
    """A server without tools whose brain is named by its process."""
    from server_parts import RuleBrain, settings

    from pathasst.serve.api import create_app
    from pathasst.serve.service import Service
    from pathasst.tools.protocol import Registry

    service = Service(settings(home, **serve), brain=RuleBrain(name=f"rules@{os.getpid()}"), registry=Registry())
    return create_app(service=service, page=False, behind_front=True)


def without_weights() -> Any:
    raise MissingWeights("the weights are not here")


def broken() -> Any:
    os._exit(3)
