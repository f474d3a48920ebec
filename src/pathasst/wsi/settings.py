"""What a run over a slide is asked for."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import model_validator

from pathasst.core.settings import Field, Settings


class RunSettings(Settings):
    """Of one tool on one slide."""

    room: ClassVar[str] = "slide"

    arguments: dict[str, Any] = Field(default={}, description="the tool's own arguments")
    include: str = Field(default="", description="GeoJSON of areas: nothing outside of them is looked at")
    exclude: str = Field(default="", description="GeoJSON of areas that are left out")
    um_per_px: float = Field(default=0.0, ge=0, le=10, description="scale that tiles are read at; 0: the tool's own")
    tile: int = Field(default=0, ge=0, le=8192, description="px of a tile's side; 0: the tool's own")
    overlap: int = Field(default=-1, ge=-1, le=2048, description="px that neighbouring tiles share; -1: the tool's own")
    least_tissue: float = Field(default=0.02, ge=0, le=1, description="share of tissue from which a tile is looked at")
    tissue: bool = Field(default=True, description="look for tissue; false: every tile (a smear, a cytology slide)")
    least_sharpness: float = Field(default=0.0, ge=0, description="sharpness below which a tile counts as out of focus; 0: none")
    hotspots: int = Field(default=3, ge=0, le=20, description="how many hot spots are looked for")
    hotspot_mm2: float = Field(default=0.2, gt=0, le=10, description="area of a hot spot")
    hotspot_cells: int = Field(default=0, ge=0, le=5000, description="cells of a hot spot, such as 500; 0: its area counts")
    per_unit: int = Field(default=16, ge=1, le=4096, description="tiles after which the results are on the disk")
    workers: int = Field(default=1, ge=1, le=256, description="processes")
    runner: str = Field(default="native", description="native: this machine; ray: a cluster")
    threads: int = Field(default=2, ge=1, le=32, description="threads that read tiles ahead")

    @model_validator(mode="after")
    def _overlap_leaves_a_step(self) -> RunSettings:
        if self.tile and self.overlap >= self.tile:
            raise ValueError(f"the overlap ({self.overlap} px) must be smaller than the tile ({self.tile} px)")
        return self
