from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def spots_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("openslide", reason="the extra slides is not installed")
    from spots import slide_file

    return slide_file(tmp_path_factory.mktemp("spots"))
