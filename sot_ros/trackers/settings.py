"""Settings of a tracker: dataclass fields that know their meaning and range, changed by name."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, TypeVar

Settings = TypeVar("Settings")
Value = float | int | bool | str


def setting(
    default: Value,
    description: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    builds: bool = False,
    computes: bool = False,
) -> Any:
    """A dataclass field with what a person needs to set it: its meaning, and what is accepted.

    A number has a lowest and a highest value, a text its choices; a bool needs neither. `builds` marks what the
    network is made of: the setting cannot change while a tracker lives. `computes` marks what acts in the tracker's
    `compute`: it cannot change once that is exported.
    """
    marks = {"builds": builds, "computes": builds or computes}
    limits = {"description": description, "low": low, "high": high, "choices": choices}
    return dataclasses.field(default=default, metadata=limits | marks)


def built_by(settings: Any) -> tuple[str, ...]:
    """Names of the settings that decide what the network is made of."""
    return tuple(field.name for field in dataclasses.fields(settings) if field.metadata["builds"])


def computed_by(settings: Any) -> tuple[str, ...]:
    """Names of the settings that an exported tracker has for good."""
    return tuple(field.name for field in dataclasses.fields(settings) if field.metadata["computes"])


def override(settings: Settings, **changes: Value) -> Settings:
    """A copy of `settings` with some values changed.

    Raises ValueError for an unknown name, listing the known ones, and for a value of the wrong kind or range.
    """
    fields = {field.name: field for field in dataclasses.fields(settings)}
    for name, value in changes.items():
        if name not in fields:
            raise ValueError(f"unknown setting '{name}': this model has {', '.join(sorted(fields))}")
        changes[name] = _checked(fields[name], getattr(settings, name), value)
    return dataclasses.replace(settings, **changes)


def _checked(field: dataclasses.Field, current: Value, value: Value) -> Value:
    kind = type(current)
    low, high, choices = (field.metadata[limit] for limit in ("low", "high", "choices"))
    if kind in (bool, str):
        accepted = isinstance(value, kind) and (value in choices or not choices)
        what = " or ".join(choices) or ("true or false" if kind is bool else "a text")
    else:
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        accepted = number and kind(value) == value and low <= value <= high
        what = f"{'a whole number' if kind is int else 'a number'} from {low:g} to {high:g}"
    if not accepted:
        raise ValueError(f"{field.name} {value!r} refused: {what} is accepted")
    return kind(value)
