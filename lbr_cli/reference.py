"""Reference scores of a model: write them with the versions that computed them, and compare them later.

An update of transformers, tokenizers or a driver can change scores without an error. `lbr doctor --record FILE` writes
the token ids and the scores of twenty pairs as JSON; `lbr doctor --check FILE` computes the pairs of the file again.
Token ids have to be equal. Scores may differ by

    5e-6 + 1e-5 · max(1, |score|)     if both were computed in float32 from weights of the same precision
    0.05 · max(1, |score|)            otherwise

1e-5 · max(1, |score|) is the documented reproducibility of float32 scores (docs/scores.md); 5e-6 allows for another
order of additions in another version of a library. 0.05 is the tolerance of the self-test for half precision.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from lbr_cli import __version__
from lbr_cli.engines.environment import version_of
from lbr_cli.errors import InputError, RunError, read_error
from lbr_cli.float32 import as_float
from lbr_cli.models.json_file import KINDS

FORMAT = 1
PACKAGES = ("transformers", "tokenizers", "torch")
ABSOLUTE, RELATIVE, HALF = 5e-6, 1e-5, 0.05
FLOAT32 = "float32"
MAX_LENGTH = 512  # tokens: the overlong document is truncated, and its score takes less than a second


@dataclass(frozen=True, slots=True)
class ReferencePair:
    """A pair, the token ids of each input that the model reads for it, and its score."""

    query: str
    document: str
    tokens: Sequence[Sequence[int]]
    score: float


@dataclass(frozen=True, slots=True)
class Reference:
    """Scores of a model, with the versions, device and precision. `fingerprint` is a digest of the model's files."""

    versions: Mapping[str, str]
    model: str
    fingerprint: str
    family: str
    device: str
    dtype: str
    max_length: int
    pairs: Sequence[ReferencePair]

    @property
    def description(self) -> str:
        """The versions, the device and the precision, in one line."""
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return f"{versions}, {self.device}, {self.dtype}"

    def to_json(self) -> bytes:
        """Return an indented JSON object."""
        fields = {"format": FORMAT, **asdict(self)}
        return orjson.dumps(fields, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def current_versions() -> dict[str, str]:
    """Return the versions of lbr, Python and the packages that compute a score."""
    packages = {name: version_of(name) for name in PACKAGES}
    return {"lbr": __version__, "python": platform.python_version(), **packages}


def read_reference(path: str) -> Reference:
    """Read the file of `lbr doctor --record`. InputError, with the line or the key, for any other file."""
    try:
        with open(path, encoding="utf-8") as file:
            values = json.load(file, parse_constant=_refuse_constant)
    except OSError as error:
        raise read_error(path, error, InputError) from error
    except json.JSONDecodeError as error:
        raise InputError(f"invalid JSON: {error.msg}", path, error.lineno) from error
    except (ValueError, RecursionError) as error:  # not UTF-8, NaN, or nested too deep
        raise InputError(f"invalid JSON: {error}", path) from error
    record = _Fields(path, "", values)
    if record.get("format", int) != FORMAT:
        raise record.error("format", f"is not {FORMAT}, the format that this version of lbr reads")
    versions = _Fields(path, "versions.", record.get("versions", dict))
    listed = record.get("pairs", list)
    pairs = [_pair(_Fields(path, f"pairs[{number}].", pair)) for number, pair in enumerate(listed)]
    if not pairs:
        raise record.error("pairs", "is empty")
    numbers = {name: versions.get(name, str) for name in versions.values}
    texts = {name: record.get(name, str) for name in ("model", "fingerprint", "family", "device", "dtype")}
    return Reference(numbers, **texts, max_length=record.get("max_length", int), pairs=pairs)


def compare(path: str, recorded: Reference, computed: Reference) -> str:
    """Return the largest difference from the scores in the file `path`. RunError, with the first pair, if too large."""
    allowed_all, largest, differing = 0.0, 0.0, []
    for number, (old, new) in enumerate(zip(recorded.pairs, computed.pairs, strict=True), start=1):
        allowed = _tolerance(recorded.dtype, computed.dtype, old.score)
        distance = abs(new.score - old.score)
        allowed_all, largest = max(allowed_all, allowed), max(largest, distance)
        if problem := _different_tokens(old.tokens, new.tokens):
            differing.append(f"pair {number}: {problem}")
        elif not distance <= allowed:
            values = f"score {old.score:.9g} recorded, {new.score:.9g} computed"
            differing.append(f"pair {number}: {values}, {distance:.2g} apart, {allowed:.2g} allowed")
    if differing:
        share = f"{len(differing)} of {len(recorded.pairs)} pairs differ"
        versions = f"recorded with {recorded.description}; computed with {computed.description}"
        raise RunError(f"{path}: {differing[0]}; {share}; {versions}", hint=_cause(recorded, computed))
    return f"passed: {len(recorded.pairs)} pairs, {largest:.2g} from the recorded scores, {allowed_all:.2g} allowed"


def _tolerance(recorded: str, computed: str, score: float) -> float:
    """Return the allowed difference of a score, from the precision of the recorded and of the computed one."""
    scale = max(1.0, abs(score))
    if recorded == computed and recorded.endswith(FLOAT32):
        return ABSOLUTE + RELATIVE * scale
    return HALF * scale


def _different_tokens(recorded: Sequence[Sequence[int]], computed: Sequence[Sequence[int]]) -> str:
    """Describe the first difference of the token ids of a pair; "" if there is none."""
    if len(recorded) != len(computed):
        return f"{len(recorded)} inputs recorded, {len(computed)} computed"
    for old, new in zip(recorded, computed, strict=True):
        for position, (old_id, new_id) in enumerate(zip(old, new, strict=False), start=1):
            if old_id != new_id:
                return f"token {position} is {old_id} recorded, {new_id} computed"
        if len(old) != len(new):
            return f"{len(old)} tokens recorded, {len(new)} computed"
    return ""


def _cause(recorded: Reference, computed: Reference) -> str:
    """Return a hint: the first difference other than versions, or what to do if there is none."""
    if recorded.fingerprint != computed.fingerprint:
        return "the files of the model differ from those that were recorded"
    for name in ("family", "max_length", "dtype", "device"):
        old, new = getattr(recorded, name), getattr(computed, name)
        if old != new:
            return f"{name} differs: {old} recorded, {new} computed"
    return "the files of the model are the same; install the recorded versions, or record again and clear the cache"


def _pair(fields: _Fields) -> ReferencePair:
    tokens = fields.get("tokens", list)
    for ids in tokens:
        if not isinstance(ids, list) or not all(type(token) is int for token in ids):
            raise fields.error("tokens", "has to be an array of arrays of integers")
    score = fields.get("score", object)
    if type(score) not in (int, float) or not math.isfinite(as_float(score)):
        raise fields.error("score", "has to be a finite number")
    return ReferencePair(fields.get("query", str), fields.get("document", str), tokens, float(score))


class _Fields:
    """The keys of a JSON object in a file, whose values are checked for their types."""

    def __init__(self, path: str, prefix: str, values: Any) -> None:
        if not isinstance(values, dict):
            name = f'"{prefix.rstrip(".")}" has' if prefix else "the file has"
            raise InputError(f"{name} to be a JSON object", path)
        self.values: dict[str, Any] = values
        self._path = path
        self._prefix = prefix

    def get(self, key: str, kind: type) -> Any:
        """Return the value of a key, which has to be present and of this type."""
        if key not in self.values:
            raise self.error(key, "is missing")
        value = self.values[key]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.error(key, f"has to be {KINDS[kind]}")
        return value

    def error(self, key: str, problem: str) -> InputError:
        return InputError(f'"{self._prefix}{key}" {problem}', self._path, hint="write it with lbr doctor --record")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")
