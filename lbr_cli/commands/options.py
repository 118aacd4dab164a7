"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

Revision = Annotated[str | None, typer.Option(metavar="REV", help="Branch, tag or commit on the hub.")]
FamilyName = Annotated[
    Literal["lb", "lb-rev", "classifier", "bi-encoder"] | None,
    typer.Option(help="How to ask a model that does not say so itself."),
]
Device = Annotated[str, typer.Option(envvar="LBR_DEVICE", help="cpu, cuda, cuda:1, mps; auto is the best there is.")]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    typer.Option(envvar="LBR_DTYPE", help="Precision; auto is bfloat16 where the device computes in it."),
]
