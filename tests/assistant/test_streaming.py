"""Words shown while they are made are the words of the finished, checked answer."""

from __future__ import annotations

from assistant_parts import HITS, call
from hypothesis import given, settings
from hypothesis import strategies as st

from pathasst.assistant.answer import Answer, ChatPicture, Step
from pathasst.assistant.checker import Sources
from pathasst.assistant.checking import Sieve
from pathasst.assistant.grounding import Grounding
from pathasst.assistant.streaming import Speech, checked_text
from pathasst.core.records import Annotation, ToolResult
from pathasst.serve.conversation_cache import Conversations

LIBRARY = {hit.pmid: hit for hit in HITS}
PARTS = st.sampled_from(
    ["Ki67 was high. ", "See [PMID 11111111]", " and PMID 99999999", ", 22222222", ". ", "\n\n", "<b>bold</b> ", "word ", "1. ",
     "[a link](https://evil.example/x)", "![p](http://evil.example/a.png) ", "PMIDs: 11111111, 22222222; ", "(PMID 33333333)",
     "doi:10.1000/xyz "]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(parts=st.lists(PARTS, max_size=12), step=st.integers(1, 9))
def test_what_is_shown_is_the_beginning_of_the_checked_answer(parts: list[str], step: int) -> None:
    text = "".join(parts)
    speech = Speech(LIBRARY, Sieve(Sources([]), Grounding.MARKED))
    shown = "".join(speech.add(text[n : n + step]) for n in range(0, len(text), step))
    whole = checked_text(text, LIBRARY).strip()
    assert whole.startswith(shown)
    assert shown + speech.close() == whole


def test_nothing_unchecked_is_ever_shown() -> None:
    speech = Speech({}, Sieve(Sources([]), Grounding.MARKED))
    shown = "".join(speech.add(c) for c in "True [PMID 12345678] and ![x](http://evil.example/p.png). Next one.") + speech.close()
    assert "~~[PMID 12345678]~~" in shown
    assert "](http" not in shown


def test_conversations_are_forgotten_by_number_size_and_time() -> None:
    def answer(size: int = 10, marks: int = 0) -> Answer:
        found = [Annotation(kind="point", label="cell", coordinates=[1.0, 2.0])] * marks
        step = Step(asked=call("t"), call=call("t"), result=ToolResult(name="t", annotations=found))
        picture = ChatPicture(number=1, name="x", by="person", image=b"x" * size)
        return Answer(question="q", text="a", pictures=[picture], steps=[step])

    kept = Conversations(60, most=2, most_bytes=1000)
    for n in range(3):
        kept.remember("anna", [str(n)], answer())
    assert kept.recall("anna", ["0"]) is None
    assert kept.recall("anna", ["2"]) is not None
    assert kept.recall("bert", ["2"]) is None
    assert kept.recall("anna", ["", "2"]) is None
    kept.remember("anna", ["large"], answer(995))
    assert len(kept) == 1
    kept.remember("anna", ["much found"], answer(marks=5))  # what a tool marked takes room, too
    assert kept.recall("anna", ["much found"]) is None and kept.recall("anna", ["large"]) is not None  # too large costs no other
    gone = Conversations(-1)
    gone.remember("anna", ["a"], answer())
    assert gone.recall("anna", ["a"]) is None
    gone.sweep()
    assert len(gone) == 0
