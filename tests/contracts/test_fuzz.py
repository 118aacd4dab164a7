"""Whole jobs on random inputs: equal to a few plain lines of Python if valid, a clean error if broken."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lbr_cli.errors import LbrError
from lbr_cli.float32 import float32
from lbr_cli.formats.input_files import InputFiles
from lbr_cli.inputs import Inputs, Policies
from lbr_cli.inputs.load import load_run
from lbr_cli.inputs.stream import stream
from lbr_cli.job import Job, run
from support.progress import RecordedProgress

# ids of any characters, except separators of fields and first bytes of other formats
ID = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=" \t\n\r\ufeff")
    | st.sampled_from(list('0"[\\é\u2028\xa0')),
    min_size=1,
    max_size=6,
).filter(lambda text: text[0] not in "#{[<")
WORD = st.sampled_from(
    ["fig", "figs", "ripe", "Ripe", "tram", "gauge", "日本", "é", "e\u0301", "<b>", '"', "\\", "\x00", "7"]
)
TEXT = st.lists(WORD, max_size=6).map(" ".join)


@dataclass(frozen=True)
class Files:
    """The files of a job, and its expected pairs and texts."""

    run: bytes
    corpus: bytes
    queries: bytes
    pairs: list[tuple[str, str, float]]
    documents: dict[str, str]
    texts: dict[str, str]
    by_rank: bool  # the run has ranks and no scores

    def write(self, folder: Path) -> Inputs:
        (folder / "run").write_bytes(self.run)
        (folder / "corpus").write_bytes(self.corpus)
        (folder / "queries").write_bytes(self.queries)
        return Inputs((str(folder / "run"),), (str(folder / "corpus"),), str(folder / "queries"))


def jsonl(records: list[Any]) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def write_run(kind: str, pairs: list[tuple[str, str, float]]) -> bytes:
    if kind == "trec":
        return "".join(f"{q}\tQ0  {d} 1 {score!r} x\n" for q, d, score in pairs).encode()
    if kind == "msmarco":
        return "".join(f"{q}\t{d}\t{rank}\n" for rank, (q, d, _) in enumerate(pairs)).encode()
    if kind == "pairs":
        return jsonl([{"query_id": q, "doc_id": d, "score": score, "extra": [q]} for q, d, score in pairs])
    lists: dict[str, list[dict[str, Any]]] = {}
    for q, d, score in pairs:
        lists.setdefault(q, []).append({"docid": d, "score": score})
    return jsonl([{"qid": q, "candidates": candidates} for q, candidates in lists.items()])


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "crlf": lambda data: data.replace(b"\n", b"\r\n"),
    "bom": lambda data: b"\xef\xbb\xbf" + data,
    "no end": lambda data: data.removesuffix(b"\n"),
    "gzip": lambda data: gzip.compress(data[:7]) + gzip.compress(data[7:]),
    "zstd": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
}


@st.composite
def jobs(draw: st.DrawFn) -> Files:
    documents = draw(st.dictionaries(ID, TEXT, min_size=1, max_size=6))
    texts = draw(st.dictionaries(ID, TEXT, min_size=1, max_size=4))
    every = [(q, d) for q in texts for d in documents]
    chosen = draw(st.lists(st.sampled_from(every), min_size=1, unique=True))
    scores = draw(st.lists(st.floats(-50, 50), min_size=len(chosen), max_size=len(chosen)))
    pairs = [(q, d, score) for (q, d), score in zip(chosen, scores, strict=True)]
    kind = draw(st.sampled_from(["trec", "msmarco", "pairs", "nested"]))
    corpus = jsonl([{"_id": d, "text": text} for d, text in documents.items()])
    if draw(st.booleans()):
        corpus = "".join(f"{d}\t{text}\n" for d, text in documents.items()).encode()
    queries = jsonl([{"_id": q, "text": text} for q, text in texts.items()])
    if draw(st.booleans()):
        queries = "".join(f"{q}\t{text}\n" for q, text in texts.items()).encode()
    dress = [COMPRESS[draw(st.sampled_from(sorted(COMPRESS)))] for _ in range(3)]
    return Files(
        dress[0](write_run(kind, pairs)),
        dress[1](corpus),
        dress[2](queries),
        pairs,
        documents,
        texts,
        kind == "msmarco",
    )


def overlap(query: str, document: str) -> float:
    """Return the share of the query's distinct words, computed independently of lbr."""
    wanted = set(re.findall(r"\w+", query.casefold()))
    there = set(re.findall(r"\w+", document.casefold()))
    return len(wanted & there) / len(wanted) if wanted else 0.0


