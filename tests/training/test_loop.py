"""The loop: what it promises holds to the bit, or to the order of sums."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import training_line
from torch import nn
from training_line import DEFAULTS, Line, Small

from pathasst.core.errors import BadSettings, MissingPackage
from pathasst.training import checkpoint, fit, loop

SCRIPT = Path(training_line.__file__)


def settings(**changes: Any) -> Small:
    return Small(**{**DEFAULTS, **changes})


def trained(out: Path, *, stop_at: int = 0, dropout: float = 0.2, **changes: Any) -> dict[str, torch.Tensor]:
    """The weights of a training in this process."""
    chosen = settings(**changes)
    task = Line(chosen, dropout)
    fit(task, chosen, out, stop_at=stop_at)
    return {name: tensor.clone() for name, tensor in task.model.state_dict().items()}


def lines(out: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in found]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.allclose(one[k], other[k], atol=1e-5) for k in one)


def test_it_learns_and_logs(tmp_path: Path) -> None:
    chosen = settings(steps=240, width=32, evaluate_every=80)
    heard: list[dict[str, Any]] = []
    untrained = Line(chosen).evaluate(Line(chosen).model.eval())["score"]
    result = fit(Line(chosen, 0.0), chosen, tmp_path, log=heard.append)
    assert result.finished
    assert result.step == 240
    assert result.scores["score"] > -0.15 > untrained
    found = lines(tmp_path)
    assert [{k: v for k, v in line.items() if k != "seconds"} for line in heard] == found
    assert [line["step"] for line in found if "score" in line] == [80, 160, 240]
    assert {"loss", "largest", "lr"} <= found[0].keys()
    with (tmp_path / "log.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == len(found)
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert checkpoint.steps_saved(tmp_path) == [240]
    result.remove_checkpoints()
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("stop", [7, 20, 59])
def test_a_training_that_was_stopped_goes_on_with_the_same_bits(tmp_path: Path, stop: int) -> None:
    whole = trained(tmp_path / "whole")
    trained(tmp_path / "parts", stop_at=stop)
    assert same(trained(tmp_path / "parts"), whole)
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")


def test_a_killed_training_goes_on_with_the_same_bits(tmp_path: Path, forked: Callable[..., list[int]]) -> None:
    changes = {"steps": 120, "save_every": 25, "workers": 1}
    whole = trained(tmp_path / "whole", **changes)

    class Killed(Line):
        def train_mode(self, model: nn.Module) -> None:
            if len(checkpoint.steps_saved(tmp_path / "killed")):
                os.kill(os.getpid(), signal.SIGKILL)
            super().train_mode(model)

    chosen = settings(**changes)
    assert forked(lambda: fit(Killed(chosen), chosen, tmp_path / "killed")) == [-signal.SIGKILL]
    assert checkpoint.steps_saved(tmp_path / "killed") == [25]
    assert same(trained(tmp_path / "killed", **changes), whole)
    assert lines(tmp_path / "killed") == lines(tmp_path / "whole")


def test_accumulated_parts_are_one_larger_batch(tmp_path: Path) -> None:
    once = trained(tmp_path / "once", dropout=0.0)
    assert close(trained(tmp_path / "parts", dropout=0.0, accumulate=4), once)
    assert not close(trained(tmp_path / "small", dropout=0.0, batch=2), once)


def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    changes = {"steps": 20, "accumulate": 2, "evaluate_every": 5}
    environment = os.environ | {"OMP_NUM_THREADS": "1", "DROPOUT": "0", "PROCESSES": "2"}
    values = [f"{name}={value}" for name, value in changes.items()]
    subprocess.run([*launch, str(SCRIPT), str(tmp_path / "two"), *values], check=True, env=environment)
    one = trained(tmp_path / "one", dropout=0.0, **changes)
    assert close(one, torch.load(tmp_path / "two/weights.pt", weights_only=True))
    for first, second in zip(lines(tmp_path / "one"), lines(tmp_path / "two"), strict=True):
        assert first == pytest.approx({**first, **{k: v for k, v in second.items() if k != "largest"}}, rel=1e-3)


def test_the_average_is_what_is_kept_and_measured(tmp_path: Path) -> None:
    steps: list[dict[str, torch.Tensor]] = []

    class Watched(Line):
        best = ""

        def train_mode(self, model: nn.Module) -> None:
            steps.append({n: p.detach().clone() for n, p in self.model.named_parameters()})
            super().train_mode(model)

    chosen = settings(steps=5, evaluate_every=0)
    start = Watched(chosen)
    before = {n: p.detach().clone() for n, p in start.model.named_parameters()}
    result = fit(start, chosen, tmp_path / "with")
    plain = Watched(chosen.replace(ema=0.0))
    fit(plain, chosen.replace(ema=0.0), tmp_path / "without")
    weights = [*steps[1:5], {n: p.detach() for n, p in plain.model.named_parameters()}]
    for name, average in before.items():
        for step, now in enumerate(weights):
            average.lerp_(now[name], 1 - min(0.9, (1 + step) / (10 + step)))
        assert torch.allclose(dict(start.model.named_parameters())[name], average, atol=1e-6)
    assert result.scores == pytest.approx(start.evaluate(start.model.eval()), rel=1e-4)


def test_the_best_weights_are_kept_not_the_last(tmp_path: Path) -> None:
    class Worse(Line):
        """Says that it was best in the middle."""

        def evaluate(self, model: nn.Module) -> dict[str, float]:
            seen.append({n: p.detach().clone() for n, p in model.named_parameters()})
            return {"score": [0.1, 0.9, 0.5][len(seen) - 1]}

    seen: list[dict[str, torch.Tensor]] = []
    task = Worse(settings())
    result = fit(task, settings(), tmp_path)
    assert result.scores == {"score": 0.9}
    assert len(seen) == 3
    assert same(dict(task.model.named_parameters()), seen[1])


def test_the_best_so_far_survives_an_interruption(tmp_path: Path) -> None:
    scores = iter([0.9, 0.1, 0.2])

    class Early(Line):
        def evaluate(self, model: nn.Module) -> dict[str, float]:
            return {"score": next(scores)}

    chosen = settings()
    fit(Early(chosen), chosen, tmp_path, stop_at=25)
    assert fit(Early(chosen), chosen, tmp_path).scores == {"score": 0.9}


def test_minutes_end_the_training_and_the_rate_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    class Slow(Line):
        def train_mode(self, model: nn.Module) -> None:
            clock[0] += 0.02
            super().train_mode(model)

    chosen = settings(steps=100_000, minutes=0.02, save_every=1000, evaluate_every=0)
    result = fit(Slow(chosen), chosen, tmp_path)
    assert result.finished
    assert result.step in (60, 61)
    assert result.seconds >= 1.2
    rates = [line["lr"] for line in lines(tmp_path) if "lr" in line]
    assert rates[-1] < 0.2 * max(rates)


def test_checkpoints_are_kept_by_count(tmp_path: Path) -> None:
    chosen = settings(keep=2)
    task = Line(chosen)
    fit(task, chosen, tmp_path).remove_checkpoints()
    assert checkpoint.steps_saved(tmp_path) == [50, 60]
    again = Line(chosen)
    fit(again, chosen, tmp_path, log=lambda _: pytest.fail("a finished training is not trained again"))
    assert same(again.model.state_dict(), task.model.state_dict())


@pytest.mark.parametrize("change", [{"lr": 0.01}, {"batch": 4}, {"seed": 1}])
def test_an_interrupted_training_with_other_settings_is_not_overwritten(tmp_path: Path, change: dict[str, Any]) -> None:
    trained(tmp_path, stop_at=20)
    with pytest.raises(BadSettings, match=rf"{next(iter(change))}: .* → ") as error:
        trained(tmp_path, **change)
    assert "checkpoints" in str(error.value)


def test_an_interrupted_training_on_other_data_is_not_continued(tmp_path: Path) -> None:
    trained(tmp_path, stop_at=20)
    other = Line(settings())
    other.data = "others"
    with pytest.raises(BadSettings, match="the data"):
        fit(other, settings(), tmp_path)


@pytest.mark.parametrize("change", [{"steps": 80}, {"save_every": 7}, {"minutes": 60.0}, {"accumulate": 2}, {"keep": 3}])
def test_what_only_says_how_long_and_where_may_change(tmp_path: Path, change: dict[str, Any]) -> None:
    trained(tmp_path, stop_at=20)
    chosen = settings(**change)
    assert fit(Line(chosen), chosen, tmp_path).step == chosen.steps


def test_a_cut_line_of_the_log_does_no_harm(tmp_path: Path) -> None:
    trained(tmp_path, stop_at=25)
    with (tmp_path / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 30, "lo')
    trained(tmp_path)
    assert [line["step"] for line in lines(tmp_path) if "loss" in line] == [10, 20, 30, 40, 50, 60]


def test_frozen_weights_stay_and_are_not_in_checkpoints(tmp_path: Path) -> None:
    chosen = settings(keep=1)
    task = Line(chosen)
    first: Any = task.model[0]  # type: ignore[index]
    first.requires_grad_(False)
    before = first.weight.clone()
    fit(task, chosen, tmp_path)
    assert torch.equal(first.weight, before)
    state = torch.load(checkpoint.path_of(tmp_path, 60), weights_only=True)
    assert set(state["model"]) == {"3.weight", "3.bias"}


def test_no_steps_train_nothing_and_measure(tmp_path: Path) -> None:
    chosen = settings(steps=0)
    task = Line(chosen)
    before = {n: p.clone() for n, p in task.model.state_dict().items()}
    result = fit(task, chosen, tmp_path)
    assert result.scores
    assert same(task.model.state_dict(), before)


def test_bfloat16_trains_and_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    chosen = settings(precision="bf16", ema=0.0)
    task = Line(chosen)
    fit(task, chosen, tmp_path)
    assert all(p.dtype == torch.float32 for p in task.model.parameters())
    assert "forward" not in task.model.__dict__
    assert not close(task.model.state_dict(), trained(tmp_path / "full", ema=0.0))


@pytest.mark.parametrize(
    ("change", "words"),
    [({"accumulate": 3}, "8 examples cannot be shared"), ({"precision": "fp16"}, "needs a GPU"), ({"lr": 1e30}, "lower lr")],
)
def test_what_cannot_work_is_said(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(BadSettings, match=words):
        trained(tmp_path, **change)


def test_a_missing_gpu_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadSettings, match="no CUDA device"):
        trained(tmp_path, device="cuda")


def test_a_tracker_gets_the_log(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    trained(tmp_path / "run", trackers=("tensorboard",))
    events = list((tmp_path / "run").rglob("events.out.tfevents*"))
    assert any(b"largest" in path.read_bytes() for path in events)


def test_a_tracker_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingPackage, match="pip install mlflow"):
        trained(tmp_path, trackers=("mlflow",))


def test_a_fused_step_is_the_plain_one(tmp_path: Path) -> None:
    plain = trained(tmp_path / "plain")
    fused = trained(tmp_path / "fused", optimizer="adamw-fused")
    assert close(fused, plain)
    trained(tmp_path / "parts", optimizer="adamw-fused", stop_at=25)
    assert same(trained(tmp_path / "parts", optimizer="adamw-fused"), fused)


def test_moments_in_eight_bits_train_alike_and_resume_with_the_same_bits(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    wide = {"width": 4096, "steps": 20, "save_every": 5, "evaluate_every": 0, "lr": 1e-3}  # smaller tensors keep 32 bits
    eight = trained(tmp_path / "eight", optimizer="adamw-8bit", **wide)
    trained(tmp_path / "parts", optimizer="adamw-8bit", stop_at=12, **wide)
    saved = torch.load(checkpoint.path_of(tmp_path / "parts", 12), weights_only=True)["optimizer"]["state"]
    moments = saved["0.weight"]["__bnb_optimizer_quant_state__"]
    assert moments["state1"].dtype == moments["state2"].dtype == torch.uint8
    assert same(trained(tmp_path / "parts", optimizer="adamw-8bit", **wide), eight)
    plain, before = trained(tmp_path / "plain", **wide), Line(settings(**wide)).model.state_dict()
    moved = (plain["3.weight"] - before["3.weight"]).norm()
    assert 0 < (eight["3.weight"] - plain["3.weight"]).norm() < 0.1 * moved


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [("paged-adamw-8bit", BadSettings, "choose adamw-8bit"), ("adamw-8bit", MissingPackage, r"pip install 'pathasst\[qlora\]'")],
)
def test_an_optimizer_that_cannot_run_is_named(tmp_path, monkeypatch, kind, error, words) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(error, match=words):
        trained(tmp_path, optimizer=kind)


def test_checkpoints_written_in_the_background_are_the_same(tmp_path: Path) -> None:
    here = trained(tmp_path / "here", keep=2)
    assert same(trained(tmp_path / "background", keep=2, async_save=True), here)
    assert checkpoint.steps_saved(tmp_path / "background") == [50, 60]
    for step in (50, 60):
        one, two = (torch.load(checkpoint.path_of(tmp_path / n, step), weights_only=True) for n in ("here", "background"))
        assert same(one["model"], two["model"]) and same(one["average"], two["average"])


@pytest.mark.parametrize("background", [False, True])
def test_a_kill_during_a_write_leaves_the_checkpoint_before(
    tmp_path: Path, forked: Callable[..., list[int]], background: bool
) -> None:
    whole = trained(tmp_path / "whole")
    save = torch.save

    def cut(state: Any, path: Path) -> None:
        save(state, path)
        if path.name.startswith("step-00000030"):
            with path.open("r+b") as file:
                file.truncate(path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    out = tmp_path / "killed"

    def killed() -> None:
        torch.save = cut
        trained(out, async_save=background, stop_at=30)

    assert forked(killed) == [-signal.SIGKILL]
    assert checkpoint.steps_saved(out) == [20]
    assert [p.name for p in (out / "checkpoints").glob("*.new")] == ["step-00000030.new"]
    assert same(trained(out, async_save=background), whole)
    assert lines(out) == lines(tmp_path / "whole")
    assert not list((out / "checkpoints").glob("*.new"))


def test_a_checkpoint_that_cannot_be_written_ends_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        trained(tmp_path, async_save=True, evaluate_every=0)


def test_a_compiled_network_trains_the_same_under_the_same_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    whole = nn.Module.compile

    def eager(module: nn.Module) -> None:  # the compiler's front, without minutes of C++
        compiled.append(module)
        whole(module, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", eager)
    plain = trained(tmp_path / "plain", dropout=0.0)
    assert close(trained(tmp_path / "compiled", dropout=0.0, compile=True), plain)
    assert len(compiled) == 1
