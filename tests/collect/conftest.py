"""Lets the tests of this room import `collect_samples`, also in worker processes."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
