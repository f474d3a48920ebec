"""A router trained for a minute on a few hundred real requests; what feeds it; what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from pathasst import dataset
from pathasst.core import weights
from pathasst.core.errors import BadDataset, BadInput, BadSettings
from pathasst.core.records import Conversation, Mark, Source, ToolCall, Turn
from pathasst.instruct.invoke import Invoker
from pathasst.instruct.wordings import Wordings
from pathasst.router import Router, RouterConfig, RouterTraining
from pathasst.router.items import RequestItem, items_of
from pathasst.router.network import Encoder, tool_vectors
from pathasst.router.train import join, measure, train
from pathasst.tools.registry import all_specs

needs_e5 = pytest.mark.skipif(not weights.present("e5-small"), reason="e5-small is not fetched (make models)")
QUICK: dict[str, Any] = {"requests": 500, "batch": 16, "width": 32, "layers": (2, 4)}
OWN = Source(article_id="x", kind="labels", title="x", licence="x")


def write(out: Path, conversations: list[Conversation]) -> Path:
    """A dataset of conversations."""
    units = [dataset.Unit("all")]
    dataset.run_stage(out, stage="t", record=Conversation, units=units, work=lambda _: conversations, progress=False)
    return out


def conversation(marks: str, *turns: Turn, tool: str = "") -> Conversation:
    """`marks`: the scenario of each request; `tool`: what the first is about."""
    trail = [Mark(step="invoke", by=mark, note="w") for mark in marks.split()]
    shared = {"kind": "invoke", "source": OWN, "trail": trail, "split": "train", "scenario": marks.split()[0]}
    return Conversation(conversation_id="c", turns=list(turns), tool=tool, **shared)  # type: ignore[arg-type]


def test_items_are_every_turn_with_the_tools_it_asks_for() -> None:
    call = Turn(role="assistant", tool_calls=[ToolCall(name="b"), ToolCall(name="a")])
    made = list(
        items_of(
            [
                conversation(
                    "several talk",
                    Turn(role="user", content="<image>\nDo both."),
                    call,
                    Turn(role="tool", content="1", tool="b"),
                    Turn(role="assistant", content="Done."),
                    Turn(role="user", content="Thanks."),
                    Turn(role="assistant", content="Welcome."),
                ),
                conversation(
                    "not_offered", Turn(role="user", content="Do c."), Turn(role="assistant", content="Cannot."), tool="c"
                ),
                conversation("unable", Turn(role="user", content="Do d."), Turn(role="assistant", content="Cannot.")),
            ]
        )
    )
    assert [(i.text, i.tools, i.kind, i.before) for i in made] == [
        ("Do both.", ("a", "b"), "several", ()),
        ("Thanks.", (), "talk", ("b", "a")),
        ("Do c.", ("c",), "not_offered", ()),
        ("Do d.", (), "unable", ()),
    ]


def test_measures_of_a_hand_made_case() -> None:
    wanted: list[tuple[str, ...]] = [("a",), ("a", "b"), (), ()]
    got: list[tuple[str, ...]] = [("a",), ("a",), (), ("b",)]
    items = [RequestItem("x", w, "test", k, str(n)) for n, (w, k) in enumerate(zip(wanted, "ssnn", strict=True))]
    found = measure(wanted, got, items)
    assert found["all"]["value"] == 0.5
    assert found["s"]["value"] == 0.5
    assert found["false calls"] == pytest.approx({"value": 0.5, "low": 0.0, "high": 1.0, "n": 2})
    assert tool_vectors([("b",), ()], ("a", "b")).tolist() == [[0, 1], [0, 0]]


def test_settings_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"classes: .*at least 1 item"):
        RouterConfig(classes=())
    with pytest.raises(BadSettings, match="multiple of heads"):
        RouterConfig(classes=("a",), width=10, heads=4)
    with pytest.raises(BadSettings, match=r"batch: .*greater than or equal to 2"):
        RouterTraining(batch=1)
    with pytest.raises(BadSettings, match=r"requests: .*greater than or equal to 0"):
        RouterTraining(requests=-1)
    with pytest.raises(BadInput, match="no router of ours"):
        RouterConfig.read(tmp_path)


@needs_e5
def test_long_requests_keep_their_beginning_and_their_end() -> None:
    encoder = Encoder(RouterConfig(classes=("a",), max_tokens=16))
    ids = encoder.tokens(["begin " + "word " * 200 + "end"])[0].ids
    assert len(ids) == 16
    assert encoder.model.tokenizer.decode(ids).split()[1].strip("▁") == "begin"
    assert encoder.model.tokenizer.decode(ids).split()[-2].strip("▁") == "end"
    assert all(len(t.ids) <= 16 for t in encoder.tokens(["a" * 100_000, "\ud800 \x00 🔬"]))
    alone, short = encoder.states(["Ki67?"])[0], encoder.states(["A much longer request than the other.", "Ki67?"])[1]
    assert np.abs(alone.astype(np.float32) - short.astype(np.float32)).max() < 0.05  # padding changes nothing


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred tool conversations without pictures."""
    out = tmp_path_factory.mktemp("conversations")
    invoker = Invoker(all_specs(), Wordings(), test_share=0.2)
    made = [invoker.make(n, {}) for n in range(100)]
    return write(out, made)


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("router")
    lines: list[str] = []
    scores = train([folder], out, RouterTraining(**QUICK, epochs=10, lr=3e-3), say=lines.append)
    assert any("read" in line for line in lines)
    return out, scores


