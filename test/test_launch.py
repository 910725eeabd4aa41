"""tracker.launch.py, with the real launch: arguments reach the node, and wrong ones end with one clear line."""

import os
import re
import shutil
import signal
import subprocess
import threading

import pytest

pytest.importorskip("launch_ros", reason="launch comes with a ROS 2 distribution, and not with the wheels")
if not shutil.which("ros2"):
    pytest.skip("the command ros2 comes with a ROS 2 distribution, and not with the wheels", allow_module_level=True)

ARGUMENTS = """
    model weights device precision params_file namespace image camera_info image_transport search_factor scale_num
    scale_step scale_penalty scale_lr window_influence debug autostart use_sim_time log_level
"""


def launch(*arguments: str, until: str | None = None) -> str:
    """What `ros2 launch sot_ros tracker.launch.py` prints, until it ends or has said something."""
    command = ["ros2", "launch", "sot_ros", "tracker.launch.py", *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    watchdog = threading.Timer(60, os.killpg, [process.pid, signal.SIGKILL])
    watchdog.start()
    lines = []
    for line in process.stdout:
        lines.append(line)
        if until and until in line:
            process.send_signal(signal.SIGINT)
    watchdog.cancel()
    process.wait(20)
    return "".join(lines)


def test_every_argument_is_described():
    shown = launch("--show-args")
    described = dict(re.findall(r"'(\w+)':\n\s+(\S.*)\n", shown))
    assert set(described) == set(ARGUMENTS.split())


def test_values_reach_the_node(siamfc_weights, tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("/**: {ros__parameters: {model: siamfc, scale_num: 5, scale_step: 1.1, debug: false}}")
    said = launch(
        f"params_file:={file}",
        f"weights:={siamfc_weights}",
        "device:=cpu",
        "namespace:=head/eyes",
        "image:=/camera/image_raw",
        "image_transport:=compressed",
        "scale_num:=7",
        "search_factor:=2",
        "scale_lr:=0.5",
        "log_level:=debug",
        until="tracked_box out",
    )
    assert "siamfc on cpu" in said
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
        (["debug:=maybe"], "debug 'maybe' refused: true or false is accepted"),
        (["params_file:=/nowhere.yaml"], "params_file /nowhere.yaml does not exist"),
        (["log_level:=loud"], "'log_level' provided value 'loud' is not valid. Valid options are"),
    ],
)
def test_a_wrong_value_ends_with_one_clear_line(arguments, line):
    said = launch(*arguments)
    assert line in said.replace('"', "'")
    assert "Traceback" not in said
