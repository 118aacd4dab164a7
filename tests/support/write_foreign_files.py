"""Write `tests/formats/foreign/`: one small collection as other libraries write it.

The pins of these libraries conflict with those of lbr, so this runs in an environment of its own:

    uv venv /tmp/foreign && uv pip install -p /tmp/foreign beir datasets ir-datasets mteb pandas polars ranx
    PYTHONPATH=tests /tmp/foreign/bin/python -m support.write_foreign_files

`VERSIONS` in that folder has the versions of the libraries. `tests/formats/test_foreign.py` reads the files.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from support.foreign import CORPUS, FOREIGN, QRELS, QUERIES, SCORES

LIBRARIES = ("beir", "datasets", "ir-datasets", "mteb", "pandas", "polars", "ranx")


def ranx(folder: Path) -> None:
    from ranx import Qrels, Run

    run = Run(SCORES, name="run")
    run.save(str(folder / "run.json"))
    run.save(str(folder / "run.trec"), kind="trec")
    run.save(str(folder / "run.lz4"))
    run.to_dataframe().to_parquet(folder / "run.parquet", index=False)
    Qrels(QRELS).save(str(folder / "qrels.trec"), kind="trec")


def beir(folder: Path) -> None:
    from beir.util import save_runfile, write_to_json, write_to_tsv

    save_runfile(str(folder / "run.trec"), SCORES)
    write_to_json(str(folder / "corpus.jsonl"), CORPUS)
    write_to_json(str(folder / "queries.jsonl"), QUERIES)
    write_to_tsv(str(folder / "qrels.tsv"), QRELS)


def mteb(folder: Path) -> None:
    """Write the predictions of a task, with `mteb.evaluate`."""
    import mteb as library
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models.model_meta import ModelMeta

    class Small(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name="Small",
            description="A small collection",
            dataset={"path": "none/none", "revision": "1"},
            type="Retrieval",
            category="t2t",
            modalities=["text"],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
        )

        def load_data(self, *_: Any, **__: Any) -> None:
            texts = [{"id": doc_id, **document} for doc_id, document in CORPUS.items()]
            queries = [{"id": query_id, "text": text} for query_id, text in QUERIES.items()]
            split = {"corpus": Dataset.from_list(texts), "queries": Dataset.from_list(queries), "relevant_docs": QRELS}
            self.dataset = {"default": {"test": {**split, "top_ranked": None}}}
            self.data_loaded = True

    class Known:
        """A model whose scores are known."""

        mteb_model_meta = ModelMeta.create_empty({"name": "lbr/known", "revision": "1"})

        def index(self, *_: Any, **__: Any) -> None:
            pass

        def search(self, *_: Any, **__: Any) -> dict[str, dict[str, float]]:
            return SCORES

    with tempfile.TemporaryDirectory() as predictions:
        library.evaluate(Known(), Small(), prediction_folder=predictions, cache=None, co2_tracker=False)
        shutil.copy(next(Path(predictions).rglob("*.json")), folder / "predictions.json")


def rows() -> list[dict[str, Any]]:
    """Return the run with its texts, one row for each candidate."""
    return [
        {
            "query_id": query_id,
            "query": QUERIES[query_id],
            "doc_id": doc_id,
            "text": CORPUS[doc_id]["text"],
            "score": score,
        }
        for query_id, scores in SCORES.items()
        for doc_id, score in scores.items()
    ]


def datasets(folder: Path) -> None:
    """Write a reranking task in the layout of MTEB on the hub, and a corpus with `save_to_disk`."""
    from datasets import Dataset

    corpus = Dataset.from_list([{"_id": doc_id, **document} for doc_id, document in CORPUS.items()])
    corpus.to_parquet(folder / "corpus.parquet")
    corpus.save_to_disk(folder / "corpus")
    for path in (folder / "corpus").glob("*.json"):  # only the tables are read
        path.unlink()
    queries = [{"_id": query_id, "text": text} for query_id, text in QUERIES.items()]
    Dataset.from_list(queries).to_parquet(folder / "queries.parquet")
    ranked = [
        {"query-id": query_id, "corpus-ids": sorted(scores, key=lambda doc_id: -scores[doc_id])}
        for query_id, scores in SCORES.items()
    ]
    Dataset.from_list(ranked).to_parquet(folder / "top_ranked.parquet")
    Dataset.from_list(rows()).to_json(folder / "run.jsonl")
    judged = [
        {"query-id": q, "corpus-id": d, "score": grade} for q, grades in QRELS.items() for d, grade in grades.items()
    ]
    Dataset.from_list(judged).to_parquet(folder / "qrels.parquet")


def pandas(folder: Path) -> None:
    import pandas as library

    frame = library.DataFrame(rows())
    frame.to_json(folder / "run.jsonl", orient="records", lines=True)
    frame.to_parquet(folder / "run.parquet")
    frame.to_feather(folder / "run.feather")
    frame[["query_id", "doc_id", "score"]].to_csv(folder / "run.tsv", sep="\t", header=False, index=False)
    frame.to_pickle(folder / "run.pkl")


def polars(folder: Path) -> None:
    import polars as library

    frame = library.DataFrame(rows())
    frame.write_ndjson(folder / "run.jsonl")
    frame.write_parquet(folder / "run.parquet")
    frame.write_ipc(folder / "run.arrow")
    frame.write_ipc_stream(folder / "run.arrows")


def ir_datasets(folder: Path) -> None:
    """Write files with `ir_datasets export`."""
    import ir_datasets as library
    from ir_datasets import formats
    from ir_datasets.commands.export import main

    documents = [formats.GenericDoc(doc_id, document["text"]) for doc_id, document in CORPUS.items()]
    queries = [formats.GenericQuery(*query) for query in QUERIES.items()]
    scored = [formats.GenericScoredDoc(row["query_id"], row["doc_id"], row["score"]) for row in rows()]
    judged = [formats.TrecQrel(q, d, grade, "0") for q, grades in QRELS.items() for d, grade in grades.items()]

    def part(base: type, **methods: Callable[..., Any]) -> Any:
        return type("Part", (base,), methods)()

    parts = (
        part(formats.BaseDocs, docs_iter=lambda _: iter(documents), docs_cls=lambda _: formats.GenericDoc),
        part(formats.BaseQueries, queries_iter=lambda _: iter(queries), queries_cls=lambda _: formats.GenericQuery),
        part(formats.BaseScoredDocs, scoreddocs_iter=lambda _: iter(scored)),
        part(
            formats.BaseQrels,
            qrels_iter=lambda _: iter(judged),
            qrels_defs=lambda _: {0: "no", 1: "yes"},
            qrels_cls=lambda _: formats.TrecQrel,
        ),
    )
    library.registry.register("small", library.Dataset(*parts))
    exported = {
        "docs": ("jsonl", "tsv"),
        "queries": ("jsonl", "tsv"),
        "scoreddocs": ("trec", "jsonl"),
        "qrels": ("trec",),
    }
    for name, kinds in exported.items():
        for kind in kinds:
            standard, sys.stdout = sys.stdout, (folder / f"{name}.{kind}").open("w")
            try:
                main(["small", name, "--format", kind])
            finally:
                sys.stdout.close()
                sys.stdout = standard


if __name__ == "__main__":
    shutil.rmtree(FOREIGN, ignore_errors=True)
    for write in (ranx, beir, mteb, datasets, pandas, polars, ir_datasets):
        folder = FOREIGN / write.__name__
        folder.mkdir(parents=True)
        write(folder)
    text = "".join(f"{library} {version(library)}\n" for library in LIBRARIES)
    (FOREIGN / "VERSIONS").write_text(text)
