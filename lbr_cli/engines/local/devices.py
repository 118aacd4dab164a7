"""The device, the precision and the batch size of a computation."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import torch

from lbr_cli.engines.local.int8_kernel import int8_kernel
from lbr_cli.errors import MissingError, UsageError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "int8": torch.int8}
CACHE_SHARE = 1.5  # hidden states of one batch, in second-level caches: 1,000 to 4,000 tokens of a 0.5B model
MEMORY_SHARE = 0.5  # of an accelerator's free memory


def choose_device(name: str) -> torch.device:
    """Return a device; `auto` is CUDA, else MPS, else CPU. MissingError for a device that is not on this machine."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device {name}: unknown device", hint="auto, cpu, cuda, cuda:1 or mps") from error
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(_has_mps())}.get(device.type, 0)
    if (device.index or 0) >= count:
        hint = f"devices: {', '.join(map(str, all_devices()))}"
        raise MissingError(f"--device {name}: not on this machine", hint=hint)
    return device


def choose_devices(names: str) -> list[torch.device]:
    """Return the devices of a list such as "cuda:0,cuda:1", or the single device of another name.

    Raises UsageError for devices of different kinds, on which scores differ, and for `auto` in a list.
    """
    if "," not in names:
        return [choose_device(names)]
    parts = [name.strip() for name in names.split(",")]
    if "auto" in parts:
        raise UsageError(f"--device {names}: auto is one device", hint="name each device, as in cuda:0,cuda:1")
    devices = [choose_device(name) for name in parts]
    if len({device.type for device in devices}) > 1:
        raise UsageError(f"--device {names}: devices of different kinds, on which scores differ")
    return devices


def describe(device: torch.device) -> str:
    """Return the name of a device and its native precisions."""
    dtype = choose_dtype("auto", device)
    if device.type == "cpu":
        name = f"{torch.cpu.get_capabilities().get('cpu_name', 'CPU')}, {torch.get_num_threads()} threads"
    else:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "Apple GPU"
    wide = ", weights in bfloat16 computed in float32" if computes_wide(device, dtype) else ""
    return f"{name}: {'float32' if dtype == torch.float32 or wide else 'float32 and bfloat16'}{wide}"


def all_devices() -> list[torch.device]:
    """Return the devices of this machine."""
    names = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count())), *(["mps"] if _has_mps() else [])]
    return [torch.device(name) for name in names]


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return a precision; `auto` is bfloat16 if the device computes in it natively, else float32.

    A CPU with avx512_bf16 or AMX does, and a CUDA device without emulation; an MPS device does not. Raises UsageError
    for a precision that the device does not support, MissingError if the processor or torch has no int8 kernel.
    """
    if name != "auto":
        dtype = DTYPES[name]
        if dtype == torch.int8:
            if device.type != "cpu":
                raise UsageError(f"--dtype int8: unsupported on {device}, only on CPUs", hint="set --device cpu")
            int8_kernel()
        if dtype == torch.float16 and device.type == "cpu":
            hint = "use float32, or auto, which is bfloat16 if the processor has it"
            raise UsageError("--dtype float16: a CPU computes in it many times slower than in any other", hint=hint)
        return dtype
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return torch.bfloat16 if native else torch.float32


def computes_wide(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether to compute in float32 with weights of `dtype`, because it is faster.

    It is faster on CPUs without matrix units for bfloat16 (AMX), except AMD's with avx512_bf16: products in bfloat16
    were measured to be five times as fast as in float32 on a Zen 5, and half as fast on an Intel CPU without AMX.
    """
    if device.type != "cpu" or dtype in (torch.float32, torch.int8):
        return False
    capabilities = torch.cpu.get_capabilities()
    amd = "AMD" in str(capabilities.get("cpu_name", ""))
    return not (capabilities.get("amx_bf16") or (amd and capabilities.get("avx512_bf16")))


def choose_budget(device: torch.device, config: Any) -> int:
    """Return the tokens of a batch: on a CPU as many as its cache holds, on an accelerator as free memory allows.

    A token takes its hidden state in float32 and, on an accelerator, all activations of one layer.
    """
    size = getattr(config, "hidden_size", None) or 1024  # a model with its own code may use another name
    hidden = 4 * size
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        cache = capabilities.get("l2_cache_size", 0) * capabilities.get("num_physical_cores", 1)
        return min(max(int(CACHE_SHARE * cache / hidden), 1024), 8192)
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    layer = 8 * hidden + 3 * 4 * (getattr(config, "intermediate_size", None) or size * 4)
    return min(max(int(MEMORY_SHARE * free / layer), 1024), 65536)


def keep_freed_memory() -> None:
    """Let glibc keep freed memory: each layer allocates tens of megabytes, and fresh pages cost a tenth of the time."""
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "gnu_get_libc_version"):
            library.mallopt(M_MMAP_MAX, 0)
            library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def precision(device: torch.device, dtype: torch.dtype) -> str:
    """Return the precision in words, as cache keys contain it."""
    if dtype == torch.int8:
        return int8_kernel().description
    return f"{dtype_name(dtype)}{' computed in float32' if computes_wide(device, dtype) else ''}"


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _has_mps() -> bool:
    return torch.backends.mps.is_available()
