"""The executable `tracker`."""

from __future__ import annotations

import rclpy
from rclpy.executors import Executor, ExternalShutdownException, MultiThreadedExecutor
from rclpy.logging import get_logger

from sot_ros.node.tracker_node import TrackerNode
from sot_ros.node.worker import one_line


def main() -> int:
    """Run the node until Ctrl-C. Returns the exit code of the process: 1 if the node could not start."""
    node = None
    try:
        rclpy.init()
        node = TrackerNode()
        executor = MultiThreadedExecutor(num_threads=4)
        executor.add_node(node)
        if node.get_parameter("autostart").value and not node.bring_up():
            return 1
        spin(executor)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception as error:
        if node is not None and not rclpy.ok():
            return 0  # stopped by a signal while it was starting
        get_logger("tracker").fatal(str(error) if isinstance(error, ValueError) else one_line(error))
        return 1
    finally:
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
