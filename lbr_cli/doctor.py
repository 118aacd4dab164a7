"""Check a model on this machine: versions, devices, precision, and a numeric self-test.

The self-test scores two documents of very different length in one batch, as a job does, and one by one in float32 on
the CPU with transformers' own attention, and compares the scores. For `lb` it also compares scores with those that its
authors have published. For int8 it measures the speed of the matrix products and the error of the scores, both against
float32.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

from lbr_cli import __version__
from lbr_cli.core import Document, Progress, Query
from lbr_cli.engines import ComputeSpec, Settings
from lbr_cli.engines.prompt_preview import prompt_preview
from lbr_cli.errors import RunError
from lbr_cli.models import ALIASES, HubModel, LocalModel, fetch
from lbr_cli.models.digests import file_digests, fingerprint
from lbr_cli.reference import MAX_LENGTH, Reference, ReferencePair, compare, current_versions
from lbr_cli.reference_pairs import REFERENCE_PAIRS
from lbr_cli.scoring import Scorer, naming_pair, requests_of

QUERY = Query("self-test", "how do I get rid of the white crust inside my kettle")
DOCUMENTS = [
    Document("short", "Vinegar dissolves limescale."),
    Document("long", "Trams have run on rails through this town since the bridge was built. " * 12),
]
PLAIN = Settings("cpu", "float32", plain=True)
# relative to the score, or absolute below 1
TOLERANCE, HALF_TOLERANCE, INT8_TOLERANCE = 1e-3, 0.05, 0.1
# published with lightblue/lb-reranker-0.5B-v1.0 for one document (vLLM); those of LMDeploy differ by up to 0.024
PUBLISHED_TEXT = (
    "An apple is a round, edible fruit produced by an apple tree (Malus spp., among them the domestic or orchard "
    "apple; Malus domestica)."
)
PUBLISHED = {
    "What is the scientific name of apples?": 6.66570732,
    "What is the Chinese word for 'apple'?": 1.86686378,
    "What is the square root of 999?": 1.01102923,
}
PUBLISHED_TOLERANCE = 0.024
HINT = "do not trust scores of this setting; try --dtype float32 or --device cpu"


@dataclass(frozen=True, slots=True)
class ReferenceCheck:
    """The recorded scores to compare with, and the name of their file."""

    path: str
    recorded: Reference


def examine(
    model: HubModel | LocalModel | None,
    settings: Settings,
    progress: Progress,
    *,
    record: Callable[[bytes], object] | None = None,
    check: ReferenceCheck | None = None,
) -> Iterator[tuple[str, str]]:
    """Yield the name and the result of each check. RunError if one fails.

    `record` receives the JSON of the reference scores, once the self-test has passed.
    """
    from lbr_cli.engines.local import prepare_device
    from lbr_cli.engines.local.devices import all_devices, choose_device, choose_dtype, describe, dtype_name

    yield "lbr", f"{__version__}, Python {platform.python_version()}"
    for package in ("torch", "transformers"):
        yield package, version(package)
    for device in all_devices():
        yield str(device), describe(device)
    dtype = dtype_name(choose_dtype(settings.dtype, choose_device(settings.device)))
    if model is None:
        return
    is_lb = isinstance(model, HubModel) and model.hub_id == ALIASES["lb"].hub_id and not model.adapter
    model = fetch(model, progress)
    family = model.family
    yield "model", f"{model.name}, family {family.name}, {model.path}"
    if model.base:
        yield "base model", f"{model.base.label}, {model.base.folder}"
    if record or check:
        longest = prompt_preview("local", model, settings).max_length
        settings = replace(settings, max_length=min(longest, MAX_LENGTH))
    prepared = prepare_device(model, settings)
    yield "tokenizer", prepared.files.tokenizer_reason
    engine = prepared.load(0)
    yield "computes", engine.description
    yield "attention", engine.attention
    scorer = Scorer(family, lambda pairs: engine, progress)
    batched = scorer.score_query(QUERY, DOCUMENTS)
    plain = Scorer(family, prepare_device(model, replace(PLAIN, max_length=settings.max_length)).load, progress)
    expected = [plain.score_query(QUERY, [document])[0] for document in DOCUMENTS]
    pairs = zip(batched, expected, strict=True)
    error = max(abs(score.value - exact.value) / max(1.0, abs(exact.value)) for score, exact in pairs)
    allowed = {"float32": TOLERANCE, "int8": INT8_TOLERANCE}.get(dtype, HALF_TOLERANCE)
    if not error <= allowed:
        first, second = (" and ".join(f"{score.value:.6g}" for score in scores) for scores in (batched, expected))
        raise RunError(f"self-test failed: scores {first}, but {second} one by one in float32", hint=HINT)
    if dtype == "int8":
        yield "int8 speed", _int8_speed(engine.model)
        yield "int8 error", _int8_error(scorer, plain)
    yield "self-test", f"passed: at most {error:.1g} from scores computed one by one in float32, {allowed:g} allowed"
    if is_lb:
        yield "published", _published(scorer)
    if record:
        record(_reference(model, settings, prepared.spec, scorer, REFERENCE_PAIRS).to_json())
        yield "record", f"{len(REFERENCE_PAIRS)} pairs"
    if check:
        texts = tuple((pair.query, pair.document) for pair in check.recorded.pairs)
        computed = _reference(model, settings, prepared.spec, scorer, texts)
        yield "check", compare(check.path, check.recorded, computed)


def _reference(
    model: LocalModel, settings: Settings, spec: ComputeSpec, scorer: Scorer, texts: tuple[tuple[str, str], ...]
) -> Reference:
    """Return the token ids and the scores of pairs, each computed alone. RequestError has the number of its pair."""
    preview = prompt_preview("local", model, settings)
    pairs = []
    for number, (text, contents) in enumerate(texts, start=1):
        query, document = Query(str(number), text), Document(str(number), contents)
        with naming_pair(model.family, [(query, document)]):
            tokens = [preview.prompt(request).ids for request in requests_of(model.family, query, document)]
        score = scorer.score_query(query, [document])[0].value
        pairs.append(ReferencePair(text, contents, tokens, score))
    return Reference(
        current_versions(),
        model.label,
        fingerprint(file_digests(model)),
        repr(model.family),
        spec.device,
        spec.dtype,
        spec.max_length,
        pairs,
    )


def _int8_speed(weights: Any) -> str:
    """Measure and describe the speed of the matrix products of a model that computes in int8."""
    from lbr_cli.engines.local.int8_compute import measure_speed

    speed = measure_speed(weights)
    gain = speed.int8 / speed.float32
    return f"matrix products at {speed.int8:.0f} GFLOPS, {gain:.1f} times the {speed.float32:.0f} of float32"


def _int8_error(scorer: Scorer, plain: Scorer) -> str:
    """Compare the scores of the reference pairs with those of float32, and describe the error."""
    errors = []
    for number, (query, document) in enumerate(REFERENCE_PAIRS, start=1):
        texts = Query(str(number), query), [Document(str(number), document)]
        errors.append(abs(scorer.score_query(*texts)[0].value - plain.score_query(*texts)[0].value))
    mean = math.sqrt(sum(error * error for error in errors) / len(errors))
    return f"{len(errors)} pairs differ from float32 by at most {max(errors):.2g}, root mean square {mean:.2g}"


def _published(scorer: Scorer) -> str:
    """Compare scores with those published with the model, and describe the error. RunError if it is too large."""
    document = Document("apple", PUBLISHED_TEXT)
    texts = PUBLISHED.items()
    scores = [(scorer.score_query(Query(text, text), [document])[0].value, score) for text, score in texts]
    error = max(abs(score - published) for score, published in scores)
    if not error <= PUBLISHED_TOLERANCE:
        differing = ", ".join(f"{score:.5g} for {published:.5g}" for score, published in scores)
        raise RunError(f"scores differ from those published with the model: {differing}", hint=HINT)
    return f"passed: at most {error:.1g} from the scores published with the model, {PUBLISHED_TOLERANCE} allowed"
