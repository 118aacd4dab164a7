"""Measures in the notation of ir_measures: `nDCG@10`, `P(rel=2)@5`, and, in short, `nDCG@{1,3,5}`.

Read here and not by ir_measures' own `parse_measure`, which uses classes that Python 3.14 no longer has.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from lbr_cli.errors import MissingError, UsageError

DEFAULTS = ("nDCG@10", "RR", "AP", "P@1", "R@100")
PACKAGES = ("ir_measures", "pytrec_eval", "scipy")
MEASURE = re.compile(r"(?P<name>\w+)(?:\((?P<arguments>.*)\))?(?:@(?P<at>.+))?", re.DOTALL)
HINT = 'as ir_measures writes them: "nDCG@10 P(rel=2)@5 AP RR R@{10,100}"'


def parse_measures(texts: Sequence[str]) -> list[Any]:
    """ir_measures' measures, each once, from texts that hold one or more, with blanks or commas between them.

    Raises UsageError for what is no measure, MissingError without the extra that has them.
    """
    for package in PACKAGES:
        if find_spec(package) is None:
            raise MissingError(f"evaluating needs {package}, which is not here", hint="pip install 'lbr-cli[eval]'")
    measures = [measure for text in texts for part in _parts(text) for measure in _measures(part)]
    if not measures:
        raise UsageError("--measures: names none", hint=HINT)
    return list(dict.fromkeys(measures))


def alike(measures: Sequence[Any]) -> list[list[Any]]:
    """The measures in groups with equal parameters, which are safe to compute together.

    ir_measures lets a measure without gains share the judgments of one that has them, with the gains put in.
    """
    groups: dict[str, list[Any]] = {}
    for measure in measures:
        others = {name: value for name, value in measure.params.items() if name != measure.AT_PARAM}
        groups.setdefault(repr(sorted(others.items())), []).append(measure)
    return list(groups.values())


def _parts(text: str) -> Iterator[str]:
    """What stands between blanks and commas that are in no brackets."""
    depth, part = 0, ""
    for letter in text:
        depth += (letter in "({[") - (letter in ")}]")
        if depth <= 0 and (letter.isspace() or letter == ","):
            yield part
            part = ""
        else:
            part += letter
    yield part


def _measures(text: str) -> Iterator[Any]:
    if not text:
        return
    import ir_measures

    found = MEASURE.fullmatch(text)
    if found is None:
        raise UsageError(f"--measures {text}: not a measure", hint=HINT)
    known = ir_measures.measures.registry.get(found["name"])
    if known is None:
        raise UsageError(f"--measures {text}: there is no measure {found['name']}", hint=HINT)
    arguments = _arguments(found["arguments"] or "", text)
    if found["at"] is None:
        yield _checked(known(**arguments), text)
        return
    values = _value(found["at"], text)
    at = known.AT_PARAM
    for value in sorted(values) if isinstance(values, set) else [values]:
        kind = known.SUPPORTED_PARAMS[at].dtype if at in known.SUPPORTED_PARAMS else None
        yield _checked(known(**arguments, **{at: float(value) if kind is float else value}), text)


def _arguments(source: str, text: str) -> dict[str, Any]:
    try:
        call = ast.parse(f"f({source})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(word.arg is None for word in call.keywords):
            raise ValueError
        return {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    except (ValueError, SyntaxError) as error:
        raise UsageError(f"--measures {text}: what stands in brackets is not name=value", hint=HINT) from error


def _value(source: str, text: str) -> Any:
    try:
        value = ast.literal_eval(source)
    except (ValueError, SyntaxError, TypeError) as error:
        raise UsageError(f"--measures {text}: no number stands behind @", hint=HINT) from error
    numbers = value if isinstance(value, set) else {value} if isinstance(value, int | float) else {None}
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        raise UsageError(f"--measures {text}: no number stands behind @", hint=HINT)
    return value


def _checked(measure: Any, text: str) -> Any:
    """The measure. UsageError for parameters that it does not have."""
    try:
        measure.validate_params()
    except AssertionError as error:
        raise UsageError(f"--measures {text}: {error}", hint=HINT) from error
    for name, what in (("cutoff", "a cut-off"), ("rel", "the least relevant grade, rel,")):
        if measure.params.get(name, 1) < 1:
            raise UsageError(f"--measures {text}: {what} is 1 or more", hint=HINT)
    return measure
