"""The parameters of the node, in one table, and how they are declared."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from sot_ros.session import Thresholds
from sot_ros.trackers.models import DEFAULT_MODEL, PRECISIONS, find_model, list_models
from sot_ros.trackers.settings import override

Value = bool | int | float | str


class Row(NamedTuple):
    """One parameter. Its default gives its type."""

    name: str
    default: Value
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = False


FIXED_WHILE_CONFIGURED = (
    Row("model", DEFAULT_MODEL, f"the tracker, one of: {', '.join(list_models())}"),
    Row("weights", "", "path of a checkpoint as its authors published it; empty for the shipped weights"),
    Row("device", "auto", "cpu, cuda or cuda:1; auto for CUDA where there is one"),
    Row("precision", "fp32", "fp32, fp16 or bf16", choices=tuple(PRECISIONS)),
    Row("image_transport", "raw", "raw, or compressed for <image>/compressed", choices=("raw", "compressed")),
)
NODE_PARAMETERS = (
    *FIXED_WHILE_CONFIGURED,
    Row("autostart", True, "configure and activate at start; false leaves that to a lifecycle manager", read_only=True),
    Row("debug", True, "publish debug_image while somebody subscribes to it"),
    Row("debug_rate", 10.0, "most debug images in a second", 0.1, 1000.0),
)
DECLARED_BY_RCLPY = ("use_sim_time", "start_type_description_service")


def model_parameters(model: str) -> tuple[Row, ...]:
    """The thresholds and settings of a model, with that model's defaults; ValueError for an unknown model."""
    row = find_model(model)
    return (
        Row("occluded_below", row.occluded_below, "confidence under which a target counts as hidden", 0.0, 1.0),
        Row("tracking_above", row.tracking_above, "confidence from which it is tracked again", 0.0, 1.0),
        Row("coast_s", Thresholds.coast_s, "seconds after which it counts as lost", 0.0, 3600.0),
        *(Row(f.name, getattr(row.settings, f.name), **f.metadata) for f in dataclasses.fields(row.settings)),
    )


def take_overrides(node: Node) -> dict[str, Value]:
    """What the user gave on the command line or in files, for a node that declared all of it automatically.

    It is undeclared, to be declared again by `declare` with its own type, range and description. Names with a dot
    belong to others, such as qos_overrides.
    """
    given = {
        name: parameter.value
        for name, parameter in node.get_parameters_by_prefix("").items()
        if "." not in name and name not in DECLARED_BY_RCLPY
    }
    for name in given:
        node.undeclare_parameter(name)
    return given


def declare(node: Node, rows: tuple[Row, ...], given: dict[str, Value]) -> None:
    """Declare every row, with the value that is taken out of `given`, or else with its default.

    Raises ValueError, before any is declared, for a value that is not accepted.
    """
    values = {row.name: checked(row, given.get(row.name, row.default)) for row in rows}
    for row in rows:
        node.declare_parameter(row.name, values[row.name], descriptor(row), ignore_override=True)
        given.pop(row.name, None)


def checked(row: Row, value: Any) -> Value:
    """`value` in the type of the row: a whole number is accepted for a float.

    Raises ValueError with one line that says what is accepted.
    """
    kind = type(row.default)
    if kind is float and type(value) is int:
        value = float(value)
    within = row.low is None or type(value) is kind and math.isfinite(value) and row.low <= value <= row.high
    if type(value) is kind and within and (not row.choices or value in row.choices):
        return value
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[kind]
    limits = "" if row.low is None else f" from {row.low:g} to {row.high:g}"
    raise ValueError(f"{row.name} {value!r} refused: {' or '.join(row.choices) or words + limits} is accepted")


def accept_whole_numbers(node: Node) -> None:
    """Let 4 be set where 4.0 is meant, while the node runs. ROS 2 before Jazzy has no hook for that, and refuses it."""

    def to_float(parameter: Parameter) -> Parameter:
        known = node.get_parameter_or(parameter.name)
        meant = parameter.type_ is Parameter.Type.INTEGER and known.type_ is Parameter.Type.DOUBLE
        return Parameter(parameter.name, value=float(parameter.value)) if meant else parameter

    if hasattr(node, "add_pre_set_parameters_callback"):
        node.add_pre_set_parameters_callback(lambda parameters: list(map(to_float, parameters)))


def model_values(model: str, values: dict[str, Value]) -> tuple[Any, Thresholds]:
    """The settings and thresholds of a model from the values of its parameters.

    Raises ValueError for a name that is no setting of this model, and for values that contradict each other.
    """
    names = {field.name for field in dataclasses.fields(Thresholds)}
    thresholds = Thresholds(**{name: value for name, value in values.items() if name in names})
    settings = {name: value for name, value in values.items() if name not in names}
    return override(find_model(model).settings, **settings), thresholds


def descriptor(row: Row) -> ParameterDescriptor:
    """What `ros2 param describe` shows."""
    described = ParameterDescriptor(description=row.description, read_only=row.read_only)
    if row.choices:
        described.additional_constraints = f"one of: {', '.join(row.choices)}"
    if isinstance(row.default, float):
        described.floating_point_range = [FloatingPointRange(from_value=float(row.low), to_value=float(row.high))]
    elif row.low is not None:
        described.integer_range = [IntegerRange(from_value=row.low, to_value=row.high, step=1)]
    return described