@needs_e5
def test_some_hundred_requests_teach_something(trained: tuple[Path, dict[str, Any]]) -> None:
    out, scores = trained
    assert scores["val"]["all"]["value"] > 0.3
    assert json.loads((out / "scores.json").read_text()) == scores
    router = Router.load(out)
    assert router.choose("") == router.choose("<image>") == []
    rows = router.probabilities(["Give me the Ki67 percentage.", "", "Thanks!"])
    assert rows.shape == (3, len(router.classes))
    ki67 = router.classes.index("ki67_cells")
    assert rows[0][ki67] > rows[2][ki67]
    assert not rows[1].any()
    assert rows[0] == pytest.approx(router.probabilities(["Give me the Ki67 percentage."])[0], abs=1e-3)


@needs_e5
@pytest.mark.parametrize(
    ("request_", "tools"),
    [
        ("What is the Ki67 index of this field?", {"ki67_cells"}),
        ("How many red and white blood cells are there?", {"blood_cells"}),
        ("Thank you!", set()),
        ("What does HSIL mean?", set()),
        ("What does the literature say about Ki-67 expression and prognosis in cancer?", {"papers_search"}),
    ],
)
def test_the_shipped_one_knows_plain_requests(request_: str, tools: set[str]) -> None:
    assert set(Router.load().choose(request_)) == tools


@needs_e5
@pytest.mark.parametrize(
    ("words", "before", "tools"),
    [
        ("And this field?", ["ki67_cells"], {"ki67_cells"}),
        ("Any papers on this?", ["pdl1_cells"], {"papers_search"}),
        ("Thanks, that helps.", ["her2_cells"], set()),
        ("Now the HER2 score, please.", ["ki67_cells"], {"her2_cells"}),
    ],
)
def test_the_shipped_one_knows_what_came_before(words: str, before: list[str], tools: set[str]) -> None:
    assert set(Router.load().choose(words, before)) == tools


