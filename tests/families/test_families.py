"""The requests of each family, and the scores that it computes from answers."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbr_cli.core import Answer, Chat, Document, Embedding, Family, NextToken, Pair, Query, RawTemplate, Token
from lbr_cli.errors import InputError
from lbr_cli.families import (
    FAMILIES,
    BgeGemma,
    BiEncoder,
    Classifier,
    Lb,
    LbRev,
    MonoT5,
    MxbaiV2,
    Qwen3,
    Template,
    UserPrompt,
)
from lbr_cli.families.late_interaction import LateInteraction
from lbr_cli.families.odds import sigmoid
from lbr_cli.scoring import requests_of
from support.engines import ask
from support.paths import ROOT

CUSTOM = UserPrompt(Template.parse('user = "{query} ? {document}"', "p.toml"), ("yes", "no"))
CHOSEN = [CUSTOM if family.name == "next-token" else family for family in FAMILIES]


def prompt(family: Family, query: str, text: str, title: str = "") -> NextToken:
    (request,) = ask(family, query, text, title)
    assert isinstance(request, NextToken)
    return request


def texts(request: NextToken) -> str:
    return "".join((*request.before, request.document, *request.after))


@pytest.mark.parametrize("family", CHOSEN, ids=lambda family: family.name)
def test_families_are_pure(family: Family) -> None:
    assert ask(family, "q", "d", "t") == ask(family, "q", "d", "t")
    assert all(isinstance(request, family.request_type) for request in ask(family, "q", "d"))
    assert family.scale


@pytest.mark.parametrize("family", CHOSEN, ids=lambda family: family.name)
def test_the_probability_of_a_score_is_that_of_its_details(family: Family) -> None:
    values = [-1.0, -3.0] if family.request_type is NextToken else [2.0]
    if isinstance(family, BiEncoder):
        score = family.score([Answer(np.array([1.0, 2.0])), Answer(np.array([2.0, 1.0]))])
    elif isinstance(family, LateInteraction):
        score = family.score([Answer(np.array([[1.0, 2.0]])), Answer(np.array([[2.0, 1.0]]))])
    else:
        score = family.score([Answer([*values, *[-9.0] * 5] if isinstance(family, Lb) else values[: labels(family)])])
    assert family.probability(score.value) == score.details.get("probability")
    found = [family.probability(value) for value in (-1e6, -1.0, 1.0, 1e6)]
    if "probability" in score.details:
        assert found == sorted(found)
        assert (found[0], found[-1]) == (0, 1)
    else:
        assert found == [None] * 4


def labels(family: Family) -> int:
    """Return the number of values in an answer to the first request of a family."""
    (request,) = ask(family, "q", "d")
    return max(len(request.labels), 1) if isinstance(request, NextToken) else 1


def test_the_documentation_lists_the_families_with_a_probability() -> None:
    page = (ROOT / "docs" / "scores.md").read_text(encoding="utf-8")
    table = page.partition("| family | probability |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (`.+`) \| (.+?) \|$", table, re.MULTILINE)
    documented = {name: row for names, row in rows for name in re.findall(r"[a-z0-9-]+", names)}
    assert documented.keys() == {family.name for family in CHOSEN}
    assert {name for name, row in documented.items() if row != "none"} == {
        family.name for family in CHOSEN if family.probability(0.0) is not None
    }


@pytest.mark.parametrize(
    "family",
    [known for known in FAMILIES if "instruction" in known.__dataclass_fields__],
    ids=lambda family: family.name,
)
def test_the_instruction_of_a_query_replaces_that_of_the_family(family: Family) -> None:
    document = Document("d", "text")
    plain, first, second, empty = (
        requests_of(family, Query("q", "query", instruction), document) for instruction in (None, "Find figs", "Ü", "")
    )
    assert plain == family.requests("query", document)
    assert first == replace(family, **{"instruction": "Find figs"}).requests("query", document)
    assert len({first, second, empty}) == 3


@pytest.mark.parametrize(
    "family",
    [known for known in CHOSEN if "instruction" not in known.__dataclass_fields__],
    ids=lambda family: family.name,
)
def test_a_family_without_instructions_refuses_one(family: Family) -> None:
    query = Query("q1", "query", "Find figs", "queries.jsonl:7")
    with pytest.raises(InputError) as error:
        requests_of(family, query, Document("d", "text"))
    assert str(error.value) == (
        f"queries.jsonl:7: query q1 has an instruction, and models of the family {family.name} take none"
    )


def test_the_prompt_of_lb() -> None:
    request = prompt(Lb(), "ripe fig", "turn purple.", "Figs")
    assert request.template == Chat(
        "Given a query and a piece of text, output a score of 1-7 based on how related the query is to the text. "
        "1 means least related and 7 is most related."
    )
    assert texts(request) == "<<<Query>>>\nripe fig\n\n<<<Context>>>\nFigs turn purple."
    assert request.labels == ("1", "2", "3", "4", "5", "6", "7")
    reversed_ = prompt(LbRev(), "ripe fig", "turn purple.")
    assert texts(reversed_) == "<<<Context>>>\nturn purple.\n\n<<<Query>>>\nripe fig"


def test_the_prompt_of_qwen3() -> None:
    request = prompt(Qwen3(), "ripe fig", "turn purple.")
    assert isinstance(request.template, RawTemplate)
    assert request.template.before + texts(request) + request.template.after == (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
        "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n<Query>: ripe fig\n"
        "<Document>: turn purple.<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )
    assert request.labels == ("yes", "no")
    assert "<Instruct>: Find code\n" in texts(prompt(Qwen3("Find code"), "q", "d"))


def test_the_prompt_of_mxbai_v2_and_its_parts() -> None:
    request = prompt(MxbaiV2(), "ripe fig", "turn purple.")
    task = (
        "You are a search relevance expert who evaluates how well documents match search queries. For each "
        "query-document pair, carefully analyze the semantic relationship between them, then provide your binary "
        "relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:"
    )
    assert isinstance(request.template, RawTemplate)
    assert request.template.before + texts(request) + request.template.after == (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        f"<|im_start|>user\nquery: ripe fig\ndocument: turn purple.\n{task}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert (request.before, request.after) == (("", "query: ripe fig", "\n", "document: "), ("", "\n", task, ""))
    assert prompt(MxbaiV2("Find code"), "q", "d").before[1] == "instruction: Find code\nquery: q"


def test_the_prompt_of_bge_gemma_and_its_parts() -> None:
    request = prompt(BgeGemma(), "ripe fig", "turn purple.")
    assert texts(request) == (
        "A: ripe fig\nB: turn purple.\nGiven a query A and a passage B, determine whether the passage contains an "
        "answer to the query by providing a prediction of either 'Yes' or 'No'."
    )
    assert (request.template, request.labels, request.logits) == (RawTemplate(special_tokens="bos"), ("Yes",), True)


def test_the_prompt_of_monot5() -> None:
    request = prompt(MonoT5(), "ripe fig", "turn purple.")
    assert texts(request) == "Query: ripe fig Document: turn purple. Relevant:"
    assert (request.template, request.labels) == (RawTemplate(special_tokens="all"), ("▁true", "▁false"))


def digits(**probabilities: float) -> Answer:
    return Answer([math.log(probabilities.get(f"p{i}", 1e-30)) for i in range(1, 8)])


def test_lb_scores_the_expected_digit_without_renormalising() -> None:
    assert Lb().score([digits(p5=1.0)]).value == pytest.approx(5.0)
    assert Lb().score([digits(p1=0.1, p7=0.9)]).value == pytest.approx(6.4)
    half = Lb().score([digits(p4=0.25, p6=0.25)])
    assert half.value == pytest.approx(2.5)
    assert half.details["mass"] == pytest.approx(0.5)
    assert half.details["digits"] == pytest.approx([0, 0, 0, 0.25, 0, 0.25, 0])


def test_lb_warns_if_a_model_does_not_answer_in_digits() -> None:
    assert Lb().score([digits(p4=0.6)]).warning == ""
    assert "does not answer in digits" in Lb().score([digits(p4=0.4)]).warning


LOGITS = st.floats(-800, 800)


@given(LOGITS, LOGITS)
def test_two_labels_are_scored_as_log_odds(relevant: float, other: float) -> None:
    largest = max(relevant, other)
    normaliser = largest + math.log(math.exp(relevant - largest) + math.exp(other - largest))
    answer = Answer([relevant - normaliser, other - normaliser])
    for family in (Qwen3(), MxbaiV2(), CUSTOM, MonoT5()):
        score = family.score([answer])
        assert score.value == pytest.approx(relevant - other, abs=1e-9)
        assert score.details["probability"] == pytest.approx(math.exp(relevant - normaliser), abs=1e-12)
    assert Classifier().score([Answer([other, relevant])]).value == relevant - other
    assert BgeGemma().score([Answer([relevant])]).value == relevant


def test_a_probability_never_overflows() -> None:
    assert (sigmoid(0), sigmoid(1e6), sigmoid(-1e6)) == (0.5, 1, 0)
    assert sigmoid(-20) == pytest.approx(math.exp(-20))


def test_a_model_that_does_not_answer_with_labels_is_a_warning() -> None:
    assert Qwen3().score([Answer([math.log(0.4), math.log(0.2)])]).warning == ""
    doubt = CUSTOM.score([Answer([math.log(0.2), math.log(0.2)])]).warning
    assert doubt == "'yes' and 'no' have less than half of the probability: the model gives other answers"


@pytest.mark.parametrize(
    ("text", "query", "document", "parts"),
    [
        ("q {query} d {document} end", "fig", ("ripe", "Fruit"), ("q fig d ", "Fruit ripe", " end")),
        ("p {title} {document}\n{query}?", "fig", ("ripe", "Fruit"), ("p ", "Fruit ripe", "\nfig?")),
        ("{document} ({title}) {query}", "fig", ("ripe", "Fruit"), ("", "ripe", " (Fruit) fig")),
        ("p {title} {document} {query}", "fig", ("ripe", ""), ("p ", " ripe", " fig")),
        ("{title} {query} {document} {\"other\"} {}", "{document}", ("{query}", "{title}"),
         ("", "{title} {document} {query}", " {\"other\"} {}")),
    ],
)  # fmt: skip
def test_placeholders_of_a_prompt(text: str, query: str, document: tuple[str, str], parts: tuple[str, ...]) -> None:
    template = Template(Chat(), text)
    assert template.parts(query, Document("d", *document)) == parts


def test_prompt_files() -> None:
    chat = Template.parse('system = "s"\nuser = """\n{query}\n{document}"""\nassistant = "<think>"', "p.toml")
    assert chat == Template(Chat("s", "<think>"), "{query}\n{document}")
    bare = Template.parse('text = "{document} {query}"', "p.toml")
    assert bare == Template(RawTemplate(special_tokens="all"), "{document} {query}")
    framed = Template.parse('text = "<|user|>{query} {title} {document}<|end|>"', "p.toml")
    assert framed == Template(RawTemplate("<|user|>", "<|end|>", "all"), "{query} {title} {document}")


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ('user = "{query}"', "p.toml: {document} is missing in the prompt"),
        ('user = "{query} {query} {document}"', "p.toml: {query} occurs 2 times in the prompt"),
        ('text = "{query} {document} {title} {title}"', "p.toml: {title} occurs 2 times in the prompt"),
        ('system = "s"', "p.toml: a prompt needs either user, optionally with system and assistant, or text alone"),
        ('text = "{query} {document}"\nsystem = "s"', "p.toml: a prompt needs either user, optionally"),
        ('prompt = "{query} {document}"', "p.toml: unknown key 'prompt'"),
        ('user = "{query} {titel} {document}"', "p.toml: unknown placeholder {titel}"),
        ("user = 1", "p.toml: 'user' is not a string"),
        (
            'user = "{query} {document}"\nsystem = "{query}"',
            "p.toml: {query}, {document} and {title} are",
        ),
        ('\nuser = "{query}', "p.toml:2: invalid TOML: Unterminated string"),
        ("user = x\n\n", "p.toml:1: invalid TOML: Invalid value"),
    ],
)
def test_invalid_prompt_files_are_errors(toml: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        Template.parse(toml, "p.toml")
    assert str(error.value).startswith(message)


def vector(*values: float) -> Answer:
    return Answer(np.array(values, np.float32))  # type: ignore[arg-type]


def test_the_bi_encoder_scores_are_similarities() -> None:
    assert ask(BiEncoder(), "q", "d") == (Embedding("q"), Embedding("d"))
    assert ask(BiEncoder("query: ", "passage: "), "q", "d", "t") == (
        Embedding("q", "query: "),
        Embedding("t d", "passage: "),
    )
    query, document = vector(3, 4), vector(4, 3)
    found = {
        name: BiEncoder(similarity=name).score([query, document]).value
        for name in (None, "cosine", "dot", "euclidean", "manhattan")
    }
    expected = {None: 24 / 25, "cosine": 24 / 25, "dot": 24, "euclidean": -math.sqrt(2), "manhattan": -2}
    assert found == pytest.approx(expected)
    assert BiEncoder().score([query, vector(0, 0)]).value == 0


def test_the_classifier_scores_are_logits() -> None:
    assert ask(Classifier(), "q", "d") == (Pair("q", "d"),)
    scores = [Classifier().score([Answer([logit])]) for logit in (12.0, 9.4, 9.1)]
    assert [score.value for score in scores] == [12.0, 9.4, 9.1]
    assert scores[0].details["probability"] == pytest.approx(1 / (1 + math.exp(-12)))


@pytest.mark.parametrize(("query_tokens", "document_tokens"), [(0, 3), (1, 1), (7, 3), (32, 300), (64, 2000)])
def test_late_interaction_scores_are_sums_of_maximum_similarities(query_tokens: int, document_tokens: int) -> None:
    numbers = np.random.default_rng(0)
    query, document = (
        numbers.normal(size=(count, 128)).astype(np.float32) for count in (query_tokens, document_tokens)
    )
    names = [[Token(f"{name}{number}") for number in range(count)] for name, count in (("q", len(query)), ("d", 2000))]
    answers = [Answer(query, tokens=names[0]), Answer(document, tokens=names[1])]  # type: ignore[arg-type]
    products = query @ document.T
    expected = pytest.approx(float(products.max(axis=1).sum()), abs=1e-3)
    assert LateInteraction().score(answers).value == expected
    score = LateInteraction(with_matches=True).score(answers)
    assert score.value == expected
    assert [match["query_token"] for match in score.details["matches"]] == [token.text for token in names[0]]
    matched = [match["document_token"] for match in score.details["matches"]]
    assert matched == [f"d{number}" for number in products.argmax(axis=1)]


@pytest.mark.parametrize("row", [0, 299])
def test_late_interaction_scores_keep_values_that_are_not_finite(row: int) -> None:
    query, document = np.ones((32, 128), np.float32), np.ones((300, 128), np.float32)
    document[row, 0] = np.nan
    answers = [Answer(query), Answer(document)]  # type: ignore[arg-type]
    assert math.isnan(LateInteraction().score(answers).value)
