"""The parameters of the node: dataclasses of settings, as the models have them, declared field by field."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from sot_ros.trackers.models import BACKENDS, COMPILE, DEFAULT_MODEL, PRECISION_CHOICES, list_models
from sot_ros.trackers.settings import setting


@dataclass(frozen=True)
class NodeParameters:
    """What the node has besides the thresholds and settings of its model."""

    model: str = setting(DEFAULT_MODEL, f"the tracker, one of: {', '.join(list_models())}")
    weights: str = setting("", "path of a checkpoint as its authors published it; empty for the shipped weights")
    device: str = setting("auto", "cpu, cuda or cuda:1; auto for CUDA where there is one")
    precision: str = setting("fp32", "what the network computes in; auto tries all but int8", choices=PRECISION_CHOICES)
    backend: str = setting("torch", "what runs the network; onnxruntime takes what sot export wrote", choices=BACKENDS)
    threads: int = setting(0, "threads that the network takes on a CPU; 0 for as many as there are cores", 0, 1024)
    compile: str = setting("auto", "what makes the network faster; inductor takes a minute at start", choices=COMPILE)
    image_transport: str = setting("raw", "compressed for <image>/compressed", choices=("raw", "compressed"))
    max_targets: int = setting(1, "targets at once: above 1, a box adds a target and replaces none", 1, 100)
    autostart: bool = setting(True, "configure and activate at start, without a lifecycle manager")
    stale_after: float = setting(1.0, "STALE is said after so many seconds without an answer", 0.1, 3600.0)
    history_s: float = setting(3.0, "seconds of images held, for boxes drawn on an old one", 0.0, 60.0)
    history_mb: float = setting(256.0, "most megabytes that the held images take", 0.0, 65536.0)
    rectified: bool = setting(False, "the images are rectified already: P of camera_info describes them, not K and D")
    use_depth: bool = setting(False, "publish position, by the topic depth; needs message_filters")
    depth_slop: float = setting(0.02, "most seconds between an image and its depth image", 0.001, 10.0)
    velocity_frame: str = setting("", "publish velocity in this frame, such as odom; empty for none; needs use_depth")
    use_detections: bool = setting(False, "start and take back targets by the topic detections; needs vision_msgs")
    detection_class: str = setting("", "class_id of the detections that count; empty for all")
    detection_score: float = setting(0.5, "least score of the detections that count", 0.0, 1.0)
    image_plane_rate: float = setting(5.0, "most images in a second that RViz gets to click on", 0.1, 60.0)
    debug: bool = setting(True, "publish debug_image while somebody subscribes to it")
    debug_rate: float = setting(10.0, "most debug images in a second", 0.1, 1000.0)


READ_ONLY = ("autostart",)
FIXED_WHILE_CONFIGURED = (
    *("model", "weights", "device", "precision", "backend", "compile", "threads", "max_targets"),
    *("image_transport", "use_depth", "depth_slop", "use_detections"),
)
DECLARED_BY_RCLPY = ("use_sim_time", "start_type_description_service")


def take_overrides(node: Node) -> dict[str, Any]:
    """What the user gave on the command line or in files, to a node that declared all of it automatically.

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


def pick(settings: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Those of the values that are fields of `settings`."""
    return {field.name: values[field.name] for field in dataclasses.fields(settings) if field.name in values}


def declare(node: Node, settings: Any) -> None:
    """Declare a parameter for every field of `settings`, with its value there."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        node.declare_parameter(field.name, value, descriptor(field, value), ignore_override=True)


def descriptor(field: dataclasses.Field, value: Any) -> ParameterDescriptor:
    """What `ros2 param describe` shows."""
    described = ParameterDescriptor(description=field.metadata["description"], read_only=field.name in READ_ONLY)
    low, high, choices = (field.metadata[limit] for limit in ("low", "high", "choices"))
    if choices:
        described.additional_constraints = f"one of: {', '.join(choices)}"
    if isinstance(value, float):
        # rclpy refuses 4 for 4.0 unless the type is left open. What is no number at all, our own check refuses.
        described.dynamic_typing = True
        described.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
    elif low is not None:
        described.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
    return described
