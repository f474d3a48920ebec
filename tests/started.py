"""What a process of the tests' fork server runs: one `pathasst` command, as a shell starts it."""

from __future__ import annotations

import os
import signal
import sys


def run(command: list[str], said: str, environment: dict[str, str]) -> None:
    """The command in a group of processes of its own; what it writes to stderr goes to the file `said`."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for path, stream in ((os.devnull, 1), (said, 2)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, stream)
    sys.argv = ["pathasst", *command]
    from pathasst.cli.main import main

    main()
