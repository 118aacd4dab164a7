"""Preview a job: `--dry-run` and `--show-prompt` read and check all input, and load no weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lbr_cli.core import Progress, Ranking
from lbr_cli.engines import ENGINES, UNLIMITED
from lbr_cli.engines.prompt_preview import prompt_preview, token_lengths
from lbr_cli.errors import InputError, UsageError
from lbr_cli.job import Job, input_files, load_checked
from lbr_cli.models import HubModel, LocalModel, ServedModel, fetch, find_local
from lbr_cli.progress import printable
from lbr_cli.rerank import pairs_to_score
from lbr_cli.scoring import naming_pair, requests_of


def dry_run(job: Job, progress: Progress) -> str:
    """Return the report of `--dry-run`: counts of the input, of the pairs to score, and of the tokens to read."""
    run, format_, _ = load_checked(job, input_files(job), progress)
    candidates = [candidate for ranking in run.rankings for candidate in ranking.candidates]
    without_text = sum(candidate.document is None for candidate in candidates)
    rows = {
        "queries": f"{len(run.rankings)}",
        "candidates": f"{len(candidates)}, {without_text} of them without a text",
        "duplicates": f"{run.duplicates}",
        "to score": _pair_counts(job, run.rankings),
        "tokens": _tokens(job, run.rankings, progress),
        "output": format_.name,
    }
    return "".join(f"{name:<12}{value}\n" for name, value in rows.items())


def show_prompt(job: Job, progress: Progress) -> str:
    """Return the report of `--show-prompt`: for each request of the first pair, the number of tokens and their text."""
    run, _, _ = load_checked(job, input_files(job), progress)
    pair = next(pairs_to_score(run.rankings, replace(job.method, depth=1, passages=None)), None)
    if pair is None:
        raise InputError("no candidate has a text", job.inputs.run_name)
    if job.model is None:
        raise ValueError("an engine without a model has no prompt")
    if isinstance(job.model, ServedModel) and job.model.tokenizer is None:
        message = "--show-prompt: the server makes the prompt with its own chat template"
        raise UsageError(message, hint="add --tokenizer with an alias, hub id or folder of the server's model")
    query, document = pair
    progress.status("looking for the tokenizer")
    fetched = fetch(job.model, progress)
    model = fetched.tokenizer if isinstance(fetched, ServedModel) else fetched
    if not isinstance(model, LocalModel):
        raise ValueError("the fetched tokenizer is not a local folder")
    preview = prompt_preview(job.engine, model, job.settings)
    lines = [f"query     {printable(query.query_id)}", f"document  {printable(document.doc_id)}"]
    if job.method.passages:
        passage = job.method.passages.split(document)[0]
        document = passage.document
        lines.append(f"passage   {passage.number}{f' of {passage.total}' if passage.total else ''}")
    for request in requests_of(model.family, query, document):
        with naming_pair(model.family, [(query, document)]):
            prompt = preview.prompt(request)
        limit = f" of at most {preview.max_length}" if preview.max_length < UNLIMITED else ""
        truncated = ", the text truncated" if prompt.truncated else ""
        lines.append(f"tokens    {len(prompt.ids)}{limit}{truncated}\n")
        lines.append(preview.text(prompt.ids) + "\n")
    return "\n".join(lines)


def _pair_counts(job: Job, rankings: Sequence[Ranking]) -> str:
    pairs = sum(1 for _ in pairs_to_score(rankings, replace(job.method, passages=None)))
    passages = f", {sum(1 for _ in pairs_to_score(rankings, job.method))} passages" if job.method.passages else ""
    return f"{pairs} pairs{passages}"


def _tokens(job: Job, rankings: Sequence[Ranking], progress: Progress) -> str:
    """Describe the lengths of all prompts, if the tokenizer is on this machine."""
    if job.model is None:
        return f"not counted: --engine {job.engine} uses no tokenizer"
    if ENGINES[job.engine].scores_pairs:
        return "not counted: the server tokenizes the texts"
    progress.status("measuring the prompts")
    model = find_local(job.model)
    if model is None:
        source = job.model.tokenizer if isinstance(job.model, ServedModel) else job.model
        if isinstance(source, HubModel):
            return f"not counted: the tokenizer of {source.hub_id} is not on this machine"
        return "not counted: the server makes the prompts; add --tokenizer to count their tokens"
    preview = prompt_preview(job.engine, model, job.settings)
    family, pairs = model.family, pairs_to_score(rankings, job.method)
    with naming_pair(family, pairs_to_score(rankings, job.method)):
        requests = (request for pair in pairs for request in requests_of(family, *pair))
        lengths, truncated = token_lengths(preview, requests)
    lengths.sort()
    quantiles = (("shortest", 0), ("median", 0.5), ("95 %", 0.95), ("longest", 1))
    spread = ", ".join(f"{name} {lengths[int(share * (len(lengths) - 1))]}" for name, share in quantiles)
    limit = f"{truncated} truncated at {preview.max_length}" if preview.max_length < UNLIMITED else "no limit"
    return f"{sum(lengths)} in {len(lengths)} texts: {spread}; {limit}"
