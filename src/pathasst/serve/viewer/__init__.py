"""Slides in the browser: tiles made on the fly, layers of what tools found, questions about a region. Knows slides and runs."""

from pathasst.serve.viewer.routes import add_viewer
from pathasst.serve.viewer.shelf import Shelf

__all__ = ["Shelf", "add_viewer"]
