"""`lbr doctor`: print versions and devices, and test a model on this machine."""

from __future__ import annotations

import contextlib

import typer

from lbr_cli.commands.command import command, refuse
from lbr_cli.commands.options.engine import DeviceOptions
from lbr_cli.commands.options.model import ModelOptions
from lbr_cli.commands.options.reference import ReferenceOptions
from lbr_cli.doctor import ReferenceCheck, examine
from lbr_cli.engines import Settings
from lbr_cli.formats.output import check_stdout, open_output
from lbr_cli.formats.overwrite import WrittenFiles
from lbr_cli.models import LocalModel
from lbr_cli.models.digests import model_files
from lbr_cli.progress import Console, printable
from lbr_cli.reference import read_reference


@command
def doctor(model: ModelOptions, device: DeviceOptions, reference: ReferenceOptions) -> None:
    """Print versions and devices; test a model on this machine.

    The test prints how the model is computed, compares its scores with those of single texts in float32, and fails if
    they differ. Reference scores show whether an update has changed the scores of a model.

    Examples:
        lbr doctor
        lbr doctor --model minilm --device cpu
        lbr doctor --model minilm --dtype float32 --record minilm.json
        lbr doctor --model minilm --dtype float32 --check minilm.json
    """
    check_stdout()
    if model.model is None:
        refuse(reference.given, reference.names(), "there is no --model")
    written = WrittenFiles({"--record": reference.record})
    if model.prompt_file is not None:
        written.check("prompt file", model.prompt_file)
    check = None
    if reference.check is not None:
        check = ReferenceCheck(reference.check, read_reference(reference.check))
    tested = model.local()
    for path in model_files(tested) if isinstance(tested, LocalModel) else ():
        written.check("model file", str(path))
    settings = Settings(device.device, device.dtype)
    with Console(bar=False, quiet=True) as console, contextlib.ExitStack() as stack:
        record = None
        if reference.record is not None:
            record = stack.enter_context(open_output(reference.record, console.warn)).write
        for name, finding in examine(tested, settings, console, record=record, check=check):
            typer.echo(printable(f"{name:<14}{finding}"))
