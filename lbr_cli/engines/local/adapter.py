"""Merge a LoRA adapter into the loaded weights of its base model, with peft.

The merge is that of peft's `merge_and_unload` on the base model in the precision of the job: the product of the adapter
is computed in float32, and added to weights that keep their precision.
"""

from __future__ import annotations

import warnings
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from lbr_cli.errors import MissingError, first_line
from lbr_cli.models import LocalModel
from lbr_cli.models.adapter import MERGE_HINT
from lbr_cli.models.snapshot import ADAPTER
from lbr_cli.wording import first_few

PREFIX = "base_model.model."  # of the names of peft's tensors
# heads of classifiers, whose rows are the labels
HEADS = ("score.weight", "classifier.weight", "classifier.out_proj.weight", "classification_head.out_proj.weight")
ROW = list(range(1, 9))  # made-up token ids
TOLERANCE = 1e-3  # of hidden states before and after the merge, relative to their norm, in float32


def check_peft(folder: Path) -> None:
    """Raise MissingError if peft is not installed."""
    if find_spec("peft") is None:
        raise MissingError(f"{folder / ADAPTER}: peft is not installed", hint="pip install 'lbr-cli[peft]'")


class AdapterWeights:
    """The tensors of an adapter. A tensor that replaces one of the base model has the same name as that tensor."""

    def __init__(self, model: LocalModel) -> None:
        check_peft(model.folder)
        from peft import load_peft_weights

        self._folder = model.folder
        try:
            tensors = load_peft_weights(str(model.folder), device="cpu")
        except Exception as error:  # several libraries raise many types
            raise MissingError(f"{model.folder}: its adapter cannot be read: {first_line(error)}") from error
        self._tensors = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
        for name, tensor in self._tensors.items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise self._error(f"has values that are not finite, in {name}")

    def options(self, kind: Any, config: Any) -> dict[str, Any]:
        """Return arguments of `from_pretrained` for a base model whose classification head the adapter replaces."""
        heads = [self._tensors[name] for name in HEADS if name in self._tensors]
        if not heads or "SequenceClassification" not in kind.__name__ or len(heads[0]) == config.num_labels:
            return {}
        return {"num_labels": len(heads[0]), "ignore_mismatched_sizes": True}

    def holds(self, name: str) -> bool:
        """Return whether the adapter replaces the tensor of that name."""
        return name in self._tensors

    def merge(self, loaded: Any) -> Any:
        """Return the base model with merged weights. MissingError for an adapter that does not fit the model."""
        types = {name: tensor.dtype for name, tensor in loaded.named_parameters()}
        with warnings.catch_warnings(action="ignore"):
            try:
                adapted = self._attached(loaded)
                _untie(loaded)
                before = _hidden_state(loaded)
                merged = adapted.merge_and_unload()
            except MissingError:
                raise
            except Exception as error:  # peft and the code of a model may raise anything
                words = " ".join(str(error).split())[:300] or type(error).__name__
                raise self._error(f"cannot be merged into a {type(loaded).__name__}: {words}") from error
        if any(type(module).__module__.startswith("peft.") for module in merged.modules()):
            raise self._error("has layers that peft does not merge")
        change = float((_hidden_state(merged) - before).norm() / before.norm().clamp(min=1e-9)) if len(before) else 0.0
        if not change <= TOLERANCE:
            raise self._error(f"changes hidden states by {change:.2g} of their norm when it is merged")
        for name, tensor in merged.named_parameters():
            tensor.data = tensor.data.to(types.get(name, merged.dtype))
        return merged

    def _attached(self, loaded: Any) -> Any:
        """Return the model with the layers of the adapter, like `PeftModel.from_pretrained`, which does not check."""
        from peft import MODEL_TYPE_TO_PEFT_MODEL_MAPPING, PeftConfig, PeftModel

        config = PeftConfig.from_pretrained(str(self._folder))
        config.inference_mode = True
        adapted = MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(config.task_type, PeftModel)(loaded, config)
        mapping = getattr(loaded, "_checkpoint_conversion_mapping", {})
        result = adapted.load_adapter(str(self._folder), "default", torch_device="cpu", key_mapping=mapping)
        for problem, keys in (("lacks", result.missing_keys), ("has unknown", result.unexpected_keys)):
            if keys:
                listed = first_few([key.removeprefix(PREFIX) for key in sorted(keys)], 3)
                raise self._error(f"{problem} weights of a {type(loaded).__name__}: {listed}")
        return adapted.eval()

    def _error(self, problem: str) -> MissingError:
        return MissingError(f"{self._folder / ADAPTER}: the adapter {problem}", hint=MERGE_HINT)


def _untie(model: Any) -> None:
    """Copy the weights of adapted layers that another module uses as well: the merge must not change that module."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    uses = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    for module in model.modules():
        if not isinstance(module, BaseTunerLayer):
            continue
        base: Any = module.get_base_layer()
        if uses[id(getattr(base, "weight", None))] > 1:
            base.weight = torch.nn.Parameter(base.weight.data.clone(), requires_grad=False)


@torch.inference_mode()
def _hidden_state(model: Any) -> torch.Tensor:
    """Return the hidden state of the last token of a made-up row; empty for models that are not in float32.

    In half precision, the states before and after the merge would differ by rounding.
    """
    if model.dtype != torch.float32 or model.config.is_encoder_decoder:
        return torch.empty(0)
    model.eval()
    output = model.base_model(input_ids=torch.tensor([ROW]))
    return output.last_hidden_state[0, -1]  # type: ignore[no-any-return]
