"""The structure of the package: allowed imports between modules, and libraries that are imported only if needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from support.paths import ROOT

PACKAGE = ROOT / "lbr_cli"
# what a module may import of this package, by the start of its name; the longest start that fits counts
ALLOWED: dict[str, tuple[str, ...]] = {
    "core": (),
    "errors": (),
    "numbers": (),
    "formats": ("core", "errors", "numbers", "formats"),
    "families": ("core", "errors", "families"),
    "network": ("errors",),
    "models": ("core", "errors", "families", "models", "network"),
    "engines": ("", "core", "errors", "models", "engines", "network"),
    "inputs": ("core", "errors", "formats"),
    "join": ("core", "errors", "formats", "inputs"),
    "collect": ("core", "errors", "formats", "inputs", "join"),
    "stream": ("core", "errors", "formats", "inputs"),
    "cache": ("core", "errors", "cache"),
    "scoring": ("cache", "core", "errors"),
    "passages": ("core", "numbers"),
    "rerank": ("core", "errors", "numbers", "passages", "scoring"),
    "evaluation": ("core", "errors", "evaluation", "formats", "numbers"),
    "report": ("core", "errors", "evaluation", "formats", "numbers", "report"),
    "progress": (),
    "assembly": ("cache", "core", "engines", "errors", "families", "models", "scoring"),
    "manifest": ("", "assembly", "engines", "models"),
    "job": (
        *("assembly", "cache", "collect", "core", "engines", "errors", "formats", "inputs", "manifest", "models"),
        *("join", "rerank", "scoring", "stream"),
    ),
    "doctor": ("", "core", "engines", "errors", "models", "scoring"),
    "survey": ("collect", "core", "engines", "errors", "formats", "job", "models", "progress", "rerank", "scoring"),
    "commands": (
        "inputs",
        "survey",
        "",
        "cache",
        "collect",
        "commands",
        "core",
        "doctor",
        "engines",
        "errors",
        "evaluation",
        "families",
        "formats",
        "job",
        "join",
        "models",
        "passages",
        "progress",
        "report",
        "rerank",
    ),
    "__main__": ("commands",),
    "__init__": (),
}
HEAVY = (
    *("torch", "transformers", "numpy", "rich", "huggingface_hub", "vllm", "openai", "ray", "regex"),
    *("ir_measures", "pytrec_eval", "scipy", "matplotlib"),
)


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The rooms of this package that a file imports from, other than for types alone."""
    names = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "lbr_cli":
            names.add(".".join(node.module.split(".")[1:2]))
        elif isinstance(node, ast.Import):
            names |= {".".join(alias.name.split(".")[1:2]) for alias in node.names if alias.name.startswith("lbr_cli")}
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_the_rooms_below_it(path: Path) -> None:
    assert imported(path) <= set(ALLOWED[room(path)])


@pytest.mark.parametrize("path", [*PACKAGE.glob("families/*.py"), *PACKAGE.glob("formats/*.py")], ids=lambda p: p.name)
def test_families_and_formats_are_free_of_what_computes(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    roots = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    roots |= {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert not roots & set(HEAVY)


def test_the_command_line_loads_nothing_heavy() -> None:
    code = f"import sys, lbr_cli.commands; print(*[name for name in {HEAVY} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == ""


@pytest.mark.parametrize("arguments", [["--help"], ["rerank", "--help"], ["rerank", "nowhere.trec"]])
def test_help_and_bad_input_load_neither_torch_nor_transformers(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom lbr_cli.commands import main\n"
        f"sys.argv = ['lbr', *{arguments}]\n"
        "try:\n    main()\nfinally:\n"
        "    print([name for name in ('torch', 'transformers') if name in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.stderr.splitlines()[-1] == "[]"
