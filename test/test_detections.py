"""A detector's boxes start targets and help to find them again; the target is published as a detection."""

import math
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
from golden.synthetic_clip import HEIGHT, WIDTH
from hypothesis import given
from hypothesis import strategies as st
from lifecycle_msgs.msg import Transition
from robot import box_of, picture, truth

from sot_ros.geometry import Box, iou
from sot_ros.msg import TrackedBox
from sot_ros.node.detections import boxes_of, detection
from sot_ros.node.messages import rgb_image
from sot_ros.session import State, Target

needs_vision_msgs = pytest.mark.skipif(
    find_spec("vision_msgs") is None, reason="detections need vision_msgs, which is not installed"
)


def plain(**fields) -> SimpleNamespace:
    return SimpleNamespace(**fields)


def found(box: Box, *hypotheses: tuple[str, float], theta: float = 0.0) -> SimpleNamespace:
    """A vision_msgs/Detection2D in all but name."""
    x, y = box.center
    center = plain(position=plain(x=x, y=y), theta=theta)
    results = [plain(hypothesis=plain(class_id=name, score=score)) for name, score in hypotheses]
    return plain(bbox=plain(center=center, size_x=box.w, size_y=box.h), results=results)


def test_only_detections_of_the_class_and_score_count_and_the_best_is_first():
    boat, better, bird, faint = (Box(10 * i, 5, 20, 10) for i in range(4))
    message = plain(
        detections=[
            found(boat, ("boat", 0.6), ("bird", 0.99)),
            found(bird, ("bird", 0.9)),
            found(better, ("bird", 0.1), ("boat", 0.7)),
            found(faint, ("boat", 0.4)),
            found(faint),
        ]
    )
    assert boxes_of(message, "boat", 0.5) == [better, boat]
    assert boxes_of(message, "", 0.5) == [boat, bird, better]
    assert boxes_of(message, "plane", 0.0) == []


@given(st.floats(-500, 500), st.floats(-500, 500), st.floats(1, 400), st.floats(1, 400), st.floats(-7, 7))
def test_a_turned_box_gets_the_upright_one_around_it(x, y, w, h, theta):
    message = plain(detections=[found(Box(x, y, w, h), ("", 1.0), theta=theta)])
    (box,) = boxes_of(message, "", 0.5)
    turn = np.array([[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]])
    corners = np.array([(-w, -h), (w, -h), (w, h), (-w, h)]) / 2 @ turn.T + (x + w / 2, y + h / 2)
    assert (box.x, box.y) == pytest.approx(corners.min(0), abs=1e-6)
    assert (box.x + box.w, box.y + box.h) == pytest.approx(corners.max(0), abs=1e-6)


@pytest.mark.parametrize("box", [Box(math.nan, 0, 5, 5), Box(0, 0, 0, 5), Box(0, 0, 5, -5), Box(0, 0, math.inf, 5)])
def test_boxes_that_are_none_do_not_count(box):
    assert boxes_of(plain(detections=[found(box, ("boat", 0.9))]), "boat", 0.5) == []


def test_a_target_is_a_detection():
    msg = plain(
        Detection2D=lambda **fields: plain(bbox=plain(center=plain(position=plain())), **fields),
        ObjectHypothesisWithPose=lambda: plain(hypothesis=plain()),
    )
    message = detection(msg, "header", Target(State.TRACKING, 7, Box(10, 20, 30, 40), 0.75), "boat")
    assert (message.header, message.id) == ("header", "7")
    assert [(r.hypothesis.class_id, r.hypothesis.score) for r in message.results] == [("boat", 0.75)]
    assert message.bbox == plain(center=plain(position=plain(x=25.0, y=40.0)), size_x=30.0, size_y=40.0)


# On the node


def array_of(header, *found_boxes: tuple[Box, float], class_id: str = "boat"):
    """A real vision_msgs/Detection2DArray."""
    from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

    message = Detection2DArray(header=header)
    for box, score in found_boxes:
        result = ObjectHypothesisWithPose()
        result.hypothesis.class_id, result.hypothesis.score = class_id, score
        one = Detection2D(header=header, results=[result])
        one.bbox.center.position.x, one.bbox.center.position.y = map(float, box.center)
        one.bbox.size_x, one.bbox.size_y = float(box.w), float(box.h)
        message.detections.append(one)
    return message


