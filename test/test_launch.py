"""The launch files, with the real launch: arguments reach the node, wrong ones end with one clear line."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import rclpy
from golden import synthetic_clip
from rclpy.qos import qos_profile_sensor_data
from robot import PATIENCE_S
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from sot_ros.msg import InitBox, TrackedBox
from sot_ros.node.messages import rgb_image
from sot_ros.trackers import list_models

pytest.importorskip("launch_ros", reason="launch comes with a ROS 2 distribution, and not with the wheels")
if not shutil.which("ros2"):
    pytest.skip("the command ros2 comes with a ROS 2 distribution, and not with the wheels", allow_module_level=True)

ARGUMENTS = """
    model weights device precision backend threads params_file namespace image camera_info depth detections
    image_transport
    search_factor scale_num scale_step scale_penalty scale_lr window_influence max_targets rectified use_depth
    velocity_frame use_detections detection_class detection_score debug autostart use_sim_time respawn log_level
"""
FAILING = Path(__file__).with_name("failing_tracker.py")


class Launch:
    """`ros2 launch sot_ros FILE`, and what it prints."""

    def __init__(self, *arguments: str, file: str = "tracker.launch.py", options: Sequence[str] = ()):
        self.said = ""
        self._process = subprocess.Popen(
            ["ros2", "launch", *options, "sot_ros", file, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._watchdog = threading.Timer(120, os.killpg, [self._process.pid, signal.SIGKILL])
        self._watchdog.start()

    def until(self, words: str) -> str:
        """Read on up to the line with these words; returns it."""
        for line in self._process.stdout:
            self.said += line
            if words in line:
                return line
        raise AssertionError(f"no {words!r} in:\n{self.said}")

    def end(self, send: signal.Signals | None = None) -> int:
        """Read to the end, after a signal if one is given. Returns the exit code."""
        if send is not None:
            time.sleep(0.5)  # launch may hang at a SIGINT that comes while it is still busy with a line of output
            self._process.send_signal(send)
        self.said += self._process.stdout.read()
        self._watchdog.cancel()
        return self._process.wait(20)


def launch(*arguments: str) -> str:
    """What a launch prints that ends by itself."""
    launched = Launch(*arguments)
    launched.end()
    return launched.said


def test_every_argument_is_described():
    shown = launch("--show-args")
    described = dict(re.findall(r"'(\w+)':\n\s+(\S.*)\n", shown))
    assert set(described) == set(ARGUMENTS.split())


def test_values_reach_the_node(siamfc_weights, tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("/**: {ros__parameters: {model: siamfc, scale_num: 5, scale_step: 1.1, debug: false}}")
    launched = Launch(
        f"params_file:={file}",
        f"weights:={siamfc_weights}",
        "device:=cpu",
        "namespace:=head/eyes",
        "image:=/camera/image_raw",
        "image_transport:=compressed",
        "scale_num:=7",
        "search_factor:=2",
        "scale_lr:=0.5",
        "threads:=3",
        "log_level:=debug",
    )
    launched.until("tracked_box out")
    assert launched.end(signal.SIGINT) == 0
    said = launched.said
    assert "siamfc on cpu with 3 thread(s)" in said
    assert "/camera/image_raw/compressed and /head/eyes/init_box in, /head/eyes/tracked_box out" in said
    # The argument wins over the file, the file over the default.
    settings = re.search(r"SiamFCSettings\((.*)\)", said).group(1)
    assert "scale_num=7" in settings
    assert "search_factor=2.0" in settings
    assert "scale_lr=0.5" in settings
    assert "scale_step=1.1" in settings
    assert "window_influence=0.176" in settings
    assert "finished cleanly" in said


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["model:=siamfc", "scale_num:=four"], "scale_num 'four' refused: a whole number from 1 to 15 is accepted"),
        (["model:=siamfc", "window_influence:=3"], "window_influence 3 refused: a number from 0 to 1 is accepted"),
        (["model:=siamese"], "unknown model 'siamese': known are"),
        (["backend:=onnxruntime"], "`sot export sot_mobile --out sot_mobile.onnx` writes it"),
        (["debug:=maybe"], "debug 'maybe' refused: true or false is accepted"),
        (["params_file:=/nowhere.yaml"], "params_file /nowhere.yaml does not exist"),
        (["log_level:=loud"], "'log_level' provided value 'loud' is not valid. Valid options are"),
    ],
)
def test_a_wrong_value_ends_with_one_clear_line(arguments, line):
    launched = Launch(*arguments)
    assert launched.end() == 1
    assert line in launched.said.replace('"', "'")
    assert "Traceback" not in launched.said


@pytest.mark.parametrize("model", list_models())
def test_every_model_is_launched_by_its_name(model):
    launched = Launch(f"model:={model}", "weights:=random", "device:=cpu")
    launched.until(f"{model} on cpu")
    assert launched.end(signal.SIGINT) == 0


def test_a_tracker_that_cannot_start_is_not_started_again():
    launched = Launch("device:=cuda:99", "respawn:=true")
    assert launched.end() == 1
    assert launched.said.count("no device 'cuda:99' on this machine") == 1
    assert "the tracker could not start, see its line above" in launched.said


@pytest.fixture
def spectator(_ros):
    node = rclpy.create_node("spectator")
    yield node
    node.destroy_node()


def show(node, namespace: str, image: str, until: int, target: InitBox | None = None) -> None:
    """Show the tracker of a namespace images on a topic, give it a target once it answers, until it says this state."""
    states = []
    answers = node.create_subscription(TrackedBox, f"{namespace}/tracked_box", lambda m: states.append(m.state), 10)
    boxes = node.create_publisher(InitBox, f"{namespace}/init_box", 10)
    images = node.create_publisher(Image, image, qos_profile_sensor_data)
    end = time.monotonic() + PATIENCE_S
    while until not in states:
        assert time.monotonic() < end, f"no state {until}, but {states}"
        if states and target is not None:
            boxes.publish(target)
            target = None
        images.publish(rgb_image(Header(stamp=node.get_clock().now().to_msg()), synthetic_clip.frame(0)))
        rclpy.spin_once(node, timeout_sec=0.2)
    node.destroy_subscription(answers)
    node.destroy_publisher(boxes)
    node.destroy_publisher(images)


def test_a_tracker_that_is_killed_comes_back_and_answers(spectator, siamfc_weights):
    launched = Launch("model:=siamfc", f"weights:={siamfc_weights}", "respawn:=true", "image:=/camera")
    pid = int(re.search(r"process started with pid \[(\d+)\]", launched.until("process started")).group(1))
    launched.until("tracked_box out")
    show(spectator, "/sot", "/camera", until=TrackedBox.IDLE)
    os.kill(pid, signal.SIGKILL)
    launched.until("process has died")
    launched.until("tracked_box out")
    show(spectator, "/sot", "/camera", until=TrackedBox.IDLE)
    assert launched.end(signal.SIGINT) == 0


def test_a_tracker_that_ends_because_cuda_broke_comes_back_and_answers(spectator, siamfc_weights):
    launched = Launch(
        *("model:=siamfc", f"weights:={siamfc_weights}", "respawn:=true", "image:=/camera"),
        options=["--launch-prefix", f"{sys.executable} {FAILING}"],
    )
    launched.until("tracked_box out")
    show(spectator, "/sot", "/camera", until=TrackedBox.IDLE)
    x, y, width, height = map(float, synthetic_clip.box(0))
    target = InitBox(x=x, y=y, width=width, height=height)
    show(spectator, "/sot", "/camera", until=TrackedBox.LOST, target=target)
    launched.until("exit code 2")
    launched.until("tracked_box out")
    show(spectator, "/sot", "/camera", until=TrackedBox.IDLE)
    assert launched.end(signal.SIGINT) == 0


def test_two_cameras_have_a_tracker_each(spectator, siamfc_weights):
    weights = f"weights:={siamfc_weights}"
    launched = Launch("front:=/a/image", "model:=siamfc", weights, file="two_cameras.launch.py")
    launched.until("tracked_box out")
    launched.until("tracked_box out")
    show(spectator, "/front", "/a/image", until=TrackedBox.IDLE)
    show(spectator, "/rear", "/rear/image_raw", until=TrackedBox.IDLE)
    assert launched.end(signal.SIGINT) == 0
