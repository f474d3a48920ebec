"""The training loop: `fit(task, settings, out)`. Knows no model and no data; several processes are Accelerate's business.

In the run's folder: `log.jsonl`, `log.csv`, `curves.png`, and `checkpoints/` while it trains. An interrupted training resumes
from its newest checkpoint when it is called again with the same settings, and on a CPU it ends with the same bits. One process,
several (`accelerate launch`, `torchrun`) and accumulated parts train the same model, up to the order of sums.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pathasst.core.errors import BadSettings, MissingPackage
from pathasst.core.hardware import device_of, uses_bfloat16
from pathasst.training import checkpoint
from pathasst.training import log as logs
from pathasst.training.ema import Ema, copy_into, learned
from pathasst.training.optimizers import as_chosen
from pathasst.training.schedule import rate
from pathasst.training.settings import TrainingSettings
from pathasst.training.task import Task

Log = Callable[[dict[str, Any]], None]
LOG_EVERY = 10
"""Steps whose losses are averaged in one line of the log."""
PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",), "mlflow": ("mlflow",)}


@dataclass(frozen=True, slots=True)
class Trained:
    """How a training ended. The task's model holds the best weights, or the last where nothing chose."""

    step: int
    seconds: float
    finished: bool  # False: `stop_at` ended it, and the same call without it goes on
    scores: dict[str, float]  # of the weights that are kept, on the split val; empty: not evaluated
    out: Path
    keep: int

    def remove_checkpoints(self) -> None:
        """Remove the checkpoints of a finished training but the newest `keep`; call it once the model is written."""
        if self.finished:
            checkpoint.prune(self.out, self.keep)


def fit(task: Task, settings: TrainingSettings, out: Path | str, *, log: Log | None = None, stop_at: int = 0) -> Trained:
    """Train `task.model`, or go on from the newest checkpoint in `out`; afterwards the model holds the weights to keep.

    The last checkpoint stays until `remove_checkpoints` is called on what is returned: a kill before the model is written loses
    nothing. `log` gets each line of the log, on the first process. `stop_at` ends the training after that step with a checkpoint.
    Raises BadSettings when `out` holds an interrupted training with other settings or data, when the processes cannot share the
    batch, or when the loss is no number; MissingPackage for a tracker that is not installed.
    """
    return _Training(task, settings, Path(out), log).run(stop_at)


