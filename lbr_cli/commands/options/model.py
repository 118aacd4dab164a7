"""Model options: the model, its family, and the prompt."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import typer

from lbr_cli.commands.command import OptionGroup, one_of
from lbr_cli.errors import InputError, UsageError
from lbr_cli.families import FAMILIES, Template
from lbr_cli.models import HubModel, LocalModel, ServedModel, resolve, resolve_served

FAMILY_NAMES = [known.name for known in FAMILIES]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions(OptionGroup):
    """A model, or None, and how to prompt it."""

    heading: ClassVar[str] = "Model"

    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="MODEL", help="Model to test: alias, hub id, folder or GGUF file."),
    ] = None
    revision: Annotated[
        str | None, typer.Option(metavar="REV", help="Branch, tag or commit of a model on the hub.")
    ] = None
    family: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            parser=one_of(FAMILY_NAMES),
            help=f"Family, if the files of the model do not determine it: {', '.join(FAMILY_NAMES)}.",
        ),
    ] = None
    instruction: Annotated[str | None, typer.Option(metavar="TEXT", help="Instruction that defines relevance.")] = None
    prompt_file: Annotated[str | None, typer.Option(metavar="FILE", help="TOML file with the prompt.")] = None
    labels: Annotated[
        str | None, typer.Option(metavar="A,B", help='Tokens for relevant and not relevant, such as "yes,no".')
    ] = None
    query_prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Text before each query.", show_default="from the model's files")
    ] = None
    document_prompt: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Text before each document.", show_default="from the model's files"),
    ] = None
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run the code that comes with a model; read it first.")
    ] = False

    @classmethod
    def readers(cls, option: str) -> list[str]:
        field = "prompt" if option == "prompt_file" else option
        return [known.name for known in FAMILIES if field in known.__dataclass_fields__]

    def __post_init__(self) -> None:
        if self.model is None:
            self.refuse(self.names(), "there is no --model")
        self.check_utf8("instruction", "query_prompt", "document_prompt", "labels")

    def local(self) -> HubModel | LocalModel | None:
        """Return the model whose files are read on this machine; the hub is not asked yet."""
        if self.model is None:
            return None
        return resolve(self.model, self.family, self.revision, chosen=self._of_family(), trusted=self.trust_remote_code)

    def served(self, tokenizer: str | None) -> ServedModel | None:
        """Return the model that a server has under this name, with its tokenizer on this machine."""
        if self.model is None:
            return None
        return resolve_served(self.model, self.family, tokenizer, chosen=self._of_family())

    def _of_family(self) -> dict[str, Any]:
        """Return the given fields of the family."""
        values = {
            "instruction": self.instruction,
            "prompt": None if self.prompt_file is None else read_template(self.prompt_file),
            "labels": None if self.labels is None else _labels(self.labels),
            "query_prompt": self.query_prompt,
            "document_prompt": self.document_prompt,
        }
        return {field: value for field, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankerOptions(ModelOptions):
    """The model of `lbr rerank`, which has a default."""

    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            envvar="LBR_MODEL",
            help="Alias (see lbr models), hub id, folder, GGUF file, or name on the server.",
        ),
    ] = "lb"


def read_template(path: str) -> Template:
    """Read the TOML file of a prompt."""
    try:
        with open(path, encoding="utf-8-sig") as file:  # line ends of any kind become \n
            return Template.parse(file.read(), path)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path) from error
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8", path) from error


def _labels(text: str) -> tuple[str, ...]:
    labels = tuple(text.split(","))
    if len(labels) != 2 or not all(labels) or labels[0] == labels[1]:
        raise UsageError(f"--labels {text}: needs two labels and one comma, the one for relevant first")
    return labels
