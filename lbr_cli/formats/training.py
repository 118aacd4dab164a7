"""Training data of rerankers and embedding models, as FlagEmbedding reads it, one query a line.

    {"query": …, "pos": ["text", …], "neg": ["text", …], "pos_scores"?: […], "neg_scores"?: […], …}

The output has the same lines with new `pos_scores` and `neg_scores`, the teacher scores for distillation, in the order
of the texts. All other keys are copied. In other output formats the query id is the line number, and the document ids
are pos-0, pos-1, … and neg-0, neg-1, …
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from lbr_cli.core import Candidate, Document, Query, RankedCandidate
from lbr_cli.errors import InputError
from lbr_cli.float32 import round_trip_number
from lbr_cli.formats.json_lines import Record, bad_type, dump_json, json_kind, json_object
from lbr_cli.formats.jsonl import DOC_IDS, LISTS, QUERY_IDS
from lbr_cli.formats.protocol import Line, OutputOptions, RunFormat

LABELS = ("pos", "neg")


class Training(RunFormat):
    name = "training"
    kept_suffix = ".jsonl"  # training data is JSONL, too

    def matches(self, line: str) -> bool:
        try:
            record = json_object(line.encode(), "", 1)
        except InputError:
            return False
        keys = record.keys()
        if "query" not in keys or not keys & LABELS:
            return False
        is_pair = keys & QUERY_IDS and keys & DOC_IDS
        return not is_pair and not any(isinstance(record.get(key), list) for key in LISTS)

    def read(self, lines: Iterable[tuple[int, bytes]], file: str) -> Iterator[Line]:
        for number, data in lines:
            record = Record(json_object(data, file, number), file, number)
            for key in ("query", *LABELS):
                if key not in record.values:
                    raise record.error(f'no "{key}", and training data has query, pos and neg')
            query = Query(str(number), record.string("query"), *record.instruction(), record.values)
            candidates = [candidate for label in LABELS for candidate in _candidates(record, label)]
            for candidate in candidates or (None,):
                yield Line(number, query, candidate, implied=True)

    def write(self, query: Query, rows: Sequence[RankedCandidate], options: OutputOptions) -> bytes:
        if query.record is None:
            raise ValueError("training output needs the lines of training input")
        scores = {row.candidate.doc_id: row.score for row in rows}
        record = dict(query.record)
        for label in LABELS:
            of_label = (scores[_doc_id(label, index)] for index in range(len(record[label])))
            record[f"{label}_scores"] = [None if score is None else round_trip_number(score) for score in of_label]
        return dump_json(record)


def _candidates(record: Record, label: str) -> Iterator[Candidate]:
    """Yield a candidate for each text with this label. InputError for a value that is not a list of strings."""
    texts = record.values[label]
    if not isinstance(texts, list):
        raise record.error(bad_type(label, "an array", texts))
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise record.error(f'"{label}" has to hold strings, item {index} is {json_kind(text)}')
        doc_id = _doc_id(label, index)
        yield Candidate(doc_id, Document(doc_id, text))


def _doc_id(label: str, index: int) -> str:
    return f"{label}-{index}"
