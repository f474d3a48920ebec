"""The generator tool: synthetic pictures of cervical cells from a class and features (paper, model zoo 4)."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from pathasst import weights
from pathasst.errors import PathAsstError
from pathasst.records import Picture, ToolResult
from pathasst.tools.protocol import NOTICE, Arguments, Tool, ToolCard

if TYPE_CHECKING:
    import numpy as np

    from pathasst.tools.generate.network import Generator
    from pathasst.tools.generate.stable import StableGenerator

WEIGHTS = "lbc-generator-embedded"
SHOWN = 256  # px: smaller pictures are enlarged to this
MARK = "SYNTHETIC"


class LbcGenerateArguments(Arguments):
    """The cell that is asked for."""

    cell_class: Literal["NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC"] = Field(description="Bethesda class of the cell.")
    nuclear_enlargement: float | None = Field(
        default=None, ge=1.0, le=6.0, description="Size of the nucleus against a normal intermediate cell's: 2.5 = 2.5 times."
    )
    irregular_nucleus: bool = Field(default=False, description="Irregular nuclear outline.")
    hyperchromasia: bool = Field(default=False, description="Dark nucleus.")
    koilocytic_cytoplasm: bool = Field(default=False, description="Clear halo around the nucleus.")
    count: int = Field(default=1, ge=1, le=8, description="How many pictures.")
    seed: int = Field(default=0, ge=0, description="The same seed gives the same pictures.")


class LbcGenerate(Tool[LbcGenerateArguments]):
    """Synthetic pictures of cervical cells from a description.

    `model`: id of the weights, or a folder: one's own (`pathasst train generator`), or any Stable Diffusion of diffusers.
    """

    name = "lbc_generate"
    card = ToolCard(
        purpose=(
            "Generates synthetic pictures of a cervical cell of an asked Bethesda class and features, for teaching. "
            "Use it only when the person asks to create or draw a cell; the pictures are not of any patient."
        ),
        expects="no picture; a class and features",
        classes=("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC"),
        scores=(
            "our classifier says the asked class of 0.56 of the drawn cells (mean of classes; of held-out real ones 0.33); "
            "Fréchet distance to 340 held-out cells 100, of real training cells 39, of noise 486"
        ),
        licence="CC BY 4.0 (trained on CRIC, as reported)",
        limits=(
            "pictures are synthetic and marked so; 64 px of one cell, learnt on conventional smears (CRIC); ASC-H and SCC were "
            "learnt on 13 and 6 cells"
        ),
    )
    arguments = LbcGenerateArguments
    needs_image = False
    weights = (WEIGHTS, "minilm")

    def __init__(self, model: str = WEIGHTS) -> None:
        self.model = model

    def version(self) -> str:
        """The weights that answer, the user's own included."""
        return weights.version(self.model)

    def run(self, arguments: LbcGenerateArguments, image: np.ndarray) -> ToolResult:
        """See the card; `image` is not looked at."""
        sentence, n = sentence_of(arguments), arguments.count
        drawn = generator(self.model).draw([sentence] * n, arguments.seed)
        notes = {"Description": sentence, "Seed": str(arguments.seed), "Software": f"pathasst, {self.version()}"}
        pictures = [Picture(name=f"synthetic {k + 1}", image=as_png(cell, notes), synthetic=True) for k, cell in enumerate(drawn)]
        numbers: dict[str, Any] = {"count": n, "synthetic": True, "class": arguments.cell_class, "prompt": sentence}
        numbers["recognised"] = recognised(drawn, arguments.cell_class)
        return ToolResult(name=self.name, text=_text(arguments, numbers), numbers=numbers, pictures=pictures)


def sentence_of(arguments: LbcGenerateArguments) -> str:
    """What the generator is asked for, in the words it was taught; what is not asked for is not said."""
    from pathasst.tools.generate.describe import Attributes, words

    return words(
        Attributes(
            arguments.cell_class,
            arguments.nuclear_enlargement,
            dark=arguments.hyperchromasia or None,
            irregular=arguments.irregular_nucleus or None,
            halo=arguments.koilocytic_cytoplasm or None,
        )
    )


def recognised(drawn: np.ndarray, cell_class: str) -> int | None:
    """How many of the pictures our own classifier takes for the asked class; None where its weights are not here."""
    from pathasst.tools.lbc_classify import BETHESDA, LbcClassify

    try:
        found = LbcClassify().probabilities(list(drawn), BETHESDA)
    except PathAsstError:
        return None
    return int((found.argmax(1) == BETHESDA.index(cell_class)).sum())


def as_png(cell: np.ndarray, notes: dict[str, str]) -> bytes:
    """H×H×3 uint8 RGB of at least SHOWN px, with the word SYNTHETIC in its corner and in the file's metadata, as PNG."""
    from PIL import Image, ImageDraw, ImageFont
    from PIL.PngImagePlugin import PngInfo

    side = max(len(cell), SHOWN)
    picture = Image.fromarray(cell).resize((side, side), Image.Resampling.BICUBIC)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(11)
    left, top, right, bottom = pen.textbbox((4, side - 17), MARK, font=font)
    pen.rectangle((left - 3, top - 2, right + 3, bottom + 2), fill="white")
    pen.text((4, side - 17), MARK, fill="black", font=font)
    told = PngInfo()
    for key, value in {"Synthetic": "true: generated by a model, not photographed", **notes}.items():
        told.add_itxt(key, value)
    sink = io.BytesIO()
    picture.save(sink, "PNG", pnginfo=told)
    return sink.getvalue()


@lru_cache(maxsize=2)
def generator(model: str) -> Generator | StableGenerator:
    """A generator by id or folder, kept for all calls. Raises MissingWeights, BadInput."""
    from pathasst.tools.generate.network import Generator
    from pathasst.tools.generate.stable import StableGenerator, is_stable

    if is_stable(Path(model)):
        return StableGenerator(Path(model))
    return Generator.load(model)


def _text(arguments: LbcGenerateArguments, numbers: dict[str, Any]) -> str:
    n = numbers["count"]
    asked: list[str] = [arguments.cell_class]
    if arguments.nuclear_enlargement:
        asked.append(f"nucleus enlarged {arguments.nuclear_enlargement:g} times")
    said = {
        "irregular_nucleus": "irregular nucleus",
        "hyperchromasia": "hyperchromasia",
        "koilocytic_cytoplasm": "koilocytic cytoplasm",
    }
    asked += [text for name, text in said.items() if getattr(arguments, name)]
    parts = [
        f"Generated {n} synthetic picture{'s' * (n > 1)}: {', '.join(asked)}. Made by a model, not photographed, of no patient."
    ]
    if numbers["recognised"] is not None:
        parts.append(f"Our classifier of cells takes {numbers['recognised']} of {n} for {arguments.cell_class}.")
    return " ".join([*parts, NOTICE])
