"""Parquet files, Arrow files and Arrow streams are read as the JSONL with the same rows."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import os
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbr_cli.core import Document
from lbr_cli.errors import InputError, MissingError
from lbr_cli.evaluation.runs import read_judgments, read_run
from lbr_cli.formats.corpus import WantedDocuments, read_corpus
from lbr_cli.formats.fields import Fields
from lbr_cli.formats.input_files import InputFiles
from lbr_cli.formats.queries import read_queries, table_columns
from lbr_cli.formats.tables import TableColumns, shards
from support.files import DOCS, QUERIES, RUN, write
from support.program import Program
from support.users import unprivileged

Rows = list[dict[str, Any]]


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def arrow_file(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue()


def arrow_stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue()


FORMS: dict[str, Callable[[pa.Table], bytes]] = {"parquet": parquet, "file": arrow_file, "stream": arrow_stream}
FIELDS = Fields()
forms = pytest.mark.parametrize("form", FORMS)


def jsonl(rows: Rows) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def lines(path: Path, columns: TableColumns | None = None) -> bytes:
    with InputFiles().open(str(path), columns=columns) as stream:
        return stream.read()


def wrong(path: Path) -> str:
    with pytest.raises(InputError) as error:
        lines(path)
    return str(error.value).removeprefix(f"{path}:")


def corpus(path: Path, wanted: set[str], fields: Fields = FIELDS) -> dict[str, Document]:
    documents = WantedDocuments(wanted)

    def bad(error: InputError) -> None:
        raise error

    for file in shards(str(path)):
        stream = InputFiles().open(file, columns=fields.table_columns)
        read_corpus(stream, documents, fields, lambda _: None, bad)
    return documents.documents


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "_id": TEXT,
            "number": st.none() | st.integers(-(1 << 63), (1 << 63) - 1),
            "score": st.none() | st.floats(allow_nan=False, allow_infinity=False),
            "text": st.none() | TEXT,
            "flag": st.booleans(),
            "list": st.none() | st.lists(st.none() | TEXT, max_size=2),
            "struct": st.none()
            | st.fixed_dictionaries({"a.b": TEXT, "scores": st.lists(st.floats(-1, 1), max_size=2)}),
        }
    ),
    min_size=1,
    max_size=7,
)
SCHEMA = pa.schema(
    {
        "_id": pa.string(),
        "number": pa.int64(),
        "score": pa.float64(),
        "text": pa.large_string(),
        "flag": pa.bool_(),
        "list": pa.list_(pa.string()),
        "struct": pa.struct({"a.b": pa.string(), "scores": pa.list_(pa.float64())}),
    }
)


@settings(max_examples=50)
@given(rows=ROWS, form=st.sampled_from(sorted(FORMS)))
def test_a_table_is_read_like_its_json_lines(tmp_path_factory: pytest.TempPathFactory, rows: Rows, form: str) -> None:
    path = tmp_path_factory.getbasetemp() / "table"
    path.write_bytes(FORMS[form](pa.Table.from_pylist(rows, SCHEMA)))
    assert [orjson.loads(line) for line in lines(path).splitlines()] == rows


@forms
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array(["a", "ü", "a"]).dictionary_encode(), ["a", "ü", "a"]),
        (pa.array([1, 2, 1]).dictionary_encode(), [1, 2, 1]),
        (pa.DictionaryArray.from_arrays([0, None, 1], pa.array(["a", "b"], pa.binary())), ["a", None, "b"]),
        (pa.array([["a"], None, ["b"]], pa.list_(pa.dictionary(pa.int8(), pa.string()))), [["a"], None, ["b"]]),
        (pa.array(["a", "ü", None], pa.large_string()), ["a", "ü", None]),
        (pa.array(["a", "ü", None], pa.string_view()), ["a", "ü", None]),
        (pa.array(["a", "ü", None], pa.binary()), ["a", "ü", None]),
        (pa.array(["a", "ü", None], pa.large_binary()), ["a", "ü", None]),
        (pa.array(["a", "ü", None], pa.binary_view()), ["a", "ü", None]),
        (pa.array([b"abc", b"xyz", None], pa.binary(3)), ["abc", "xyz", None]),
        (pa.array([2**64 - 1, 0, None], pa.uint64()), [2**64 - 1, 0, None]),
        (pa.array([0.5, -1.5, None], pa.float16()), [0.5, -1.5, None]),
        (pa.array([0.1, 1, 2], pa.float32()), [0.10000000149011612, 1.0, 2.0]),
        (pa.array([None, None, None], pa.null()), [None, None, None]),
        (pa.array([["a"], [], None], pa.list_(pa.binary())), [["a"], [], None]),
        (pa.array([["a"], [], None], pa.large_list(pa.string())), [["a"], [], None]),
        (pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int8(), 2)), [[1, 2], None, [3, 4]]),
        (pa.array([[("k", 1.5)], [], None], pa.map_(pa.string(), pa.float64())), [{"k": 1.5}, {}, None]),
        (
            pa.array([{"t": 1}, None, {"t": None}], pa.struct({"t": pa.date32()})),
            [{"t": "1970-01-02"}, None, {"t": None}],
        ),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_types_of_columns_become_json(tmp_path: Path, form: str, values: pa.Array, expected: list[Any]) -> None:
    (tmp_path / "t").write_bytes(FORMS[form](pa.table({"x": values})))
    assert lines(tmp_path / "t") == jsonl([{"x": value} for value in expected])


@pytest.mark.parametrize("form", ["file", "stream"])  # pyarrow does not write this type to Parquet
def test_categories_of_polars_are_strings(tmp_path: Path, form: str) -> None:
    values = pa.DictionaryArray.from_arrays(pa.array([0, None, 1], pa.uint32()), pa.array(["a", "b"], pa.string_view()))
    (tmp_path / "t").write_bytes(FORMS[form](pa.table({"x": values})))
    assert lines(tmp_path / "t") == jsonl([{"x": "a"}, {"x": None}, {"x": "b"}])


def test_decimals_keep_their_digits(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(parquet(pa.table({"x": pa.array([Decimal("1.50")])})))
    assert lines(tmp_path / "t") == b'{"x":1.50}\n'


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
def test_all_compressions_of_parquet_are_read(tmp_path: Path, codec: str) -> None:
    rows = [{"_id": str(number), "text": "words " * number} for number in range(50)]
    (tmp_path / "t").write_bytes(parquet(pa.Table.from_pylist(rows), compression=codec, row_group_size=7))
    assert lines(tmp_path / "t") == jsonl(rows)


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_all_compressions_of_arrow_files_are_read(tmp_path: Path, codec: str) -> None:
    rows = [{"_id": str(number), "text": "words " * number} for number in range(50)]
    pa.feather.write_feather(pa.Table.from_pylist(rows), tmp_path / "t", compression=codec)
    assert lines(tmp_path / "t") == jsonl(rows)


@forms
def test_only_the_named_columns_are_read(tmp_path: Path, form: str) -> None:
    table = pa.table(
        {
            "_id": ["d1", "d2"],
            "vector": [[math.nan], [1.0]],  # an error if it is read
            "doc": [{"body": "figs", "vector": 1.0}, {"body": "trams", "vector": 2.0}],
            "url": ["u", "v"],
        }
    )
    (tmp_path / "t").write_bytes(FORMS[form](table))
    assert corpus(tmp_path / "t", {"d2"}, Fields(text_field="doc.body")) == {"d2": Document("d2", "trams")}
    assert lines(tmp_path / "t", TableColumns((("id", "_id"),), ("url", "title"))) == jsonl(
        [{"_id": "d1", "url": "u"}, {"_id": "d2", "url": "v"}]
    )


@forms
def test_a_missing_column_is_named_with_those_of_the_table(tmp_path: Path, form: str) -> None:
    (tmp_path / "t").write_bytes(FORMS[form](pa.table({"_id": ["d1"], "title": ["x"], "passages": ["y"]})))
    with pytest.raises(InputError, match=r"t:1: no text \(text, contents, .*\)") as error:
        corpus(tmp_path / "t", {"d1"})
    assert error.value.hint == "name the field with --text-field; the line has _id, title, passages"
    with pytest.raises(InputError, match=r"t:1: no query text \(text, query\)") as error:
        read_queries(InputFiles().open(str(tmp_path / "t"), columns=table_columns()))
    assert error.value.hint == "name the key with --topic-field; the line has title, passages"


@forms
@pytest.mark.parametrize(
    ("ids", "texts", "message"),
    [
        (["a", "b", None], ["x", "y", "z"], '3: "_id" has to be a string or a 64-bit integer, this is null'),
        (["a", "b", "c"], ["x", None, "z"], '2: "text" has to be a string, this is null'),
        (["a", "b", "a"], ["x", "y", "z"], "3: document a has another text at {file}:1"),
        ([1.0, 2.0, 3.0], ["x", "y", "z"], '1: "_id" has to be a string or a 64-bit integer, this is a number with'),
        (["a", "b", "c"], [1, 2, 3], '1: "text" has to be a string, this is an integer'),
        (["a", "b", "c"], [["x"], ["y"], ["z"]], '1: "text" has to be a string, this is an array'),
        (["a", "b", "c"], [b"x", b"\xff", b"z"], '2: "text", of type binary: Invalid UTF8 payload'),
    ],
)
def test_invalid_rows_of_a_corpus_are_errors(
    tmp_path: Path, form: str, ids: list[Any], texts: list[Any], message: str
) -> None:
    path = tmp_path / "t"
    path.write_bytes(FORMS[form](pa.table({"_id": ids, "text": texts})))
    with pytest.raises(InputError) as error:
        corpus(path, {"a", "c"})
    assert str(error.value).startswith(f"{path}:{message.format(file=path)}")


def test_integer_ids_are_their_digits(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(parquet(pa.table({"id": [7, 42], "text": ["x", "y"]})))
    assert corpus(tmp_path / "t", {"42"}) == {"42": Document("42", "y")}


@forms
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_have_to_be_finite(tmp_path: Path, form: str, bad: float) -> None:
    nested: list[Any] = [[{"score": 1.0}], None, [{"score": 2.0}, {"score": bad}]]
    for values, type_ in (([1.0, None, bad], "double"), (nested, "list<")):
        (tmp_path / "t").write_bytes(FORMS[form](pa.table({"id": ["a", "b", "c"], "x": values})))
        message = wrong(tmp_path / "t")
        assert message.startswith(f'3: "x", of type {type_}')
        assert message.endswith("NaN and infinity are not JSON; use null")


def test_strings_have_to_be_utf_8(tmp_path: Path) -> None:
    _, offsets, data = pa.array([b"ok", b"\xff"]).buffers()
    values = pa.StringArray.from_buffers(2, offsets, data)
    (tmp_path / "t").write_bytes(arrow_file(pa.table({"x": values})))
    assert wrong(tmp_path / "t") == '2: "x" is not UTF-8'


def test_rows_before_an_invalid_one_are_read(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(parquet(pa.table({"x": [1.0, 2.0, math.nan]})))
    stream = InputFiles().open(str(tmp_path / "t"))
    assert [stream.readline(), stream.readline()] == [b'{"x":1.0}\n', b'{"x":2.0}\n']
    with pytest.raises(InputError):
        stream.readline()


@forms
def test_a_truncated_table_is_refused(tmp_path: Path, form: str) -> None:
    content = FORMS[form](pa.table({"_id": [str(number) for number in range(9)]}))
    for size in range(9, len(content), 7):
        (tmp_path / "t").write_bytes(content[:size])
        assert " is damaged or unsupported: " in wrong(tmp_path / "t") or "is cut off" in wrong(tmp_path / "t")


def test_an_arrow_stream_needs_its_end_mark(tmp_path: Path) -> None:
    content = arrow_stream(pa.table({"_id": ["a", "b", "c"]}))
    (tmp_path / "t").write_bytes(content[:-8])
    assert wrong(tmp_path / "t").endswith("the Arrow stream is cut off: it has no end-of-stream mark")
    (tmp_path / "t").write_bytes(content * 2)
    assert lines(tmp_path / "t") == jsonl([{"_id": name} for name in "abc"]) * 2


@forms
def test_columns_with_one_name_are_refused(tmp_path: Path, form: str) -> None:
    table = pa.table([pa.array(["a"]), pa.array(["x"]), pa.array(["y"])], ["_id", "text", "text"])
    (tmp_path / "t").write_bytes(FORMS[form](table))
    with pytest.raises(InputError, match='has several columns "text"'):
        corpus(tmp_path / "t", {"a"})


@forms
def test_compressed_tables_and_pipes_are_read(tmp_path: Path, lbr: Program, form: str) -> None:
    rows = [{"query_id": "q", "doc_id": f"d{number}", "query": "figs", "text": "ripe figs"} for number in range(9)]
    content = FORMS[form](pa.Table.from_pylist(rows))
    write(tmp_path, {"t.gz": gzip.compress(content), "cut.gz": gzip.compress(content)[:-30]})
    assert lines(tmp_path / "t.gz") == jsonl(rows)
    assert wrong(tmp_path / "cut.gz").endswith("the gzip data is cut off or damaged")
    ended = lbr("rerank", "--engine", "overlap", stdin=content)
    assert (ended.code, ended.out) == (0, lbr("rerank", "--engine", "overlap", stdin=jsonl(rows)).out)
    if form == "stream":
        assert lbr("rerank", "--engine", "overlap", "--stream", stdin=content).out == ended.out
    ended = lbr("rerank", "--query", "figs", "--lines", stdin=content)
    assert (ended.code, ended.err.partition("\n")[0].startswith("lbr: standard input: is a")) == (2, True)


def test_a_folder_is_read_as_all_its_shards(tmp_path: Path) -> None:
    for name, ids in (
        ("b/1.arrow", "cd"),
        ("a.parquet", "ab"),
        ("cache-1.arrow", "x"),
        (".t.parquet", "x"),
        ("t", "x"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        content = pa.table({"_id": list(ids), "text": list(ids)})
        (tmp_path / name).write_bytes(arrow_stream(content) if name.endswith("arrow") else parquet(content))
    assert shards(str(tmp_path)) == [str(tmp_path / "a.parquet"), str(tmp_path / "b/1.arrow")]
    assert lines(tmp_path) == jsonl([{"_id": name, "text": name} for name in "abcd"])
    assert corpus(tmp_path, {"b", "d"}) == {name: Document(name, name) for name in "bd"}
    (tmp_path / "c.parquet").write_bytes(parquet(pa.table({"_id": ["e", None], "text": ["e", "f"]})))
    with pytest.raises(InputError, match=r"c\.parquet:2: "):
        corpus(tmp_path, {"b"})


def test_links_to_folders_of_shards_are_followed_once(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "shards", tmp_path / "elsewhere"
    for path in (folder / "a", elsewhere):
        path.mkdir(parents=True)
        (path / "1.parquet").write_bytes(parquet(pa.table({"_id": [path.name], "text": ["x"]})))
    (folder / "b").symlink_to(elsewhere)
    (folder / "again").symlink_to(elsewhere)
    (folder / "a" / "loop").symlink_to(folder)
    assert shards(str(folder)) == [str(folder / "a/1.parquet"), str(folder / "again/1.parquet")]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
@pytest.mark.parametrize("name", [".", "private"])
def test_a_folder_that_cannot_be_read_is_an_error(shared: Path, name: str) -> None:
    """Its shards would be missing in silence; commandprompt/pgcolumnar #114."""
    (shared / "1.parquet").write_bytes(parquet(pa.table({"_id": ["a"], "text": ["x"]})))
    (shared / name).mkdir(exist_ok=True)
    (shared / name).chmod(0o711)
    with unprivileged(), pytest.raises(InputError) as error:
        shards(str(shared))
    assert str(error.value) == f"{shared / name}: cannot be read: Permission denied"


