"""Whatever comes in: one line says what was wrong and what is accepted, the target is kept, the node lives on."""

import io
import math
import pickle

import cv2
import numpy as np
import pytest
import torch
from lifecycle_msgs.msg import Transition
from robot import Process, picture, truth
from safetensors.torch import load_file, save_file
from sensor_msgs.msg import Image

from sot_ros.msg import TrackedBox
from sot_ros.node.messages import rgb_image


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((math.nan, 50, 40, 40), "must be finite"),
        ((50, 50, math.inf, 40), "must be finite"),
        ((50, 50, 0, 40), "width and height must be above 0"),
        ((50, 50, 40, -3), "width and height must be above 0"),
        ((1000, 50, 40, 40), "it lies outside the 384x288 image"),
        ((-50, -50, 40, 40), "it lies outside the 384x288 image"),
    ],
)
def test_a_box_that_cannot_be_a_target(robot, box, reason):
    first = robot.start()
    robot.init(box)
    robot.says("init box", "refused", reason)
    assert robot.follows(2)
    assert robot.answers[-1].target_id == first.target_id


def test_an_init_before_any_image(managed):
    managed.bring_up()
    managed.init(truth(0))
    managed.says("init box refused: no image has arrived yet")
    managed.meet()
    assert managed.answers[-1].state == TrackedBox.IDLE


def broken(header, **changes) -> Image:
    message = rgb_image(header, picture(2))
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"encoding": "rgb565"}, "image encoding 'rgb565' refused: accepted are rgb8, bgr8"),
        ({"encoding": ""}, "image encoding '' refused: accepted are"),
        ({"width": 0}, "image of 0x288 pixels refused: it is empty"),
        ({"height": 0}, "image of 384x0 pixels refused: it is empty"),
        ({"step": 384}, "image step 384 refused: 384 pixels of rgb8 take 1152 bytes or more"),
        ({"step": 0}, "image step 0 refused"),
        ({"step": 2000}, "its step 2000 times height 288 makes 576000"),
        ({"height": 2**32 - 1}, "its step 1152 times height 4294967295"),
        ({"data": b""}, "image of 0 bytes refused"),
    ],
)
def test_an_image_that_contradicts_itself(robot, changes, reason):
    first = robot.start()
    while not robot.has_said(reason):  # at most one line a second is logged
        robot.publish(broken(robot.header(), **changes))
        robot.spin(0.1)
    assert robot.follows(2)
    assert robot.answers[-1].target_id == first.target_id


def test_an_image_that_contradicts_itself_is_refused_without_a_target_too(robot):
    while not robot.has_said("image encoding 'rgb565' refused"):
        message = broken(robot.header(), encoding="rgb565")
        robot.publish(message)
        robot.spin(0.1)
    robot.show(1)
    assert robot.answer_to(message) is None