class _Training:
    """Model, optimiser, average and counters of one training."""

    def __init__(self, task: Task, settings: TrainingSettings, out: Path, log: Log | None) -> None:
        from accelerate.utils import DistributedType

        self.task, self.settings, self.out, self.report = task, settings, out, log
        self.accelerator = _accelerator(task, settings, out)
        world = self.accelerator.num_processes
        if settings.batch % (settings.accumulate * world):
            raise BadSettings(
                f"batch: {settings.batch} examples cannot be shared by {world} processes in {settings.accumulate} parts each."
            )
        self.main, self.device = self.accelerator.is_main_process, self.accelerator.device
        if self.main:
            out.mkdir(parents=True, exist_ok=True)
        self.writer = checkpoint.Writer(main=self.main, wait=self.accelerator.wait_for_everyone, background=settings.async_save)
        sharded = self.accelerator.distributed_type == DistributedType.FSDP
        optimizer = as_chosen(task.optimizer(settings), settings.optimizer, self.device, sharded=sharded)
        if settings.compile:
            task.model.compile()  # in place: names of weights stay
        self.highest = [group["lr"] for group in optimizer.param_groups]
        self.wrapped, self.optimizer = self.accelerator.prepare(task.model, optimizer)
        self.model: nn.Module = self.accelerator.unwrap_model(self.wrapped)
        self.ema = Ema(self.model, settings.ema)
        self.step, self.seconds = 0, 0.0
        self.sums: dict[str, torch.Tensor] = {}  # of the losses since the last line of the log
        self.best_scores: dict[str, float] = {}
        self.scores: dict[str, float] = {}
        self.evaluated = -1
        self._resume()

    def run(self, stop_at: int) -> Trained:
        """Train to the end, or to `stop_at`."""
        settings, started = self.settings, time.monotonic() - self.seconds
        last = min(settings.steps, stop_at or settings.steps)
        batches = iter(self._batches(last))
        with self._progress_bar() as advance:
            while self.step < last:
                self.seconds = self._agreed(time.monotonic() - started)
                if (progress := self._progress()) >= 1:
                    last = self.step
                    break
                self._train_step(batches, progress)
                self.step += 1
                advance(self.step)
                if self.step % LOG_EVERY == 0:
                    self._log_losses()
                if settings.evaluate_every and self.step % settings.evaluate_every == 0:
                    self._evaluate()
                if self.step % settings.save_every == 0:
                    self._save()
        finished = not stop_at or last < stop_at or last == settings.steps
        if finished:
            self._log_losses()
            if self.evaluated < self.step:
                self._evaluate()
        self._save()
        return self._finish(finished)

    def _progress(self) -> float:
        """Share of the training that is done: of the steps or of the minutes, whichever is further."""
        timed = self.seconds / (60 * self.settings.minutes) if self.settings.minutes else 0.0
        return max(self.step / self.settings.steps, timed)

    def _agreed(self, seconds: float) -> float:
        """The first process's clock, where the time decides anything."""
        if not self.settings.minutes or self.accelerator.num_processes == 1:
            return seconds
        from accelerate.utils import broadcast_object_list

        return float(broadcast_object_list([seconds])[0])

    def _batches(self, last: int) -> Any:
        """This process's parts of all steps that are left, prepared ahead by `workers` processes."""
        settings, process = self.settings, self.accelerator.process_index
        parts = _Parts(self.task, settings, process, self.accelerator.num_processes)
        return torch.utils.data.DataLoader(
            parts,
            batch_size=None,
            sampler=range(self.step * settings.accumulate, last * settings.accumulate),
            num_workers=settings.workers if self.step < last else 0,
            prefetch_factor=2 if settings.workers and self.step < last else None,
            multiprocessing_context="fork" if settings.workers and self.step < last else None,
            pin_memory=self.device.type == "cuda",
        )

    def _train_step(self, batches: Iterator[Any], progress: float) -> None:
        from accelerate.utils import send_to_device

        settings = self.settings
        torch.manual_seed(settings.seed * 1_000_003 + self.step + 7_919 * self.accelerator.process_index)
        factor = rate(max(progress, 1 / max(settings.steps, 1)), settings.warmup, settings.hold)
        for group, highest in zip(self.optimizer.param_groups, self.highest, strict=True):
            group["lr"] = highest * factor
        self.task.train_mode(self.wrapped)
        self.optimizer.zero_grad(set_to_none=True)
        for part in range(settings.accumulate):
            batch = send_to_device(next(batches), self.device, non_blocking=True)
            more = part + 1 < settings.accumulate
            with self.accelerator.no_sync(self.wrapped) if more else nullcontext():
                losses = self.task.loss(self.wrapped, batch)
                self.accelerator.backward(losses["loss"] / settings.accumulate)
            for name, value in losses.items():
                total = self.sums.setdefault(name, torch.zeros((), dtype=torch.float64))
                self.sums[name] = total.to(value.device) + value.detach().double() / settings.accumulate
        if settings.clip_norm:
            self.accelerator.clip_grad_norm_([p for p in self.model.parameters() if p.requires_grad], settings.clip_norm)
        self.optimizer.step()
        self.ema.update(self.model, self.step)

    def _log_losses(self) -> None:
        """One line of the log: the mean losses since the last one, of all processes."""
        if not self.sums:
            return
        count = self.step % LOG_EVERY or LOG_EVERY
        names = list(self.sums)
        mean = torch.stack([self.sums[n].float() for n in names]) / count
        means = dict(zip(names, self.accelerator.reduce(mean, "mean").tolist(), strict=True))
        self.sums = {}
        if not math.isfinite(means["loss"]):
            raise BadSettings(f"the loss is no number after step {self.step}: lower lr, or set precision: fp32.")
        rounded = {name: float(f"{value:.5g}") for name, value in means.items()}
        self._line(rounded | {"lr": float(f"{self.optimizer.param_groups[-1]['lr']:.4g}")})

    def _line(self, values: dict[str, Any]) -> None:
        if self.main:
            line = {"step": self.step, "seconds": round(self.seconds, 1), **values}
            logs.append(self.out, line)
            if self.report:
                self.report(line)
        self.accelerator.log(values, step=self.step)

    def _evaluate(self) -> None:
        """Score the averaged weights; keep them if they are the best so far."""
        from accelerate.utils import broadcast_object_list

        self.evaluated = self.step
        self.model.eval()
        with self.ema.applied(self.model), torch.no_grad():
            scores = broadcast_object_list([self.task.evaluate(self.model)])[0]
            self._reshard()
            if not scores:
                return
            best = self.task.best
            if best and scores[best] >= self.best_scores.get(best, -math.inf):  # of equals the later: it is trained longer
                self.best_scores = scores
                self.writer.write(self.out / checkpoint.FOLDER / "best", {"model": learned(self.model)})
        self.scores = scores
        self._line({name: float(f"{value:.5g}") for name, value in scores.items()})

    def _reshard(self) -> None:
        """After a forward pass without a backward one FSDP leaves its outermost weights whole; they are shards again."""
        reshard: Any = getattr(self.model, "reshard", None)
        if reshard is not None:
            reshard()

    def _state(self) -> dict[str, Any]:
        from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

        return {
            "model": learned(self.model),
            "average": self.ema.average,
            "optimizer": get_optimizer_state_dict(self.model, self.optimizer.optimizer),
            "about": json.dumps(
                {
                    "step": self.step,
                    "sums": {name: float(value) for name, value in self.sums.items()},
                    "seconds": self.seconds,
                    "best": self.best_scores,
                    "scores": self.scores,
                    "evaluated": self.evaluated,
                    **self._identity(),
                }
            ),
        }

    def _identity(self) -> dict[str, Any]:
        """What an interrupted training must agree in to go on."""
        fixed = {name: value for name, value in self.settings.plain().items() if name not in self.settings.free}
        return {"settings": fixed, "data": self.task.data}

    def _save(self) -> None:
        if self.sums and self.accelerator.num_processes > 1:  # of all processes, since the checkpoint is theirs together
            mean = self.accelerator.reduce(torch.stack([self.sums[n] for n in self.sums]), "mean")
            self.sums = dict(zip(self.sums, mean, strict=True))
        keep = max(self.settings.keep, 1)
        self.writer.write(checkpoint.path_of(self.out, self.step), self._state(), then=lambda: checkpoint.prune(self.out, keep))

    def _resume(self) -> None:
        """Go on from the newest checkpoint, if there is one."""
        from torch.distributed.checkpoint.state_dict import set_optimizer_state_dict

        saved = checkpoint.steps_saved(self.out)
        if not saved:
            if self.main:
                logs.rewind(self.out, -1)
            return
        path = checkpoint.path_of(self.out, saved[-1])
        state = checkpoint.read(path, self._state() if path.is_dir() else {})
        about = json.loads(state["about"])
        now = json.loads(json.dumps(self._identity()))
        if changed := _differences(about, now):
            raise BadSettings(
                f"{self.out} holds an interrupted training with other settings or data ({changed}); "
                f"choose another folder, or remove {self.out / checkpoint.FOLDER}."
            )
        set_optimizer_state_dict(self.model, self.optimizer.optimizer, state["optimizer"])
        copy_into(self.model, state["model"])
        with torch.no_grad():
            for name, tensor in self.ema.average.items():
                tensor.copy_(state["average"][name])
        self.sums = {name: torch.tensor(value, dtype=torch.float64) for name, value in about.get("sums", {}).items()}
        self.step, self.seconds, self.evaluated = about["step"], about["seconds"], about["evaluated"]
        self.best_scores, self.scores = about["best"], about["scores"]
        if self.main:
            logs.rewind(self.out, self.step)

    def _finish(self, finished: bool) -> Trained:
        """The weights to keep go into the model; table and picture are made of the log."""
        self.writer.finish()
        path = self.out / checkpoint.FOLDER / "best"
        if self.best_scores:
            copy_into(self.model, checkpoint.read(path, {"model": learned(self.model)})["model"])
        elif self.ema.average:
            copy_into(self.model, self.ema.average)
        self.model.eval()
        self.accelerator.wait_for_everyone()
        if self.main:
            logs.write_table(self.out)
            logs.draw(self.out)
        for tracker in self.accelerator.trackers:
            tracker.finish()
        self.accelerator.unwrap_model(self.wrapped, keep_fp32_wrapper=False).__dict__.pop("forward", None)
        scores = self.best_scores or self.scores
        return Trained(self.step, self.seconds, finished, scores, self.out, self.settings.keep)

    def _progress_bar(self) -> Any:
        return _Bar(self.settings.steps, self.step, show=self.main and sys.stderr.isatty())


