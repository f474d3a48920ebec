"""Records survive the way into Parquet and back, and Hugging Face `datasets` reads what we write."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathasst.core import records
from pathasst.core.records import (
    Annotation,
    Attachment,
    Conversation,
    Figure,
    Mark,
    Pair,
    Panel,
    Picture,
    Source,
    ToolCall,
    ToolResult,
    Turn,
)

SOURCE = Source(article_id="PMC1.2", doi="10.1/x", licence="CC-BY-4.0", version=2, retracted=True)
EXAMPLES = [
    Figure(figure_id="PMC1.2/F1", source=SOURCE, caption="α-SMA⁺ cells", mentions=["see Figure 1"], image=b"\x89PNG", page=3),
    Pair(
        pair_id="p",
        source=SOURCE,
        panel=Panel(box=(0.0, 1.0, 2.5, 3.0), letter="A"),
        trail=[Mark(step="select", by="m", score=0.5)],
    ),
    Pair(pair_id="without a panel", source=SOURCE),
    Conversation(
        conversation_id="c",
        kind="invoke",
        images=[b"1", b"2"],
        turns=[
            Turn(role="assistant", tool_calls=[ToolCall(name="segment", arguments={"points": [[1, 2.5]], "mode": "é"}, id="1")]),
            Turn(role="tool", tool="segment", attachments=[Attachment(handle="image2", name="mask")], warnings=["Odd."]),
        ],
    ),
    ToolResult(
        name="ki67_cells",
        numbers={"index": 0.25},
        annotations=[Annotation(kind="point", label="positive", coordinates=[1.0, 2.0])],
        pictures=[Picture(name="cells", image=b"x", synthetic=True)],
    ),
]


@pytest.mark.parametrize("record", EXAMPLES, ids=lambda r: type(r).__name__)
def test_record_survives_arrow(record: object) -> None:
    schema = records.arrow_schema(type(record))
    table = pa.Table.from_pylist([records.to_row(record)], schema=schema)
    assert records.from_row(type(record), table.to_pylist()[0]) == record


def test_every_exported_record_has_a_schema() -> None:
    kinds = [
        getattr(records, name) for name in records.__all__ if name[0].isupper() and not name.isupper() and name != "ImageBytes"
    ]
    assert len(kinds) > 10
    for kind in kinds:
        assert records.arrow_schema(kind).names


@given(
    st.dictionaries(
        st.text(), st.recursive(st.none() | st.booleans() | st.integers(-(2**50), 2**50) | st.text(), st.lists, max_leaves=5)
    )
)
def test_any_json_arguments_survive(arguments: dict[str, object]) -> None:
    call = ToolCall(name="t", arguments=arguments)
    assert records.from_row(ToolCall, records.to_row(call)) == call


def test_unknown_columns_are_left_out_and_missing_ones_default() -> None:
    pair = records.from_row(Pair, {"pair_id": "p", "source": records.to_row(SOURCE), "from a later version": 1})
    assert pair == Pair(pair_id="p", source=SOURCE)
    with pytest.raises(TypeError):
        records.from_row(Pair, {"source": records.to_row(SOURCE)})


def test_datasets_of_before_the_typed_fields_are_read() -> None:
    """Until December 2026 the perceptual hash stood in a mark's note, scenario and tool in `by`."""
    mark = {"step": "quality", "by": "rules-1", "score": None, "note": "phash 00ff00ff00ff00ff"}
    pair = records.from_row(Pair, {"pair_id": "p", "source": records.to_row(SOURCE), "trail": [mark]})
    assert (pair.phash, pair.concept) == ("00ff00ff00ff00ff", "")
    mark = {"step": "labels", "by": "labels@1", "score": None, "note": "composed; concept: signet ring cells"}
    pair = records.from_row(Pair, {"pair_id": "p", "source": records.to_row(SOURCE), "trail": [mark]})
    assert (pair.phash, pair.concept) == ("", "signet ring cells")
    marks = [{"step": "invoke", "by": f"{kind}:t", "score": None, "note": "w"} for kind in ("not_offered", "talk")]
    turns = [{"role": "tool", "content": "Error: no cells"}, {"role": "user", "content": "Error: what?"}]
    before = {"conversation_id": "c", "kind": "invoke", "turns": turns, "trail": marks}
    conversation = records.from_row(Conversation, before)
    assert (conversation.scenario, conversation.tool) == ("not_offered", "t")
    assert [turn.error for turn in conversation.turns] == ["no cells", ""]
    abstract = records.Turn(role="tool", content="Error: rates of frozen sections were compared.")
    assert records.from_row(records.Turn, records.to_row(abstract)) == abstract  # a result that begins so has not failed
    assert [m.by for m in conversation.trail] == ["not_offered", "talk"]
    assert records.from_row(Conversation, records.to_row(conversation)) == conversation
    assert marks[0]["by"] == "not_offered:t"  # the row itself is left as it was


def test_a_result_in_words_holds_its_warnings_and_its_notice() -> None:
    result = ToolResult(name="t", text="5 spots.", warnings=["They touch."], notice=records.NOTICE)
    assert result.words == f"5 spots. Warning: They touch. {records.NOTICE}"
    assert ToolResult(name="t", text="5 spots.").words == "5 spots."
