"""Where the target is seen, and where it is: on synthetic cameras, exactly."""

import copy
from array import array
from importlib.util import find_spec

import numpy as np
import pytest
from geometry_msgs.msg import PointStamped, TransformStamped, Vector3Stamped
from golden.synthetic_clip import HEIGHT, WIDTH
from lifecycle_msgs.msg import Transition
from robot import CALIBRATION, box_of, picture, stamp_of
from sensor_msgs.msg import CameraInfo, Image

from sot_ros.cameras import camera_from_info, pan_and_tilt
from sot_ros.geometry import Box
from sot_ros.msg import TrackedBox
from sot_ros.node.messages import rgb_image, seconds
from sot_ros.node.position import fit_velocity, target_distance

needs_message_filters = pytest.mark.skipif(
    find_spec("message_filters") is None, reason="position needs message_filters, which is not installed"
)


def calibrate(robot, info: CameraInfo = CALIBRATION) -> None:
    """Give the tracker a calibration, and wait until it uses it."""
    directions = robot.listen(Vector3Stamped, "direction")
    robot.start()

    def known():
        robot.say("camera_info", info)
        return robot.show(2) and directions

    robot.wait(known, "direction")


def vector(message) -> np.ndarray:
    return np.array([message.x, message.y, message.z])


def test_the_direction_is_the_ray_to_the_middle_of_the_box_with_the_header_of_the_image(seeing):
    directions = seeing.listen(Vector3Stamped, "direction")
    errors = seeing.listen(Vector3Stamped, "angular_error")
    calibrate(seeing)
    camera = camera_from_info(CALIBRATION)
    for t in range(3, 8):
        answer = seeing.show(t)
        seeing.wait(lambda h=answer.header: errors and errors[-1].header == h, "angular error")
        ray = camera.ray(*box_of(answer).center)
        assert directions[-1].header == answer.header
        assert vector(directions[-1].vector) == pytest.approx(ray, abs=1e-6)
        pan, tilt = pan_and_tilt(ray)
        assert vector(errors[-1].vector) == pytest.approx([tilt, pan, 0], abs=1e-6)
    # The target is in the upper left: the camera must turn to the left and upwards.
    assert pan < 0 < tilt


def test_rectified_images_have_the_rays_of_p(seeing):
    directions = seeing.listen(Vector3Stamped, "direction")
    calibrate(seeing)
    assert seeing.set("rectified", True) == ""
    try:
        answer = seeing.show(3)
        seeing.wait(lambda: directions[-1].header == answer.header, "direction")
    finally:
        seeing.set("rectified", False)
    ray = vector(directions[-1].vector)
    u, v = box_of(answer).center
    assert ray / ray[2] == pytest.approx([(u - 190) / 300, (v - 146) / 300, 1], abs=1e-6)


def test_without_a_target_nothing_is_said_of_its_direction(seeing):
    calibrate(seeing)
    seeing.let_go()
    directions = seeing.listen(Vector3Stamped, "direction")
    for t in range(3):
        assert seeing.show(t).state == TrackedBox.IDLE
    seeing.spin(0.2)
    assert not directions


def test_a_calibration_of_images_of_another_size_is_refused_in_one_line(seeing):
    calibrate(seeing)
    other = CameraInfo(width=640, height=480, k=CALIBRATION.k, d=CALIBRATION.d, distortion_model="plumb_bob")

    def refused():
        seeing.say("camera_info", other)
        return seeing.show(3) and seeing.has_said("640x480 pixels refused")

    seeing.wait(refused, "refusal")
    assert f"the images have {WIDTH}x{HEIGHT}" in seeing.says("camera_info of 640x480")
    calibrate(seeing)


# Depth


