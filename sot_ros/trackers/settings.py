"""Settings of a tracker: dataclass fields that know their meaning and range, changed by name."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, TypeVar

Settings = TypeVar("Settings")


def setting(default: float | int, description: str, low: float, high: float) -> Any:
    """A dataclass field with what a person needs to set it: its meaning, and the lowest and highest value."""
    return dataclasses.field(default=default, metadata={"description": description, "low": low, "high": high})


def override(settings: Settings, **changes: float | int) -> Settings:
    """A copy of `settings` with some values changed.

    Raises ValueError for an unknown name, listing the known ones, and for a value of the wrong kind or range.
    """
    fields = {field.name: field for field in dataclasses.fields(settings)}
    for name, value in changes.items():
        if name not in fields:
            raise ValueError(f"unknown setting '{name}': this model has {', '.join(sorted(fields))}")
        changes[name] = _checked(fields[name], getattr(settings, name), value)
    return dataclasses.replace(settings, **changes)


def _checked(field: dataclasses.Field, current: float | int, value: float | int) -> float | int:
    kind = type(current)
    low, high = field.metadata["low"], field.metadata["high"]
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or kind(value) != value or not low <= value <= high:
        what = "a whole number" if kind is int else "a number"
        raise ValueError(f"{field.name} {value!r} refused: {what} from {low:g} to {high:g} is accepted")
    return kind(value)
