"""What can be changed while the node runs, and what is refused, with the reason."""

import dataclasses
import re

import pytest
import yaml
from conftest import ROOT

from sot_ros.msg import TrackedBox
from sot_ros.node.parameters import NodeParameters
from sot_ros.session import Thresholds
from sot_ros.trackers.models import MODELS


def test_settings_of_the_model_have_its_defaults_descriptions_and_ranges(robot):
    assert robot.get("window_influence") == pytest.approx(0.176)
    described = robot.describe("window_influence")
    assert "window" in described.description
    assert (described.floating_point_range[0].from_value, described.floating_point_range[0].to_value) == (0, 1)
    assert robot.describe("scale_num").integer_range[0].to_value == 15


def test_thresholds_have_the_defaults_of_the_model(robot):
    row = MODELS["siamfc"]
    assert robot.get("occluded_below") == row.occluded_below
    assert robot.get("tracking_above") == row.tracking_above


def test_thresholds_take_effect_on_the_next_image(robot):
    assert robot.start().state == TrackedBox.TRACKING
    assert robot.set("tracking_above", 1.0) == ""
    assert robot.set("occluded_below", 1.0) == ""
    try:
        states = {robot.show(t).state for t in range(2, 7)}
        assert TrackedBox.OCCLUDED in states
        assert robot.set("coast_s", 0.0) == ""
        assert robot.show(7).state == TrackedBox.LOST
    finally:
        robot.set("coast_s", 2.0)
        robot.set("occluded_below", 0.3)
        robot.set("tracking_above", 0.5)
    assert [robot.show(t).state for t in (8, 9, 10)] == 2 * [TrackedBox.LOST] + [TrackedBox.TRACKING]


def test_settings_take_effect_on_the_next_image(robot):
    robot.start()
    before = robot.get("window_influence")
    assert robot.set("window_influence", 1.0) == ""
    try:
        # Only the window counts: the box stays where it is, apart from half a step of the response map.
        a, b = robot.show(2), robot.show(8)
        assert abs(a.x - b.x) < 1
    finally:
        robot.set("window_influence", before)
    assert robot.get("window_influence") == before


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("window_influence", 7.0, "window_influence"),
        ("window_influence", float("nan"), "window_influence"),
        ("window_influence", "much", "window_influence 'much' refused: a number from 0 to 1 is accepted"),
        ("scale_num", 4, "scale_num 4 refused: an odd number is accepted"),
        ("scale_num", 3.5, "type"),
        ("scale_num", -1, "scale_num"),
        ("occluded_below", 0.9, "0 <= occluded_below <= tracking_above <= 1 is accepted"),
        ("coast_s", -1.0, "coast_s"),
        ("coast_s", 5000, "coast_s 5000 refused: a number from 0 to 3600 is accepted"),
        ("debug", "maybe", "type"),
        ("debug_rate", 0.0, "debug_rate"),
        ("autostart", False, "read-only"),
        ("no_such_parameter", 1, "undeclared parameter"),
        ("model", "sot_mobile", "model refused: deactivate the node and clean it up"),
        ("weights", "other.pth", "weights refused: deactivate the node and clean it up"),
        ("device", "cpu", "device refused: deactivate the node and clean it up"),
        ("precision", "fp16", "precision refused: deactivate the node and clean it up"),
        ("backend", "onnxruntime", "backend refused: deactivate the node and clean it up"),
        ("threads", 2, "threads refused: deactivate the node and clean it up"),
        ("precision", "fp8", "precision 'fp8' refused: auto or fp32 or tf32 or fp16 or bf16 or int8 is accepted"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_the_reason_and_changes_nothing(robot, name, value, reason):
    if not robot.answers:
        robot.start()
    before = robot.get(name)
    refusal = robot.set(name, value)
    assert reason in refusal
    assert "\n" not in refusal
    assert robot.get(name) == before
    assert robot.follows(3)


def test_a_whole_number_is_accepted_where_a_float_is_meant(robot):
    assert robot.set("coast_s", 4) == ""
    assert robot.get("coast_s") == 4.0
    robot.set("coast_s", 2.0)


def test_the_debug_image_can_be_switched_off(robot):
    from sensor_msgs.msg import Image

    debug = []
    subscription = robot.node.create_subscription(Image, "debug_image", debug.append, 1)
    robot.wait(lambda: robot.show(0) and debug, "debug image")
    assert robot.set("debug", False) == ""
    robot.show(1)
    robot.spin(0.5)  # one may be on its way
    debug.clear()
    for t in range(2, 6):
        robot.show(t)
        robot.spin(0.1)
    assert not debug
    assert robot.set("debug", True) == ""
    robot.wait(lambda: robot.show(0) and debug, "debug image")
    robot.node.destroy_subscription(subscription)


def test_the_shipped_file_documents_every_parameter_with_its_default():
    text = (ROOT / "config" / "tracker.yaml").read_text()
    active = yaml.safe_load(text)["/**"]["ros__parameters"]
    assert active.items() <= dataclasses.asdict(NodeParameters()).items()

    documented = yaml.safe_load("\n".join(re.findall(r"^    #? ?(\w+: \S+)$", text, re.MULTILINE)))
    for model, row in MODELS.items():
        defaults = (NodeParameters(), Thresholds(row.occluded_below, row.tracking_above), row.settings)
        undocumented = {f.name for part in defaults for f in dataclasses.fields(part)} - set(documented)
        assert not undocumented, model
    # Each value that is commented out is the default of some model.
    for name in set(documented) - set(active) - {"model", "coast_s", "confirm_frames"}:
        values = [getattr(s, name) for row in MODELS.values() for s in (row.settings, row) if hasattr(s, name)]
        assert documented[name] in values, name
