"""The executable `tracker`."""

from __future__ import annotations

import os
import sys

import rclpy
from rclpy.executors import Executor, ExternalShutdownException, MultiThreadedExecutor
from rclpy.logging import get_logger

from sot_ros.node.messages import one_line

BROKEN = 2
"""Exit code of a process that cannot track any more, but a new one can: any other than 0 and 1."""
SWITCH_S = 0.0005
"""After so long, a Python thread that computes lets another have its turn. Left at 0.005, answers wait for as much."""


def main() -> int:
    """Run the node until Ctrl-C. Returns the exit code of the process: 1 if the node could not start.

    Where CUDA breaks, the process ends at once with BROKEN.
    """
    sys.setswitchinterval(SWITCH_S)
    try:
        rclpy.init()
    except Exception as error:
        get_logger("tracker").fatal(one_line(error))
        return 1
    node = None
    try:
        # This imports torch, which takes seconds. In here, Ctrl-C is as quiet during them as later.
        from sot_ros.node.tracker_node import TrackerNode

        node = TrackerNode()
        executor = MultiThreadedExecutor(num_threads=4)
        executor.add_node(node)
        if node.get_parameter("autostart").value and not node.bring_up():
            return 1
        spin(executor)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception as error:
        if rclpy.ok():  # else a signal came while the node was starting
            get_logger("tracker").fatal(one_line(error))
            return 1
    finally:
        if node is not None and node.broken:
            os._exit(BROKEN)  # to free what a broken CUDA holds raises, aborts or hangs
        if node is not None:
            node.on_shutdown(None)
        rclpy.try_shutdown()
    return 0


def spin(executor: Executor) -> None:
    """Spin until shutdown, and outlive callbacks that raise: rclpy's own do so for an impossible transition."""
    while rclpy.ok():
        try:
            executor.spin()
        except (KeyboardInterrupt, ExternalShutdownException):
            return
        except Exception as error:
            if rclpy.ok():
                get_logger("tracker").error(one_line(error))
