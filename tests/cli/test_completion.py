"""Shell completion: the values that each option offers, the scripts of the shells, and errors of the two options."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import shellingham

from lbr_cli.commands import COMMANDS, program
from lbr_cli.engines import ENGINES
from lbr_cli.errors import MissingError
from lbr_cli.families import FAMILIES
from lbr_cli.formats import RUN_FORMATS
from lbr_cli.models import ALIASES
from support.fork_server import program_environment
from support.program import Program

FAMILY_NAMES = [known.name for known in FAMILIES]
FORMAT_NAMES = [known.name for known in RUN_FORMATS]
WRITABLE = [known.name for known in RUN_FORMATS if known.can_write]
SHELLS = ("bash", "zsh", "fish")


Capture = pytest.CaptureFixture[str]


def answered(monkeypatch: pytest.MonkeyPatch, capsys: Capture, **variables: str) -> tuple[object, str]:
    """Return the exit code and the output of the program for a shell that sets these variables."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as raised:
        program().main([], prog_name="lbr", standalone_mode=False)
    out, err = capsys.readouterr()
    assert err == ""
    return raised.value.code, out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("lbr ", [*COMMANDS]),
        ("lbr rer", ["rerank"]),
        ("lbr cache ", ["info", "prune", "clear"]),
        ("lbr rerank -m ", [*ALIASES]),
        ("lbr rerank run.trec --corpus docs.jsonl --model ettin-1", ["ettin-17m", "ettin-150m", "ettin-1b"]),
        ("lbr rerank --model=minil", ["minilm"]),
        ("lbr rerank --tokenizer bge-m", ["bge-m3"]),
        ("lbr doctor -m minil", ["minilm"]),
        ("lbr models fetch minil", ["minilm"]),
        ("lbr cache clear --model minil", ["minilm"]),
        ("lbr rerank --family ", FAMILY_NAMES),
        ("lbr rerank --engine ", [*ENGINES]),
        ("lbr rerank --device c", ["cpu", "cuda"]),
        ("lbr rerank --passages ", ["first", "max", "mean"]),
        ("lbr rerank --input-format ", FORMAT_NAMES),
        ("lbr rerank --output-format ", WRITABLE),
        ("lbr evaluate --format j", ["json"]),
        ("lbr rerank --dry", ["--dry-run"]),
        ("lbr rerank --engine nonsense --dry", ["--dry-run"]),
        ("lbr rerank -c ", []),  # the shell completes names of files
        ("lbr rerank ", []),
        ("lbr rerank -m ./", []),
    ],
)
def test_options_offer_their_values(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, line: str, words: list[str]
) -> None:
    position = str(len(line.split(" ")) - 1)
    code, out = answered(monkeypatch, capsys, _LBR_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=position)
    assert (code, out.split()) == (0, words)


def test_fish_completes_files_if_an_option_offers_no_words(lbr: Program) -> None:
    env = {"_LBR_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "is-args"}
    assert lbr(env=env | {"_TYPER_COMPLETE_ARGS": "lbr rerank --corpus "}).code == 1


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_are_printed_without_a_shell(monkeypatch: pytest.MonkeyPatch, capsys: Capture, shell: str) -> None:
    code, out = answered(monkeypatch, capsys, _LBR_COMPLETE=f"source_{shell}")
    assert code == 0
    assert f"_LBR_COMPLETE=complete_{shell}" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shell", "prints"),
    [
        ("bash", "COMP_WORDS=(lbr rerank -m bge-m); COMP_CWORD=3; _lbr_completion lbr; echo ${COMPREPLY[@]}"),
        ("fish", "complete -C 'lbr rerank -m bge-m'"),
    ],
)
def test_a_shell_completes_with_its_script(tmp_path: Path, lbr: Program, shell: str, prints: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / "lbr"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m lbr_cli "$@"\n')
    script.chmod(0o755)
    source = lbr(env={"_LBR_COMPLETE": f"source_{shell}"}).out
    environment = program_environment({"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)})
    ended = subprocess.run([shell, "-c", source + prints], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["bge-m3"]


def test_only_lbr_itself_has_the_two_options(lbr: Program) -> None:
    assert "--show-completion     Print the completion script for the current shell." in lbr("--help").out
    assert "completion" not in lbr("rerank", "--help").out


@pytest.mark.parametrize("option", ["--install-completion", "--show-completion"])
@pytest.mark.parametrize(
    ("shell", "problem"), [("", "the current shell is unknown"), ("dash", "unsupported shell dash")]
)
def test_an_unknown_shell_is_an_error(monkeypatch: pytest.MonkeyPatch, option: str, shell: str, problem: str) -> None:
    def detect_shell() -> tuple[str, str]:
        if not shell:
            raise shellingham.ShellDetectionFailure
        return shell, f"/bin/{shell}"

    monkeypatch.setattr(shellingham, "detect_shell", detect_shell)
    with pytest.raises(MissingError) as raised:
        program().main([option], prog_name="lbr", standalone_mode=False)
    assert str(raised.value) == f"{option}: {problem}"
    assert raised.value.hint.startswith("_LBR_COMPLETE=source_bash lbr prints the script of bash")


@pytest.mark.parametrize("shell", SHELLS)
def test_installed_scripts_are_those_that_are_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture, shell: str
) -> None:
    _, source = answered(monkeypatch, capsys, _LBR_COMPLETE=f"source_{shell}")
    monkeypatch.delenv("_LBR_COMPLETE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(shellingham, "detect_shell", lambda: (shell, f"/bin/{shell}"))
    with pytest.raises(SystemExit) as raised:
        program().main(["--install-completion"], prog_name="lbr", standalone_mode=False)
    assert raised.value.code == 0
    paths = {"bash": ".bash_completions/lbr.sh", "zsh": ".zfunc/_lbr", "fish": ".config/fish/completions/lbr.fish"}
    assert (tmp_path / paths[shell]).read_text().strip() == source.strip()


def test_a_home_that_cannot_be_written_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "file"
    home.touch()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(shellingham, "detect_shell", lambda: ("fish", "/usr/bin/fish"))
    with pytest.raises(MissingError, match=r"--install-completion: .*: cannot be written: Not a directory"):
        program().main(["--install-completion"], prog_name="lbr", standalone_mode=False)
