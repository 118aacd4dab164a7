"""Measures in the notation of ir_measures, `nDCG@10` or `P(rel=2)@5`, and the short form `nDCG@{1,3,5}`.

They are parsed here because ir_measures' own `parse_measure` uses classes that Python 3.14 has removed. Parameters are
limited to values for which the code that computes the measures is known to terminate.
"""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from lbr_cli.errors import MissingError, UsageError
from lbr_cli.evaluation.runs import MAX_GRADE

DEFAULTS = ("nDCG@10", "RR", "AP", "P@1", "R@100")
PACKAGES = ("ir_measures", "pytrec_eval", "scipy")
INSTALL = "pip install 'lbr-cli[eval]'"
MEASURE = re.compile(r"(?P<name>\w+)(?:\((?P<arguments>[^()]*)\))?(?:@(?P<at>.+))?", re.DOTALL)
HINT = 'the notation of ir_measures: "nDCG@10 P(rel=2)@5 AP RR R@{10,100}"'
MAX_CUTOFF = 1_000_000
LIMITS = {"cutoff": (1, MAX_CUTOFF), "rel": (1, MAX_GRADE), "recall": (0, 1), "p": (0, 1), "beta": (0, MAX_CUTOFF)}
# names of measures in trec_eval and other tools, in lower case
OTHER_NAMES = {
    **{"map": "AP", "mrr": "RR", "recip_rank": "RR", "ndcg_cut": "nDCG", "precision": "P", "recall": "R", "f1": "SetF"},
    **{"map_cut": "AP", "iprec_at_recall": "IPrec", "num_ret": "NumRet", "num_rel": "NumRel", "num_q": "NumQ"},
}


@dataclass(frozen=True, slots=True)
class Curve:
    """A measure over its cut-offs: its name without them, the name of the cut-off, and the full name at each."""

    name: str
    axis: str
    measures: dict[float, str]


def parse_measures(texts: Sequence[str], option: str = "--measures") -> list[Any]:
    """Return the measures of ir_measures that the texts of an option name, without duplicates.

    Spaces or commas separate names.

    Raises UsageError for an invalid measure, MissingError without the extra `eval`.
    """
    for package in PACKAGES:
        if find_spec(package) is None:
            raise MissingError(f"evaluation needs {package}, which is not installed", hint=INSTALL)
    try:
        measures = [measure for text in texts for name in _split(text) for measure in _parse(name)]
    except UsageError as error:
        raise UsageError(f"{option} {error}", hint=error.hint) from error
    if not measures:
        raise UsageError(f"{option}: no measure", hint=HINT)
    return list(dict.fromkeys(measures))


def group_by_parameters(measures: Sequence[Any]) -> list[list[Any]]:
    """Return the measures in groups with equal parameters, which are safe to compute together.

    Otherwise ir_measures computes a measure without gains from judgments to which the gains of another were applied.
    """
    groups: dict[str, list[Any]] = {}
    for measure in measures:
        groups.setdefault(repr(sorted(_without_cutoff(measure).items())), []).append(measure)
    return list(groups.values())


def curves(measures: Sequence[Any]) -> list[Curve]:
    """Return a curve for each measure with several cut-offs."""
    by_name: dict[str, Curve] = {}
    for measure in measures:
        if measure.AT_PARAM in measure.params:
            name = str(type(measure)(**_without_cutoff(measure)))
            axis = "cut-off" if measure.AT_PARAM == "cutoff" else measure.AT_PARAM
            curve = by_name.setdefault(name, Curve(name, axis, {}))
            curve.measures[measure.params[measure.AT_PARAM]] = str(measure)
    several = [curve for curve in by_name.values() if len(curve.measures) > 1]
    return [Curve(curve.name, curve.axis, dict(sorted(curve.measures.items()))) for curve in several]


def _without_cutoff(measure: Any) -> dict[str, Any]:
    return {name: value for name, value in measure.params.items() if name != measure.AT_PARAM}


def is_measure(text: str) -> bool:
    """Return whether a word looks like a measure."""
    import ir_measures

    match = MEASURE.fullmatch(text)
    return match is not None and match["name"] in ir_measures.measures.registry


