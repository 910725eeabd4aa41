"""How the process ends."""

import signal
import time
from pathlib import Path

import pytest
from robot import Process, Robot


@pytest.mark.parametrize("send", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_tracking_node_cleanly(_ros, siamfc_weights, send):
    robot = Robot(model="siamfc", weights=siamfc_weights, device="cpu")
    robot.meet()
    robot.start()
    for t in range(3):
        robot.show(t)
    assert robot.close(send) == 0
    assert not [line for line in robot.log if "Traceback" in line or "ERROR" in line]


def test_ctrl_c_while_the_node_starts_leaves_no_traceback(siamfc_weights):
    process = Process("--ros-args", "-p", "model:=siamfc", "-p", f"weights:={siamfc_weights}")
    maps = Path(f"/proc/{process.pid}/maps")
    while "libtorch" not in maps.read_text():
        time.sleep(0.01)
    assert process.end(signal.SIGINT) == 0
    assert "Traceback" not in "\n".join(process.log)
