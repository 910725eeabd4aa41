"""The thread that runs the network."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import rclpy
from rclpy.impl.rcutils_logger import RcutilsLogger

from sot_ros.geometry import Box
from sot_ros.node.frames import Frame, check
from sot_ros.node.messages import one_line
from sot_ros.session import Session, State, Target, Thresholds

LOOPED_S = 1.0
"""Stamps that jump back by more than this many seconds are a bag that starts again, not a late image."""


class Worker:
    """One thread that owns a session: it takes the newest image whenever it is free, and answers it once.

    answer     called in that thread with each processed frame and what is known of the target on it

    The other methods are called from any thread and never wait for the network.
    """

    def __init__(self, session: Session, answer: Callable[[Frame, Target], None], logger: RcutilsLogger):
        self._session = session
        self._answer = answer
        self._logger = logger
        self._wake = threading.Condition()
        self._waiting: Frame | None = None
        self._newest = -float("inf")
        self._commands: list[Callable[[], None]] = []
        self._closed = False
        # Below, what only the thread itself uses.
        self._seen: Frame | None = None
        self._started_on: Frame | None = None
        self._thread = threading.Thread(target=self._run, name="tracker", daemon=True)
        self._thread.start()

    def see(self, frame: Frame) -> None:
        """Put a frame in place of the one that is waiting. One that is older than the newest is dropped."""
        with self._wake:
            if self._newest - LOOPED_S <= frame.time < self._newest:
                return
            if frame.time < self._newest:
                self._commands.append(partial(self._stop, f"time jumped back {self._newest - frame.time:.1f} s"))
            self._newest = frame.time
            self._waiting = frame
            self._wake.notify()

    def start(self, box: Box) -> None:
        """Take the target in `box` on the newest frame."""
        self._command(partial(self._start, box))

    def change(self, settings: Any, thresholds: Thresholds) -> None:
        """Use other settings of the tracker and other thresholds from the next frame on."""
        self._command(partial(self._change, settings, thresholds))

    def close(self) -> None:
        """Let the target go and end the thread, after the frame that it is at."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()
        self._session.stop()

    def _command(self, command: Callable[[], None]) -> None:
        with self._wake:
            self._commands.append(command)
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._closed or self._waiting or self._commands)
                if self._closed:
                    return
                frame, self._waiting = self._waiting, None
                commands, self._commands = self._commands, []
            jobs = [partial(self._look, frame), *commands, partial(self._process, frame)] if frame else commands
            for job in jobs:
                self._try(job)

    def _try(self, job: Callable[[], None]) -> None:
        try:
            job()
        except ValueError as error:
            self._logger.error(str(error), throttle_duration_sec=1.0)
        except Exception as error:
            if rclpy.ok():  # else it is only that nothing can be published any more
                self._logger.error(f"image dropped: {one_line(error)}", throttle_duration_sec=1.0)
                self._logger.debug(traceback.format_exc())

    def _look(self, frame: Frame) -> None:
        check(frame.message)
        self._seen = frame

    def _process(self, frame: Frame) -> None:
        if frame is not self._seen:
            return
        before = self._session.target.state
        if before is not State.IDLE and frame is not self._started_on:
            self._session.update(frame.image, frame.time)
        target = self._session.target
        self._answer(frame, target)
        if target.state is not before:
            self._logger.info(f"target {target.target_id}: {target.state.name}, confidence {target.confidence:.2f}")

    def _start(self, box: Box) -> None:
        frame = self._frame_to_start_on()
        if frame is None:
            self._logger.error("init box refused: no image has arrived yet")
            return
        try:
            target = self._session.start(frame.image, box, frame.time)
        except ValueError as error:
            self._logger.error(f"init {error}")
            return
        self._started_on = frame
        self._logger.info("target {}: started at ({:g}, {:g}, {:g}, {:g})".format(target.target_id, *box))

    def _frame_to_start_on(self) -> Frame | None:
        return self._seen

    def _stop(self, reason: str) -> None:
        self._session.stop()
        self._logger.warning(f"{reason}: target let go")

    def _change(self, settings: Any, thresholds: Thresholds) -> None:
        self._session.tracker.settings = settings
        self._session.thresholds = thresholds
