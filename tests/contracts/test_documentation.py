"""README, CONTRIBUTING, SECURITY and docs/: sessions, links, options, lengths."""

from __future__ import annotations

import io
import re
import tomllib
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from lbr_cli.commands import COMMANDS, program
from lbr_cli.engines import DIALECTS, ENGINES
from lbr_cli.families import FAMILIES
from lbr_cli.formats import RUN_FORMATS
from lbr_cli.models.known import KNOWN
from support.pages import CONTRIBUTING, DOCS, GUIDES, PAGES, README, SPAN, Page
from support.paths import ROOT
from support.sessions import outputs

MODEL = "minilm"
MANY_STEPS = 20
VARIABLE = re.compile(r"in [\d.]+ s|bfloat16( computed in float32)?|float32")  # times and precisions
NUMBER = re.compile(r"-?\d+\.\d+")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*(?![a-z-])")
HEADING = re.compile(r"^(\S.*):$", re.MULTILINE)
CALLS = ("", *COMMANDS, "models fetch", "cache info", "cache prune", "cache clear")
OPTIONS_PAGE = Page(ROOT / "docs" / "options.md")

pages = pytest.mark.parametrize("page", GUIDES, ids=str)


def needs_model(page: Page) -> bool:
    return any(MODEL in command for command, _ in page.steps)


def marks(page: Page) -> Any:
    return pytest.mark.slow if needs_model(page) or len(page.steps) > MANY_STEPS else ()


pages_with_sessions = pytest.mark.parametrize(
    "page", [pytest.param(page, marks=marks(page)) for page in GUIDES if page.steps], ids=str
)


@pages_with_sessions
def test_terminal_sessions_print_what_the_page_shows(
    page: Page, tmp_path: Path, fork_server: str | None, request: pytest.FixtureRequest
) -> None:
    """If a message has changed: `python tests/support/sessions.py PAGE` writes the output into the page."""
    if needs_model(page):
        request.getfixturevalue(MODEL)
    # the README runs in new interpreters
    steps = zip(page.steps, outputs(page, tmp_path, None if page == README else fork_server), strict=True)
    for (command, expected), output in steps:
        shown, promised = VARIABLE.sub("", output), VARIABLE.sub("", expected)
        assert NUMBER.sub("#", shown) == NUMBER.sub("#", promised), command
        numbers = [[float(number) for number in NUMBER.findall(text)] for text in (shown, promised)]
        assert numbers[0] == pytest.approx(numbers[1], abs=0.01)  # scores of another processor differ a little


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_local_links_lead_to_files_and_headings(page: Page) -> None:
    for link in page.links:
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = Page((page.path.parent / name).resolve() if name else page.path)
        assert target.path.exists(), link
        assert not anchor or anchor in target.anchors, link


@pages
def test_code_in_prose_is_on_one_line(page: Page) -> None:
    assert [line for line in page.prose.splitlines() if line.count("`") % 2] == []


def test_every_page_is_linked_from_the_index() -> None:
    index = Page(ROOT / "docs" / "README.md")
    assert {page.path.name for page in DOCS} - {"README.md"} <= set(index.links)


def test_pages_are_short() -> None:
    assert README.text.count("\n") <= 160
    assert {str(page): lines for page in DOCS if (lines := page.text.count("\n")) > 220} == {}


@pytest.mark.parametrize("page", DOCS, ids=str)
def test_a_page_begins_with_a_command_that_can_be_copied(page: Page) -> None:
    assert re.match(r"# .+\n\n```(sh|console|python|crontab|dockerfile)\n", page.text)


def help_of(call: str) -> str:
    """Return the help of a command, at a width at which each option has one line for its name."""
    with redirect_stdout(io.StringIO()) as out, pytest.MonkeyPatch.context() as environment:
        environment.setenv("COLUMNS", "120")
        program()([*call.split(), "--help"], prog_name="lbr", standalone_mode=False)
    return out.getvalue()


@pytest.fixture(scope="module")
def options() -> dict[str, dict[str, set[str]]]:
    """Return the options of each command, by the headings of its help."""
    by_call = {}
    for call in CALLS:
        parts = HEADING.split(help_of(call))
        rows = {
            heading: re.findall(r"^  (?:-\w, )?(--.*?)(?:  |$)", text, re.MULTILINE)
            for heading, text in zip(parts[1::2], parts[2::2], strict=True)
            if heading not in ("Arguments", "Commands", "Examples")
        }
        by_call[call] = {heading: set(OPTION.findall(" ".join(names))) - {"--help"} for heading, names in rows.items()}
    return by_call


