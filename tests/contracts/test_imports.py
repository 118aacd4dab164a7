"""The structure of the package: allowed imports between modules, and libraries that are imported only if needed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lbr_cli.commands import COMMANDS
from support.paths import ROOT

PACKAGE = ROOT / "lbr_cli"
# the modules of this package that a module may import, by prefix of its name; the longest prefix applies
ALLOWED: dict[str, tuple[str, ...]] = {
    "value_types": (),
    "encodings": ("value_types",),
    "core": ("encodings", "value_types"),
    "errors": (),
    "float32": (),
    "descriptors": (),
    "wording": (),
    "formats": ("core", "descriptors", "errors", "float32", "formats", "wording"),
    "families": ("core", "errors", "families"),
    "network": ("errors",),
    "models": ("core", "errors", "families", "models", "network"),
    "engines": ("", "core", "errors", "models", "engines", "network", "wording"),
    "ordering": ("core",),
    "datasets": ("core", "errors", "formats"),
    "inputs": ("core", "datasets", "errors", "float32", "formats", "inputs", "ordering", "wording"),
    "cache": ("core", "errors", "cache"),
    "computation": ("cache", "core", "wording"),
    "scoring": ("cache", "computation", "core", "errors"),
    "passages": ("core", "float32"),
    "rerank": ("core", "errors", "float32", "ordering", "passages", "scoring", "wording"),
    "evaluation": ("core", "datasets", "errors", "evaluation", "float32", "formats", "ordering", "wording"),
    "report": ("core", "datasets", "errors", "evaluation", "float32", "formats", "report", "wording"),
    "progress": ("descriptors",),
    "identity": ("cache", "core", "engines", "errors", "models"),
    "setup": ("cache", "core", "engines", "errors", "families", "identity", "models", "scoring"),
    "manifest": ("", "engines", "models", "setup"),
    "job": (
        *("cache", "core", "engines", "errors", "families", "formats", "identity", "inputs", "manifest", "models"),
        *("rerank", "scoring", "setup", "wording"),
    ),
    "fuse": ("core", "formats", "inputs", "ordering", "wording"),
    "doctor": ("", "core", "engines", "errors", "models", "reference", "reference_pairs", "scoring"),
    "reference": ("", "engines", "errors", "float32", "models"),
    "reference_pairs": (),
    "preview": ("core", "engines", "errors", "formats", "job", "models", "progress", "rerank", "scoring"),
    "commands": (
        *("", "cache", "commands", "core", "datasets", "descriptors", "doctor", "engines", "errors", "evaluation"),
        *(
            "families",
            "formats",
            "fuse",
            "inputs",
            "job",
            "models",
            "ordering",
            "passages",
            "preview",
            "progress",
            "reference",
            "report",
        ),
        *("rerank", "wording"),
    ),
    "reranker": (
        *("cache", "commands", "core", "errors", "formats", "identity", "inputs", "job", "models", "rerank", "scoring"),
        "setup",
    ),
    "__main__": ("commands",),
    "__init__": (),
}
HEAVY = (
    *("torch", "transformers", "numpy", "rich", "huggingface_hub", "vllm", "urllib3", "ray", "regex"),
    *("ir_measures", "pytrec_eval", "scipy", "matplotlib", "ir_datasets"),
)
FUSE = ["fuse", *[str(ROOT / "samples" / "run.trec")] * 2, "-o", os.devnull]


LAZY = (*HEAVY, "pyarrow")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Return the layers of the package that a file imports from, except for type annotations."""
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
def test_modules_import_only_from_lower_layers(path: Path) -> None:
    assert imported(path) <= set(ALLOWED[room(path)])


@pytest.mark.parametrize("path", [*PACKAGE.glob("families/*.py"), *PACKAGE.glob("formats/*.py")], ids=lambda p: p.name)
def test_families_and_formats_import_no_engine_library(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    roots = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    roots |= {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert not roots & set(HEAVY)


def loaded(code: str, names: tuple[str, ...]) -> list[str]:
    """Return those of the modules and packages that are imported after some code has run."""
    prints = f"import sys\ntry:\n    {code}\nfinally:\n    print(*sys.modules, file=sys.stderr)"
    ended = subprocess.run([sys.executable, "-c", prints], capture_output=True, text=True, check=False)
    modules = ended.stderr.splitlines()[-1].split()
    return [name for name in modules if f"{name}.".startswith(tuple(f"{package}." for package in names))]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_imports_no_large_library(command: str) -> None:
    assert loaded(f"import lbr_cli.commands.{command}", LAZY) == []


@pytest.mark.parametrize("engine", ["openai", "rerank_api"])
def test_server_engines_import_no_tokenizer(engine: str) -> None:
    assert loaded(f"import lbr_cli.engines.{engine}", ("torch", "transformers", "tokenizers")) == []


@pytest.mark.slow  # imports torch and transformers in a new process
def test_the_local_engine_imports_no_model_code_of_transformers() -> None:
    """Torch's compiler and scipy, which this code imports, take longer than ten scores."""
    names = ("transformers.modeling_utils", "transformers.masking_utils", "torch._dynamo", "scipy", "sklearn")
    assert loaded("import lbr_cli.engines.local", names) == []


def test_the_package_imports_its_modules_lazily() -> None:
    others = tuple(f"lbr_cli.{name}" for name in ALLOWED if name)
    assert loaded("import lbr_cli; lbr_cli.__version__, dir(lbr_cli)", (*others, *HEAVY, "typer")) == []


def test_a_reranker_imports_no_large_library_before_its_first_score() -> None:
    code = "from lbr_cli import Reranker; Reranker(engine='overlap').score('tea', ['green tea']); Reranker('lb')"
    assert loaded(code, HEAVY) == []


@pytest.mark.parametrize("words", ["lbr ", "lbr rerank --model ", "lbr rerank --"])
def test_completion_imports_no_large_library(words: str) -> None:
    completed = {"_LBR_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    code = f"import os; os.environ |= {completed}; from lbr_cli.commands import main; main()"
    assert loaded(code, HEAVY) == []


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["nonsense"], []])
def test_help_imports_no_command(arguments: list[str]) -> None:
    code = f"from lbr_cli.commands import main; sys.argv = ['lbr', *{arguments}]; main()"
    commands = tuple(f"lbr_cli.commands.{name}" for name in (*COMMANDS, "options"))
    rooms = tuple(
        f"lbr_cli.{name}"
        for name in ALLOWED
        if name not in ("commands", "descriptors", "errors", "progress", "", "__main__")
    )
    assert loaded(code, (*commands, *rooms, *LAZY, "sqlite3", "jinja2", "orjson", "zstandard")) == []


def test_help_of_a_command_does_not_import_job() -> None:
    code = "from lbr_cli.commands import main; sys.argv = ['lbr', 'rerank', '--help']; main()"
    others = tuple(f"lbr_cli.commands.{name}" for name in COMMANDS if name != "rerank")
    rooms = ("job", "preview", "setup", "manifest", "evaluation", "report", "doctor")
    assert loaded(code, (*others, *(f"lbr_cli.{name}" for name in rooms), *LAZY, "jinja2")) == []


@pytest.mark.parametrize("arguments", [["--help"], ["rerank", "--help"], ["rerank", "nowhere.trec"], FUSE])
def test_help_input_errors_and_fusion_import_neither_torch_nor_transformers(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom lbr_cli.commands import main\n"
        f"sys.argv = ['lbr', *{arguments}]\n"
        "try:\n    main()\nfinally:\n"
        "    print([name for name in ('torch', 'transformers') if name in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.stderr.splitlines()[-1] == "[]"
