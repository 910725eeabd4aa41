"""Fixtures around the real tracker process; see robot.py. ROS is imported only by the tests that use them."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Tests that run side by side, on one machine or one network, shall not hear each other.
os.environ["ROS_DOMAIN_ID"] = str(50 + os.getpid() % 50)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
if os.environ.get("ROS_DISTRO") == "humble":
    os.environ["ROS_LOCALHOST_ONLY"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads that wait for each other would keep the others from working
os.environ.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(ROOT / "config" / "fastdds.xml"))
os.environ.setdefault("FASTDDS_DEFAULT_PROFILES_FILE", os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"])


def pytest_collection_modifyitems(items):
    for item in items:
        if "_ros" in item.fixturenames:
            item.add_marker("ros")


@pytest.fixture(scope="session")
def siamfc_weights(tmp_path_factory) -> Path:
    """A checkpoint of siamfc that is the same in every run. Untrained layers are enough to follow the test clip."""
    import torch
    from safetensors.torch import save_file

    from sot_ros.networks.siamfc import siamfc

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "siamfc.safetensors"
    save_file(siamfc().state_dict(), path)
    return path


@pytest.fixture(scope="session")
def _ros():
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    yield
    rclpy.shutdown()


@pytest.fixture(scope="session")
def _active_robot(_ros, siamfc_weights):
    from robot import Robot

    robot = Robot(model="siamfc", weights=siamfc_weights, device="cpu", scale_num=1)
    yield robot
    robot.close()


@pytest.fixture(scope="session")
def _managed_robot(_ros, siamfc_weights):
    from robot import Robot

    robot = Robot(model="siamfc", weights=siamfc_weights, device="cpu", autostart=False)
    yield robot
    robot.close()


@pytest.fixture(scope="session")
def _seeing_robot(_ros, siamfc_weights):
    from robot import Robot

    settings = {"use_depth": True, "velocity_frame": "camera", "use_detections": True, "detection_class": "boat"}
    robot = Robot(model="siamfc", weights=siamfc_weights, device="cpu", scale_num=1, image_plane_rate=60.0, **settings)
    yield robot
    robot.close()


def lend(robot, prepare):
    """The robot, once it is prepared. The same process for all tests; it outlives each of them."""
    robot.begin()
    prepare()
    yield robot
    assert robot.alive(), "\n".join(robot.log)


@pytest.fixture
def robot(_active_robot):
    """A robot whose tracker is active and has no target."""
    yield from lend(_active_robot, _active_robot.let_go)


@pytest.fixture
def seeing(_seeing_robot):
    """A robot whose tracker was asked for all that its camera, a depth camera and a detector make possible."""
    yield from lend(_seeing_robot, _seeing_robot.let_go)


@pytest.fixture
def managed(_managed_robot):
    """A robot whose tracker was left unconfigured."""
    yield from lend(_managed_robot, _managed_robot.clean_up)
