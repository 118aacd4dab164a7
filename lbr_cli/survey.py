"""What a job would do: everything is read, joined and checked, the prompts are measured, and no weights are loaded."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from lbr_cli.collect import Collection, collect
from lbr_cli.core import Document, Listener, Query, Request
from lbr_cli.engines import UNLIMITED
from lbr_cli.errors import RequestError
from lbr_cli.job import Job, check_ids, output_format, style_of
from lbr_cli.models import at_hand
from lbr_cli.rerank import pairs_to_score
from lbr_cli.scoring import named


def survey(job: Job, listener: Listener) -> str:
    """A few lines: queries, candidates, what is double or lacks a text, and how many tokens a model would read."""
    collection = collect(job.inputs, listener)
    format_ = output_format(job, collection.format)
    style_of(job, format_)
    candidates = lacking = 0
    for ranking in collection:
        check_ids(ranking, format_)
        candidates += len(ranking.candidates)
        lacking += sum(candidate.document is None for candidate in ranking.candidates)
    rows = {
        "queries": f"{len(collection)}",
        "candidates": f"{candidates}, {lacking} of them without a text",
        "duplicates": f"{collection.duplicates}",
        "to score": f"{sum(1 for _ in pairs_to_score(collection, job.cuts))} pairs",
        "tokens": _tokens(job, collection, listener),
        "output": format_.name,
    }
    return "".join(f"{name:<12}{value}\n" for name, value in rows.items())


def _tokens(job: Job, collection: Collection, listener: Listener) -> str:
    if job.model is None:
        return f"not counted, {job.engine} reads words"
    listener.stage("measuring the prompts")
    model = at_hand(job.model)
    if model is None and not job.model.hub_id:
        return "not counted, they are the server's, and no --tokenizer is named"
    if model is None:
        return f"not counted, the tokenizer of {job.model.hub_id} is not on this machine"
    # these import transformers, which nothing else here needs
    if job.engine in ("vllm", "openai"):
        from lbr_cli.engines.next_token import measure as measure_prompts

        measure = partial(measure_prompts, model, job.settings, job.engine)
    else:
        from lbr_cli.engines.local import measure as measure_locally

        measure = partial(measure_locally, model, job.settings)
    chosen = model.known_family
    current = (Query(""), Document("", ""))

    def requests() -> Iterator[Request]:
        nonlocal current
        for current in pairs_to_score(collection, job.cuts):
            yield from chosen.requests(current[0].text or "", current[1])

    try:
        lengths, truncated, limit = measure(requests())
    except RequestError as error:
        raise named(error, *current) from error
    lengths.sort()
    marks = (("shortest", 0), ("median", 0.5), ("95 %", 0.95), ("longest", 1))
    spread = ", ".join(f"{name} {lengths[int(share * (len(lengths) - 1))]}" for name, share in marks)
    cut = f"{truncated} truncated at {limit}" if limit < UNLIMITED else "no limit"
    return f"{sum(lengths)} in {len(lengths)} texts: {spread}; {cut}"
