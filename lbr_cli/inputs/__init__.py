"""The input of a job: options, loading, groups of candidates, their texts, and streams."""

from lbr_cli.inputs.options import Inputs, Policies

__all__ = ["Inputs", "Policies"]