def depth_image(header, box: Box, metres: float, encoding: str = "32FC1", scale: int = 1) -> Image:
    """A target at some distance, which fills half of its box, before a wall, with three of ten pixels missing."""
    height, width = HEIGHT // scale, WIDTH // scale
    depth = np.full((height, width), 30.0, np.float32)
    left, top, right, bottom = (round(n / scale) for n in (box.x, box.y, box.center[0], box.y + box.h))
    depth[max(0, top) : bottom, max(0, left) : right] = metres
    depth[np.random.default_rng(0).random(depth.shape) < 0.3] = 0 if encoding == "16UC1" else np.nan
    pixels = (depth * 1000).round().astype("<u2") if encoding == "16UC1" else depth.astype("<f4")
    message = Image(header=header, height=height, width=width, encoding=encoding, step=width * pixels.itemsize)
    message.data = array("B", pixels.tobytes())
    return message


@pytest.mark.parametrize("encoding", ["32FC1", "16UC1"])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_the_distance_of_a_target_is_measured_in_both_encodings_and_any_resolution(encoding, scale):
    box = Box(100, 80, 60, 48)
    message = depth_image(CameraInfo().header, box, 4.5, encoding, scale)
    assert target_distance(message, box, WIDTH, HEIGHT) == pytest.approx(4.5, abs=1e-6)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"encoding": "rgb8"}, "16UC1, mono16, 32FC1 are accepted"),
        ({"step": 3}, "contradicts itself"),
        ({"height": HEIGHT - 1}, "contradicts itself"),
        ({"width": WIDTH // 2, "step": 2 * WIDTH}, "must be registered"),
    ],
)
def test_other_depth_images_are_refused_in_one_line(fields, reason):
    message = depth_image(CameraInfo().header, Box(100, 80, 60, 48), 4.5)
    for name, value in fields.items():
        setattr(message, name, value)
    if "must be" in reason:
        message.data = message.data[: message.step * message.height]
    with pytest.raises(ValueError, match=reason) as refusal:
        target_distance(message, Box(100, 80, 60, 48), WIDTH, HEIGHT)
    assert "\n" not in str(refusal.value)


@needs_message_filters
@pytest.mark.parametrize("depth_comes", ["before the answer", "after the answer", "some milliseconds off"])
def test_the_position_is_on_the_ray_at_the_depth_of_the_target(seeing, depth_comes):
    calibrate(seeing)
    positions = seeing.listen(PointStamped, "position")
    seeing.wait(lambda: seeing.node.count_publishers(seeing.topic("position")), "position")
    camera, box = camera_from_info(CALIBRATION), box_of(seeing.answers[-1])
    for t in range(3, 6):
        image = rgb_image(seeing.header(), picture(t))
        depth = depth_image(image.header, box, 2.0 + t)
        if depth_comes == "before the answer":
            seeing.say("depth", depth)
            seeing.spin(0.1)
        answer = seeing.show(image)
        box = box_of(answer)
        if depth_comes == "after the answer":
            seeing.say("depth", depth_image(image.header, box, 2.0 + t))
        if depth_comes == "some milliseconds off":
            late = copy.deepcopy(image.header)
            late.stamp.nanosec += 10**7
            seeing.say("depth", depth_image(late, box, 2.0 + t))
        seeing.wait(lambda h=answer.header: positions and positions[-1].header == h, "position")
        ray = camera.ray(*box.center)
        assert vector(positions[-1].point) == pytest.approx((2.0 + t) / ray[2] * ray, abs=1e-6)


@needs_message_filters
def test_a_depth_image_of_another_time_is_nobodys_depth(seeing):
    calibrate(seeing)
    positions = seeing.listen(PointStamped, "position")
    seeing.say("depth", depth_image(seeing.header(), box_of(seeing.show(3)), 5.0))
    seeing.show(4)
    seeing.spin(0.3)
    assert not positions


