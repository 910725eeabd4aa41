"""How the process ends."""

import signal
import sys
import time
from pathlib import Path

import pytest
from robot import Process, Robot

from sot_ros.msg import TrackedBox

FAILING = Path(__file__).with_name("failing_tracker.py")


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


def test_where_cuda_breaks_the_target_is_lost_and_the_process_ends_for_launch_to_start_it_again(_ros, siamfc_weights):
    robot = Robot(program=[sys.executable, FAILING], model="siamfc", weights=siamfc_weights, scale_num=1)
    robot.meet()
    assert robot.start().state == TrackedBox.TRACKING
    while robot.show(2).state == TrackedBox.TRACKING:
        pass
    answer = robot.answers[-1]
    assert (answer.state, answer.confidence) == (TrackedBox.LOST, 0)
    begin = time.monotonic()
    code = robot.process.end()
    assert time.monotonic() - begin < 20  # a process that hangs cannot be started again
    robot.node.destroy_node()
    assert code not in (0, 1), "launch takes 0 for an end that was wanted, 1 for a start that is vain"
    assert len(robot.has_said("CUDA is broken for this process")) == 1
    assert "Traceback" not in "\n".join(robot.log)