def test_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    assert wrong(tmp_path).endswith("is a folder without .parquet and .arrow files")


BEIR = {
    "corpus": [
        {"_id": row["_id"], "title": row["title"], "text": row["text"]}
        for row in map(json.loads, DOCS.split("\n")[:-1])
    ],
    "queries": [{"_id": id_, "text": text} for id_, text in (line.split("\t") for line in QUERIES.split("\n")[:-1])],
    "top_ranked": [{"query-id": "q1", "corpus-ids": ["d1", "d2"]}, {"query-id": "q2", "corpus-ids": ["d2"]}],
    "qrels": [{"query-id": "q1", "corpus-id": "d2", "score": 1}, {"query-id": "q2", "corpus-id": "d2", "score": 2}],
}
FILES = ("top_ranked", "-c", "corpus", "-q", "queries", "--engine", "overlap")


@forms
def test_the_layout_of_mteb_on_the_hub_is_read(files: Path, lbr: Program, form: str) -> None:
    for name, rows in BEIR.items():
        folder = files / name
        folder.mkdir()
        (folder / "data-00000-of-00001.arrow").write_bytes(FORMS[form](pa.Table.from_pylist(rows)))
        (files / f"{name}.jsonl").write_bytes(jsonl(rows))
    ended = lbr("rerank", *FILES, "-o", "out.jsonl", "--manifest", "m.json")
    assert ended.code == 0
    table = files / "corpus" / "data-00000-of-00001.arrow"
    digest = {"file": "corpus/data-00000-of-00001.arrow", "sha256": hashlib.sha256(table.read_bytes()).hexdigest()}
    assert digest in json.loads((files / "m.json").read_bytes())["inputs"]
    twin = lbr("rerank", *(f"{name}.jsonl" if name in BEIR else name for name in FILES))
    assert (files / "out.jsonl").read_text() == twin.out
    trec = lbr("rerank", "run.trec", *FILES[1:], "--output-format", "jsonl", "--quiet").records
    ranking = [(row["query_id"], row["doc_id"], row["rank"], row["score"]) for row in trec]
    assert [(row["query_id"], row["doc_id"], row["rank"], row["score"]) for row in twin.records] == ranking
    assert read_judgments(str(files / "qrels")) == {"q1": {"d2": 1}, "q2": {"d2": 2}}
    assert read_run(str(files / "top_ranked")).rankings == {"q1": ["d1", "d2"], "q2": ["d2"]}


