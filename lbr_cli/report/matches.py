"""The tokens of documents that the tokens of a query match, as `--explain` writes them for late interaction.

They are marked only in the text that was scored: if one of them is not at its offsets in the title and the text on
the page, none in this document is marked. The page has them as arrays of numbers, for as many documents of each ranking
as fit into it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lbr_cli.core import Document
from lbr_cli.evaluation.runs import Run
from lbr_cli.report.details import explained, has_passage, is_number, passage_span
from lbr_cli.report.html_json import html_json_size
from lbr_cli.wording import counted, pair_name

OTHER_TEXT = 0  # instead of rows, if the text of the document is not the one that was scored

# Start and length of a token of the document in characters, then for each match the number of the query's token and the
# similarity. A token that is in neither title nor text has its name instead of the start, and the length 0.
Row = list[Any]
Rows = dict[str, list[Row]]  # "title", "text", and "others" for tokens outside both


class Match(NamedTuple):
    """A token of the query, and the token of the document that it matches; `start` is None if it is not in the text."""

    query_token: str
    document_token: str
    start: int | None
    end: int
    similarity: float


@dataclass(slots=True)
class _Unmarked:
    """The pairs of a run whose matches cannot be marked, by reason."""

    other_text: list[str] = field(default_factory=list)
    without_text: list[str] = field(default_factory=list)

    def warn(self, run: Run, warn: Callable[[str], None]) -> None:
        reasons = {
            "the text differs from the one that was scored": self.other_text,
            "the text is unknown, add its --corpus": self.without_text,
        }
        for reason, pairs in reasons.items():
            if pairs:
                what = f"matched tokens are not marked in {counted(len(pairs), 'document')}"
                warn(f"{run.name}: {what}: {reason} (first: {pairs[0]})")


def matches_of(value: object) -> list[Match]:
    """Return the matches of a line, in the order of the query's tokens; none if the value has another form."""
    matches = [_match(item) for item in value] if isinstance(value, list) else []
    known = [match for match in matches if match is not None]
    return known if len(known) == len(matches) else []


def _match(value: object) -> Match | None:
    if not isinstance(value, dict):
        return None
    query_token, document_token, similarity = map(value.get, ("query_token", "document_token", "similarity"))
    start, end = value.get("start"), value.get("end")
    if not (isinstance(query_token, str) and isinstance(document_token, str) and is_number(similarity)):
        return None
    if start is None and end is None:
        return Match(query_token, document_token, None, 0, float(similarity))
    if type(start) is not int or type(end) is not int:
        return None
    return Match(query_token, document_token, start, end, float(similarity))


def locate(
    matches: Sequence[Match], document: Document, passage: tuple[int, int] | None, tokens: dict[str, int]
) -> Rows | None:
    """Return the rows of a document; None if a token is not at its offsets in the title and the text.

    Offsets are in `Document.contents`, with the `passage` as text if there is one. The query's tokens are added to
    `tokens`. White space at the ends of a token is not marked. Tokens that overlap are one row.
    """
    begin, end = passage or (0, len(document.text))
    scored = Document(document.doc_id, document.text[begin:end], document.title)
    contents = scored.contents
    if not all(match.start is None or _fits(match, contents) for match in matches):
        return None
    title_end, text_start = len(document.title), len(contents) - len(scored.text)
    title: list[tuple[int, int, Match]] = []
    text: list[tuple[int, int, Match]] = []
    others: dict[str, Row] = {}
    for match in matches:
        tokens.setdefault(match.query_token, len(tokens))
        first, last = _stripped(match, contents)
        in_title, in_text = first < min(last, title_end), max(first, text_start) < last
        if in_title:
            title.append((first, min(last, title_end), match))
        if in_text:
            text.append((max(first, text_start) - text_start + begin, last - text_start + begin, match))
        if not in_title and not in_text:
            others.setdefault(match.document_token, [match.document_token, 0]).extend(_pair(match, tokens))
    rows = {"title": _rows(title, tokens), "text": _rows(text, tokens), "others": list(others.values())}
    return {name: of_kind for name, of_kind in rows.items() if of_kind}


def _fits(match: Match, contents: str) -> bool:
    start = match.start or 0
    return 0 <= start < match.end <= len(contents) and contents[start : match.end] == match.document_token