def expected(files: Files) -> list[tuple[str, str, int, float]]:
    rows = []
    for query_id in dict.fromkeys(q for q, _, _ in files.pairs):
        first = [(d, score) for q, d, score in files.pairs if q == query_id]
        if not files.by_rank:
            first.sort(key=lambda pair: -pair[1])
        scored = [(d, float32(overlap(files.texts[query_id], files.documents[d]))) for d, _ in first]
        scored.sort(key=lambda pair: -pair[1])
        rows += [(query_id, d, rank, score) for rank, (d, score) in enumerate(scored, 1)]
    return rows


def results(folder: Path, inputs: Inputs, **options: Any) -> list[tuple[str, str, int, float]]:
    run(Job(inputs, None, "overlap", output=str(folder / "out.jsonl"), **options), RecordedProgress())
    records = [json.loads(line) for line in (folder / "out.jsonl").read_bytes().decode().split("\n")[:-1]]
    return [(r["query_id"], r["doc_id"], r["rank"], float32(r["score"])) for r in records]


@given(jobs())
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_output_equals_plain_python(tmp_path_factory: pytest.TempPathFactory, files: Files) -> None:
    folder = tmp_path_factory.mktemp("job")
    assert results(folder, files.write(folder)) == expected(files)


@pytest.mark.slow
@given(jobs(), st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_input_is_an_error_or_has_correct_output(
    tmp_path_factory: pytest.TempPathFactory, files: Files, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("job")
    inputs = files.write(folder)
    name = data.draw(st.sampled_from(["run", "corpus", "queries"]))
    content = bytearray((folder / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        offset = data.draw(st.integers(0, len(content)))
        change = data.draw(st.sampled_from(["insert", "delete", "replace", "cut", "double"]))
        noise = data.draw(
            st.binary(min_size=1, max_size=4) | st.sampled_from([b"\n", b"\t", b" ", b"\xff", b"\x00", b'"'])
        )
        if change == "insert":
            content[offset:offset] = noise
        elif change == "delete":
            del content[offset : offset + len(noise)]
        elif change == "replace":
            content[offset : offset + len(noise)] = noise
        elif change == "cut":
            del content[offset:]
        else:
            content += content[offset:]
    (folder / name).write_bytes(content)
    policies = Policies(
        data.draw(st.sampled_from(["error", "skip", "last"])),
        data.draw(st.sampled_from(["error", "skip", "keep"])),
        data.draw(st.sampled_from(["warn", "error"])),
        data.draw(st.sampled_from(["error", "skip"])),
    )
    inputs = Inputs(inputs.runs, inputs.corpora, inputs.queries, policies=policies)
    try:
        loaded = load_run(inputs, InputFiles(), RecordedProgress())
    except LbrError as error:
        assert str(error)
        assert error.exit_code == 2
        with pytest.raises(LbrError):
            results(folder, inputs)
        assert not (folder / "out.jsonl").exists()
        return
    run(Job(inputs, None, "overlap", output=str(folder / "out.jsonl")), RecordedProgress())
    written = [json.loads(line) for line in (folder / "out.jsonl").read_bytes().decode().split("\n")[:-1]]
    wanted = {
        (ranking.query.query_id, candidate.doc_id): None
        if ranking.query.text is None or candidate.document is None
        else float32(overlap(ranking.query.text, candidate.document.contents))
        for ranking in loaded.rankings
        for candidate in ranking.candidates
    }
    assert len(written) == len(wanted)
    for record in written:
        score = wanted[record["query_id"], record["doc_id"]]
        assert score == (None if record["score"] is None else float32(record["score"]))


LINE = st.binary(max_size=30) | st.sampled_from(
    [b'{"query":"a","documents":["b"]}', b'{"qid":1,"id":1,"query":"a","text":"b"}', b"", b"{}", b'{"qid":2', b"\xff"]
)


@given(st.lists(LINE, max_size=8).map(b"\n".join))
def test_any_stream_ends_without_a_traceback(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("stream")
    (folder / "run").write_bytes(content)
    try:
        for ranking in stream(Inputs((str(folder / "run"),)), InputFiles(), RecordedProgress()):
            assert ranking.query.text is not None
            assert all(candidate.document is not None for candidate in ranking.candidates)
    except LbrError as error:
        assert str(error)