def test_runs_and_judgments_of_pandas_and_ir_datasets_are_read(files: Path) -> None:
    rows = [line.split() for line in RUN.splitlines()]
    table = pa.table(
        {"qid": [row[0] for row in rows], "docno": [row[2] for row in rows], "score": [float(row[4]) for row in rows]}
    )
    (files / "run.parquet").write_bytes(parquet(table))
    assert read_run(str(files / "run.parquet")).rankings == read_run(str(files / "run.trec")).rankings
    qrels = pa.table({"query_id": [1, 1], "doc_id": ["d1", "d2"], "relevance": [1.0, -1.0], "iteration": ["0", "0"]})
    (files / "qrels").write_bytes(parquet(qrels))
    assert read_judgments(str(files / "qrels")) == {"1": {"d1": 1, "d2": -1}}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"query-id": None, "corpus-id": "d", "score": 1},
            '"query-id" has to be a string or a 64-bit integer, this is null',
        ),
        (
            {"query-id": "q", "corpus-id": True, "score": 1},
            '"corpus-id" has to be a string or a 64-bit integer, this is a boo',
        ),
        (
            {"query-id": "q", "corpus-id": "d", "score": 0.5},
            '"score" has to be an integer of at most nine digits, this is a nu',
        ),
        (
            {"query-id": "q", "corpus-id": "d", "score": "1"},
            '"score" has to be an integer of at most nine digits, this is a str',
        ),
        (
            {"query-id": "q", "corpus-id": "d", "score": True},
            '"score" has to be an integer of at most nine digits, this is a boo',
        ),
        (
            {"query-id": "q", "corpus-id": "d", "score": 10**9},
            '"score" has to be an integer of at most nine digits, this is an',
        ),
        ({"query-id": "q", "doc": "d", "score": 1}, "no document id (doc_id, docid, docno, corpus-id, corpus_id, pid)"),
        ({"query-id": "q", "corpus-id": "d"}, "no grade (relevance, rel, grade, label, judgment, score)"),
    ],
)
@pytest.mark.parametrize("write_rows", [jsonl, lambda rows: parquet(pa.Table.from_pylist(rows))])
def test_invalid_judgments_are_errors(
    tmp_path: Path, write_rows: Callable[[Rows], bytes], row: dict[str, Any], message: str
) -> None:
    path = tmp_path / "q"
    path.write_bytes(write_rows([row]))
    with pytest.raises(InputError) as error:
        read_judgments(str(path))
    assert str(error.value).startswith(f"{path}:1: {message}")


@forms
def test_without_pyarrow_tables_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    path = tmp_path / "t"
    path.write_bytes(FORMS[form](pa.table({"_id": ["a"]})))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingError) as error:
        lines(path)
    noun = {"parquet": "a Parquet file", "file": "an Arrow file", "stream": "an Arrow stream"}[form]
    assert str(error.value) == f"{path}: is {noun}, and pyarrow is not installed"
    assert error.value.hint.startswith("install it: pip install 'lbr-cli[parquet]'; or ")
    assert ("duckdb" in error.value.hint and str(path) in error.value.hint) == (form == "parquet")


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.feather"])
def test_parquet_and_arrow_output_is_refused(files: Path, lbr: Program, name: str) -> None:
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", "-o", name)
    assert (ended.code, ended.err.splitlines()[0]) == (
        2,
        f"lbr: -o {name}: Parquet and Arrow files are read, but not written",
    )
    assert lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", "-o", "-").code == 0