def _stripped(match: Match, contents: str) -> tuple[int, int]:
    """Return the span of a match without white space at its ends, unless it is all white space; (0, 0) without span."""
    if match.start is None:
        return 0, 0
    token = contents[match.start : match.end]
    if not token.strip():
        return match.start, match.end
    return match.end - len(token.lstrip()), match.start + len(token.rstrip())


def _rows(spans: list[tuple[int, int, Match]], tokens: Mapping[str, int]) -> list[Row]:
    """Return the rows of one text, ordered by start."""
    rows: list[Row] = []
    for start, end, match in sorted(spans, key=lambda span: span[:2]):
        if rows and start < rows[-1][0] + rows[-1][1]:
            rows[-1][1] = max(rows[-1][1], end - rows[-1][0])
        else:
            rows.append([start, end - start])
        rows[-1].extend(_pair(match, tokens))
    return rows


def _pair(match: Match, tokens: Mapping[str, int]) -> tuple[int, float]:
    return tokens[match.query_token], round(match.similarity, 2)


def add_matches(
    queries: Sequence[dict[str, Any]],
    runs: Sequence[Run],
    documents: Mapping[str, Document],
    depth: int,
    space: int,
    warn: Callable[[str], None],
) -> int:
    """Add the matches of each query and run to the `queries` of the page; return how many documents a ranking shows.

    The number is less than `depth` if all matches need more than `space` bytes. Warn of this, and of documents whose
    matches cannot be marked.
    """
    unmarked = [_Unmarked() for _ in runs]
    rankings = [
        [_Ranking(query["id"], run, of_run) for run, of_run in zip(runs, unmarked, strict=True)] for query in queries
    ]
    shown = depth
    for index in range(min(depth, max((len(ids) for run in runs for ids in run.rankings.values()), default=0))):
        added = sum(ranking.add(index, documents) for of_query in rankings for ranking in of_query)
        if added > max(space, 0):
            shown = index
            warn(f"matched tokens are shown for {shown} documents of each ranking: more would make the page too large")
            break
        space -= added
    for query, of_query in zip(queries, rankings, strict=True):
        of_page = [ranking.of_page(shown) for ranking in of_query]
        if any(of_page):
            query["matches"] = of_page
    for run, of_run in zip(runs, unmarked, strict=True):
        of_run.warn(run, warn)
    return shown


class _Ranking:
    """The matches of one query and run: the distinct tokens of the query, and the rows of each document."""

    def __init__(self, query_id: str, run: Run, unmarked: _Unmarked) -> None:
        self._query_id = query_id
        self._doc_ids = run.rankings.get(query_id, ())
        self._candidates = run.candidates.get(query_id, {})
        self._unmarked = unmarked
        self._tokens: dict[str, int] = {}
        self._rows: list[Rows | int | None] = []

    def add(self, index: int, documents: Mapping[str, Document]) -> int:
        """Add the rows of the document at an index of the ranking. Return their size in bytes."""
        if index >= len(self._doc_ids):
            return 0
        doc_id = self._doc_ids[index]
        extra = self._candidates[doc_id].extra or {}
        matches = matches_of(explained(extra).get("matches"))
        rows = self._located(matches, doc_id, extra, documents.get(doc_id)) if matches else None
        self._rows.append(rows)
        return 0 if rows is None else html_json_size(rows) + 1

    def of_page(self, count: int) -> dict[str, Any] | None:
        """Return the query's tokens and the rows of the first documents; None if there are no matches."""
        rows = self._rows[:count]
        return {"tokens": list(self._tokens), "rows": rows} if any(row is not None for row in rows) else None

    def _located(
        self, matches: Sequence[Match], doc_id: str, extra: Mapping[str, Any], document: Document | None
    ) -> Rows | int | None:
        pair = pair_name(self._query_id, doc_id)
        if document is None:
            self._unmarked.without_text.append(pair)
            return None
        passage = passage_span(extra, document)
        rows = locate(matches, document, passage, self._tokens) if passage or not has_passage(extra) else None
        if rows is None:
            self._unmarked.other_text.append(pair)
            return OTHER_TEXT
        return rows
