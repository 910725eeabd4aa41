"""Time: boxes on old images, cameras that stand still, bags that are paused and start again."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import scene
from rclpy.serialization import serialize_message
from rclpy.time import Time
from robot import Robot, box_of, picture, stamp_of, truth
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Header

from sot_ros.geometry import iou
from sot_ros.msg import TrackedBox
from sot_ros.node.messages import rgb_image


def test_a_box_on_an_old_image_arrives_at_the_target_though_it_has_moved_200_pixels(robot):
    # Two images a second, so that a busy machine need not skip any; test_worker.py has the tracker that is too slow.
    assert robot.set("history_s", 60.0) == ""
    messages = [rgb_image(robot.header(0.5), scene.view(t)) for t in range(33)]
    for message in messages[:30]:
        robot.show(message)
    drawn = scene.place(0)
    assert scene.place(29).x - drawn.x > 200

    robot.init(drawn, messages[0].header)  # it took its sender 14.5 s
    robot.says("started at", "14.50 s ago")
    robot.says("caught up")
    assert robot.follows_in(messages[30], scene.place(30))
    # Without the history, the same box is taken on the newest image, where something else is by now.
    robot.init(drawn)
    robot.wait(lambda: len(robot.has_said("started at")) == 2, "second start")
    assert iou(box_of(robot.show(messages[31])), scene.place(31)) == 0
    assert robot.set("history_s", 3.0) == ""

    stamps = [stamp_of(answer) for answer in robot.answered()]
    assert stamps == sorted(set(stamps))


def test_an_old_image_that_is_not_held_any_more_is_replaced_by_the_nearest(robot):
    assert robot.set("history_s", 0.5) == ""
    try:
        headers = [robot.header() for _ in range(20)]
        for t, header in enumerate(headers):
            robot.show(rgb_image(header, picture(t)))
        robot.init(truth(14), headers[0])
        robot.says("older than all that are held, see history_s and history_mb", "1.400 s later")
        robot.says("caught up")
        assert robot.follows(20)
    finally:
        assert robot.set("history_s", 3.0) == ""


def test_a_camera_that_stands_still_turns_into_stale_and_back(robot):
    robot.start()
    last = robot.show(2)
    robot.begin()
    begin = time.monotonic()
    robot.wait(lambda: robot.answers, "STALE")
    assert 0.8 < time.monotonic() - begin < 5  # stale_after is 1 s
    stale = robot.answers[0]
    assert (stale.state, stale.confidence, stale.target_id) == (TrackedBox.STALE, 0, last.target_id)
    assert stale.header == last.header and box_of(stale) == box_of(last)
    status, values = robot.health()
    assert status.level == status.STALE and status.message.startswith("no image was answered for")
    assert values["state"] == "STALE"
    begin = time.monotonic()
    robot.wait(lambda: len(robot.answers) >= 3, "STALE, repeated every second")
    assert time.monotonic() - begin > 0.8
    assert robot.follows(3)
    status, _ = robot.health()
    assert status.level == status.OK


def test_images_that_all_are_refused_are_stale_too(robot):
    robot.start()
    robot.begin()
    end = time.monotonic() + 20
    while not robot.answers and time.monotonic() < end:
        message = rgb_image(robot.header(), picture(2))
        message.encoding = "rgb565"
        robot.publish(message)
        robot.spin(0.1)
    assert robot.answers[0].state == TrackedBox.STALE


def test_a_camera_process_that_is_killed_and_started_again_is_taken_up_again(robot):
    target = robot.start()
    camera = [sys.executable, Path(__file__).with_name("camera.py"), robot.topic("image"), "2"]

    def tracked() -> bool:
        """Whether the target is tracked in what the camera shows."""
        last = robot.answers[-1]
        return last.state == TrackedBox.TRACKING and iou(box_of(last), truth(2)) > 0.5

    for _ in range(2):
        robot.begin()
        process = subprocess.Popen(camera)
        try:
            robot.wait(lambda: len(robot.answered()) >= 5 and tracked(), "answers to the camera")
        finally:
            process.kill()  # SIGKILL
            process.wait()
        robot.wait(lambda: robot.answers[-1].state == TrackedBox.STALE, "STALE")
        stale, last = robot.answers[-1], robot.answered()[-1]
        assert (stale.header, stale.confidence, stale.target_id) == (last.header, 0, target.target_id)


# Bags


RATE = 30
BEGIN = 1_600_000_000


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    """A bag of the clip as a camera would have recorded it, in rosbag2's format."""
    path = tmp_path_factory.mktemp("bags") / "clip"
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        typestore = get_typestore(Stores.ROS2_JAZZY)
        connection = writer.add_connection("/camera/image_raw", "sensor_msgs/msg/Image", typestore=typestore)
        for t in range(45):
            at = BEGIN * 10**9 + t * 10**9 // RATE
            header = Header(frame_id="camera", stamp=Time(nanoseconds=at).to_msg())
            writer.write(connection, at, serialize_message(rgb_image(header, picture(t))))
    return path


def bag_time(answer: TrackedBox) -> int:
    """The number of the image that is answered, in the bag."""
    return round(RATE * (stamp_of(answer) - BEGIN))


class Player:
    """Plays a bag to a robot as `ros2 bag play --clock` does: its messages as they were stored, and the time."""

    def __init__(self, robot: Robot, bag):
        self._robot, self._bag = robot, bag
        self._clock = robot.node.create_publisher(Clock, "/clock", 10)

    def play(self, begin: int, end: int, then=lambda t: None) -> None:
        with Reader(self._bag) as reader:
            for t, (_, at, data) in enumerate(reader.messages()):
                if begin <= t < end:
                    self._clock.publish(Clock(clock=Time(nanoseconds=at).to_msg()))
                    self._robot.images.publish(data)
                    self._robot.spin(1 / RATE)
                    then(t)
        self._robot.wait(lambda: end - 1 in map(bag_time, self._robot.answered()), "answer to the last image")


def test_a_bag_that_is_paused_goes_on_and_one_that_loops_starts_again(_ros, siamfc_weights, bag):
    robot = Robot(model="siamfc", weights=siamfc_weights, device="cpu", scale_num=1, use_sim_time=True)
    try:
        robot.meet()
        player = Player(robot, bag)
        robot.wait(lambda: player._clock.get_subscription_count() > 0, "subscription to /clock")
        robot.begin()

        first = Header(stamp=Time(nanoseconds=BEGIN * 10**9).to_msg())
        player.play(0, 20, then=lambda t: robot.init(truth(0), first) if t == 10 else None)
        ago_s = float(re.search(r"([\d.]+) s ago", robot.says("started at"))[1])
        assert 10 / RATE - 0.01 < ago_s < 20 / RATE  # images go on arriving while the box is on its way
        last = robot.answered()[-1]
        assert last.state == TrackedBox.TRACKING
        assert last.header.stamp.sec == BEGIN

        robot.wait(lambda: robot.answers[-1].state == TrackedBox.STALE, "STALE while the bag is paused")
        status, _ = robot.health()
        assert status.level == status.STALE

        player.play(20, 45)
        assert robot.answered()[-1].state != TrackedBox.IDLE
        _, values = robot.health()
        assert float(values["latency from stamp, p50 (ms)"]) < 2000  # by the bag's clock; years by the wall's

        robot.begin()
        player.play(0, 20)
        assert {answer.state for answer in robot.answered()} == {TrackedBox.IDLE}
        assert len(robot.has_said("time jumped back", "target let go")) == 1
    finally:
        robot.close()
