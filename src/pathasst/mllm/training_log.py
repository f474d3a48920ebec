"""The losses of a training run: a CSV that grows by a line a step, and a picture of both phases. Knows files and numbers."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pathasst.core.files import write_atomic


@dataclass(slots=True)
class Step:
    """One line of losses.csv."""

    phase: int
    step: int
    loss: float  # mean over the step's supervised tokens
    rate: float  # share of the top learning rate
    supervised: int  # tokens the loss counts
    tokens: int  # tokens the LLM read
    seconds: float
    val_loss: float | None = None


class Losses:
    """The losses of one phase, appended to the run's `losses.csv`."""

    def __init__(self, out: Path, phase: int) -> None:
        self.path, self.picture, self.phase = out / "losses.csv", out / "losses.png", phase
        self.steps = read(self.path) if self.path.is_file() else []
        self.silent = False  # of several processes only the first writes

    def rewind(self, step: int) -> None:
        """Forget what came after `step` of this phase: the run goes on from there."""
        self.steps = [s for s in self.steps if s.phase < self.phase or (s.phase == self.phase and s.step <= step)]
        if self.silent:
            return
        names = ",".join(f.name for f in fields(Step))
        text = "\n".join([names, *(_csv(s) for s in self.steps)]) + "\n"
        write_atomic(self.path, text.encode())

    def add(self, step: int, loss: float, rate: float, supervised: int, tokens: int, seconds: float) -> None:
        """One more step; it is on disk at once."""
        self.steps.append(Step(self.phase, step, loss, rate, supervised, tokens, seconds))
        self._append(self.steps[-1])

    def validation(self, step: int, loss: float) -> None:
        """The loss on the val split after a step; written as a second line of that step."""
        last = self.steps[-1]
        self.steps.append(Step(self.phase, step, last.loss, last.rate, 0, 0, 0.0, loss))
        self._append(self.steps[-1])

    def line(self, steps: int) -> str:
        """The state in a sentence."""
        recent = [s for s in self.steps if s.phase == self.phase and s.supervised][-25:]
        seconds = sum(s.seconds for s in recent) or 1e-9
        mean = sum(s.loss for s in recent) / len(recent)
        held = [s.val_loss for s in self.steps if s.phase == self.phase and s.val_loss is not None]
        left = (steps - recent[-1].step) * seconds / len(recent)
        return (
            f"phase {self.phase} step {recent[-1].step}/{steps}: loss {mean:.3f}"
            + (f", val {held[-1]:.3f}" if held else "")
            + f", {sum(s.supervised for s in recent) / seconds:.0f} supervised tokens/s"
            + f" ({sum(s.tokens for s in recent) / seconds:.0f} in all), about {left / 60:.0f} min left"
        )

    def draw(self) -> None:
        """Write `losses.png`: both phases, training (smoothed over 10 steps) and val."""
        if not self.silent:
            draw(self.steps, self.picture)

    def _append(self, step: Step) -> None:
        if not self.silent:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_csv(step) + "\n")


def read(path: Path) -> list[Step]:
    """The lines of a losses.csv; a line that a kill cut short is left out."""
    steps = []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            try:
                values: dict[str, Any] = {f.name: float(row[f.name]) for f in fields(Step) if f.name != "val_loss"}
                held = float(row["val_loss"]) if row["val_loss"] else None
            except (TypeError, ValueError):
                continue
            whole = {n: int(values.pop(n)) for n in ("phase", "step", "supervised", "tokens")}
            steps.append(Step(**whole, **values, val_loss=held))
    return steps


def draw(steps: list[Step], path: Path) -> None:
    """A picture of the losses of both phases."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    phases = sorted({s.phase for s in steps})
    figure = Figure(figsize=(5 * len(phases), 3.6))
    FigureCanvasAgg(figure)
    for place, phase in enumerate(phases, start=1):
        axes = figure.add_subplot(1, len(phases), place)
        made = [s for s in steps if s.phase == phase and s.supervised]
        smooth = [sum(s.loss for s in made[max(0, n - 9) : n + 1]) / len(made[max(0, n - 9) : n + 1]) for n in range(len(made))]
        axes.plot([s.step for s in made], [s.loss for s in made], color="#b9c4d0", linewidth=0.7)
        axes.plot([s.step for s in made], smooth, color="#1f4e79", label="train, mean of 10")
        held = [s for s in steps if s.phase == phase and s.val_loss is not None]
        axes.plot([s.step for s in held], [s.val_loss or 0.0 for s in held], "o-", color="#c0392b", markersize=3, label="val")
        axes.set(title=f"phase {phase}", xlabel="step", ylabel="loss a supervised token")
        axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def _csv(step: Step) -> str:
    values = asdict(step)
    return ",".join("" if v is None else f"{v:.6g}" if isinstance(v, float) else str(v) for v in values.values())
