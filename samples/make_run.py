"""Make run.trec, the first stage of the samples: pip install bm25s==0.3.16 && python make_run.py

BM25 as bm25s has it by default (Lucene's formula, k1 = 1.5, b = 0.75) over title and text; words are runs of two or
more word characters, lower-cased, without stemming and with all stop words; the best 20 documents of each query that
share a word with it.
"""

import json
from pathlib import Path

import bm25s

HERE = Path(__file__).parent
DEPTH = 20


def records(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines()]


def words(texts: list[str]) -> bm25s.tokenization.Tokenized:
    return bm25s.tokenize(texts, stopwords=None, show_progress=False)


documents, queries = records("docs.jsonl"), records("queries.jsonl")
index = bm25s.BM25()
index.index(words([f"{document['title']} {document['text']}" for document in documents]), show_progress=False)
places, scores = index.retrieve(words([query["text"] for query in queries]), k=DEPTH, show_progress=False)
with (HERE / "run.trec").open("w", encoding="utf-8") as run:
    for query, row, values in zip(queries, places, scores, strict=True):
        for rank, (place, score) in enumerate(zip(row, values, strict=True), 1):
            if score > 0:
                run.write(f"{query['_id']} Q0 {documents[place]['_id']} {rank} {score:.4f} bm25\n")
