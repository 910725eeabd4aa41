"""Drawing a box in RViz: with its own geometry, clicks on the image plane start targets where they were meant."""

import copy
import time
from importlib.util import find_spec

import cv2
import numpy as np
import pytest
import yaml
from conftest import ROOT
from geometry_msgs.msg import Point, PointStamped, TransformStamped
from golden.synthetic_clip import HEIGHT, WIDTH
from robot import CALIBRATION, box_of, picture, truth
from visualization_msgs.msg import Marker

from sot_ros.geometry import iou
from sot_ros.msg import TrackedBox
from sot_ros.node.image_plane import MOST_WIDTH
from sot_ros.node.messages import rgb_image, seconds

needs_tf2 = pytest.mark.skipif(
    find_spec("tf2_ros") is None, reason="other frames than the camera's need tf2_ros, which is not installed"
)
FAR = 100000.0
"""RViz's far clipping distance, by which it divides a depth before it rounds that to 24 bits."""


class RViz:
    """A Marker display and the Publish Point tool, as far as they matter here (rviz_default_plugins, rviz_common)."""

    def __init__(self, robot):
        self.robot = robot
        self.shown: dict[tuple[str, int], Marker] = {}
        self.textures: dict[int, list[np.ndarray]] = {}
        """All that each image marker ever had: RViz draws their product, and at the end leaks the last one."""
        self.leaked = 0
        self.images: list[Marker] = []
        self._subscriptions = [
            robot.node.create_subscription(Marker, topic, self.process, 10) for topic in ("image_plane", "markers")
        ]

    def close(self) -> None:
        for subscription in self._subscriptions:
            self.robot.node.destroy_subscription(subscription)
        self.robot.wait(lambda: self.robot.node.count_subscribers(self.robot.topic("image_plane")) == 0, "RViz's end")

    def process(self, marker: Marker) -> None:
        """MarkerCommon::processMessage and TriangleListMarker."""
        key = marker.ns, marker.id
        if marker.action == Marker.DELETE:
            if self.shown.pop(key, None) and marker.ns == "image":
                self.leaked += self.textures.pop(marker.id)[-1].size
            return
        assert marker.action == Marker.ADD
        assert marker.header.frame_id == "camera"
        assert marker.color.a == 1 and marker.scale.x > 0
        self.shown[key] = marker
        if marker.ns == "image":
            assert marker.type == Marker.TRIANGLE_LIST and len(marker.points) % 3 == 0
            assert marker.texture_resource.startswith("embedded://")
            assert len(marker.uv_coordinates) == len(marker.points)
            assert marker.texture.format in ("jpeg", "jpg", "png")  # Ogre finds its decoder by this
            texture = cv2.imdecode(np.frombuffer(marker.texture.data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
            self.textures.setdefault(marker.id, []).append(texture)
            if texture.size > 3:
                self.images.append(marker)

    @property
    def image(self) -> Marker | None:
        return next((marker for (ns, _), marker in self.shown.items() if ns == "image"), None)

    def look(self, t: int) -> TrackedBox:
        """Show frame t of the clip until the plane has it."""
        while True:
            answer = self.robot.show(t)
            self.robot.spin(0.1)
            if self.image and self.image.header == answer.header and len(self.textures) == 1:
                return answer

    def click(self, u: float, v: float, eye=(0.0, 0.0, 0.0), to_fixed=None, fixed: str = "camera") -> None:
        """Publish the point that is hit on the way from the eye to where pixel (u, v) is drawn.

        to_fixed    rotation (3, 3) and translation (3,) from the camera's frame to RViz's fixed frame
        """
        rotation, translation = to_fixed or (np.eye(3), np.zeros(3))
        corners = np.array([[p.x, p.y, p.z] for p in self.image.points]) @ rotation.T + translation
        uv = np.array([[c.u * WIDTH, c.v * HEIGHT] for c in self.image.uv_coordinates])
        eye = rotation @ eye + translation
        for triangle, pixels in zip(np.split(corners.astype(np.float32), 2), np.split(uv, 2), strict=True):
            shares = np.linalg.solve(np.vstack([pixels.T, np.ones(3)]), (u, v, 1))
            if (shares > -1e-9).all():
                ray = shares @ triangle - eye
                forward = (rotation @ (0, 0, 1)).astype(np.float32)
                # ViewPicker::getPatchDepthImage and computeForPerspectiveProjection
                depth = np.round(ray @ forward / FAR * 0xFFFFFF) / 0xFFFFFF * FAR
                x, y, z = map(float, eye + ray / (ray @ forward) * depth)
                message = PointStamped(point=Point(x=x, y=y, z=z))
                message.header.frame_id = fixed
                message.header.stamp = self.robot.node.get_clock().now().to_msg()
                self.robot.say("clicked_point", message)
                return
        raise AssertionError("nothing is hit there")

    def draw(self, box, **view) -> None:
        """Click two corners, once the first one is seen."""
        self.click(box.x, box.y, **view)
        self.robot.wait(lambda: ("first_click", 0) in self.shown, "outline of the first click")
        self.click(box.x + box.w, box.y + box.h, **view)
        self.robot.wait(lambda: ("first_click", 0) not in self.shown, "end of the outline")


def started_at(robot) -> list[float]:
    """The box in the log."""
    line = robot.says("started at")
    return [float(number) for number in line[line.index("(") + 1 : line.index(")")].split(",")]


@pytest.fixture
def rviz(seeing):
    rviz = RViz(seeing)
    rviz.look(0)
    yield rviz
    rviz.close()


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("eye", [(0, 0, 0), (0.2, -0.1, -0.5)])
def test_two_clicks_on_the_plane_are_two_corners_of_the_box(rviz, calibrated, eye):
    if calibrated:

        def known():
            rviz.robot.say("camera_info", CALIBRATION)
            rviz.look(0)
            return abs(rviz.image.points[0].x + 190 / 350) < 1e-9

        rviz.robot.wait(known, "calibrated plane")
    box = truth(0)
    rviz.draw(box, eye=eye)
    # From where the camera is, RViz's rounding of the depth does not matter.
    assert started_at(rviz.robot) == pytest.approx(box, abs=0.01 if eye == (0, 0, 0) else 3)
    assert rviz.robot.follows(1)


def test_any_two_opposite_corners_will_do(rviz):
    x, y, w, h = truth(0)
    rviz.click(x + w, y)
    rviz.click(x, y + h)
    assert started_at(rviz.robot) == pytest.approx(truth(0), abs=0.01)


def test_the_plane_is_one_metre_before_the_camera_and_shows_the_image_upright_and_lit(rviz):
    points = np.array([[p.x, p.y, p.z] for p in rviz.image.points])
    assert points[:, 2] == pytest.approx(1)
    for (x, y, _), uv in zip(points, rviz.image.uv_coordinates, strict=True):
        assert (x < 0) == (uv.u == 0) and (y < 0) == (uv.v == 0)
    for a, b, c in np.split(points, 2):
        assert np.cross(b - a, c - a)[2] < 0  # RViz takes this for the normal: it points to the camera


def test_the_plane_shows_each_image_alone_and_leaves_no_texture_behind(rviz):
    for t in range(1, 8):
        rviz.look(t)
        (textures,) = rviz.textures.values()
        assert len(textures) == 1
        assert textures[0].shape == (HEIGHT, WIDTH, 3)
        assert np.abs(textures[0].astype(int) - picture(t)).mean() < 4  # JPEG
    assert rviz.leaked <= 3 * len(rviz.images)


def test_wide_images_are_shrunk(rviz):
    wide = cv2.resize(picture(0), (1280, 720))
    rviz.images.clear()
    rviz.robot.wait(lambda: rviz.robot.show(rgb_image(rviz.robot.header(), wide)) and rviz.images, "wide image")
    rviz.robot.wait(lambda: len(rviz.textures) == 1, "end of the image before")
    (textures,) = rviz.textures.values()
    assert textures[0].shape == (360, MOST_WIDTH, 3)


def test_from_the_first_click_to_the_second_the_image_stands_still_and_the_target_starts_on_it(rviz):
    robot, box = rviz.robot, truth(0)
    standing = rviz.image.header
    rviz.click(box.x, box.y)
    robot.wait(lambda: ("first_click", 0) in rviz.shown, "outline of the first click")
    outline = rviz.shown["first_click", 0]
    assert len(outline.points) == 4 and outline.type == Marker.LINE_LIST
    rviz.images.clear()
    for t in range(1, 12):  # the target moves by more than its own size
        robot.show(t)
    assert not rviz.images
    assert rviz.image.header == standing
    rviz.click(box.x + box.w, box.y + box.h)
    assert "1.10 s ago" in robot.says("started at")
    assert iou(truth(0), truth(12)) == 0
    assert robot.follows(12)
    robot.wait(lambda: robot.show(13) and rviz.images, "live image")


def test_a_first_click_is_forgotten_with_its_image(rviz):
    robot = rviz.robot
    rviz.click(50, 60)
    robot.wait(lambda: ("first_click", 0) in rviz.shown, "outline of the first click")
    shown = seconds(rviz.image.header.stamp)
    robot.wait(lambda: seconds(robot.show(0).header.stamp) > shown + robot.get("history_s"), "time to pass")
    robot.says("first click forgotten")
    robot.wait(lambda: ("first_click", 0) not in rviz.shown, "end of the outline")
    rviz.look(1)
    rviz.draw(truth(1))
    assert started_at(robot) == pytest.approx(truth(1), abs=0.01)


def test_the_box_of_the_target_is_drawn_on_the_plane(rviz):
    rviz.draw(truth(0))
    rviz.robot.says("started at")
    answer = rviz.look(1)
    rviz.robot.wait(lambda: ("target", 0) in rviz.shown, "outline of the target")
    line = np.array([[p.x, p.y, p.z] for p in rviz.shown["target", 0].points])
    corners = np.array([[p.x, p.y] for p in rviz.image.points])
    low, high = corners.min(0), corners.max(0)
    pixels = (line[:, :2] / line[:, 2:] - low) / (high - low) * (WIDTH, HEIGHT)
    x, y, w, h = box_of(answer)
    assert pixels.min(0) == pytest.approx([x, y])
    assert pixels.max(0) == pytest.approx([x + w, y + h])


def test_images_come_no_faster_than_asked_for(rviz):
    rviz.robot.set("image_plane_rate", 2.0)
    try:
        rviz.robot.show(0)
        rviz.images.clear()
        since = time.monotonic()
        # The first may have been on its way already; between the others lies half a second each.
        rviz.robot.wait(lambda: rviz.robot.show(0) and len(rviz.images) >= 4, "images of the plane")
        assert time.monotonic() - since > 0.9
    finally:
        rviz.robot.set("image_plane_rate", 60.0)


def point(x: float, y: float, z: float, frame_id: str = "camera") -> PointStamped:
    message = PointStamped(point=Point(x=x, y=y, z=z))
    message.header.frame_id = frame_id
    return message


@pytest.mark.parametrize(
    ("clicks", "reason"),
    [
        ([point(3.0, 0.0, 1.0)], "outside the 384x288 image"),
        ([point(0.0, 0.0, -1.0)], "not before the camera"),
        ([point(float("nan"), 0.0, 1.0)], "not before the camera"),
        ([point(0.1, 0.0, 1.0), point(-0.1, 0.0, 1.0)], "opposite corners"),
        ([point(0.0, 0.0, 1.0, "nowhere")], "nowhere" if find_spec("tf2_ros") else "tf2 is not installed: sudo apt"),
    ],
)
def test_other_clicks_are_refused_in_one_line(rviz, clicks, reason):
    for click in clicks:
        rviz.robot.say("clicked_point", click)
        rviz.robot.spin(0.1)
    rviz.robot.says("click refused", reason)
    rviz.look(0)
    rviz.draw(truth(0))
    assert started_at(rviz.robot) == pytest.approx(truth(0), abs=0.01)


@needs_tf2
def test_with_tf2_the_fixed_frame_may_be_any_and_the_camera_may_have_moved_since_the_image(rviz):
    from tf2_ros import TransformBroadcaster

    def pose(seconds_later: int, rotation: np.ndarray, translation: np.ndarray) -> TransformStamped:
        transform = TransformStamped(child_frame_id="camera", header=copy.deepcopy(rviz.image.header))
        transform.header.frame_id = "map"
        transform.header.stamp.sec += seconds_later
        t, q = transform.transform.translation, transform.transform.rotation
        t.x, t.y, t.z = map(float, translation)
        angle = np.linalg.norm(rotation)
        q.w = float(np.cos(angle / 2))
        q.x, q.y, q.z = map(float, np.sin(angle / 2) * rotation / angle)
        return transform

    then, later = np.array([1.2, -1.1, 1.3]), np.array([0.2, 0.5, -0.4])
    place = np.array([3.0, -2.0, 0.5])
    broadcaster = TransformBroadcaster(rviz.robot.node)
    rviz.robot.wait(lambda: rviz.robot.node.count_subscribers("/tf") > 0, "listener to /tf")
    rviz.robot.spin(0.3)
    broadcaster.sendTransform([pose(0, then, place), pose(1, later, -place)])
    rviz.draw(truth(0), fixed="map", to_fixed=(cv2.Rodrigues(then)[0], place))
    assert started_at(rviz.robot) == pytest.approx(truth(0), abs=0.01)


def test_while_nobody_looks_there_is_nothing_to_click_on(managed):
    managed.bring_up()
    managed.meet()
    managed.say("clicked_point", point(0.0, 0.0, 1.0))
    managed.says("click refused", "no image_plane was shown yet")


def test_the_shipped_rviz_configuration_shows_and_clicks_on_the_nodes_topics():
    config = yaml.safe_load((ROOT / "config" / "sot.rviz").read_text())["Visualization Manager"]
    topics = {display["Topic"]["Value"]: display["Class"] for display in config["Displays"] if "Topic" in display}
    assert topics == {
        "/sot/image_plane": "rviz_default_plugins/Marker",
        "/sot/markers": "rviz_default_plugins/Marker",
        "/sot/debug_image": "rviz_default_plugins/Image",
    }
    (tool,) = (tool for tool in config["Tools"] if tool["Class"] == "rviz_default_plugins/PublishPoint")
    assert tool["Topic"]["Value"] == "/sot/clicked_point"
