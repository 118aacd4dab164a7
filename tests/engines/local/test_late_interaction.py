"""Late-interaction folders against sentence-transformers' MultiVectorEncoder, and PyLate's scores of the same weights."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import MultiVectorEncoder

from support import late_interaction
from support.engines import local_scores
from support.late_interaction import DOCUMENTS, LENGTHS, QUERIES, multi_vector, pylate, stanford, word_pieces

TOLERANCE = 1e-4
SPELT = re.compile(r"\[([A-Z]+)\]")
PUNCTUATION = list('!"#$%&()*+,-./:;<=>?@[]^_`{|}~')
FIXED = {"strategy": "fixed", "length": 12}


def expanded(**more: Any) -> dict[str, Any]:
    return {"document_length": 24, "query_expansion": FIXED | more}


FOLDERS: dict[str, Callable[[Path], Path]] = {
    "plain": lambda folder: multi_vector(folder),
    "lengths": lambda folder: multi_vector(folder, transformer=LENGTHS),
    "limit": lambda folder: multi_vector(folder, transformer={"max_seq_length": 20}),
    "expansion": lambda folder: multi_vector(folder, transformer=expanded(), skipped=PUNCTUATION),
    "attended": lambda folder: multi_vector(folder, transformer=expanded(attend=True)),
    "at least": lambda folder: multi_vector(folder, transformer=expanded(strategy="min"), skipped=PUNCTUATION),
    "at least, limited": lambda folder: multi_vector(
        folder, transformer=expanded(strategy="min") | {"query_length": 20}
    ),
    "own token": lambda folder: multi_vector(folder, transformer=expanded(token="[unused1]")),
    "skip list": lambda folder: multi_vector(folder, skipped=[*PUNCTUATION, "figs", "nowhere"]),
    "skip list of both": lambda folder: multi_vector(
        folder, transformer=expanded(), skipped=["figs", "?", "[MASK]"], skipped_in=["query", "document"]
    ),
    "prompts": lambda folder: multi_vector(folder, prompts={"query": "a figs of ", "document": "[unused1] the "}),
    "mean": lambda folder: multi_vector(folder, transformer=expanded(), similarity_fn_name="meanmaxsim"),
    "two layers": lambda folder: multi_vector(folder, layers=2),
    "no layer": lambda folder: multi_vector(folder, layers=0),
    "capitals": lambda folder: multi_vector(folder, tokenizer=word_pieces(lower=False)),
    "left": lambda folder: multi_vector(
        folder, transformer=expanded(attend=True), tokenizer=word_pieces(padding_side="left"), kind="ModernBert"
    ),
    "ModernBERT": lambda folder: multi_vector(folder, transformer=expanded(), kind="ModernBert"),
    "pylate": lambda folder: pylate(folder),
    "pylate, attended": lambda folder: pylate(folder, attend_to_expansion_tokens=True),
    "pylate, no expansion": lambda folder: pylate(folder, do_query_expansion=False, skiplist_words=[]),
    "pylate, other skip list": lambda folder: pylate(folder, skiplist_words=["figs", ","]),
    "pylate, prompt": lambda folder: pylate(folder, prompts={"query": "the ", "document": "[D] a "}),
    "pylate, unused tokens": lambda folder: pylate(folder, prefixes=("[unused0]", "[unused1]")),
    "pylate without a type": lambda folder: pylate(folder, model_type=None),
    "stanford": lambda folder: stanford(folder),
    "stanford, attended": lambda folder: stanford(folder, attend_to_mask_tokens=True, query_maxlen=10),
    "stanford with punctuation": lambda folder: stanford(folder, mask_punctuation=False, doc_maxlen=40),
}


def reference(folder: Path) -> list[float]:
    """The scores of sentence-transformers, which reads special tokens in texts as such: here they have blanks inside."""
    model = MultiVectorEncoder(str(folder), device="cpu")
    queries, documents = ([SPELT.sub(r"[ \1 ]", text) for text in texts] for texts in (QUERIES, DOCUMENTS))
    return model.similarity(model.encode_query(queries), model.encode_document(documents)).flatten().tolist()


@pytest.mark.parametrize("name", FOLDERS)
def test_scores_equal_those_of_sentence_transformers(name: str, tmp_path: Path) -> None:
    folder = FOLDERS[name](tmp_path)
    found = local_scores(folder, None, "float32", QUERIES, DOCUMENTS)
    assert [score.value for score in found] == pytest.approx(reference(folder), abs=TOLERANCE)
