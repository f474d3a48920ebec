"""Lets the tests of the page import `page_parts` and what the tests of the room and of `papers` share."""

import sys
from pathlib import Path

for folder in (Path(__file__).parent, Path(__file__).parents[1], Path(__file__).parents[2] / "papers"):
    sys.path.insert(0, str(folder))
