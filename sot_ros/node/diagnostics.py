"""The health of the node once a second, for diagnostic_aggregator, rqt_robot_monitor and people."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING

import numpy as np
import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType

from sot_ros.node.frames import Frame
from sot_ros.node.worker import FATES
from sot_ros.session import Target

if TYPE_CHECKING:
    from sot_ros.node.tracker_node import TrackerNode

PERIOD_S = 1.0
WINDOW_S = 5.0
"""Rate and latencies are those of the answers in these last seconds."""


class Diagnostics:
    """Publishes /diagnostics as long as the node lives, also while it is inactive."""

    def __init__(self, node: TrackerNode):
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._answers: deque[tuple[float, float, float]] = deque()
        self._refused = 0
        # The steady clock goes on while a bag is paused.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(PERIOD_S, self._publish, callback_group=node.reentrant, clock=steady)

    def answer(self, frame: Frame, targets: list[Target]) -> None:
        now = time.monotonic()
        since_stamp = self._node.get_clock().now().nanoseconds * 1e-9 - frame.stamp
        self._answers.append((now, now - frame.arrived, since_stamp))
        while self._answers[0][0] < now - WINDOW_S:
            self._answers.popleft()

    @property
    def rate(self) -> float:
        """Images answered per second, of late."""
        times = [at for at, *_ in self._recent()]
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0

    def _recent(self) -> list[tuple[float, float, float]]:
        """When a frame was answered, and how long that was after it arrived, and after it was taken."""
        earliest = time.monotonic() - WINDOW_S
        return [answer for answer in self._answers.copy() if answer[0] >= earliest]

    def _publish(self) -> None:
        level, message = self._verdict()
        values = self._values()
        status = DiagnosticStatus(
            level=level,
            name=f"{self._node.get_fully_qualified_name().lstrip('/')}: tracking",
            message=message,
            hardware_id=values.get("device", ""),
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)

    def _verdict(self) -> tuple[bytes, str]:
        worker = self._node.worker
        if worker is None:
            return DiagnosticStatus.OK, "inactive" if self._node.tracker else "unconfigured"
        refused, self._refused = worker.counts["refused"] - self._refused, worker.counts["refused"]
        if worker.failure:
            return DiagnosticStatus.ERROR, f"the tracker failed: {worker.failure}"
        if self._node.stale:
            silent = f"no image was answered for {time.monotonic() - worker.alive_at:.0f} s"
            return DiagnosticStatus.STALE, silent if worker.counts["received"] else "no image has arrived yet"
        if refused > 0:
            return DiagnosticStatus.WARN, f"{refused} images refused in the last second, see the log"
        return DiagnosticStatus.OK, ", ".join(target.state.name for target in worker.targets)

    def _values(self) -> dict[str, str | int]:
        tracker, worker = self._node.tracker, self._node.worker
        values: dict[str, str | int] = {}
        if tracker is not None:
            device = tracker.device
            values |= {"model": self._node.value("model"), "device": str(device)}
            if device.type == "cuda":
                values["device memory (MB)"] = round(torch.cuda.memory_allocated(device) / 1e6)
        if worker is not None:
            states = ", ".join(target.state.name for target in worker.targets)
            values |= {"state": "STALE" if self._node.stale else states}
            values |= {"target_id": ", ".join(str(target.target_id) for target in worker.targets)}
            values |= {f"images {what}": worker.counts[what] for what in FATES}
            values["rate (Hz)"] = f"{self.rate:.1f}"
            if worker.tracker_s:
                values["tracker, p50 (ms)"] = f"{1000 * np.median(worker.tracker_s.copy()):.1f}"
            answers = self._recent()
            for i, since in enumerate(("arrival", "stamp"), 1):
                if answers:
                    p50, p95 = 1000 * np.percentile([answer[i] for answer in answers], (50, 95))
                    values |= {f"latency from {since}, p50 (ms)": f"{p50:.1f}"}
                    values |= {f"latency from {since}, p95 (ms)": f"{p95:.1f}"}
        values["memory (MB)"] = round(resident_bytes() / 1e6)
        return values


def resident_bytes(pid: int | str = "self") -> int:
    """What a process takes of the machine's memory."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
