"""What options of `lbr rerank` mean together: which have no effect beside which, and what some of them add up to."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

import typer

from lbr_cli.commands.options import check_engine_options, concerns, refuse
from lbr_cli.errors import UsageError
from lbr_cli.formats.files import STDIN
from lbr_cli.passages import Passages
from lbr_cli.rerank import Method

CACHE_OPTIONS = ("cache_dir", "cache_size")
# options that have no effect without a corpus, and where the texts are in the lines
FIELD_OPTIONS = ("id_field", "text_field", "title_field")
CORPUS_OPTIONS = ("missing_docs", "bad_lines", *FIELD_OPTIONS, "tsv_columns")
# options that have no effect unless a file of queries is read
QUERY_OPTIONS = ("missing_queries", "topic_field", "query_columns")
JOIN_OPTIONS = ("corpus", "queries", "input_format", *QUERY_OPTIONS, *CORPUS_OPTIONS)
WINDOW_OPTIONS = ("passage_words", "passage_stride")
LINES_REFUSE = (*JOIN_OPTIONS, "stream", "output_format", "tag", "explain", "duplicates", "interpolate")


def check_together(ctx: typer.Context) -> None:
    """UsageError for options given on the command line that can have no effect, or cannot be meant."""
    options = ctx.params
    engine, lines, stream, cache = (options[name] for name in ("engine", "lines", "stream", "cache"))
    check_engine_options(ctx, engine)
    for there, refused, reason in (
        (engine == "overlap", (*CACHE_OPTIONS, *(["cache"] if cache else [])), "--engine overlap keeps no scores"),
        (engine == "overlap", ("show_prompt",), "--engine overlap uses no model"),
        (cache is False, CACHE_OPTIONS, "no scores are kept"),
        (not options["corpus"] and not lines and not stream, CORPUS_OPTIONS, "there is no --corpus"),
        (lines, LINES_REFUSE, "--lines ranks plain text"),
        (stream, (*JOIN_OPTIONS, "dry_run", "show_prompt"), "--stream reads JSONL that carries its texts"),
        (options["tsv_columns"] is not None, FIELD_OPTIONS, "--tsv-columns says where all is"),
        (options["query"] is not None, ("queries", *QUERY_OPTIONS), "--query is the one query"),
        (options["dry_run"], ("manifest", "show_prompt"), "--dry-run makes no ranking"),
        (options["show_prompt"], ("manifest",), "--show-prompt makes no ranking"),
        (options["passages"] is None, WINDOW_OPTIONS, "there is no --passages"),
        (options["passages"] == "first", ("passage_stride",), "--passages first reads one window"),
    ):
        refuse(ctx, refused if there else (), reason)
    for name in ("query", "instruction", "query_prompt", "document_prompt", "labels"):
        _check_utf8(name, options[name])
    if lines and options["query"] is None:
        raise UsageError("--lines needs --query", hint='lbr rerank --query "…" --lines notes.txt')
    run = options["run_"]
    if [run, *(options["corpus"] or ()), options["queries"]].count(STDIN) > 1:
        raise UsageError("only one of RUN, --corpus and --queries can be standard input")
    if run == STDIN and sys.stdin is not None and sys.stdin.isatty():
        raise UsageError("no RUN, and standard input is a terminal", hint="lbr rerank run.trec --corpus docs.jsonl")


def chosen_method(options: Mapping[str, Any]) -> Method:
    """How candidates are to be reranked."""
    weight = options["interpolate"]
    if weight is not None and math.isnan(weight):
        raise UsageError("--interpolate nan: not a weight from 0 to 1")
    passages = None
    if options["passages"] is not None:
        words, stride = options["passage_words"], options["passage_stride"]
        stride = max(words // 2, 1) if stride is None else stride
        if stride > words:
            message = f"--passage-stride {stride}: windows of {words} words would leave out the words between them"
            raise UsageError(message, hint=f"at most {words}")
        passages = Passages(options["passages"], words, stride)
    return Method(options["depth"], options["top_k"], passages, weight)


def told_options(options: Mapping[str, Any], method: Method) -> dict[str, Any]:
    """The options that a manifest tells, by their names: those that were chosen, and what the choice came to."""
    passages = method.passages
    stride = passages.stride if passages and passages.score != "first" else None
    windows = {"passage_words": passages and passages.words, "passage_stride": stride}
    return {
        name.rstrip("_"): value
        for name, value in {**options, **windows}.items()
        if value is not None and concerns(name, options["engine"])
    }


def _check_utf8(name: str, text: str | None) -> None:
    """UsageError for bytes on the command line that are no text."""
    if any("\ud800" <= letter <= "\udfff" for letter in text or ""):
        raise UsageError(f"--{name.replace('_', '-')}: not UTF-8")
