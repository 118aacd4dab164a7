"""Files of other libraries, written by `support.write_foreign_files`, hold one small collection."""

from __future__ import annotations

import pytest

from lbr_cli.errors import InputError
from lbr_cli.evaluation.runs import read_judgments, read_run
from lbr_cli.formats.corpus import WantedDocuments, read_corpus
from lbr_cli.formats.fields import Fields
from lbr_cli.formats.input_files import InputFiles
from lbr_cli.formats.queries import read_queries, table_columns
from lbr_cli.formats.tables import shards
from support.foreign import CORPUS, FOREIGN, QRELS, QUERIES, SCORES

RUNS = (
    "beir/run.trec",
    "datasets/run.jsonl",
    "ir_datasets/scoreddocs.jsonl",
    "ir_datasets/scoreddocs.trec",
    "mteb/predictions.json",
    "pandas/run.feather",
    "pandas/run.jsonl",
    "pandas/run.parquet",
    "pandas/run.tsv",
    "polars/run.arrow",
    "polars/run.arrows",
    "polars/run.jsonl",
    "polars/run.parquet",
    "ranx/run.json",
    "ranx/run.parquet",
    "ranx/run.trec",
)
CORPORA = (
    "beir/corpus.jsonl",
    "datasets/corpus",
    "datasets/corpus.parquet",
    "ir_datasets/docs.jsonl",
    "ir_datasets/docs.tsv",
)
QUERY_FILES = ("beir/queries.jsonl", "datasets/queries.parquet", "ir_datasets/queries.jsonl", "ir_datasets/queries.tsv")
QRELS_FILES = ("beir/qrels.tsv", "datasets/qrels.parquet", "ir_datasets/qrels.trec", "ranx/qrels.trec")
REFUSED = {"pandas/run.pkl": "pickle", "ranx/run.lz4": "LZ4"}
RANKINGS = {query_id: sorted(scores, key=lambda doc_id: -scores[doc_id]) for query_id, scores in SCORES.items()}


def test_every_file_is_tested() -> None:
    files = {path for path in FOREIGN.rglob("*") if path.is_file()} - {FOREIGN / "VERSIONS"}
    named = {*RUNS, *CORPORA, *QUERY_FILES, *QRELS_FILES, *REFUSED, "datasets/top_ranked.parquet"}
    assert {FOREIGN / shard for name in named for shard in shards(str(FOREIGN / name))} == files


@pytest.mark.parametrize("name", RUNS)
def test_runs_are_read(name: str) -> None:
    run = read_run(str(FOREIGN / name), keep=True)
    assert run.rankings == RANKINGS
    assert run.candidates.keys() == SCORES.keys()
    for query_id, hits in run.candidates.items():  # `to_json` of pandas writes 10 decimals
        assert {doc_id: hit.score for doc_id, hit in hits.items()} == pytest.approx(SCORES[query_id], rel=1e-9)


def test_candidates_of_a_reranking_task_have_the_order_of_the_list() -> None:
    assert read_run(str(FOREIGN / "datasets/top_ranked.parquet")).rankings == RANKINGS


@pytest.mark.parametrize("name", CORPORA)
def test_corpora_are_read(name: str) -> None:
    documents = WantedDocuments(set(CORPUS))
    for path in shards(str(FOREIGN / name)):
        stream = InputFiles().open(path, columns=Fields().table_columns)
        read_corpus(stream, documents, Fields(), lambda _: None, lambda error: pytest.fail(str(error)))
    assert {doc_id: document.text for doc_id, document in documents.documents.items()} == {
        doc_id: document["text"] for doc_id, document in CORPUS.items()
    }


@pytest.mark.parametrize("name", QUERY_FILES)
def test_queries_are_read(name: str) -> None:
    stream = InputFiles().open(str(FOREIGN / name), columns=table_columns())
    assert {query_id: line.query.text for query_id, line in read_queries(stream).items()} == QUERIES


@pytest.mark.parametrize("name", QRELS_FILES)
def test_qrels_are_read(name: str) -> None:
    assert read_judgments(str(FOREIGN / name)) == QRELS


@pytest.mark.parametrize(("name", "kind"), REFUSED.items())
def test_other_binary_files_are_refused_by_kind(name: str, kind: str) -> None:
    with pytest.raises(InputError, match=kind):
        read_run(str(FOREIGN / name))
