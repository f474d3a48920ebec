"""blood_cells on BCCD's public validation split, which no training and no choice has seen: average precision by class.

    PATHASST_DATA=… python benchmarks/tools_blood.py [--model FOLDER]

The same as `pathasst tools evaluate blood_cells $PATHASST_DATA/bccd/boxes.csv --split val`, but always in float32, and kept.
"""

from __future__ import annotations

import os
from pathlib import Path

from measured import command_line, save

from pathasst.tools.blood_cells import BloodCells
from pathasst.tools.measure import measure


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__)
    parser.add_argument("--model", help="a folder of other weights")
    given = parser.parse_args()
    tool = BloodCells(given.model) if given.model else BloodCells()
    tool.detector.reader.bf16 = False  # type: ignore[attr-defined] # float32: the same table on every machine
    found = measure(tool, Path(os.environ["PATHASST_DATA"]) / "bccd" / "boxes.csv", "val")
    print(f"{found.title}\n\n{found.table}")
    save(given.json, found.values)


if __name__ == "__main__":
    main()
