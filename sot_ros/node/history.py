"""The recent frames, so that a box can be started on the very image that it was drawn on."""

from __future__ import annotations

import math
from collections import deque

from sot_ros.node.frames import Frame


class History:
    """Frames in the order of their stamps, as undecoded messages. The oldest go first; the newest is always held.

    seconds     no frame is held that is older than this before the newest
    megabytes   all messages together take no more than this
    """

    def __init__(self, seconds: float = 3.0, megabytes: float = 256.0):
        self.seconds = seconds
        self.megabytes = megabytes
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._count = 0

    def add(self, frame: Frame) -> None:
        """Number the newest frame and hold it."""
        self._count += 1
        frame.number = self._count
        self._frames.append(frame)
        self._bytes += len(frame.message.data)
        while len(self._frames) > 1 and (
            frame.stamp - self._frames[0].stamp > self.seconds or self._bytes > 1e6 * self.megabytes
        ):
            self._bytes -= len(self._frames.popleft().message.data)

    def clear(self) -> None:
        """Hold nothing. The numbers go on."""
        self._frames.clear()
        self._bytes = 0

    @property
    def oldest(self) -> Frame | None:
        return self._frames[0] if self._frames else None

    @property
    def newest(self) -> Frame | None:
        return self._frames[-1] if self._frames else None

    def nearest(self, stamp: float) -> Frame | None:
        """The frame with the stamp that is nearest to this one."""
        return min(self._frames, key=lambda frame: abs(frame.stamp - stamp), default=None)

    def after(self, number: int, stamp: float = math.inf) -> Frame | None:
        """The first frame after `number` that is not older than `stamp`; the newest where all of them are."""
        newest = self.newest
        if newest is None or newest.number <= number:
            return None
        if newest.stamp <= stamp:
            return newest
        return next(frame for frame in self._frames if frame.number > number and frame.stamp >= stamp)
