"""What every room's tests share: the real data folder, a picture made on the spot."""

from __future__ import annotations

import io
import itertools
import multiprocessing
import os
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))

import started

# A busy machine is no failure: no test of ours is timed. And a suite that fails by chance blames whoever came last:
# every run tries the same examples; `pytest --hypothesis-profile random` looks further.
settings.register_profile("random", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("random"), derandomize=True)
settings.load_profile("same")
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores: threads that wait for each other would spin
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("PATHASST_GUARD", "off")  # drawn blobs are no slides; tests of the guard turn it on


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real samples ($PATHASST_DATA); a test that asks for it skips without."""
    folder = os.environ.get("PATHASST_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("PATHASST_DATA is not set to a folder of real samples")
    return Path(folder)


@pytest.fixture(scope="session")
def png() -> bytes:
    """A small valid PNG (8×8 RGB noise)."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


class Started:
    """A `pathasst` command in a process of its own, with its own group; `stderr` is what it has said when it has ended."""

    def __init__(self, command: Sequence[str], folder: Path, number: int) -> None:
        self._said = folder / f"{number}.txt"
        processes = multiprocessing.get_context("forkserver")  # has the libraries once, and gives each process a copy
        processes.set_forkserver_preload(
            ["pathasst.cli.main", "torch", "open_clip", "daft", "onnxruntime", "cv2", "transformers"]
        )
        self._process = processes.Process(target=started.run, args=(list(command), str(self._said), dict(os.environ)))
        self._process.start()
        self.pid = self._process.pid or 0

    def runs(self) -> bool:
        return self._process.exitcode is None

    def ended(self, seconds: float = 120) -> tuple[int | None, str]:
        """Its exit status, −9 after a kill, and what it wrote to stderr."""
        self._process.join(seconds)
        return self._process.exitcode, self._said.read_text(encoding="utf-8")


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sequence[str]], Started]:
    """Starts a `pathasst` command as `Started`."""
    folder = tmp_path_factory.mktemp("started")
    numbers = itertools.count()
    return lambda command: Started(command, folder, next(numbers))


@pytest.fixture(scope="session")
def forked() -> Callable[..., list[int]]:
    """Runs a function in forked processes and returns how each ended: 0, 1 after an error (its traceback is printed), −9 killed.

    They import nothing again, which costs seconds for each process that is started anew. `processes` of them find each other as
    `torchrun` arranges it; torch must run with one thread.
    """

    def run(work: Callable[[], object], processes: int = 1) -> list[int]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        about = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        children = []
        for rank in range(processes):
            child = os.fork()
            if child:
                children.append(child)
                continue
            status = 1
            try:
                if processes > 1:
                    os.environ |= {k: str(v) for k, v in {**about, "RANK": rank, "LOCAL_RANK": rank}.items()}
                work()
                status = 0
            except BaseException:  # noqa: BLE001 - nothing of a child may reach the tests of its parent
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

    return run
