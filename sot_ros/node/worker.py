"""The thread that runs the network."""

from __future__ import annotations

import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import rclpy
import torch
from rclpy.impl.rcutils_logger import RcutilsLogger

from sot_ros.geometry import Box, iou
from sot_ros.node.frames import Frame, check
from sot_ros.node.history import History
from sot_ros.node.messages import one_line
from sot_ros.session import Session, State, Target, Thresholds
from sot_ros.trackers import Tracker, track_together

LOOPED_S = 1.0
"""Stamps that jump back by more than this many seconds are a bag that starts again, not a late image."""
SAME_S = 1e-6
"""Stamps that differ by less are the same, rounded to floating point."""
CATCH_UP_SPEED = 2.0
"""A box drawn on an old frame is carried forward through the frames since, so many times faster than they came. A
tracker that is too slow for all of them is shown fewer."""

FATES = {
    "received": "all that arrived",
    "answered": "processed, or without a target only answered",
    "skipped": "a newer one came while the tracker was busy",
    "late": "a newer one came before it",
    "refused": "no image that can be decoded",
    "failed": "answered with no box, because the tracker failed",
}


@dataclass
class Follower:
    """A target on its way through the frames."""

    session: Session
    position: int
    """The number of the last frame that it was looked for on."""
    catching_up_from: tuple[float, float] | None
    """Where it started on an old frame: the stamp of that, and the monotonic time when. None once it has caught up."""

    @property
    def target(self) -> Target:
        return self.session.target


