"""Pixels and rays: on synthetic cameras, both ways and against OpenCV."""

import math
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sot_ros.cameras import Camera, camera_from_info, default_camera, pan_and_tilt

WIDTH, HEIGHT = 640, 480
LENSES = {
    "plumb_bob": [-0.31, 0.12, 0.0008, -0.0005, -0.02],
    "rational_polynomial": [0.9, 0.21, 0.0003, -0.0002, 0.011, 1.25, 0.45, 0.05],
    "equidistant": [-0.012, 0.004, -0.0021, 0.0003],
}


def info(model="plumb_bob", d=None, **fields) -> SimpleNamespace:
    """A sensor_msgs/CameraInfo in all but name."""
    focal = 420.0
    values = {
        "width": WIDTH,
        "height": HEIGHT,
        "distortion_model": model,
        "d": LENSES[model] if d is None else d,
        "k": [focal, 0, 322.5, 0, focal + 3, 238.25, 0, 0, 1],
        "r": np.eye(3).ravel().tolist(),
        "p": [300.0, 0, 318, -40, 0, 300, 241, 0, 0, 0, 1, 0],
        "binning_x": 0,
        "binning_y": 0,
        "roi": SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0),
    }
    return SimpleNamespace(**values | fields)


angles = st.floats(0, math.radians(40))
turns = st.floats(-math.pi, math.pi)


def ray_at(angle: float, turn: float) -> np.ndarray:
    """The unit vector at an angle to the optical axis."""
    return np.array([math.sin(angle) * math.cos(turn), math.sin(angle) * math.sin(turn), math.cos(angle)])


@pytest.mark.parametrize("model", LENSES)
@settings(deadline=None)
@given(angle=angles, turn=turns, distance=st.floats(0.01, 1000))
def test_a_point_is_projected_to_the_pixel_whose_ray_leads_back_to_it(model, angle, turn, distance):
    camera = camera_from_info(info(model))
    ray = ray_at(angle, turn)
    assert camera.ray(*camera.project(distance * ray)) == pytest.approx(ray, abs=1e-9)


@pytest.mark.parametrize("model", LENSES)
@settings(deadline=None)
@given(u=st.floats(0, WIDTH), v=st.floats(0, HEIGHT))
def test_every_pixel_of_the_image_has_a_ray_that_is_projected_back_to_it(model, u, v):
    camera = camera_from_info(info(model))
    ray = camera.ray(u, v)
    assert np.linalg.norm(ray) == pytest.approx(1, abs=1e-12)
    assert camera.project(ray) == pytest.approx((u, v), abs=1e-6)


@settings(deadline=None)
@given(angle=st.floats(0, math.radians(110)), turn=turns)
def test_a_fisheye_sees_beyond_90_degrees(angle, turn):
    camera = camera_from_info(info("equidistant"))
    ray = ray_at(angle, turn)
    assert camera.ray(*camera.project(ray)) == pytest.approx(ray, abs=1e-9)


@pytest.mark.parametrize("model", LENSES)
def test_pixels_are_those_of_opencv(model):
    camera = camera_from_info(info(model))
    points = np.random.default_rng(0).uniform((-1, -1, 1), (1, 1, 4), (50, 1, 3))
    project = cv2.fisheye.projectPoints if camera.fisheye else cv2.projectPoints
    expected, _ = project(points, np.zeros(3), np.zeros(3), camera.matrix, np.array(LENSES[model]))
    for point, pixel in zip(points[:, 0], expected[:, 0], strict=True):
        assert camera.project(point) == pytest.approx(pixel, abs=1e-9)


def test_rays_of_a_pinhole_are_those_of_school():
    camera = default_camera(640, 480)
    assert camera.ray(320, 240) == pytest.approx([0, 0, 1])
    right, down = camera.ray(640, 240), camera.ray(320, 480)
    assert right / right[2] == pytest.approx([0.5, 0, 1])
    assert down / down[2] == pytest.approx([0, 0.375, 1])