class _Parts(torch.utils.data.Dataset[Any]):
    """This process's share of each step, in accumulated parts; index = step · accumulate + part."""

    def __init__(self, task: Task, settings: TrainingSettings, process: int, processes: int) -> None:
        self.task, self.accumulate, self.process, self.processes = task, settings.accumulate, process, processes
        self.size = settings.batch // (settings.accumulate * processes)

    def __getitem__(self, index: int) -> Any:
        step, part = divmod(index, self.accumulate)
        first = (part * self.processes + self.process) * self.size
        return self.task.batch(step, range(first, first + self.size))


class _Bar:
    """A progress bar in a terminal, else nothing. Gives a function that takes the number of steps done."""

    def __init__(self, steps: int, done: int, show: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

        columns = ("training", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), "left", TimeRemainingColumn())
        self.progress = Progress(*columns, console=Console(stderr=True), transient=True, disable=not show)
        self.task = self.progress.add_task("training", total=steps, completed=done)

    def __enter__(self) -> Callable[[int], None]:
        self.progress.start()
        return lambda step: self.progress.update(self.task, completed=step)

    def __exit__(self, *_: object) -> None:
        self.progress.stop()


def processes(device: str = "auto") -> Any:
    """Accelerate's view of this process among all that were launched (`PartialState`), for what is done before `fit`.

    They may wait for each other for days: the first may prepare data for longer than a collective usually waits.
    """
    from accelerate import PartialState

    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"  # else transformers leaves the weights of all but the first empty
    return PartialState(cpu=device_of(device) == "cpu", timeout=timedelta(days=7))