@needs_e5
def test_the_same_seed_gives_the_same_weights_and_states_are_read_once(
    folder: Path, trained: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    lines: list[str] = []
    settings = RouterTraining(**QUICK, epochs=10, lr=3e-3, states=str(trained[0]))
    train([folder], tmp_path / "again", settings, say=lines.append)
    assert not any("read" in line for line in lines)
    one, other = ((f / "model.safetensors").read_bytes() for f in (trained[0], tmp_path / "again"))
    assert one == other


@needs_e5
def test_an_interrupted_training_ends_with_the_same_weights(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pathasst.router.task import RouterTask

    settings = RouterTraining(**QUICK, steps=30, save_every=10, states=str(trained[0]))
    loss, calls = RouterTask.loss, iter(range(100))

    def interrupted(*arguments: Any) -> Any:
        if next(calls) == 25:
            raise KeyboardInterrupt
        return loss(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RouterTask, "loss", interrupted)
        train([], tmp_path / "killed", settings, say=lambda _: None)
    assert (tmp_path / "killed" / "checkpoints" / "step-00000020").is_file()
    for name in ("killed", "whole"):
        train([], tmp_path / name, settings, say=lambda _: None)
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("killed", "whole"))
    assert one == other
    assert not (tmp_path / "killed" / "checkpoints").exists()


@needs_e5
def test_what_is_left_out_is_measured_on_and_held_out_words_are_not_trained_on(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    lines: list[str] = []
    settings = RouterTraining(**QUICK, epochs=0.2, states=str(trained[0]), leave_out=("zh",))
    scores = train([], tmp_path, settings, held_out=["Gracias!"], say=lines.append)
    assert scores["left_out"]["all"]["n"] > 20
    assert {kind.split()[0] for kind in scores["left_out"]} - {"all", "false"} == {"zh"}


@needs_e5
def test_a_training_can_go_on_from_an_earlier_router(trained: tuple[Path, dict[str, Any]], folder: Path, tmp_path: Path) -> None:
    """With next to no step of its own it decides as that did; of another shape it is refused."""
    settings = RouterTraining(**QUICK, epochs=0.01, lr=1e-9, states=str(trained[0]), start=str(trained[0]))
    train([folder], tmp_path / "on", settings, say=lambda _: None)
    requests = ["Ki67 index, please.", "Thanks!", "Which papers deal with it?"]
    earlier, later = (Router.load(f).probabilities(requests) for f in (trained[0], tmp_path / "on"))
    assert later == pytest.approx(earlier, abs=2e-3)
    with pytest.raises(BadSettings, match="start: the earlier router has another encoder"):
        train([folder], tmp_path / "no", settings.replace(width=64), say=lambda _: None)


@needs_e5
def test_joined_runs_average_their_probabilities(trained: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    for seed, name in enumerate(("one", "other")):
        settings = RouterTraining(**QUICK, epochs=0.5, states=str(trained[0]), lr=(seed + 1) * 1e-3)
        train([], tmp_path / name, settings, say=lambda _: None)
    join([tmp_path / "one", tmp_path / "other"], tmp_path / "both")
    one, other, both = (Router.load(tmp_path / name) for name in ("one", "other", "both"))
    requests = ["Ki67 index, please.", "Which papers deal with it?"]
    mean = (one.probabilities(requests) + other.probabilities(requests)) / 2
    assert both.config.members == 2
    assert both.probabilities(requests) == pytest.approx(mean, abs=1e-4)
    assert one.probabilities(requests) != pytest.approx(other.probabilities(requests), abs=1e-3)
    with pytest.raises(BadSettings, match="cannot be joined"):
        join([tmp_path / "one", trained[0].parent / trained[0].name, "router-embedded"], tmp_path / "none")
    with pytest.raises(BadSettings, match=r"members: .*greater than or equal to 1"):
        RouterConfig(classes=("a",), members=0)


@needs_e5
def test_what_the_words_say_of_arguments_belongs_to_its_tool(trained: tuple[Path, dict[str, Any]]) -> None:
    router = Router.load(trained[0])
    words = "Find three papers on tumour budding in colorectal cancer."
    reading = router.reading(words, "papers_search")
    assert {"query", "k"} <= reading.learned and set(reading.spans) == reading.learned
    assert not reading.choices
    assert all(words[a:b].strip() for spans in reading.spans.values() for a, b in spans)
    assert {"cell_class", "hyperchromasia"} <= router.reading(words, "lbc_generate").learned
    assert router.reading(words, "segment").learned == set()


@needs_e5
def test_a_file_that_does_not_fit_is_told(trained: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    import shutil

    broken = Path(shutil.copytree(trained[0], tmp_path / "broken"))
    (broken / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(BadInput, match="does not fit"):
        Router.load(broken)


def test_without_tool_conversations_there_is_nothing_to_learn(tmp_path: Path) -> None:
    talk = conversation("plain:chat", Turn(role="user", content="Hi"), Turn(role="assistant", content="Hello"))
    write(tmp_path / "talk", [talk])
    with pytest.raises(BadDataset, match="no request for a tool"):
        train([tmp_path / "talk"], tmp_path / "out", RouterTraining(requests=0))


@needs_e5
def test_the_command_trains_and_prints_scores(tmp_path: Path) -> None:
    from pathasst.cli.main import app

    recipe = tmp_path / "quick.yaml"
    recipe.write_text("epochs: 0.2\nwidth: 32\nlayers: [2]\nrequests: 60\nconversations: 20\n")
    run = CliRunner().invoke(app, ["train", "router", "--out", str(tmp_path / "c"), "--recipe", str(recipe)])
    assert run.exit_code == 0, run.output
    assert "val all:" in run.output
