"""The parts of a model that need no weights: its tokenizer, its maximum length and its prompts."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import transformers
from tokenizers import normalizers

from lbr_cli.core import Classification, Document, Embedding, NextToken, Pair, Request, TokenEmbeddings
from lbr_cli.engines import UNLIMITED, Settings
from lbr_cli.engines.local.adapter import check_peft
from lbr_cli.engines.local.devices import choose_devices, choose_dtype
from lbr_cli.engines.local.pair_tokenizer import PairTokenizer
from lbr_cli.engines.local.pooling import Pooling, read_pooling
from lbr_cli.engines.local.text_tokenizer import TextTokenizer
from lbr_cli.engines.local.token_encoder import TokenProjection, read_projection
from lbr_cli.engines.local.token_tokenizer import TokenTokenizer
from lbr_cli.engines.pretrained import choose_length, load_config, load_tokenizer, longest_input
from lbr_cli.engines.prompts import Prompt, PromptTokenizer, Tokenizes, decode_with_special_tokens
from lbr_cli.errors import MissingError, RequestError
from lbr_cli.models import LocalModel
from lbr_cli.models.late_interaction import LateFolder, read_late_folder
from lbr_cli.models.sentence_transformers import Reading, has_scoring_modules, read_first_module

PROMPT_HINT = "give its prompt with --prompt-file; if it was trained on bare pairs, use --family classifier"
T5_TYPES = ("t5", "mt5", "umt5")  # a bi-encoder of these types is the encoder alone


@dataclass(frozen=True, slots=True)
class Frontend:
    """The parts of a model that need no weights.

    `kind` is the Auto class of transformers that loads the weights of `model`. `pooling` computes vectors or scores
    from hidden states, `projection` the vectors of tokens.
    """

    model: LocalModel
    kind: Any
    tokenizer: Any
    max_length: int
    prompts: Tokenizes
    pooling: Pooling | None = None
    tokenizer_source: str = ""
    tokenizer_reason: str = ""
    projection: TokenProjection | None = None

    def prompt(self, request: Request) -> Prompt:
        """Return the prompt of a request. RequestError if the query leaves no room for the document."""
        return self.prompts.prompt(request)

    def prompt_ids(self) -> set[int]:
        """Return the token ids of the prompts of a pair without texts."""
        ids: set[int] = set()
        for request in self.model.family.requests("", Document("", "")):
            with suppress(RequestError):  # the limit has no room for a document
                ids |= {*self.prompt(request).ids}
        return ids

    def samples(self) -> list[Prompt]:
        """Return the prompts of two pairs, a short one and a long one."""
        texts = ("a", "a " * min(self.max_length, 64))
        requests = [self.model.family.requests("", Document("", text))[0] for text in texts]
        return self.prompts.inputs(requests)

    def text(self, ids: list[int]) -> str:
        """Return token ids as text, special tokens written out."""
        return decode_with_special_tokens(self.tokenizer, ids)


def read(model: LocalModel, settings: Settings) -> Frontend:
    """Read the small files of a model, for a device of this machine. Raises UsageError and MissingError."""
    choose_dtype(settings.dtype, choose_devices(settings.device)[0])  # raises for an unsupported precision or device
    request_type = model.family.request_type
    late = read_late_folder(model.folder) if request_type is TokenEmbeddings else None
    projection = read_projection(model.folder, late) if late else None
    first_module = Reading(model.folder) if model.gguf else read_first_module(model.folder, is_late=bool(late))
    scored = request_type in (Pair, Classification) and not model.gguf and has_scoring_modules(model.folder)
    pooling = read_pooling(model.folder) if request_type is Embedding or scored else None
    model = replace(model, folder=first_module.folder)
    if model.base:
        check_peft(model.folder)
    config = load_config(model)
    tokenizer, source, reason = load_tokenizer(model, settings.tokenizer)
    if first_module.lower_case:
        own = tokenizer.backend_tokenizer.normalizer
        lower = normalizers.Lowercase()
        tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([lower, own]) if own else lower
    least = tokenizer.num_special_tokens_to_add(pair=request_type is Pair) + 1
    usual = late.usual_length if late else first_module.limit
    if late and usual:  # only the position table limits the length of documents
        tokenizer.model_max_length = UNLIMITED
    max_length = choose_length(model, settings, longest_input(tokenizer, config), least, usual)
    prompts = _request_tokenizer(model, tokenizer, max_length, late)
    if isinstance(prompts, PromptTokenizer | PairTokenizer):
        # raises now, before the weights are loaded, if the prompt cannot be used
        sample: Any = model.family.requests("", Document("", ""))[0]
        try:
            prompts.length_without_document(sample)
        except MissingError as error:
            hint = PROMPT_HINT if request_type is Classification else error.hint
            raise MissingError(str(error), hint=hint) from error
        prompts.check_special_tokens(sample)
    kind = _auto_class(request_type, config, scored=scored)
    return Frontend(model, kind, tokenizer, max_length, prompts, pooling, source, reason, projection)


def _request_tokenizer(model: LocalModel, tokenizer: Any, max_length: int, late: LateFolder | None) -> Tokenizes:
    """Return the tokenizer of the model's requests."""
    if late:
        samples = model.family.requests("", Document("", ""))
        return TokenTokenizer(tokenizer, max_length, late, model.folder, samples)
    if model.family.request_type is Pair:
        return PairTokenizer(tokenizer, max_length, model.name)
    if model.family.request_type is Embedding:
        return TextTokenizer(tokenizer, max_length, model.name)
    return PromptTokenizer(tokenizer, max_length, model.name)


def _auto_class(request_type: type[Request], config: Any, *, scored: bool) -> Any:
    """Return the Auto class that loads the weights. If `scored`, modules after the encoder compute the score."""
    if request_type is NextToken:
        return transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    if request_type in (Embedding, TokenEmbeddings) or scored:
        encoder_alone = config.is_encoder_decoder or config.model_type in T5_TYPES
        return transformers.AutoModelForTextEncoding if encoder_alone else transformers.AutoModel
    return transformers.AutoModelForSequenceClassification
