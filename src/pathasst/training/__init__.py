"""One training loop for every model: schedule, checkpoints, log, exact resume, several processes. Knows no model.

from pathasst.training import Task, TrainingSettings, fit

A room writes a `Task` (its model, the batch of a step, the loss, optionally an evaluation) and settings that extend
`TrainingSettings`; `fit(task, settings, out)` does the rest.
"""

from typing import TYPE_CHECKING, Any

from pathasst.training.settings import TrainingSettings

if TYPE_CHECKING:
    from pathasst.training.loop import fit
    from pathasst.training.task import Task

__all__ = ["Task", "TrainingSettings", "fit"]


def __getattr__(name: str) -> Any:
    if name == "fit":  # torch is imported only by those who train
        from pathasst.training.loop import fit

        return fit
    if name == "Task":
        from pathasst.training.task import Task

        return Task
    raise AttributeError(name)
