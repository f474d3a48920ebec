import pytest

from pathasst.core.errors import BadDataset, BadSettings, MissingWeights
from pathasst.core.records import Abstract
from pathasst.papers import CrossEncoder

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "asbestos", "pleura", "cause", "dogs", "a", "does", "?"]
PAPERS = [
    Abstract(pmid=str(n), title=t, abstract=a) for n, (t, a) in enumerate([("Dogs", "a"), ("Asbestos", "pleura " * 90), ("", "")])
]


@pytest.fixture
def tiny(tmp_path):
    """A random cross-encoder with the structure of MedCPT's (a BERT, a vocabulary, one output or more)."""

    def make(labels=1):
        import torch
        from transformers import BertConfig, BertForSequenceClassification

        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
        config = BertConfig(vocab_size=len(WORDS), max_position_embeddings=64, num_labels=labels, **sizes)
        folder = tmp_path / f"cross{labels}"
        BertForSequenceClassification(config).eval().save_pretrained(folder)
        (folder / "vocab.txt").write_text("\n".join(WORDS))
        return folder

    return make


@pytest.mark.parametrize("labels", [1, 2])
def test_scores_are_the_models_own_whatever_the_batch(tiny, labels):
    """Against transformers' tokenizer and model, one pair at a time."""
    import torch
    from transformers import BertForSequenceClassification, BertTokenizer

    folder, query = tiny(labels), "Does asbestos cause?"
    model, tokenizer = BertForSequenceClassification.from_pretrained(folder).eval(), BertTokenizer(str(folder / "vocab.txt"))
    expected = []
    for paper in PAPERS:
        text = f"{paper.title}\n{paper.abstract}".strip()
        with torch.inference_mode():
            logits = model(**tokenizer(query, text, truncation=True, max_length=64, return_tensors="pt")).logits[0]
        expected.append(float(logits[0] if labels == 1 else logits[1] - logits[0]))
    assert CrossEncoder(str(folder))(query, PAPERS) == pytest.approx(expected, abs=1e-5)
    assert len(set(expected)) == 3


def test_any_query_and_no_paper(tiny):
    rerank = CrossEncoder(str(tiny()))
    assert rerank("asbestos", []) == []
    assert len(rerank("asbestos " * 2000 + "\ud800\x00", PAPERS)) == 3


def test_what_cannot_rerank_is_told(tiny, tmp_path):
    with pytest.raises(BadSettings, match="3 outputs"):
        CrossEncoder(str(tiny(3)))
    with pytest.raises(MissingWeights, match="hf download nobody/nothing"):
        CrossEncoder("nobody/nothing")
    with pytest.raises(BadSettings, match="no model is called"):
        CrossEncoder("magic")
    with pytest.raises(BadDataset, match="no sequence classifier"):
        CrossEncoder(str(tmp_path))
