"""`lbr doctor`: print versions and devices, and test a model on this machine."""

from __future__ import annotations

import typer

from lbr_cli.commands.command import command
from lbr_cli.commands.options.engine import DeviceOptions
from lbr_cli.commands.options.model import ModelOptions
from lbr_cli.doctor import examine
from lbr_cli.engines import Settings
from lbr_cli.formats.output import check_stdout
from lbr_cli.progress import Console, printable


@command
def doctor(model: ModelOptions, device: DeviceOptions) -> None:
    """Print versions and devices; test a model on this machine.

    The test prints how the model is computed, compares its scores with those of single texts in float32, and fails if
    they differ.

    Examples:
        lbr doctor
        lbr doctor --model minilm --device cpu
    """
    check_stdout()
    tested = model.local()
    with Console(bar=False, quiet=True) as console:
        for name, finding in examine(tested, Settings(device.device, device.dtype), console):
            typer.echo(printable(f"{name:<14}{finding}"))
