"""Sentences of captions and abstracts."""

from __future__ import annotations

from pathasst.core.text import sentences

ABSTRACT = (
    "BACKGROUND: Ki-67 was scored by two readers. Nothing came of it.\n"
    "RESULTS: In E. coli (p < 0.05) vs. controls we saw less. Mean Ki-67 index was 3.4 (SD 1.2) in carcinoma. The end!"
)


def test_sentences_keep_abbreviations_whole() -> None:
    assert sentences("Glands (e.g. Crypts) are seen. E. Coli is not. End") == [
        "Glands (e.g. Crypts) are seen.",
        "E. Coli is not.",
        "End",
    ]


def test_sentences_end_where_they_should() -> None:
    assert sentences(ABSTRACT) == [
        "BACKGROUND: Ki-67 was scored by two readers.",
        "Nothing came of it.",
        "RESULTS: In E. coli (p < 0.05) vs. controls we saw less.",
        "Mean Ki-67 index was 3.4 (SD 1.2) in carcinoma.",
        "The end!",
    ]
    assert sentences("") == []


def test_sentences_do_not_end_at_abbreviations() -> None:
    text = "Tumour vs. stroma in Fig. 2 of J. Smith. Next one."
    assert sentences(text) == ["Tumour vs. stroma in Fig. 2 of J. Smith.", "Next one."]
    text = "Melanoma, H&E. Positive stains."
    assert sentences(text) == ["Melanoma, H&E.", "Positive stains."]
