"""The parts of a machine on which torch's choice of device and precision depends, read without torch."""

from __future__ import annotations

import glob
import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ENV_PREFIXES = ("ATEN_", "CUDA_", "DNNL_", "HIP_", "NVIDIA_", "ONEDNN_", "PYTORCH_", "ROCR_")
LIBRARIES = ("torch", "transformers", "tokenizers")  # of the engine "local"
PROCESSOR = re.compile(r"^(?:model name|flags|Features|CPU part)\s*:.*$", re.MULTILINE)


def hardware_fingerprint() -> str:
    """Return a text that changes with hardware, drivers, libraries and environment variables that torch reads."""
    devices = [path for pattern in ("/dev/nvidia*", "/dev/kfd", "/dev/dri/*") for path in sorted(glob.glob(pattern))]
    variables = sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith(ENV_PREFIXES))
    versions = [version_of(package) for package in LIBRARIES]
    processors = sorted(set(PROCESSOR.findall(_read_text("/proc/cpuinfo"))))
    system = platform.platform(), platform.machine(), processors, _read_text("/proc/driver/nvidia/version")
    return repr((*system, devices, variables, versions))


def version_of(package: str) -> str:
    """Return the version of a package; "" if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
