"""The glossary that ships: every name leads to its entry, every entry has a source."""

from __future__ import annotations

from pathasst.tools.glossary import Glossary


def test_each_entry_is_found_by_its_own_term_and_has_a_source() -> None:
    glossary = Glossary.load()
    assert [e.term for e in glossary.entries if glossary.lookup(e.term) is not e] == []
    assert [e.term for e in glossary.entries if not e.citation or not e.text] == []


def test_terms_in_a_chinese_text_are_named_without_blanks_and_the_longest_counts() -> None:
    names = [e.term for e in Glossary.load().mentions("报告写着脉管癌栓和三阴性乳腺癌")]
    assert names == ["lymphovascular invasion", "TNBC"]
