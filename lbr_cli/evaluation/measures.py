"""Measures in the notation of ir_measures: `nDCG@10`, `P(rel=2)@5`, and, in short, `nDCG@{1,3,5}`.

Read here and not by ir_measures' own `parse_measure`, which uses classes that Python 3.14 no longer has. Parameters are
kept within bounds in which the code that computes them is known to end well.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from lbr_cli.errors import MissingError, UsageError
from lbr_cli.evaluation.runs import HIGHEST

DEFAULTS = ("nDCG@10", "RR", "AP", "P@1", "R@100")
PACKAGES = ("ir_measures", "pytrec_eval", "scipy")
MEASURE = re.compile(r"(?P<name>\w+)(?:\((?P<arguments>[^()]*)\))?(?:@(?P<at>.+))?", re.DOTALL)
HINT = 'as ir_measures writes them: "nDCG@10 P(rel=2)@5 AP RR R@{10,100}"'
DEEPEST = 1_000_000  # cut-off
LIMITS = {"cutoff": (1, DEEPEST), "rel": (1, HIGHEST), "recall": (0, 1), "p": (0, 1), "beta": (0, DEEPEST)}
# names that trec_eval and other tools have for them, in lower case
ELSEWHERE = {
    **{"map": "AP", "mrr": "RR", "recip_rank": "RR", "ndcg_cut": "nDCG", "precision": "P", "recall": "R", "f1": "SetF"},
    **{"map_cut": "AP", "iprec_at_recall": "IPrec", "num_ret": "NumRet", "num_rel": "NumRel", "num_q": "NumQ"},
}


@dataclass(frozen=True, slots=True)
class Curve:
    """A measure over its cut-offs: its name without them, what they are, and the whole name at each of them."""

    name: str
    axis: str
    measures: dict[float, str]


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
        groups.setdefault(repr(sorted(_others(measure).items())), []).append(measure)
    return list(groups.values())


def curves(measures: Sequence[Any]) -> list[Curve]:
    """The measures that are there at several cut-offs."""
    found: dict[str, Curve] = {}
    for measure in measures:
        if measure.AT_PARAM in measure.params:
            name = str(type(measure)(**_others(measure)))
            axis = "cut-off" if measure.AT_PARAM == "cutoff" else measure.AT_PARAM
            curve = found.setdefault(name, Curve(name, axis, {}))
            curve.measures[measure.params[measure.AT_PARAM]] = str(measure)
    return [
        Curve(curve.name, curve.axis, dict(sorted(curve.measures.items())))
        for curve in found.values()
        if len(curve.measures) > 1
    ]


def _others(measure: Any) -> dict[str, Any]:
    """The parameters but for the cut-off."""
    return {name: value for name, value in measure.params.items() if name != measure.AT_PARAM}


def is_measure(text: str) -> bool:
    """Whether a word looks like a measure."""
    import ir_measures

    found = MEASURE.fullmatch(text)
    return found is not None and found["name"] in ir_measures.measures.registry


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
    name, registry = found["name"], ir_measures.measures.registry
    known = registry.get(name)
    if known is None:
        raise UsageError(f"--measures {text}: there is no measure {name}", hint=_meant(name, registry))
    arguments = _arguments(found["arguments"] or "", text)
    if found["at"] is None:
        yield _checked(known, arguments, text)
        return
    values = _value(found["at"], text)
    if known.AT_PARAM in arguments:
        raise UsageError(f"--measures {text}: {known.AT_PARAM} twice", hint=HINT)
    for value in sorted(values) if isinstance(values, set) else [values]:
        yield _checked(known, {**arguments, known.AT_PARAM: value}, text)


def _meant(name: str, registry: dict[str, Any]) -> str:
    """A hint that tells which measure was meant, or which there are."""
    stem = re.sub(r"[_.]?[0-9,.]*$", "", name).casefold()
    by_lower = {known.casefold(): str(measure) for known, measure in registry.items() if known.isascii()}
    meant = ELSEWHERE.get(stem) or by_lower.get(stem)
    return f"{meant} is what ir_measures calls it, with @ before a cut-off" if meant else HINT


def _arguments(source: str, text: str) -> dict[str, Any]:
    try:
        call = ast.parse(f"f({source})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(word.arg is None for word in call.keywords):
            raise ValueError
        values = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
        if len(values) < len(call.keywords):
            raise ValueError
    except (ValueError, TypeError, SyntaxError) as error:
        raise UsageError(f"--measures {text}: what stands in brackets is not name=value", hint=HINT) from error
    return values


def _value(source: str, text: str) -> Any:
    try:
        value = ast.literal_eval(source)
    except (ValueError, SyntaxError, TypeError) as error:
        raise UsageError(f"--measures {text}: no number stands behind @", hint=HINT) from error
    numbers = value if isinstance(value, set) else [value]
    if not numbers or not all(type(number) in (int, float) for number in numbers):
        raise UsageError(f"--measures {text}: no number stands behind @", hint=HINT)
    return value


def _checked(known: Any, given: dict[str, Any], text: str) -> Any:
    """The measure with these parameters. UsageError for some that it does not have, or that make no sense."""
    for name, value in given.items():
        parameter = known.SUPPORTED_PARAMS.get(name)
        if parameter is None:
            raise UsageError(f"--measures {text}: {known.NAME} has no parameter {name}", hint=HINT)
        if parameter.dtype is float and type(value) is int and abs(value) <= DEEPEST:
            given[name] = value = float(value)
        wrong = not parameter.validate(value) or type(value) is bool is not parameter.dtype
        limits = LIMITS.get(name)
        if wrong or (limits and not limits[0] <= value <= limits[1]) or (name == "gains" and not _are_gains(value)):
            whole = "a whole number " if parameter.dtype is int else ""
            between = f", it is {whole}from {limits[0]} to {limits[1]}" if limits else ""
            raise UsageError(f"--measures {text}: {name} cannot be {value!r}{between}", hint=HINT)
    for name, parameter in known.SUPPORTED_PARAMS.items():
        if parameter.required and name not in {**known.params, **given}:
            example = f"{known.NAME}@10" if name == "cutoff" else f"{known.NAME}({name}=…)"
            raise UsageError(f"--measures {text}: needs {name}: {example}", hint=HINT)
    return known(**given)


def _are_gains(value: dict[Any, Any]) -> bool:
    """Whether whole numbers stand for grades, and none of them for a loss, which trec_eval's code does not know."""
    numbers = [*map(abs, value), *value.values()] if all(type(grade) is int for grade in value) else [-1]
    return all(type(number) is int and 0 <= number <= HIGHEST for number in numbers)
