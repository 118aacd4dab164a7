"""Model options: the model, its family, and the prompt."""

from dataclasses import dataclass
from typing import Any, ClassVar

from lbr_cli.commands.command import OptionGroup, completion, flag, option
from lbr_cli.engines import ONE_MODEL
from lbr_cli.errors import InputError, UsageError, read_error
from lbr_cli.families import FAMILIES, Template
from lbr_cli.models import ALIASES, HubModel, LocalModel, ServedModel, resolve, resolve_served
from lbr_cli.models.served import served_reranker

FAMILY_NAMES = [known.name for known in FAMILIES]
FAMILY_LIST = ", ".join(FAMILY_NAMES)
DEFAULT_MODEL = "lb"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions(OptionGroup):
    """A model, or None, and how to prompt it."""

    heading: ClassVar[str] = "Model"

    model: str | None = option(
        "MODEL", "Model to test: alias, hub id, folder or GGUF file.", short="-m", autocompletion=completion(ALIASES)
    )
    revision: str | None = option("REV", "Branch, tag or commit of a model on the hub.")
    family: str | None = option(
        "NAME", f"Family, if the files of the model do not determine it: {FAMILY_LIST}.", choices=FAMILY_NAMES
    )
    instruction: str | None = option("TEXT", "Instruction that defines relevance.")
    prompt_file: str | None = option("FILE", "TOML file with the prompt.")
    labels: str | None = option("A,B", 'Tokens for relevant and not relevant, such as "yes,no".')
    query_prompt: str | None = option("TEXT", "Text before each query.", unset="from the model's files")
    document_prompt: str | None = option("TEXT", "Text before each document.", unset="from the model's files")
    trust_remote_code: bool = flag("Run the code that comes with a model; read it first.")

    @classmethod
    def readers(cls, option: str) -> list[str]:
        field = "prompt" if option == "prompt_file" else option
        return [known.name for known in FAMILIES if field in known.__dataclass_fields__]

    def __post_init__(self) -> None:
        if self.model is None:
            self.refuse(self.names(), "there is no --model")
        self.check_utf8("instruction", "query_prompt", "document_prompt", "labels")

    def local(self) -> HubModel | LocalModel | None:
        """Return the model whose files are read on this machine. Nothing is downloaded."""
        if self.model is None:
            return None
        options = self.family_options()
        return resolve(self.model, self.family, self.revision, chosen=options, trusted=self.trust_remote_code)

    def family_options(self) -> dict[str, Any]:
        """Return the options of the family that are set."""
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
    """The model of `lbr rerank`, with a default."""

    model: str = option(
        "MODEL",
        "Alias (see lbr models), hub id, folder, GGUF file, or name on the server.",
        DEFAULT_MODEL,
        short="-m",
        env=True,
        autocompletion=completion(ALIASES),
    )

    def served(self, tokenizer: str | None) -> ServedModel:
        """Return the model of this name on a server, with its tokenizer on this machine."""
        return resolve_served(self.model, self.family, tokenizer, chosen=self.family_options())

    def on_rerank_server(self, dialect: str) -> ServedModel:
        """Return the model of this name on a rerank server. UsageError without a name if a request needs it."""
        if "model" in self.given or self.model != DEFAULT_MODEL:
            return served_reranker(self.model)
        if dialect not in ONE_MODEL:
            hint = "--model is the name of the model on the server"
            raise UsageError(f"--engine rerank-api: --dialect {dialect} needs --model", hint=hint)
        return served_reranker(dialect, named=False)


def read_template(path: str) -> Template:
    """Return the prompt of a TOML file. InputError if it cannot be read or is invalid."""
    try:
        with open(path, encoding="utf-8-sig") as file:  # line ends of any kind become \n
            return Template.parse(file.read(), path)
    except OSError as error:
        raise read_error(path, error, InputError) from error
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8", path) from error


def _labels(text: str) -> tuple[str, ...]:
    labels = tuple(text.split(","))
    if len(labels) != 2 or not all(labels) or labels[0] == labels[1]:
        raise UsageError(f"--labels {text}: needs two labels and one comma, the one for relevant first")
    return labels
