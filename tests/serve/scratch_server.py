"""A server with its page in a process of its own, for tests that kill it: prints its port and runs until it is told to stop."""

import socket
import sys
from pathlib import Path

import uvicorn

sys.path.insert(0, str(Path(__file__).parent))
from server_parts import RuleBrain, settings

from pathasst.serve.api import create_app
from pathasst.serve.service import Service
from pathasst.tools.protocol import Registry

if __name__ == "__main__":
    service = Service(settings(Path(sys.argv[1]), drain_seconds=1.0), brain=RuleBrain(), registry=Registry())
    app = create_app(service=service)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()  # who connects before the server is up waits
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)).run(sockets=[listening])
