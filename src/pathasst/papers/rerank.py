"""Candidates read again together with the query: a cross-encoder gives the last order. Knows texts, no index.

Any Hugging Face sequence classifier with one output (a score) or two (no, yes) serves; MedCPT's is `medcpt-rerank`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pathasst.core import weights
from pathasst.core.errors import BadDataset, BadSettings, MissingWeights
from pathasst.core.records import Abstract
from pathasst.papers.embed import batches_of, clean_text, load_tokenizer, text_of

MAX_TOKENS = 512


class CrossEncoder:
    """Scores abstracts for a query, higher is better: `index.search(query, rerank=CrossEncoder("medcpt-rerank"))`."""

    def __init__(self, model: str) -> None:
        """`model`: id in the registry of weights, a folder, or an "owner/name" that is in the Hugging Face cache.

        Raises MissingWeights with the command that fetches it, BadSettings for an unknown id or a model of three outputs or more.
        """
        from transformers import AutoModelForSequenceClassification

        folder = _folder(model)
        try:
            self.model = weights.load_quietly(AutoModelForSequenceClassification, folder).eval()
        except (OSError, ValueError) as error:
            raise BadDataset(f"{folder} holds no sequence classifier: {error}") from error
        if self.model.config.num_labels > 2:
            raise BadSettings(f"{model} has {self.model.config.num_labels} outputs; a reranker has one score, or no and yes.")
        self.tokenizer = load_tokenizer(folder)
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(min(MAX_TOKENS, getattr(self.model.config, "max_position_embeddings", MAX_TOKENS)))

    def __call__(self, query: str, abstracts: Sequence[Abstract]) -> list[float]:
        """One score an abstract, in their order."""
        import torch

        encodings = self.tokenizer.encode_batch([(clean_text(query), clean_text(text_of(a))) for a in abstracts])
        scores = [0.0] * len(encodings)
        for rows in batches_of([e.ids for e in encodings]):
            length = max(len(encodings[r].ids) for r in rows)
            inputs = {name: torch.zeros(len(rows), length, dtype=torch.long) for name in ("input_ids", "attention_mask")}
            inputs["input_ids"] += self.model.config.pad_token_id or 0
            if getattr(self.model.config, "type_vocab_size", 0) > 1:
                inputs["token_type_ids"] = torch.zeros(len(rows), length, dtype=torch.long)
            for place, row in enumerate(rows):
                e = encodings[row]
                parts = {
                    "input_ids": e.ids,
                    "attention_mask": e.attention_mask,
                    "token_type_ids": e.type_ids,
                }
                for name, tensor in inputs.items():
                    tensor[place, : len(e.ids)] = torch.tensor(parts[name])
            with torch.inference_mode():
                logits = self.model(**inputs).logits.float()
            for row, score in zip(rows, (logits[:, -1] - logits[:, 0] * (logits.shape[1] - 1)).tolist(), strict=True):
                scores[row] = score
        return scores


def _folder(model: str) -> Path:
    """Where the model lies; the network is not used."""
    if Path(model).is_dir():
        return Path(model)
    if model.count("/") != 1 or model in weights.registry():
        return weights.path(model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise MissingWeights(
            f"{model} is neither a folder nor in the Hugging Face cache. Fetch it: hf download {model}"
        ) from error
