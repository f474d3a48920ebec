"""The assistant over HTTP: OpenAI-compatible, with tools, literature and PathCLIP. `create_app` makes it."""

from pathasst.serve.api.app import create_app

__all__ = ["create_app"]
