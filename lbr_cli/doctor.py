"""Check a model on this machine: versions, devices, precision, and a numeric self-test.

The self-test scores two documents of very different length together, as a job does, and one by one in float32 on the
CPU with transformers' own attention, and compares the scores. For `lb` it also compares scores with those that its
authors have published.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import version

from lbr_cli import __version__
from lbr_cli.core import Document, Progress, Query
from lbr_cli.engines import Settings
from lbr_cli.errors import RunError
from lbr_cli.models import ALIASES, HubModel, LocalModel, fetch
from lbr_cli.scoring import Scorer

QUERY = Query("self-test", "how do I get rid of the white crust inside my kettle")
DOCUMENTS = [
    Document("short", "Vinegar dissolves limescale."),
    Document("long", "Trams have run on rails through this town since the bridge was built. " * 12),
]
PLAIN = Settings("cpu", "float32", plain=True)
# relative to the score, or absolute below 1
TOLERANCE, HALF_TOLERANCE = 1e-3, 0.05
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


def examine(model: HubModel | LocalModel | None, settings: Settings, progress: Progress) -> Iterator[tuple[str, str]]:
    """Yield the name and the result of each check. RunError if the self-test fails."""
    from lbr_cli.engines.local import prepare
    from lbr_cli.engines.local.devices import all_devices, choose_device, choose_dtype, describe, dtype_name

    yield "lbr", f"{__version__}, Python {platform.python_version()}"
    for package in ("torch", "transformers"):
        yield package, version(package)
    for device in all_devices():
        yield str(device), describe(device)
    dtype = dtype_name(choose_dtype(settings.dtype, choose_device(settings.device)))
    if model is None:
        return
    is_lb = isinstance(model, HubModel) and model.hub_id == ALIASES["lb"].hub_id
    model = fetch(model, progress)
    family = model.family
    yield "model", f"{model.name}, family {family.name}, {model.path}"
    prepared = prepare(model, settings)
    yield "tokenizer", prepared.files.tokenizer_reason
    engine = prepared.load(0)
    yield "computes", engine.description
    yield "attention", engine.attention
    scorer = Scorer(family, lambda pairs: engine, progress)
    together = scorer.score_query(QUERY, DOCUMENTS)
    plain = Scorer(family, prepare(model, PLAIN).load, progress)
    alone = [plain.score_query(QUERY, [document])[0] for document in DOCUMENTS]
    pairs = zip(together, alone, strict=True)
    off = max(abs(one.value - other.value) / max(1.0, abs(other.value)) for one, other in pairs)
    allowed = TOLERANCE if dtype == "float32" else HALF_TOLERANCE
    if not off <= allowed:
        first, second = (" and ".join(f"{score.value:.6g}" for score in scores) for scores in (together, alone))
        raise RunError(f"self-test: {first} together, but {second} alone in float32", hint=HINT)
    yield "self-test", f"passed: {off:.1g} from float32 read one by one, {allowed:g} allowed"
    if is_lb:
        yield "published", _published(scorer)


def _published(scorer: Scorer) -> str:
    """Compare scores with those published with the model. RunError if one differs too much."""
    document = Document("apple", PUBLISHED_TEXT)
    texts = PUBLISHED.items()
    scores = [(scorer.score_query(Query(text, text), [document])[0].value, score) for text, score in texts]
    off = max(abs(score - published) for score, published in scores)
    if not off <= PUBLISHED_TOLERANCE:
        differing = ", ".join(f"{score:.5g} for {published:.5g}" for score, published in scores)
        raise RunError(f"scores differ from those published with the model: {differing}", hint=HINT)
    return f"passed: {off:.1g} from the scores published with it, {PUBLISHED_TOLERANCE} allowed"
