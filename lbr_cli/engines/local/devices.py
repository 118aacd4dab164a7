"""Which device computes, in which precision, on how many threads."""

from __future__ import annotations

import torch

from lbr_cli.errors import MissingError, UsageError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CPU_BUDGET = 2048
ACCELERATOR_BUDGET = 16384


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA, else MPS, else CPU. Raises MissingError for a device that is not here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device {name}: no such kind of device", hint="auto, cpu, cuda, cuda:1 or mps") from error
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(_has_mps())}.get(device.type, 0)
    if (device.index or 0) >= count:
        here = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count())), *(["mps"] if _has_mps() else [])]
        raise MissingError(f"--device {name}: not on this machine", hint=f"here are: {', '.join(here)}")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the device computes in it natively, else float32.

    Natively: a CPU with avx512_bf16 or AMX, a CUDA device without emulation. MPS gets float32.
    """
    if name != "auto":
        dtype = DTYPES[name]
        if dtype == torch.float16 and device.type == "cpu":
            hint = "float32, or bfloat16 where the processor has it, which auto finds out"
            raise UsageError("--dtype float16: a CPU computes in it many times slower than in any other", hint=hint)
        return dtype
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return torch.bfloat16 if native else torch.float32


def default_budget(device: torch.device) -> int:
    """Tokens computed at once: on a CPU few enough to stay in its cache."""
    return CPU_BUDGET if device.type == "cpu" else ACCELERATOR_BUDGET


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _has_mps() -> bool:
    return torch.backends.mps.is_available()