@needs_vision_msgs
def test_the_best_detection_starts_a_target_on_the_image_that_it_was_found_in(seeing):
    first = seeing.show(0)
    for t in range(1, 12):  # the detector takes its time, and the target moves by more than its size
        seeing.show(t)
    seeing.say("detections", array_of(first.header, (truth(0), 0.9), (Box(300, 10, 40, 40), 0.6)))
    assert "1.10 s ago" in seeing.says("started at")
    assert iou(truth(0), truth(12)) == 0
    assert seeing.follows(12)


@needs_vision_msgs
def test_other_detections_start_nothing(seeing):
    answer = seeing.show(0)
    seeing.say("detections", array_of(answer.header, (truth(0), 0.9), class_id="bird"))
    seeing.say("detections", array_of(answer.header, (truth(0), 0.3)))
    seeing.say("detections", array_of(answer.header))
    seeing.spin(0.3)
    assert seeing.show(1).state == TrackedBox.IDLE


@needs_vision_msgs
def test_a_tracked_target_is_not_disturbed_by_detections(seeing):
    first = seeing.start()
    for t in range(2, 6):
        seeing.say("detections", array_of(seeing.answers[-1].header, (Box(300, 10, 40, 40), 0.9)))
        assert seeing.follows(t)
    assert seeing.answers[-1].target_id == first.target_id


@needs_vision_msgs
def test_the_target_is_published_as_a_detection(seeing):
    from vision_msgs.msg import Detection2D

    heard = seeing.listen(Detection2D, "detection")
    seeing.start()
    answer = seeing.show(2)
    seeing.wait(lambda: heard and heard[-1].header == answer.header, "detection")
    box = heard[-1].bbox
    assert (box.center.position.x, box.center.position.y) == pytest.approx(box_of(answer).center)
    assert (box.size_x, box.size_y) == pytest.approx((answer.width, answer.height))
    assert heard[-1].id == str(answer.target_id)
    assert heard[-1].results[0].hypothesis.score == pytest.approx(answer.confidence)
    assert heard[-1].results[0].hypothesis.class_id == "boat"


@needs_vision_msgs
def test_a_lost_target_is_taken_back_where_a_detection_shows_it(seeing):
    seeing.start()
    thresholds = {name: seeing.get(name) for name in ("tracking_above", "occluded_below", "coast_s")}
    for name, value in {"tracking_above": 1.0, "occluded_below": 1.0, "coast_s": 0.2}.items():
        assert seeing.set(name, value) == ""
    empty = np.full((HEIGHT, WIDTH, 3), 118, np.uint8)
    try:
        seeing.wait(lambda: seeing.show(rgb_image(seeing.header(), empty)).state == TrackedBox.LOST, "loss")
    finally:
        for name, value in reversed(thresholds.items()):
            assert seeing.set(name, value) == ""
    elsewhere = np.roll(picture(1), (120, 180), (0, 1))
    there = truth(1)._replace(x=truth(1).x + 180, y=truth(1).y + 120)

    def found_again():
        answer = seeing.show(rgb_image(seeing.header(), elsewhere))
        seeing.say("detections", array_of(answer.header, (there, 0.8)))
        seeing.spin(0.05)
        return answer.state == TrackedBox.TRACKING

    seeing.wait(found_again, "recovery")
    assert iou(box_of(seeing.answers[-1]), there) > 0.5


@pytest.mark.skipif(find_spec("vision_msgs") is not None, reason="vision_msgs is installed")
def test_without_vision_msgs_only_detections_are_off_and_the_log_says_what_to_install(seeing):
    assert seeing.transition(Transition.TRANSITION_DEACTIVATE)
    assert seeing.transition(Transition.TRANSITION_ACTIVATE)
    assert "vision_msgs is not installed: sudo apt install ros-" in seeing.says("no Detections")
    seeing.start()
    assert seeing.follows(2)


def test_nothing_is_said_about_packages_that_nobody_asked_for(managed):
    managed.bring_up()
    managed.meet()
    assert not managed.has_said("not installed")
