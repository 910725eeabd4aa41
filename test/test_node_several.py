"""Several targets at once, on the real node: max_targets, TrackedBox.target_id, stop_target."""

import numpy as np
import pytest
from robot import Robot, box_of, picture, truth
from sensor_msgs.msg import Image
from std_msgs.msg import UInt32

from sot_ros.geometry import Box, iou
from sot_ros.msg import TrackedBox
from sot_ros.node.messages import rgb_image

OTHERS = Box(200, 150, 30, 60), Box(10, 220, 90, 40)
"""Two pieces of the clip's background."""


@pytest.fixture(scope="module")
def process(_ros, siamfc_weights):
    # However slow the machine is, STALE is said only where a test asks for it.
    settings = {"scale_num": 1, "max_targets": 3, "stale_after": 600.0}
    robot = Robot(model="siamfc", weights=siamfc_weights, device="cpu", **settings)
    yield robot
    robot.close()


@pytest.fixture
def crowd(process):
    """A robot with three targets, the clip's on frame 0 and two of the background. Their numbers follow each other."""
    process.begin()
    process.let_go()
    process.show(0)
    for box in (truth(0), *OTHERS):
        process.init(box)
    process.wait(lambda: len(process.has_said("started at")) == 3, "three targets")
    return process


def shown(crowd, t, count):
    """The answers to frame t of the clip, of which there are so many."""
    message = rgb_image(crowd.header(), picture(t))
    crowd.publish(message)

    def answers():
        return [answer for answer in crowd.answers if answer.header == message.header]

    crowd.wait(lambda: len(answers()) >= count, f"{count} answers to an image")
    crowd.spin(0.1)  # there may be more
    return answers()


def test_each_image_is_answered_with_a_box_for_each_target_the_oldest_first(crowd):
    crowd.confidences.clear()
    sent = []
    for t in range(1, 6):
        answers = shown(crowd, t, 3)
        assert len(answers) == 3
        first = answers[0].target_id
        assert [answer.target_id for answer in answers] == [first, first + 1, first + 2]
        assert answers[0].state == TrackedBox.TRACKING and iou(box_of(answers[0]), truth(t)) > 0.5
        sent.append(answers[0].confidence)
    crowd.wait(lambda: crowd.confidences == sent, "confidence of the oldest with every image")
    status, values = crowd.health()
    assert values["target_id"] == f"{first}, {first + 1}, {first + 2}" and status.message.startswith("TRACKING, ")


def test_a_box_above_the_limit_is_refused_in_one_line(crowd):
    crowd.init(truth(0))
    assert "already, max_targets is 3" in crowd.says("init box refused")
    assert len(shown(crowd, 1, 3)) == 3


def test_one_target_is_stopped_by_its_number_and_all_by_the_service(crowd):
    first, second, third = (answer.target_id for answer in shown(crowd, 1, 3))
    crowd.say("stop_target", UInt32(data=second))
    crowd.says(f"target {second}: stopped")
    assert [answer.target_id for answer in shown(crowd, 2, 3)] == [first, third, second]
    assert crowd.answers[-1].state == TrackedBox.IDLE
    assert [answer.target_id for answer in shown(crowd, 3, 2)] == [first, third]
    assert crowd.stop().success
    crowd.says("stopped: target let go")
    for t, ended in ((4, [first, third]), (5, [third])):
        assert [(a.state, a.target_id) for a in shown(crowd, t, len(ended))] == [(TrackedBox.IDLE, n) for n in ended]


def test_silence_is_told_of_each_target(crowd):
    numbers = [answer.target_id for answer in shown(crowd, 1, 3)]
    crowd.set("stale_after", 0.3)
    try:
        crowd.wait(lambda: len(crowd.answers) >= 6 and crowd.answers[-1].state == TrackedBox.STALE, "STALE")
    finally:
        crowd.set("stale_after", 600.0)
    stale = [answer.target_id for answer in crowd.answers if answer.state == TrackedBox.STALE]
    assert stale[:3] == numbers


def test_the_debug_image_shows_all_boxes(crowd):
    pictures = crowd.listen(Image, "debug_image")
    crowd.wait(lambda: crowd.node.count_publishers(crowd.topic("debug_image")) > 0, "debug_image")
    while not pictures:
        answers = shown(crowd, 1, 3)
        crowd.spin(0.2)
    drawn = np.frombuffer(pictures[0].data, np.uint8).reshape(picture(1).shape)
    changed = (drawn != picture(1)).any(axis=2)
    answers = [answer for answer in crowd.answers if answer.header == pictures[0].header]
    assert len(answers) == 3
    for answer in answers:
        x, y, w, h = map(round, box_of(answer))
        assert changed[max(y, 0), max(x + 1, 0) : x + w].mean() > 0.9, "its upper edge is drawn"


def test_max_targets_changes_only_while_unconfigured(crowd):
    assert "deactivate the node and clean it up" in crowd.set("max_targets", 2)