def encoded(header, encoding: str, rgb: np.ndarray) -> Image:
    """The picture as a camera of that encoding would send it."""
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if encoding == "mono16":
        pixels = gray.astype(np.uint16) * 257
    elif encoding.startswith("yuv422"):
        chroma = np.full_like(gray, 128)
        pixels = np.dstack([chroma, gray] if encoding == "yuv422" else [gray, chroma])
    elif encoding.startswith("bayer"):
        pixels = gray.copy()
        for i, color in enumerate(encoding.removeprefix("bayer_")[:4]):
            pixels[i // 2 :: 2, i % 2 :: 2] = rgb[i // 2 :: 2, i % 2 :: 2, "rgb".index(color)]
    else:
        conversion = {"rgb8": None, "bgr8": cv2.COLOR_RGB2BGR, "rgba8": cv2.COLOR_RGB2RGBA, "bgra8": cv2.COLOR_RGB2BGRA}
        pixels = gray if encoding == "mono8" else rgb
        if conversion.get(encoding) is not None:
            pixels = cv2.cvtColor(rgb, conversion[encoding])
    height, width = pixels.shape[:2]
    message = Image(header=header, height=height, width=width, encoding=encoding, step=pixels.nbytes // height)
    message.data.frombytes(pixels.tobytes())
    return message


@pytest.mark.parametrize(
    "encoding",
    [
        *("rgb8", "bgr8", "rgba8", "bgra8", "mono8", "mono16", "yuv422", "yuv422_yuy2"),
        *("bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8"),
    ],
)
def test_images_of_every_usual_encoding_are_tracked(robot, encoding):
    robot.show(encoded(robot.header(), encoding, picture(0)))
    robot.init(truth(0))
    robot.says("started at")
    for t in range(1, 4):
        assert robot.follows_in(encoded(robot.header(), encoding, picture(t)), truth(t))


class Attack:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        import os

        return os.system, (self.command,)


@pytest.fixture
def bad_weights(tmp_path, siamfc_weights):
    """Weights files that cannot be used, by what is wrong with them."""
    whole = siamfc_weights.read_bytes()
    (tmp_path / "truncated.safetensors").write_bytes(whole[: len(whole) // 2])
    buffer = io.BytesIO()
    torch.save(load_file(siamfc_weights), buffer)
    (tmp_path / "truncated.pth").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    save_file({"other.weight": torch.zeros(3)}, tmp_path / "mismatched.safetensors")
    torch.save({"model": Attack(f"touch {tmp_path}/harmed")}, tmp_path / "hostile.pth")
    (tmp_path / "hostile.pt").write_bytes(pickle.dumps(Attack(f"touch {tmp_path}/harmed")))
    (tmp_path / "text.pth").write_text("<html>404</html>")
    return tmp_path


def test_weights_that_cannot_be_used(managed, bad_weights, siamfc_weights):
    try:
        for name, reason in {
            "missing.pth": "does not exist",
            "truncated.safetensors": "is damaged",
            "truncated.pth": "is damaged",
            "mismatched.safetensors": "does not fit siamfc: missing:",
            "hostile.pth": "refused",
            "hostile.pt": "refused",
            "text.pth": "is damaged",
        }.items():
            assert managed.set("weights", str(bad_weights / name)) == ""
            assert not managed.transition(Transition.TRANSITION_CONFIGURE)
            managed.says(f"weights file {bad_weights / name}", reason)
            assert managed.state() == "unconfigured"
        assert not (bad_weights / "harmed").exists()
    finally:
        managed.set("weights", str(siamfc_weights))
    managed.bring_up()


@pytest.mark.parametrize(
    ("name", "value", "good", "reason"),
    [
        ("model", "siamese", "siamfc", "unknown model 'siamese': known are"),
        ("device", "cuda:99", "cpu", "no device 'cuda:99' on this machine: accepted here are cpu"),
        ("device", "gpu", "cpu", "no device 'gpu' on this machine: accepted here are cpu"),
    ],
)
def test_a_configuration_that_cannot_be(managed, name, value, good, reason):
    try:
        assert managed.set(name, value) == ""
        assert not managed.transition(Transition.TRANSITION_CONFIGURE)
        managed.says(reason)
    finally:
        managed.set(name, good)
    managed.bring_up()


def test_cuda_where_there_is_none(managed):
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    managed.set("device", "cuda")
    assert not managed.transition(Transition.TRANSITION_CONFIGURE)
    managed.says("no device 'cuda' on this machine: accepted here are cpu")
    managed.set("device", "cpu")
    managed.bring_up()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-p", "model:=siamese"], "unknown model 'siamese': known are"),
        (["-p", "model:=siamfc", "-p", "window_influnce:=0.3"], "unknown setting 'window_influnce': this model has"),
        (["-p", "model:=siamfc", "-p", "scale_num:=four"], "scale_num 'four' refused: a whole number from 1 to 15"),
        (["-p", "debug:=maybe"], "debug 'maybe' refused: true or false is accepted"),
        (["-r", "nonsense"], "nonsense"),
    ],
)
def test_a_node_that_cannot_start_says_why_in_one_line_and_exits_with_1(arguments, reason):
    process = Process("--ros-args", *arguments)
    assert process.end() == 1
    lines = [line for line in process.log if "[ERROR] [" in line or "[FATAL] [" in line]
    assert reason in lines[-1]
    assert "Traceback" not in "\n".join(process.log)
    assert len(process.log) == 1 or "nonsense" in reason
