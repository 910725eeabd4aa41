"""The main job, on the real node: a box once, then a box for every image."""

import cv2
import numpy as np
from golden.synthetic_clip import HEIGHT, WIDTH
from robot import box_of, picture, stamp_of, truth
from sensor_msgs.msg import Image

from sot_ros.geometry import iou
from sot_ros.msg import TrackedBox
from sot_ros.node.messages import rgb_image


def test_without_a_target_each_image_is_answered_idle(robot):
    answer = robot.show(0)
    assert answer.state == TrackedBox.IDLE
    assert box_of(answer) == (0, 0, 0, 0)
    assert answer.confidence == 0


def test_an_answer_has_the_header_of_its_image(robot):
    robot.start()
    message = rgb_image(robot.header(), picture(2))
    assert robot.show(message).header == message.header
    assert message.header.frame_id == "camera"


def test_a_target_is_followed_from_its_init_box_on(robot):
    first = robot.start()
    assert first.state == TrackedBox.TRACKING
    assert iou(box_of(first), truth(1)) > 0.7
    assert all(robot.follows(t) for t in range(2, 16))
    assert {answer.target_id for answer in robot.answers[1:]} == {first.target_id}


def test_confidence_is_also_published_alone(robot):
    robot.start()
    sent = [robot.show(t).confidence for t in range(2, 5)]
    assert all(0 < confidence <= 1 for confidence in sent)
    robot.wait(lambda: robot.confidences[-3:] == sent, "confidence with every box")


def test_a_region_of_interest_starts_a_target_too(robot):
    robot.show(0)
    robot.init_roi(truth(0))
    robot.says("started at")
    assert robot.follows(1)


def test_a_second_init_replaces_the_target(robot):
    first = robot.start()
    second = robot.start(2)
    assert second.target_id == first.target_id + 1
    assert robot.follows(4)
    robot.init((5, 5, 60, 50))
    robot.says("started at (5, 5, 60, 50)")
    third = robot.show(5)
    assert third.target_id == first.target_id + 2
    assert iou(box_of(third), truth(5)) == 0


def test_every_processed_image_is_answered_exactly_once(robot):
    robot.start()
    robot.begin()
    sent = [rgb_image(robot.header(), picture(2 + i % 4)) for i in range(60)]
    for message in sent:
        robot.publish(message)
        robot.spin(0.005)
    robot.wait(lambda: robot.answer_to(sent[-1]), "answer to the last image")
    robot.spin(0.3)
    stamps = [stamp_of(answer) for answer in robot.answered()]
    assert stamps == sorted(set(stamps))
    assert set(stamps) <= {stamp_of(message) for message in sent}


def test_the_newest_image_wins_when_the_camera_is_faster_than_the_tracker(robot):
    robot.start()
    robot.set("scale_num", 5)
    robot.begin()
    sent, newest_at_answer = [], []
    while len(newest_at_answer) < 10:
        sent.append(rgb_image(robot.header(), picture(2)))
        robot.publish(sent[-1])
        robot.spin(0.005)  # 200 Hz
        newest_at_answer += [len(sent) - 1] * (len(robot.answered()) - len(newest_at_answer))
    robot.wait(lambda: robot.answer_to(sent[-1]), "answer to the last image")
    robot.set("scale_num", 1)

    assert len(sent) > 30, "the tracker is meant to be too slow for this camera"
    number = {stamp_of(message): i for i, message in enumerate(sent)}
    taken = [number[stamp_of(answer)] for answer in robot.answered()]
    # The tracker takes an image when the answer before is out. 1 stands for the newest image then, 0 for the oldest.
    freshness = [
        (after - before) / max(1, newest - before)
        for before, after, newest in zip(taken, taken[1:], newest_at_answer, strict=False)
    ]
    assert np.median(freshness) > 0.8, freshness


def test_a_late_image_is_dropped(robot):
    early, late = robot.header(), robot.header()
    robot.start()
    robot.publish(rgb_image(late, picture(2)))
    late_one = rgb_image(early, picture(2))
    robot.publish(late_one)
    robot.show(2)
    assert robot.answer_to(late_one) is None


def test_a_bag_that_starts_again_lets_the_target_go(robot):
    first = robot.header()
    robot.start()
    for _ in range(15):
        robot.header()
    assert robot.show(2).state == TrackedBox.TRACKING
    assert robot.show(rgb_image(first, picture(0))).state == TrackedBox.IDLE
    assert "time jumped back" in robot.says("target let go")


def test_images_without_stamps_are_tracked(robot):
    robot.start()
    message = rgb_image(robot.header(), picture(2))
    message.header.stamp.sec = message.header.stamp.nanosec = 0
    robot.begin()
    assert robot.show(message).state == TrackedBox.TRACKING


def test_the_debug_image_is_the_frame_with_the_box_drawn_on_it(robot):
    robot.start()
    debug = []
    subscription = robot.node.create_subscription(Image, "debug_image", debug.append, 1)
    robot.wait(lambda: robot.show(2) and debug, "debug image")
    robot.node.destroy_subscription(subscription)
    image = debug[0]
    pixels = np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)
    assert (image.width, image.height, image.encoding, image.step) == (WIDTH, HEIGHT, "rgb8", 3 * WIDTH)
    assert 0 < (pixels != picture(2)).mean() < 0.5
    assert image.header in [answer.header for answer in robot.answers]


def test_a_target_is_followed_through_a_switch_of_resolution(robot):
    robot.start()
    for t, scale in enumerate((2, 2, 0.75, 0.75, 1), 2):
        image = cv2.resize(picture(t), None, fx=scale, fy=scale)
        assert robot.follows_in(rgb_image(robot.header(), image), truth(t).scaled(scale, scale))
