"""What torch's choice of device and precision hangs on, told without torch."""

from __future__ import annotations

import glob
import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

STEERING = ("ATEN_", "CUDA_", "HIP_", "NVIDIA_", "PYTORCH_", "ROCR_")  # beginnings of environment variables
PROCESSOR = re.compile(r"^(?:model name|flags|Features|CPU part)\s*:.*$", re.MULTILINE)


def this_machine() -> str:
    """The same text as long as nothing has changed that torch looks at."""
    devices = [path for pattern in ("/dev/nvidia*", "/dev/kfd", "/dev/dri/*") for path in sorted(glob.glob(pattern))]
    steering = sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith(STEERING))
    return repr(
        (
            platform.platform(),
            platform.machine(),
            sorted(set(PROCESSOR.findall(_text("/proc/cpuinfo")))),
            _text("/proc/driver/nvidia/version"),
            devices,
            steering,
            [version_of(package) for package in ("torch", "transformers", "tokenizers")],
        )
    )


def version_of(package: str) -> str:
    """The version of a package; "" if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
