"""A run as one JSON object, on one line or many.

    {query_id: {doc_id: score}}                                        pytrec_eval, BEIR, MTEB, ranx
    {"search_results": {query_id: {doc_id: score}}}                    FlagEmbedding
    {"mteb_model_meta": …, subset: {split: {query_id: {doc_id: score}}}}    predictions of MTEB

The whole object is in memory. It is read only: rankings are written in another format.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from lbr_cli.core import Candidate, Query
from lbr_cli.errors import InputError
from lbr_cli.float32 import as_float
from lbr_cli.formats.files import decoded, shell_command
from lbr_cli.formats.json_lines import json_kind
from lbr_cli.formats.protocol import Line, RunFormat

RESULTS, META = "search_results", "mteb_model_meta"
FORM = "{query id: {document id: score}}"
OPENING = re.compile(r'\{\s*"(?!(?:query|doc)")(?:[^"\\]|\\.)*"\s*:\s*\{')
JSONL_KEYS = {"query_id", "qid", "query"}  # not keys of a run in one object


class RunJson(RunFormat):
    """A run as one JSON object. `subset` and `split` choose a part of predictions of MTEB."""

    name = "json"
    suffix = ".json"
    can_write = False

    def __init__(self, subset: str | None = None, split: str | None = None) -> None:
        self._chosen = {"subset": subset, "split": split}

    def matches(self, line: str) -> bool:
        line = line.strip(" \t\r")
        if not line.startswith("{"):
            return False
        try:
            values = orjson.loads(line)
        except orjson.JSONDecodeError:  # an object over several lines, or a bad line of JSONL
            return line == "{" or bool(OPENING.match(line))
        return isinstance(values, dict) and (
            is_whole_run(values) or (_is_nested(values) and not JSONL_KEYS.intersection(values))
        )

    def read(self, lines: Iterable[tuple[int, bytes]], file: str) -> Iterator[Line]:
        numbered_lines = list(lines)
        scores, where = self._scores(_parsed(numbered_lines, file), file)
        number = numbered_lines[0][0]
        for query_id, documents in scores.items():
            query, location = Query(query_id), f"{where}{json.dumps(query_id, ensure_ascii=False)}"
            if not isinstance(documents, dict):
                raise _wrong_type(location, "an object of documents and scores", documents, file)
            for doc_id, score in documents.items():
                if type(score) not in (int, float):
                    raise _wrong_type(f"{location}, {json.dumps(doc_id, ensure_ascii=False)}", "a number", score, file)
                value = as_float(score)
                if not math.isfinite(value):
                    raise InputError(
                        f"{location}, {json.dumps(doc_id, ensure_ascii=False)}: the score is {value}", file
                    )
                yield Line(number, query, Candidate(doc_id, score=value))

    def _scores(self, values: Mapping[str, Any], file: str) -> tuple[Mapping[str, Any], str]:
        """Return the object with the scores, and the keys that lead to it, for messages."""
        if META in values:
            values = {key: value for key, value in values.items() if key != META}
            subset, values = self._part("subset", values, "", file)
            split, values = self._part("split", values, f"{json.dumps(subset)}, ", file)
            return values, f"{json.dumps(subset)}, {json.dumps(split)}, "
        for option, value in self._chosen.items():
            if value is not None:
                raise InputError(f"--{option} {value}: only predictions of MTEB have subsets and splits", file)
        if isinstance(values.get(RESULTS), dict):
            return values[RESULTS], f'"{RESULTS}", '
        return values, ""

    def _part(self, noun: str, values: Mapping[str, Any], where: str, file: str) -> tuple[str, Mapping[str, Any]]:
        """Return the key that the option `noun` chooses, or the only key of `values`, and its value."""
        chosen, names = self._chosen[noun], ", ".join(values)
        if chosen is None and len(values) != 1:
            raise InputError(f"has {len(values)} {noun}s: {names}", file, hint=f"choose one with --{noun}")
        key = next(iter(values)) if chosen is None else chosen
        if key not in values:
            raise InputError(f"has no {noun} {key}", file, hint=f"the {noun}s are: {names}")
        if not isinstance(values[key], dict):
            raise _wrong_type(where + json.dumps(key), "an object", values[key], file)
        return key, values[key]


def is_whole_run(values: Mapping[str, Any]) -> bool:
    """Return whether a JSON object is a run of one of the forms."""
    if (META in values or isinstance(values.get(RESULTS), dict)) and not JSONL_KEYS.intersection(values):
        return True
    if not values or not all(isinstance(scores, dict) and scores for scores in values.values()):
        return False
    return all(type(score) in (int, float) for scores in values.values() for score in scores.values())


def _is_nested(values: Mapping[str, Any]) -> bool:
    return bool(values) and all(isinstance(inner, dict) for inner in values.values())


def _parsed(lines: list[tuple[int, bytes]], file: str) -> dict[str, Any]:
    """Return the object in all lines. InputError for invalid JSON, a repeated key, or a value of another type."""
    value: Any
    text = "\n".join(decoded(data, file, number) for number, data in lines)
    try:
        value = json.loads(text, object_pairs_hook=_without_repeated)
    except json.JSONDecodeError as error:
        number = lines[error.lineno - 1][0]
        raise InputError(f"invalid JSON: {error.msg} at column {error.colno}", file, number) from error
    except (_RepeatedKeyError, RecursionError) as error:
        raise InputError(str(error), file) from error
    if isinstance(value, dict) and (is_whole_run(value) or _is_nested(value)):
        return value
    hint = f"convert a file of objects to JSONL: {shell_command('jq -c .', file)}"
    raise InputError(f"not JSONL, and not a run of the form {FORM}", file, hint=hint)


class _RepeatedKeyError(ValueError):
    """A duplicate key in an object."""


def _without_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise _RepeatedKeyError(f"duplicate key {json.dumps(repeated, ensure_ascii=False)} in an object")
    return values


def _wrong_type(where: str, needed: str, value: object, file: str) -> InputError:
    return InputError(f"{where}: {needed} is needed, this is {json_kind(value)}", file)
