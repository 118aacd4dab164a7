"""CONTRIBUTING.md, followed step by step; the files for contributors."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lbr_cli import __version__
from support.pages import CONTRIBUTING
from support.paths import ROOT

FAMILY = CONTRIBUTING.text.partition("## Add a family\n")[2].partition("\n## ")[0]
EDITS = re.compile(r"`(lbr_cli/[\w/]+\.py)`|^( *)```diff\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
# the same prompt and labels as in the example, in a prompt file
PROMPT = 'system = "Answer A or B."\nuser = "Query: {query}\\nText: {document}"\n'
SCORES = """
import sys
from lbr_cli import Reranker
from lbr_cli.models.known import ALIASES
assert ALIASES["letter-small"].family.name == "letter"
texts = ["Trams run on rails.", "Figs turn purple.", ""]
for options in ({"family": "letter"}, {"family": "next-token", "prompt_file": "prompt.toml", "labels": "A,B"}):
    print(Reranker(sys.argv[1], device="cpu", cache=False, **options).score("ripe figs", texts))
"""


def follow_the_steps(folder: Path) -> None:
    """Write the family of the example into a copy of the package, and apply the edits."""
    shutil.copytree(ROOT / "lbr_cli", folder / "lbr_cli", ignore=shutil.ignore_patterns("__pycache__"))
    (code,) = re.findall(r"^```python\n(.*?)^```$", FAMILY, re.DOTALL | re.MULTILINE)
    file = folder
    for name, indent, diff in EDITS.findall(FAMILY):
        if name:
            file = folder / name
            if not file.exists():
                file.write_text(code)
            continue
        lines = [line.removeprefix(indent) for line in diff.splitlines(keepends=True)]
        old, new = ("".join(line[1:] for line in lines if line[0] in marks) for marks in (" -", " +"))
        text = file.read_text()
        assert text.count(old) == 1, old
        file.write_text(text.replace(old, new))


@pytest.mark.slow  # imports torch in a new interpreter
def test_the_family_of_the_example_reranks(tmp_path: Path, chat_model: Path) -> None:
    follow_the_steps(tmp_path)
    (tmp_path / "prompt.toml").write_text(PROMPT)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LBR_")}
    ended = subprocess.run(
        [sys.executable, "-c", SCORES, str(chat_model)],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    scores, twin = ended.stdout.splitlines()
    assert scores == twin
    assert len(set(scores.strip("[]").split(", "))) == 3


def test_the_edits_of_the_example_fit_the_package(tmp_path: Path) -> None:
    follow_the_steps(tmp_path)
    registry = (tmp_path / "lbr_cli" / "families" / "__init__.py").read_text()
    assert "    Letter(),\n)" in registry
    compile((tmp_path / "lbr_cli" / "families" / "letter.py").read_text(), "letter.py", "exec")


def test_every_file_that_is_named_exists() -> None:
    names = re.findall(r"`((?:lbr_cli|tests|docs|\.ci)/[\w./]+)`", CONTRIBUTING.text)
    assert [name for name in names if not (ROOT / name).exists()] == ["lbr_cli/families/letter.py"]


@pytest.mark.parametrize("name", ["ci", "newest"])
def test_a_workflow_runs_a_script_of_the_repository(name: str) -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())
    (job,) = workflow["jobs"].values()
    (script,) = [step["run"] for step in job["steps"] if "run" in step]
    assert script == (".ci/run" if name == "ci" else ".ci/newest")
    assert os.access(ROOT / script, os.X_OK)
    assert subprocess.run(["bash", "-n", ROOT / script]).returncode == 0


def test_pre_commit_hooks_equal_the_checks_of_ci() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    commands = [" ".join(hook["entry"].split()[:2]) for hook in repository["hooks"]]
    assert commands == ["ruff check", "ruff format", "mypy"]
    script = (ROOT / ".ci" / "run").read_text()
    assert all(command in script for command in commands)


def test_the_citation_has_the_version_and_names_the_authors() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    assert citation["authors"] == [{"name": "The lbr authors"}]
    assert [reference["authors"] for reference in citation["references"]] == [[{"name": "lightblue"}]]
