"""Value types: immutable dataclasses that are cheap to construct.

A frozen dataclass assigns its fields through `object.__setattr__`, so its construction takes several times as long as
that of another one. A job constructs about ten objects for each candidate, of which a run may have millions. So here
the type checker alone refuses assignments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """Make a class a dataclass with slots, equality and a hash, whose fields are never assigned after construction."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