def _accelerator(task: Task, settings: TrainingSettings, out: Path) -> Any:
    """Accelerate's view of devices, processes, precision and trackers. Raises BadSettings, MissingPackage."""
    for tracker in settings.trackers:
        if not any(importlib.util.find_spec(package) for package in PACKAGES[tracker]):
            raise MissingPackage(f"trackers: {tracker} is not installed; run `pip install {PACKAGES[tracker][0]}`.")
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState
    from accelerate.utils import DistributedDataParallelKwargs

    device = device_of(settings.device)
    if settings.precision == "fp16" and device == "cpu":
        raise BadSettings("precision: fp16 needs a GPU; set bf16 or fp32.")
    # Accelerate keeps one state a process; trainings in one process may differ in precision and device.
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()  # of another trainer that ended between two parts of a step: no step would be taken
    processes(device)
    accelerator = Accelerator(
        mixed_precision="fp16" if settings.precision == "fp16" else "bf16" if uses_bfloat16(settings.precision, device) else "no",
        cpu=device == "cpu",
        log_with=list(settings.trackers) or None,
        project_dir=out,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=task.unused_parameters)],
    )
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is not None and accelerator.mixed_precision == "bf16":
        from torch.distributed.fsdp import MixedPrecisionPolicy

        # Accelerate's own would sum gradients, and round the loss, to bfloat16.
        plugin.mixed_precision_policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    if settings.trackers:
        plain = settings.plain().items()
        config = {k: v if isinstance(v, (int, float, str, bool)) else json.dumps(v, ensure_ascii=False) for k, v in plain}
        accelerator.init_trackers(out.name or "run", config=config)
    return accelerator


def _differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    """The settings that changed, as `lr: 0.1 → 0.2`; empty when none did."""
    old, new = before["settings"], now["settings"]
    changed = [f"{n}: {old.get(n)} → {new.get(n)}" for n in sorted(old | new) if old.get(n) != new.get(n)]
    return ", ".join(changed + ["the data"] * (before["data"] != now["data"]))