class Worker:
    """One thread that owns a tracker: it takes the newest image whenever it is free, and answers it once.

    answer       called in that thread with each answered frame and what is known of the targets on it, the oldest
                 first; without a target, of one that is IDLE, and so once of each of several that was stopped
    max_targets  where it is 1, a new box replaces the target; else it adds one, until there are so many
    target_id    the number of the last target of all, before this worker
    give_up      called in that thread, as the last of all, when the tracker's device is broken for this process

    The other methods are called from any thread and never wait for the network.
    """

    def __init__(
        self,
        tracker: Tracker,
        thresholds: Thresholds,
        answer: Callable[[Frame, list[Target]], None],
        logger: RcutilsLogger,
        max_targets: int = 1,
        target_id: int = 0,
        give_up: Callable[[], None] = lambda: None,
    ):
        self.counts: Counter[str] = Counter()
        """What became of the images, see FATES."""
        self.alive_at = time.monotonic()
        """When a frame was last processed."""
        self.failure = ""
        """What the tracker raised on the last frame; empty where it did not."""
        self.tracker_s: deque[float] = deque(maxlen=150)
        """How long the tracker took for each of the last frames, in seconds."""
        self._tracker = tracker
        self._thresholds = thresholds
        self._history = History()
        self._answer = answer
        self._logger = logger
        self._max_targets = max_targets
        self._target_id = target_id
        self._give_up = give_up
        self._wake = threading.Condition()
        self._commands: dict[Hashable, tuple[Callable, tuple]] = {}
        self._closed = False
        # Below, what only the thread itself changes. Frames are told apart by their numbers.
        self._reached = 0
        self._followers: tuple[Follower, ...] = ()
        self._stopped: list[int] = []
        """Numbers of targets whose end is still to be said."""
        self._thread = threading.Thread(target=self._run, name="tracker", daemon=True)
        self._thread.start()

    @property
    def targets(self) -> list[Target]:
        """What is known of the targets now, the oldest first; without a target, one that is IDLE."""
        return [follower.target for follower in self._followers] or [idle(self._target_id)]

    @property
    def target_id(self) -> int:
        """The number of the last target; that of the one before this worker, where there was none."""
        return self._target_id

    def see(self, frame: Frame) -> None:
        """Take a frame that arrived. One that is older than the newest is dropped."""
        with self._wake:
            self.counts["received"] += 1
        try:
            check(frame.message)
        except ValueError as error:
            self._refuse(error)
            return
        with self._wake:
            newest = self._history.newest
            back = newest.stamp - frame.stamp if newest else 0.0
            if 0 < back <= LOOPED_S:
                self.counts["late"] += 1
                return
            if back > 0:
                self._history.clear()
                self._command(self._stop, f"time jumped back {back:.1f} s")
            self._history.add(frame)
            self._wake.notify()

    def start(self, box: Box, stamp: float = 0.0) -> None:
        """Take the target in `box` on the frame with this stamp; on the newest where it is 0."""
        # Several boxes that come at once are several targets, where there may be several.
        self._command(self._start, box, stamp, kind=None if self._max_targets == 1 else (box, stamp))

    def stop(self, reason: str) -> None:
        """Let all targets go."""
        self._command(self._stop, reason)

    def stop_target(self, target_id: int) -> None:
        """Let one target go."""
        self._command(self._stop_target, target_id, kind=target_id)

    def suggest(self, image: np.ndarray, boxes: Sequence[Box]) -> None:
        """Offer what a detector saw to the targets that are hidden or gone. To be called by `answer` only."""
        tracked = [f.target.box for f in self._followers if f.target.state is State.TRACKING]
        free = [box for box in boxes if not any(iou(box, taken) > 0.5 for taken in tracked)]
        for follower in self._followers:
            follower.session.suggest(image, free)

    def change(self, settings: Any, thresholds: Thresholds) -> None:
        """Use other settings of the tracker and other thresholds from the next frame on."""
        self._command(self._change, settings, thresholds)

    def hold(self, seconds: float, megabytes: float) -> None:
        """Keep so much of the past, from the next frame on; see History."""
        with self._wake:
            self._history.seconds, self._history.megabytes = seconds, megabytes

    def nearest(self, stamp: float) -> Frame | None:
        """The frame with the stamp that is nearest to this one; the newest where it is 0. None before the first."""
        with self._wake:
            return self._history.nearest(stamp) if stamp else self._history.newest

    def close(self) -> None:
        """Let the targets go and end the thread, after the frame that it is at."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()
        self._followers = ()

    def _command(self, method: Callable, *arguments, kind: Hashable = None) -> None:
        """Leave a command to the thread. Of each kind only the newest counts, so they cannot pile up."""
        with self._wake:
            self._commands.pop((method, kind), None)
            self._commands[method, kind] = method, arguments
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._closed or self._commands or self._next())
                if self._closed:
                    return
                commands, self._commands = self._commands, {}
                tasks = [] if commands else self._next()
            for method, arguments in commands.values():
                self._try(method, *arguments)
            for frame, followers in tasks:
                self._try(self._process, frame, followers)
            if self.failure and not usable(self._tracker.device):
                self._give_up()
                return

    def _try(self, method: Callable, *arguments) -> None:
        try:
            method(*arguments)
        except Exception as error:
            if rclpy.ok():  # else it is only that nothing can be published any more
                self._logger.error(one_line(error), throttle_duration_sec=1.0)
                self._logger.debug(traceback.format_exc())

    def _next(self) -> list[tuple[Frame, list[Follower]]]:
        """The frames to process now, each with the targets to look for: the newest, if it was not reached yet; for each
        target that is catching up, one that keeps pace. While all are, none jumps ahead to the newest."""
        up_to_date = [f for f in self._followers if not f.catching_up_from]
        tasks = []
        if up_to_date or not self._followers:
            tasks.append((self._history.after(self._reached), up_to_date))
        for follower in self._followers:
            if follower.catching_up_from:
                stamp, since = follower.catching_up_from
                paced = stamp + CATCH_UP_SPEED * (time.monotonic() - since)
                tasks.append((self._history.after(follower.position, paced), [follower]))
        return [(frame, followers) for frame, followers in tasks if frame]

    def _process(self, frame: Frame, followers: Sequence[Follower]) -> None:
        """Look for these targets on the frame, and answer it if it is newer than all that were. Those in between never
        will be."""
        new = frame.number > self._reached
        if new:
            self.counts["skipped"] += frame.number - self._reached - 1
            self._reached = frame.number
        there = [f for f in followers if f.position == frame.number]  # started on this very frame
        behind = [f for f in followers if f.position < frame.number]
        for follower in behind:
            follower.position = frame.number
            self._catch_up(follower, frame)
        try:
            image = frame.image if behind else None
        except ValueError as error:
            self._refuse(error)
            return
        failed = self.counts["failed"]
        targets = self._update(behind, image, frame.stamp) if behind else []
        if self.counts["failed"] == failed:
            self.failure = ""
        self.alive_at = time.monotonic()
        if new:
            self.counts["answered"] += 1
            targets += [f.target for f in there]
            stopped, self._stopped = self._stopped, []
            self._answer(frame, targets + [idle(n) for n in stopped] or [idle(self._target_id)])
        frame.forget_image()

    def _update(self, followers: Sequence[Follower], image: np.ndarray, stamp: float) -> list[Target]:
        """The targets on the next image. Where the tracker fails, no box is claimed; the next image is a new chance."""
        before = [f.target for f in followers]
        sessions = [f.session for f in followers]
        try:
            for session in sessions:
                session.aim(image, stamp)
            begin = time.perf_counter()
            estimates = track_together([session.tracker for session in sessions], image)
            self.tracker_s.append(time.perf_counter() - begin)
            targets = [s.take(image, stamp, found) for s, found in zip(sessions, estimates, strict=True)]
        except Exception as error:
            if len(followers) > 1:  # one of them must not cost the others their box
                return [target for f in followers for target in self._update([f], image, stamp)]
            self.counts["failed"] += 1
            self._fail("no box is claimed", error)
            return [before[0]._replace(state=State.LOST, confidence=0.0)]
        for then, target in zip(before, targets, strict=True):
            if target.state is not then.state:
                line = f"target {target.target_id}: {target.state.name}, confidence {target.confidence:.2f}"
                self._logger.info(line)
        return targets

    def _catch_up(self, follower: Follower, frame: Frame) -> None:
        """Note that a target is at this frame, which may be the newest."""
        with self._wake:
            newest = self._history.newest
        if follower.catching_up_from and frame is newest:
            self._logger.info(f"caught up in {time.monotonic() - follower.catching_up_from[1]:.2f} s")
            follower.catching_up_from = None

    def _start(self, box: Box, stamp: float) -> None:
        with self._wake:
            oldest, newest = self._history.oldest, self._history.newest
            frame = self._history.nearest(stamp) if stamp else newest
        if frame is None:
            self._logger.error("init box refused: no image has arrived yet")
            return
        if stamp and abs(stamp - frame.stamp) > SAME_S:
            which = (
                "newer than the newest"
                if stamp > newest.stamp
                else "older than all that are held, see history_s and history_mb"
                if stamp < oldest.stamp
                else "of one that never arrived"
            )
            off = f"{abs(frame.stamp - stamp):.3f} s {'later' if frame.stamp > stamp else 'earlier'}"
            self._logger.warning(f"init box: its stamp is {which}; it is started on the nearest image, {off}")
        replaced = self._followers if self._max_targets == 1 else ()
        if len(self._followers) >= self._max_targets and not replaced:
            numbers = ", ".join(str(f.target.target_id) for f in self._followers)
            self._logger.error(f"init box refused: there are {numbers} already, max_targets is {self._max_targets}")
            return
        tracker = self._tracker if self._max_targets == 1 else self._tracker.sibling()
        session = Session(tracker, self._thresholds, self._target_id)
        try:
            target = session.start(frame.image, box, frame.stamp)
        except ValueError as error:
            self._logger.error(f"init {error}")
            return
        except Exception as error:
            self._let_go(replaced)  # nobody knows how much of the new target the tracker has taken
            self._fail("init box refused" + ", and the target let go" * bool(replaced), error)
            return
        self._let_go(replaced)
        self._target_id = target.target_id
        late = None if frame is newest else (frame.stamp, time.monotonic())
        follower = Follower(session, frame.number, late)
        ago = "" if frame is newest else f", {newest.stamp - frame.stamp:.2f} s ago"
        self._logger.info("target {}: started at ({:g}, {:g}, {:g}, {:g}){}".format(target.target_id, *box, ago))
        alone = all(f.catching_up_from for f in self._followers)
        self._followers = (*self._followers, follower)
        if alone:
            self._process(frame, [follower])

    def _stop(self, reason: str) -> None:
        self._end(self._followers)
        self._logger.info(f"{reason}: target let go")

    def _stop_target(self, target_id: int) -> None:
        gone = [f for f in self._followers if f.target.target_id == target_id]
        self._end(gone)
        self._logger.info(f"target {target_id}: " + ("stopped" if gone else "there is none, nothing to stop"))

    def _end(self, followers: Sequence[Follower]) -> None:
        """Let targets go for good. Where a box replaces the target, it is enough to tell the new one."""
        self._let_go(followers)
        if self._max_targets > 1:
            self._stopped += [f.target.target_id for f in followers]

    def _let_go(self, followers: Sequence[Follower]) -> None:
        self._followers = tuple(f for f in self._followers if f not in followers)

    def _change(self, settings: Any, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self._tracker.settings = settings
        for follower in self._followers:
            follower.session.tracker.settings = settings
            follower.session.thresholds = thresholds

    def _fail(self, consequence: str, error: Exception) -> None:
        self.failure = one_line(error)
        self._logger.error(f"the tracker failed, {consequence}: {self.failure}", throttle_duration_sec=1.0)
        self._logger.debug(traceback.format_exc())

    def _refuse(self, error: ValueError) -> None:
        with self._wake:
            self.counts["refused"] += 1
        self._logger.error(str(error), throttle_duration_sec=1.0)


def usable(device: torch.device) -> bool:
    """Whether a tracker that has failed can go on. What CUDA holds in reserve is freed, for memory may have run out.

    After a kernel error every further call of CUDA fails, until the process is started again: NVIDIA's documentation of
    cudaError_t says so of each of them. Other errors, such as memory that ran out, leave no trace in these two.
    """
    if device.type == "cuda" and torch.cuda.is_initialized():
        try:
            torch.cuda.empty_cache()
            torch.cuda.synchronize(device)
        except RuntimeError:
            return False
    return True


def idle(target_id: int) -> Target:
    """That there is no target any more after the one with this number."""
    return Target(State.IDLE, target_id, Box(0, 0, 0, 0), 0.0)
