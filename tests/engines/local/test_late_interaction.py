"""Late-interaction folders against MultiVectorEncoder of sentence-transformers and the scores of PyLate."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import MultiVectorEncoder

from lbr_cli.core import Answer, Document, Query, Score
from lbr_cli.engines import Settings, prepare_engine
from lbr_cli.errors import MissingError
from lbr_cli.families import LateInteraction
from lbr_cli.models import fetch, resolve
from lbr_cli.scoring import QueryDocuments, Scorer
from support.engines import local_scores
from support.late_interaction import (
    DOCUMENTS,
    LENGTHS,
    PYLATE_FOLDERS,
    QUERIES,
    multi_vector,
    pylate,
    stanford,
    without_special_tokens,
    word_pieces,
)
from support.paths import ROOT
from support.program import Program
from support.progress import RecordedProgress

TOLERANCE = 1e-4
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
    "stanford": lambda folder: stanford(folder),
    "stanford, attended": lambda folder: stanford(folder, attend_to_mask_tokens=True, query_maxlen=10),
    "stanford with punctuation": lambda folder: stanford(folder, mask_punctuation=False, doc_maxlen=40),
    **{
        f"pylate, {name}": lambda folder, settings=settings: pylate(folder, **settings)
        for name, settings in PYLATE_FOLDERS.items()
    },
}


def reference(folder: Path) -> list[float]:
    """Return the scores of sentence-transformers, which would read special tokens in texts as such."""
    model = MultiVectorEncoder(str(folder), device="cpu")
    queries, documents = (
        model.encode_query(without_special_tokens(QUERIES)),
        model.encode_document(without_special_tokens(DOCUMENTS)),
    )
    return model.similarity(queries, documents).flatten().tolist()


def fast_or_slow(names: Iterable[str], fast: Sequence[str]) -> list[Any]:
    """Return parameters, of which all but the `fast` ones are marked as slow."""
    return [pytest.param(name, marks=() if name in fast else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", fast_or_slow(FOLDERS, ("at least, limited", "skip list of both", "stanford")))
def test_scores_equal_those_of_sentence_transformers(name: str, tmp_path: Path) -> None:
    folder = FOLDERS[name](tmp_path)
    found = local_scores(folder, None, "float32", QUERIES, DOCUMENTS)
    assert [score.value for score in found] == pytest.approx(reference(folder), abs=TOLERANCE)


@pytest.mark.parametrize("name", fast_or_slow(PYLATE_FOLDERS, ("usual", "no expansion")))
def test_scores_equal_those_of_pylate(name: str, tmp_path: Path) -> None:
    expected = json.loads((ROOT / "tests" / "support" / "pylate_scores.json").read_text())[name]
    folder = pylate(tmp_path / "model", **PYLATE_FOLDERS[name])
    found = local_scores(folder, None, "float32", QUERIES, DOCUMENTS)
    assert [score.value for score in found] == pytest.approx(
        [score for row in expected for score in row], abs=TOLERANCE
    )


def scorer_of(folder: Path, **settings: Any) -> Scorer:
    model = fetch(resolve(str(folder)), RecordedProgress())
    engine = prepare_engine("local", model, Settings("cpu", "float32", **settings))
    return Scorer(model.family, engine.load, RecordedProgress())


def test_each_text_is_encoded_once(tmp_path: Path) -> None:
    scorer = scorer_of(pylate(tmp_path / "model"))
    queries = [Query(str(number), text) for number, text in enumerate(QUERIES)]
    documents = [Document(str(number), text) for number, text in enumerate(DOCUMENTS)]
    plan = scorer.plan(lambda: [(query, document) for query in queries for document in documents])
    found = list(scorer.score([QueryDocuments(query, documents) for query in queries], plan))
    assert [len(scores) for _, scores in found] == [len(DOCUMENTS)] * len(QUERIES)
    alone = scorer_of(tmp_path / "model")
    for query in queries:
        alone.score_query(query, documents[:1])
    for document in documents[1:]:
        alone.score_query(queries[0], [document])
    again = 12 * (len(documents) - 1) + 8 * (len(queries) - 1)  # tokens of the first query and the first document
    assert scorer.counts.tokens == alone.counts.tokens - again


def test_max_length_applies_to_documents(tmp_path: Path) -> None:
    folder = pylate(tmp_path / "model")
    long, document = Query("q", "figs"), Document("d", "bread needs salt " * 12)
    (cut,) = scorer_of(folder).score_query(long, [document])
    (whole,) = scorer_of(folder, max_length=64).score_query(long, [document])
    assert (cut.details["truncated"], whole.details["truncated"]) == (True, False)
    settings = json.loads((folder / "config_sentence_transformers.json").read_text())
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings | {"document_length": 64}))
    (expected,) = scorer_of(folder).score_query(long, [document])
    assert whole.value == pytest.approx(expected.value, abs=TOLERANCE)


def test_explain_lists_the_matched_tokens(tmp_path: Path, lbr: Program) -> None:
    folder = pylate(tmp_path / "model")
    candidate = {
        "query_id": "1",
        "query": "Ripe [SEP]",
        "doc_id": "d",
        "title": "Trams",
        "text": "Über RIPE figs, salt.",
    }
    ask = ("rerank", "--model", str(folder), "--dtype", "float32", "--cache", "--cache-dir", str(tmp_path))
    line = json.dumps(candidate).encode()
    ended = [lbr(*ask, *more, stdin=line) for more in ((), ("--explain",))]
    assert [one.code for one in ended] == [0, 0], ended[0].err
    (plain,), (explained,) = (one.records for one in ended)
    matches = explained["matches"]
    assert "matches" not in plain
    assert explained["score"] == plain["score"]
    assert [match["query_token"] for match in matches][:6] == ["[CLS]", "[q] ", "Ripe", "[", "S", "E"]
    assert [match["query_token"] for match in matches][7:] == ["]", "[SEP]", "[MASK]", "[MASK]", "[MASK]"]
    text = "Trams Über RIPE figs, salt."
    for match in matches:
        shown = match["document_token"] in ("[CLS]", "[SEP]", "[d] ")
        assert shown or text[match["start"] : match["end"]] == match["document_token"]
        assert match["document_token"] not in (",", ".")
    assert sum(match["similarity"] for match in matches) == pytest.approx(explained["score"], abs=1e-4)


def test_passages_are_scored(tmp_path: Path, lbr: Program) -> None:
    folder = stanford(tmp_path / "model")
    line = json.dumps({"query": "ripe figs", "documents": ["bread needs salt " * 20 + "ripe figs"]}).encode()
    options = ("--passages", "max", "--passage-words", "10", "--no-cache", "--explain", "--dtype", "float32")
    (record,) = lbr("rerank", "--model", str(folder), *options, stdin=line).records
    assert record["passage"]["of"] == 12
    assert all(match.get("end", 0) <= len(record["passage"]["text"]) for match in record["matches"])
    assert record["truncated"] is False


def change(folder: Path, file: str, **values: Any) -> Path:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return folder


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "chat": (
        lambda folder: change(multi_vector(folder), "sentence_bert_config.json", modality_config={"message": {}}),
        'sentence_bert_config.json: "modality_config" has "message": texts become chat messages',
    ),
    "strategy": (
        lambda folder: change(multi_vector(folder), "sentence_bert_config.json", query_expansion={"strategy": "pad"}),
        'sentence_bert_config.json: "query_expansion" is {"strategy": "pad"}',
    ),
    "images": (
        lambda folder: change(multi_vector(folder), "2_MultiVectorMask/config.json", keep_only_token_ids=[3]),
        '2_MultiVectorMask/config.json: "keep_only_token_ids" is set',
    ),
    "distance": (
        lambda folder: stanford(folder, similarity="l2"),
        'artifact.metadata: "similarity" is l2',
    ),
    "length": (
        lambda folder: stanford(folder, doc_maxlen="many"),
        'artifact.metadata: "doc_maxlen" has to be an integer, this is a string',
    ),
    "no room": (
        lambda folder: stanford(folder, doc_maxlen=3),
        "a document may have 3 tokens, and its prompt leaves no room for a text",
    ),
    "prefix": (
        lambda folder: pylate(folder, query_prefix="[Z] "),
        "the prefix '[Z] ' is not a token of its tokenizer",
    ),
    "token": (
        lambda folder: change(
            multi_vector(folder), "sentence_bert_config.json", query_expansion={**FIXED, "token": "[Z]"}
        ),
        "the token '[Z]' of query_expansion is not in its tokenizer",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unsupported_settings_are_refused(name: str, tmp_path: Path) -> None:
    write, message = REFUSED[name]
    with pytest.raises(MissingError) as error:
        scorer_of(write(tmp_path))
    assert message in str(error.value)


def test_a_folder_without_metadata_is_refused(tmp_path: Path) -> None:
    folder = stanford(tmp_path / "model")
    (folder / "artifact.metadata").unlink()
    with pytest.raises(MissingError, match=r"artifact\.metadata, which has its prefixes and lengths, is missing"):
        resolve(str(folder))


def test_another_family_is_refused(tmp_path: Path) -> None:
    folder = multi_vector(tmp_path)
    with pytest.raises(MissingError, match='"model_type" is MultiVectorEncoder, not SentenceTransformer'):
        resolve(str(folder), "bi-encoder")
    with pytest.raises(MissingError, match=r'"model_type" is neither MultiVectorEncoder nor ColBERT'):
        resolve(str(folder / ".." / "base"), "late-interaction")


def test_a_document_without_tokens_is_ranked_last() -> None:
    query, document = np.ones((2, 3), np.float32), np.zeros((0, 3), np.float32)
    answers = [Answer(query), Answer(document)]  # type: ignore[arg-type]
    assert LateInteraction().score(answers) == Score(-1e9)
    assert LateInteraction(with_matches=True).score(answers) == Score(-1e9, {"matches": []})