@pytest.mark.parametrize("model", LENSES)
@pytest.mark.parametrize("u,v", [(150.0, 90.0), (400.0, 300.0)])
def test_binning_and_region_of_interest_do_not_change_what_is_seen(model, u, v):
    full = camera_from_info(info(model))
    roi = SimpleNamespace(x_offset=100, y_offset=60, width=400, height=300)
    part = camera_from_info(info(model, roi=roi, binning_x=2, binning_y=4))
    assert (part.width, part.height) == (200, 75)
    assert part.ray((u - 100) / 2, (v - 60) / 4) == pytest.approx(full.ray(u, v), abs=1e-9)


def test_rectified_images_follow_p_alone():
    camera = camera_from_info(info("plumb_bob"), rectified=True)
    ray = camera.ray(318 + 30, 241 - 60)
    assert ray / ray[2] == pytest.approx([0.1, -0.2, 1])


def test_the_raw_and_the_rectified_image_of_a_stereo_camera_agree():
    turn, _ = cv2.Rodrigues(np.array([0.02, -0.05, 0.01]))
    stereo = info("plumb_bob", r=turn.ravel().tolist())
    raw, rectified = camera_from_info(stereo), camera_from_info(stereo, rectified=True)
    pixel = np.array([[[200.0, 150.0]]])
    moved = cv2.undistortPoints(pixel, raw.matrix, raw.distortion, R=turn, P=rectified.matrix)
    assert raw.ray(200, 150) == pytest.approx(rectified.ray(*moved.ravel()), abs=1e-5)  # OpenCV takes 5 steps


@pytest.mark.parametrize("name", ["", "plumb_bob", "none"])
@pytest.mark.parametrize("d", [[], [0.0] * 5])
def test_a_lens_without_coefficients_bends_nothing_whatever_it_is_called(name, d):
    camera = camera_from_info(info(name, d=d, r=[0.0] * 9))
    ray = camera.ray(322.5 + 42, 238.25)
    assert ray / ray[2] == pytest.approx([0.1, 0, 1])


def test_an_ideal_fisheye_has_angles_in_proportion_to_pixels():
    camera = camera_from_info(info("equidistant", d=[0.0] * 4))
    assert camera.ray(322.5 + 420 * 1.2, 238.25) == pytest.approx([math.sin(1.2), 0, math.cos(1.2)])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"k": [0.0] * 9}, "K holds no focal length"),
        ({"model": "omnidirectional", "d": [1.0]}, "'omnidirectional' refused: plumb_bob, rational_polynomial"),
        ({"d": [0.1, 0.2, 0.3]}, "plumb_bob has 4 or 5 finite numbers"),
        ({"d": [math.nan] * 5}, "plumb_bob has 4 or 5 finite numbers"),
        ({"model": "equidistant", "d": []}, "equidistant has 4 finite numbers"),
    ],
)
def test_other_calibrations_are_refused_in_one_line(fields, reason):
    with pytest.raises(ValueError, match=reason) as refusal:
        camera_from_info(info(**fields))
    assert "\n" not in str(refusal.value)


def test_what_cannot_be_seen_is_refused():
    camera = default_camera(640, 480)
    for point in ((0, 0, -1), (1, 0, 0), (math.nan, 0, 1)):
        with pytest.raises(ValueError, match="not before the camera"):
            camera.project(point)
    # This lens bends so much that nothing reaches the far corner.
    with pytest.raises(ValueError, match="nothing is seen there"):
        Camera(640, 480, camera.matrix, np.array([-0.9, 0, 0, 0, 0])).ray(640, 480)


@given(pan=st.floats(-3, 3), tilt=st.floats(-1.5, 1.5))
def test_a_camera_that_turns_by_pan_and_tilt_looks_along_the_ray(pan, tilt):
    about_y, _ = cv2.Rodrigues(np.array([0, pan, 0]))
    about_x, _ = cv2.Rodrigues(np.array([tilt, 0, 0]))
    ray = about_y @ about_x @ [0, 0, 1]
    assert pan_and_tilt(ray) == pytest.approx((pan, tilt), abs=1e-9)


def test_pan_is_positive_to_the_right_and_tilt_upwards():
    assert pan_and_tilt((1, 0, 1)) == pytest.approx((math.pi / 4, 0))
    assert pan_and_tilt((0, -1, 1)) == pytest.approx((0, math.pi / 4))