def test_the_page_of_options_has_each_option_under_its_heading(options: dict[str, dict[str, set[str]]]) -> None:
    sections = re.split(r"^##+ (.+)$", OPTIONS_PAGE.text, flags=re.MULTILINE)
    documented = {
        heading: set(OPTION.findall(text)) for heading, text in zip(sections[1::2], sections[2::2], strict=True)
    }
    expected = options["rerank"] | {
        f"lbr {call}".strip(): set().union(*groups.values()) for call, groups in options.items() if call != "rerank"
    }
    for heading, names in expected.items():
        assert documented.get(heading, set()) == names, f"docs/options.md, {heading}"


def test_the_page_that_an_option_links_to_explains_it() -> None:
    rows = [line for line in OPTIONS_PAGE.text.splitlines() if line.startswith("| `")]
    missing = [
        f"{name}: {link}"
        for row in rows
        for link in re.findall(r"\]\((.*?)(?:#.*)?\)", row)
        for name in OPTION.findall(row)
        if name not in OPTION.findall((ROOT / "docs" / link).read_text(encoding="utf-8"))
    ]
    assert missing == []


def test_the_page_of_options_has_their_environment_variables() -> None:
    for call in ("rerank", "doctor", "cache info"):
        help_text = "".join(help_of(call).split())  # names may be broken between lines
        for name in re.findall(r"envvar:(LBR_[A-Z_]+)", help_text):
            assert f"`{name}`" in OPTIONS_PAGE.text
    documented = re.findall(r"`--([a-z-]+).*?`, `LBR_([A-Z_]+)`", OPTIONS_PAGE.text)
    assert documented
    assert all(option.replace("-", "_").upper() == variable for option, variable in documented)


@pages
def test_every_option_on_a_page_exists(page: Page, options: dict[str, dict[str, set[str]]]) -> None:
    by_command = {call: set().union(*groups.values(), {"--help"}) for call, groups in options.items()}
    every = set().union(*by_command.values())
    unknown = []
    for code in (*page.blocks("sh", "console", "dockerfile", "crontab"), *SPAN.findall(page.prose)):
        for command in re.split(r"\|\||&&|[|;\n]", re.sub(r"\\\n", " ", code)):
            words = [word.rpartition("/")[2] for word in command.split()]
            if code.startswith("--"):
                known = every
            elif "lbr" in words:
                name, *more = words[words.index("lbr") + 1 :] or [""]
                known = by_command.get(f"{name} {more[0]}" if more else "", by_command.get(name, every))
            else:
                continue  # another program
            unknown += [f"{command.strip()}: {name}" for name in OPTION.findall(command) if name not in known]
    assert unknown == []


def test_pages_have_every_name_of_a_registry() -> None:
    registries: dict[str, Iterable[str]] = {
        "models": [family.name for family in FAMILIES],
        "scores": [family.name for family in FAMILIES],
        "formats": [known.name for known in RUN_FORMATS],
        "engines": (*ENGINES, *DIALECTS),
    }
    for page, names in registries.items():
        rows = "".join(re.findall(r"^\|.*\n", Page(ROOT / "docs" / f"{page}.md").text, re.MULTILINE))
        assert [name for name in names if f"`{name}`" not in rows] == [], page


def test_the_models_of_the_readme_have_an_alias() -> None:
    (table,) = re.findall(r"^\| alias .*\n((?:\|.*\n)+)", README.text, re.MULTILINE)
    named = [name for row in table.splitlines() for name in SPAN.findall(row.split("|")[1])]
    assert len(named) > 8
    assert set(named) <= {known.name for known in KNOWN}


def test_the_readme_names_every_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (sentence,) = re.findall(r"^Extras: .*?\. ", README.text, re.DOTALL | re.MULTILINE)
    assert set(SPAN.findall(sentence)) == set(project["optional-dependencies"]) - {"bench", "dev"}


def test_each_set_up_command_is_on_its_own_line() -> None:
    commands = re.findall(r"^ {4}(python3 -m venv .*)$", README.text, re.MULTILINE)
    assert commands == [
        "python3 -m venv .venv && . .venv/bin/activate && pip install -c constraints.txt '.[minilm]' && "
        "lbr rerank samples/run.trec --corpus samples/docs.jsonl --model minilm",
        "python3 -m venv .venv && . .venv/bin/activate && pip install -c constraints.txt -e '.[dev]' && pytest",
    ]


def test_the_map_of_the_code_has_every_module() -> None:
    (tree,) = re.findall(r"^lbr_cli/\n((?:  .*\n)+)", CONTRIBUTING.text, re.MULTILINE)
    modules = {line.split()[0].rstrip("/") for line in tree.splitlines()}
    assert modules == {path.name for path in (ROOT / "lbr_cli").iterdir() if not path.name.startswith("_")}
