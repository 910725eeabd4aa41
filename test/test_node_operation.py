"""What an operator does and sees: stop and enable, diagnostics, quality of service, several trackers."""

import functools
import signal
import time

from rclpy.qos import ReliabilityPolicy
from robot import Process, picture, truth

from sot_ros.msg import TrackedBox
from sot_ros.node.messages import rgb_image


def cpu_s(pid: int) -> float:
    """Processor time that a process has taken so far."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_stop_lets_the_target_go(robot):
    robot.start()
    assert robot.stop().success
    robot.says("stopped: target let go")
    answer = robot.show(2)
    assert (answer.state, answer.confidence) == (TrackedBox.IDLE, 0)
    assert robot.start(3).state == TrackedBox.TRACKING


def test_disabled_the_node_takes_no_images_and_says_so_once(robot):
    target = robot.start()
    last = robot.show(2)
    robot.begin()
    assert robot.enable(False).success
    try:
        robot.wait(lambda: robot.node.count_subscribers("image") == 0, "end of the subscription")
        robot.wait(lambda: robot.answers, "last word")
        assert (robot.answers[0].state, robot.answers[0].confidence) == (TrackedBox.IDLE, 0)
        assert robot.answers[0].header == last.header
        assert not robot.stop().success
        status, _ = robot.health()
        assert (status.level, status.message) == (status.OK, "inactive")

        begin, used = time.monotonic(), cpu_s(robot.process.pid)
        while time.monotonic() < begin + 2:
            robot.images.publish(rgb_image(robot.header(), picture(0)))
            robot.spin(0.03)
        assert len(robot.answers) == 1  # STALE is said of images that are wanted
        assert cpu_s(robot.process.pid) - used < 0.1  # of 2 seconds
        assert robot.enable(False).success
    finally:
        assert robot.enable(True).success
    robot.meet()
    assert robot.answers[-1].state == TrackedBox.IDLE
    assert robot.start().target_id > target.target_id


def test_enable_configures_a_node_that_is_not_yet(managed):
    assert managed.enable(True).success
    assert managed.state() == "active"
    managed.clean_up()
    managed.set("device", "cuda:99")
    try:
        response = managed.enable(True)
        assert not response.success and response.message == "it could not be activated, its log says why"
    finally:
        managed.set("device", "cpu")


def test_a_target_never_has_the_number_of_an_earlier_one(managed):
    managed.bring_up()
    managed.meet()
    numbers = [managed.start().target_id]
    managed.clean_up()
    managed.bring_up()
    managed.meet()
    numbers.append(managed.start().target_id)
    assert numbers[1] == numbers[0] + 1


def test_diagnostics_tell_what_the_node_does(robot):
    robot.start()
    for t in range(2, 40):
        robot.show(t % 20)
    status, values = robot.health()
    assert (status.level, status.hardware_id) == (status.OK, "cpu")
    assert status.message == values["state"] and values["state"] in ("TRACKING", "OCCLUDED")
    assert values["model"] == "siamfc"
    assert int(values["images answered"]) > 38 and int(values["images refused"]) >= 0
    assert 1 < float(values["rate (Hz)"]) < 1000
    p50, p95 = (float(values[f"latency from arrival, {p} (ms)"]) for p in ("p50", "p95"))
    assert 0 < p50 <= p95 < 10_000
    assert 0 < float(values["tracker, p50 (ms)"]) < 10_000
    assert 100 < int(values["memory (MB)"]) < 4000


def test_diagnostics_warn_of_images_that_are_refused(robot):
    robot.show(0)
    warned = []
    while not warned:
        message = rgb_image(robot.header(), picture(0))
        message.encoding = "rgb565"
        robot.publish(message)
        robot.show(0)
        robot.spin(0.1)
        warned = [s for array in robot.diagnostics for s in array.status if "refused in the last second" in s.message]
    assert warned[0].level == warned[0].WARN


def test_a_flood_of_boxes_is_survived(robot):
    first = robot.start()
    robot.begin()
    for i in range(200):  # 100 Hz, while the camera goes on with 10 Hz
        robot.init(truth(2))
        if i % 10 == 0:
            robot.publish(rgb_image(robot.header(), picture(2)))
        robot.spin(0.01)
    robot.show(2)
    assert robot.follows(3)
    assert first.target_id < robot.answers[-1].target_id <= first.target_id + 200
    assert len(robot.answers) > 10


def test_quality_of_service_is_overridden_by_parameters(robot, siamfc_weights):
    process = Process(
        *("--ros-args", "-r", "__ns:=/careful", "-p", "model:=siamfc", "-p", f"weights:={siamfc_weights}"),
        *("-p", "qos_overrides./careful/image.subscription.reliability:=reliable"),
        *("-p", "qos_overrides./careful/tracked_box.publisher.reliability:=best_effort"),
    )
    images = functools.partial(robot.node.get_subscriptions_info_by_topic, "/careful/image")
    boxes = functools.partial(robot.node.get_publishers_info_by_topic, "/careful/tracked_box")
    robot.wait(lambda: images() and boxes(), "tracker with other QoS")
    assert images()[0].qos_profile.reliability == ReliabilityPolicy.RELIABLE
    assert boxes()[0].qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    assert process.end(signal.SIGINT) == 0


def test_quality_of_service_that_does_not_exist_is_refused():
    name = "qos_overrides./sot/image.subscription.reliability"
    process = Process("--ros-args", "-p", "device:=cpu", "-p", f"{name}:=often")
    assert process.end() == 1
    assert "Unexpected QoS override for policy `reliability`: `often`" in process.log[-1]
    assert "Traceback" not in "\n".join(process.log)