@needs_message_filters
def test_the_velocity_is_that_of_the_positions(seeing):
    calibrate(seeing)
    velocities = seeing.listen(Vector3Stamped, "velocity")
    positions = seeing.listen(PointStamped, "position")
    track = []
    for i in range(6):
        answer = seeing.show(8)
        seeing.say("depth", depth_image(answer.header, box_of(answer), 5.0 - 0.1 * i))  # 1 m/s nearer at 10 Hz
        seeing.wait(lambda h=answer.header: positions and positions[-1].header == h, "position")
        track.append((stamp_of(answer), vector(positions[-1].point)))
    seeing.wait(lambda: velocities and velocities[-1].header == answer.header, "velocity")
    assert velocities[-1].vector.z == pytest.approx(-1.0, abs=1e-3)
    recent = [(time, point) for time, point in track if track[-1][0] - time <= 0.5]
    assert vector(velocities[-1].vector) == pytest.approx(fit_velocity(recent), abs=1e-6)


@needs_message_filters
@pytest.mark.skipif(find_spec("tf2_ros") is None, reason="other frames than the camera's need tf2_ros")
def test_the_velocity_may_be_in_any_frame_that_tf2_reaches_though_transforms_are_late(seeing):
    from tf2_ros import TransformBroadcaster

    calibrate(seeing)
    velocities = seeing.listen(Vector3Stamped, "velocity")
    positions = seeing.listen(PointStamped, "position")
    broadcaster = TransformBroadcaster(seeing.node)
    assert seeing.set("velocity_frame", "odom") == ""
    try:
        transform = TransformStamped(child_frame_id="camera")
        for i in range(12):
            answer = seeing.show(8)
            seeing.say("depth", depth_image(answer.header, box_of(answer), 5.0 - 0.1 * i))
            seeing.wait(lambda h=answer.header: positions and positions[-1].header == h, "position")
            # The camera follows with half a metre per second, and looks along x of odom.
            transform.header.stamp, transform.header.frame_id = answer.header.stamp, "odom"
            transform.transform.translation.x = 0.05 * i
            q = transform.transform.rotation
            q.x, q.y, q.z, q.w = -0.5, 0.5, -0.5, 0.5
            broadcaster.sendTransform(transform)
            seeing.spin(0.05)
        seeing.wait(lambda: velocities, "velocity")
    finally:
        seeing.set("velocity_frame", "camera")
    assert velocities[-1].header.frame_id == "odom"
    assert velocities[-1].vector.x == pytest.approx(-0.5, abs=1e-2)  # -1 m/s before the camera, which goes at 0.5 m/s


def test_the_velocity_of_a_steady_motion_is_exact():
    velocity = np.array([1.5, -0.2, 3.0])
    times = (0.0, 0.03, 0.1, 0.11, 0.2)
    track = [(1e6 + time, np.array([1, 2, 3]) + time * velocity) for time in times]
    assert fit_velocity(track) == pytest.approx(velocity, abs=1e-6)
    assert fit_velocity(track[:2]) is None
    assert fit_velocity(track[2:4] * 2) is None


@needs_message_filters
def test_after_time_jumped_back_positions_go_on(seeing):
    calibrate(seeing)
    positions = seeing.listen(PointStamped, "position")
    for _ in range(15):  # nobody's, and more than are held
        seeing.say("depth", depth_image(seeing.header(), Box(100, 80, 60, 48), 5.0))
        seeing.spin(0.1)
    seeing.let_go()
    seeing.start()
    positions.clear()

    def position():
        answer = seeing.show(3)
        seeing.say("depth", depth_image(answer.header, box_of(answer), 5.0))
        seeing.spin(0.1)
        return positions

    seeing.wait(position, "position")
    assert seconds(positions[-1].header.stamp) == pytest.approx(stamp_of(seeing.answers[-1]), abs=1)


@pytest.mark.skipif(find_spec("message_filters") is not None, reason="message_filters is installed")
def test_without_message_filters_only_the_position_is_off_and_the_log_says_what_to_install(seeing):
    assert seeing.transition(Transition.TRANSITION_DEACTIVATE)
    assert seeing.transition(Transition.TRANSITION_ACTIVATE)
    assert "message_filters is not installed: sudo apt install ros-" in seeing.says("no Position")
    calibrate(seeing)
    assert seeing.follows(3)