def _split(text: str) -> Iterator[str]:
    """Yield the parts between spaces and commas outside of brackets."""
    depth, part = 0, ""
    for character in text:
        depth += (character in "({[") - (character in ")}]")
        if depth <= 0 and (character.isspace() or character == ","):
            yield part
            part = ""
        else:
            part += character
    yield part


def _parse(text: str) -> Iterator[Any]:
    """Yield the measure that a text names, at each of its cut-offs."""
    if not text:
        return
    import ir_measures

    match = MEASURE.fullmatch(text)
    if match is None:
        raise UsageError(f"{text}: not a measure", hint=HINT)
    name, registry = match["name"], ir_measures.measures.registry
    measure = registry.get(name)
    if measure is None:
        raise UsageError(f"{text}: unknown measure {name}", hint=_suggestion(name, registry))
    arguments = _parse_arguments(match["arguments"] or "", text)
    if match["at"] is None:
        yield _checked(measure, arguments, text)
        return
    if measure.AT_PARAM in arguments:
        raise UsageError(f"{text}: duplicate {measure.AT_PARAM}", hint=HINT)
    for value in _parse_cutoffs(match["at"], text):
        yield _checked(measure, {**arguments, measure.AT_PARAM: value}, text)


def _suggestion(name: str, registry: dict[str, Any]) -> str:
    """Return a hint with ir_measures' name of the same measure, else with the notation."""
    stem = re.sub(r"[_.]?[0-9,.]*$", "", name).casefold()
    by_lower = {known.casefold(): str(measure) for known, measure in registry.items() if known.isascii()}
    known_name = OTHER_NAMES.get(stem) or by_lower.get(stem)
    return f"ir_measures calls it {known_name}, with @ before a cut-off" if known_name else HINT


def _parse_arguments(source: str, text: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError, TypeError, SyntaxError):
        call = ast.parse(f"f({source})", mode="eval").body
        if isinstance(call, ast.Call) and not call.args and all(word.arg for word in call.keywords):
            values = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
            if len(values) == len(call.keywords):  # no duplicate
                return values
    raise UsageError(f"{text}: invalid parameters in brackets, not name=value", hint=HINT)


def _parse_cutoffs(source: str, text: str) -> list[float]:
    """Return the number after @, or the numbers of a set in ascending order."""
    try:
        value = ast.literal_eval(source)
    except (ValueError, SyntaxError, TypeError):
        value = None
    numbers = value if isinstance(value, set) else {value} if type(value) in (int, float) else set()
    if not numbers or not all(type(number) in (int, float) for number in numbers):
        raise UsageError(f"{text}: no number after @", hint=HINT)
    return sorted(numbers)


def _checked(measure: Any, values: dict[str, Any], text: str) -> Any:
    """Return the measure with parameters. UsageError for one that is unknown, out of bounds or missing."""
    for name, value in values.items():
        parameter = measure.SUPPORTED_PARAMS.get(name)
        if parameter is None:
            raise UsageError(f"{text}: {measure.NAME} has no parameter {name}", hint=HINT)
        if parameter.dtype is float and type(value) is int and abs(value) <= MAX_CUTOFF:
            values[name] = value = float(value)
        valid = parameter.validate(value) and (type(value) is not bool or parameter.dtype is bool)
        limits = LIMITS.get(name)
        if not valid or (limits and not limits[0] <= value <= limits[1]) or (name == "gains" and not _are_gains(value)):
            whole = "a whole number " if parameter.dtype is int else ""
            allowed = f", it is {whole}from {limits[0]} to {limits[1]}" if limits else ""
            raise UsageError(f"{text}: {name} cannot be {value!r}{allowed}", hint=HINT)
    for name, parameter in measure.SUPPORTED_PARAMS.items():
        if parameter.required and name not in {**measure.params, **values}:
            example = f"{measure.NAME}@10" if name == "cutoff" else f"{measure.NAME}({name}=…)"
            raise UsageError(f"{text}: missing parameter {name}: {example}", hint=HINT)
    return measure(**values)


def _are_gains(value: dict[Any, Any]) -> bool:
    """Return whether grades and gains are whole numbers, and no gain is negative, as trec_eval's code requires."""
    numbers = [*map(abs, value), *value.values()] if all(type(grade) is int for grade in value) else [-1]
    return all(type(number) is int and 0 <= number <= MAX_GRADE for number in numbers)
