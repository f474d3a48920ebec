import numpy as np
import pytest

from pathasst.core.errors import BadSettings, MissingWeights
from pathasst.core.records import Abstract
from pathasst.papers import embed
from pathasst.papers.embed import Embedder, EmbedderSpec, from_bytes, key_of, text_of, to_bytes, version_of


@pytest.fixture(scope="module")
def embedder(minilm):
    return Embedder("minilm", dtype="float32")


TEXTS = [
    "Ki-67 in breast carcinoma.",
    "",
    "Lupus nephritis. " * 200,
    "Übermäßig — 漢字 \ud800 \x00",
    "Proliferation index of mammary tumours.",
]


def test_unit_vectors_in_the_order_of_the_texts(embedder):
    together = embedder.documents(TEXTS)
    assert together.shape == (5, 384)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    alone = np.concatenate([embedder.documents([t]) for t in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert together[0] @ together[4] > together[0] @ together[2]
    assert embedder.documents([]).shape == (0, 384)


def test_agrees_with_a_plain_forward_pass(embedder, minilm):
    """Against transformers' own tokenizer and model, one text at a time, pooled by hand."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(minilm), AutoModel.from_pretrained(minilm).eval()
    for text in (TEXTS[0], TEXTS[2]):
        tokens = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
        with torch.inference_mode():
            mean = model(**tokens).last_hidden_state[0].mean(0).numpy()
        assert embedder.documents([text])[0] @ (mean / np.linalg.norm(mean)) > 0.99999


def test_a_vocabulary_alone_is_enough(embedder, minilm, tmp_path):
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        (tmp_path / name).symlink_to(minilm / name)
    bare = Embedder(EmbedderSpec(documents=str(tmp_path)), dtype="float32")
    np.testing.assert_allclose(bare.documents(TEXTS[:3]), embedder.documents(TEXTS[:3]), atol=1e-5)


def test_bfloat16_changes_little(embedder):
    fast = Embedder("minilm", dtype="bfloat16")
    cosines = np.sum(fast.documents(TEXTS) * embedder.documents(TEXTS), axis=1)
    assert cosines.min() > 0.999


def test_cls_pooling_differs_from_the_mean(minilm):
    spec = EmbedderSpec(documents="minilm", pooling="cls")
    assert version_of(spec) != version_of("minilm")
    other = Embedder(spec, dtype="float32").documents(TEXTS[:1])
    assert float((other @ Embedder("minilm", dtype="float32").documents(TEXTS[:1]).T)[0, 0]) < 0.99


@pytest.fixture
def tiny_bert(tmp_path):
    """A random BERT as PubMedBERT and MedCPT are published: a vocabulary, and weights of the old format or safetensors."""

    def make(name, *, old):
        import torch
        from transformers import BertConfig, BertModel

        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "asbestos", "pleura", "tumour", "##s", "a", "."]
        torch.manual_seed(len(name))
        sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
        model = BertModel(BertConfig(vocab_size=len(words), **sizes)).eval()
        folder = tmp_path / name
        model.save_pretrained(folder)
        if old:
            torch.save(model.state_dict(), folder / "pytorch_model.bin")
            (folder / "model.safetensors").unlink()
        (folder / "vocab.txt").write_text("\n".join(words))
        return folder

    return make


@pytest.mark.parametrize(
    ("name", "ids"),
    [("pubmedbert", ["pubmedbert"]), ("medcpt", ["medcpt-article", "medcpt-query"])],
    ids=["pubmedbert", "medcpt"],
)
def test_the_papers_embedders_load_as_published(tiny_bert, monkeypatch, tmp_path, name, ids):
    """Random weights in the files that the registry names, against transformers' tokenizer and model."""
    import torch
    from transformers import BertModel, BertTokenizer

    monkeypatch.setenv("PATHASST_MODELS", str(tmp_path))
    folders = [tiny_bert(id, old=True) for id in ids]
    found, spec = Embedder(name, dtype="float32"), embed.EMBEDDERS[name]
    title, text = "Asbestos.", "Pleura tumours. " * 300
    document = found.documents([f"{title}\n{text}"])[0]
    query = found.queries(["asbestos tumour"])[0]
    for vector, folder, parts in ((document, folders[0], (title, text)), (query, folders[-1], ("asbestos tumour",))):
        given = parts if spec.segments else (" ".join(parts),)
        tokens = BertTokenizer(str(folder / "vocab.txt"))(*given, truncation=True, max_length=512, return_tensors="pt")
        with torch.inference_mode():
            states = BertModel.from_pretrained(folder).eval()(**tokens).last_hidden_state[0]
        expected = (states[0] if spec.pooling == "cls" else states.mean(0)).numpy()
        assert vector @ (expected / np.linalg.norm(expected)) > 0.99999
    assert version_of(name).startswith(f"{ids[0]}@")
    assert found.documents([f"{title}\n{text}", "", "pleura"]).shape == (3, 24)


def test_bytes_and_back():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    codes = to_bytes(vectors)
    assert codes.dtype == np.int8
    assert np.abs(codes).max() == 127
    assert np.sum(vectors * from_bytes(codes), axis=1).min() > 0.9999
    assert (to_bytes(from_bytes(codes)) == codes).all()
    assert (from_bytes(to_bytes(np.zeros((1, 64), np.float32))) == 0).all()


def test_keys_follow_the_text_and_nothing_else():
    one = Abstract(pmid="1", title="T", abstract="A", journal="J")
    assert text_of(one) == "T\nA"
    assert key_of(text_of(one)) == key_of("T\nA") != key_of("T\nB")
    assert -(2**63) <= key_of("\ud800") < 2**63
    assert text_of(Abstract(pmid="1", abstract="A")) == "A"


def test_wrong_names(monkeypatch, tmp_path):
    with pytest.raises(BadSettings, match="minilm"):
        Embedder("word2vec")
    with pytest.raises(BadSettings, match="float32"):
        Embedder("minilm", dtype="int3")
    monkeypatch.setenv("PATHASST_CACHE", str(tmp_path))
    with pytest.raises(MissingWeights, match="pathasst models pull minilm"):
        version_of("minilm")


def test_batches_hold_every_row_once_and_are_not_too_large():
    ids = [[0] * n for n in np.random.default_rng(0).integers(1, 256, 300)]
    batches = list(embed.batches_of(ids))
    assert sorted(r for b in batches for r in b) == list(range(300))
    assert all(len(b) * max(len(ids[r]) for r in b) <= embed.TOKENS_A_BATCH for b in batches)
