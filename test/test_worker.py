"""The worker thread with a real session: boxes on old images, faults of tracker and camera. No node is needed."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
import scene
import torch
from scene import SIDE, place, view
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from torch import nn

from sot_ros.geometry import Box, iou
from sot_ros.node.frames import Frame
from sot_ros.node.messages import rgb_image
from sot_ros.node.worker import Worker
from sot_ros.session import State, Thresholds
from sot_ros.trackers import Estimate, Tracker

NEAR = 60
"""Pixels around the last place where the square is searched."""


@dataclass(frozen=True)
class NoSettings:
    pass


class Matcher(Tracker):
    """Finds the template by cross-correlation, as slowly as it is told, and fails as it is told."""

    takes_s = 0.0
    failure: Exception | None = None

    def __init__(self):
        super().__init__(nn.Identity(), NoSettings(), torch.device("cpu"))
        # Siblings share these two.
        self.batches: list[int] = []
        self.failing: set[Box] = set()

    def set_template(self, image, box):
        self.first = box
        self._work()
        self.template = image[round(box.y) : round(box.y + box.h), round(box.x) : round(box.x + box.w)]

    def locate(self, image):
        yield (self.template[None],)
        self._work()
        x0, y0 = max(0, round(self.box.x) - NEAR), max(0, round(self.box.y) - NEAR)
        region = image[y0 : y0 + SIDE + 2 * NEAR, x0 : x0 + SIDE + 2 * NEAR]
        _, score, _, (x, y) = cv2.minMaxLoc(cv2.matchTemplate(region, self.template, cv2.TM_CCOEFF_NORMED))
        self.box = Box(x0 + x, y0 + y, self.box.w, self.box.h)
        return Estimate(self.box, max(0.0, score))

    def embed(self, template):
        return (template,)

    def compute(self, template):
        self.batches.append(len(template))
        return (template,)

    def _work(self):
        time.sleep(self.takes_s)
        if self.failure:
            raise self.failure
        if self.first in self.failing:
            raise ZeroDivisionError("division by zero")


class Bench:
    """A worker with its session, and what comes out of both."""

    def __init__(self, max_targets=1, tracker=None):
        self.tracker = tracker or Matcher()
        self.answers, self.lines = [], []
        self.given_up = False
        self.worker = Worker(
            self.tracker, Thresholds(), self._answer, self, max_targets, give_up=lambda: setattr(self, "given_up", True)
        )

    def _answer(self, frame, targets):
        self.answers.append((frame.stamp, targets))

    def info(self, line, **_):
        self.lines.append(line)

    warning = error = debug = info

    def show(self, t, stamp=None, image=None, wait=True):
        """Show frame t of the scene, a tenth of a second for each."""
        stamp = 0.1 * t if stamp is None else stamp
        message = image if image is not None else rgb_image(Header(), view(t))
        self.worker.see(Frame(message, stamp))
        if wait:
            self.wait(lambda: self.answers and self.answers[-1][0] == stamp)

    def start(self, box, stamp=0.0):
        """Give a box and wait until its target is there."""
        known = self.worker.target_id
        self.worker.start(box, stamp)
        self.wait(lambda: self.worker.target_id > known)

    def wait(self, condition):
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end, self.lines
            time.sleep(0.001)

    def says(self, words):
        self.wait(lambda: any(words in line for line in self.lines))
        return next(line for line in self.lines if words in line)

    @property
    def target(self):
        return self.answers[-1][1][0]


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.worker.close()
    assert threading.active_count() < 20


@pytest.fixture
def three():
    """A bench with room for three targets."""
    three = Bench(max_targets=3)
    yield three
    three.worker.close()


# Boxes on old images


def test_a_box_drawn_on_an_old_image_is_carried_forward_to_the_newest(bench):
    for t in range(30):
        bench.show(t)
    assert place(29).x - place(0).x > 200
    bench.worker.start(place(0), stamp=1e-9)  # frame 0; a zero stamp would mean the newest
    bench.says("caught up")
    bench.show(30)
    assert bench.target.state is State.TRACKING
    assert iou(bench.target.box, place(30)) > 0.9
    # The same box on the newest image is on the empty background.
    bench.start(place(0))
    bench.show(31)
    assert iou(bench.target.box, place(31)) == 0


def test_images_that_were_answered_before_are_not_answered_again(bench):
    for t in range(20):
        bench.show(t)
    bench.worker.start(place(5), stamp=0.5)
    bench.says("caught up")
    bench.show(20)
    assert [round(10 * stamp) for stamp, _ in bench.answers] == list(range(21))


def test_a_tracker_slower_than_the_camera_catches_up_while_images_keep_arriving(bench):
    """100 images a second; the tracker manages 25."""
    rate, backlog = 100, 100
    image = {t: rgb_image(Header(), view(t)) for t in range(58)}

    def send(i):  # 0.19 frames of the scene, 1.3 pixels, in each image
        bench.worker.see(Frame(image[round(0.19 * i)], i / rate))

    for i in range(backlog):
        send(i)
    bench.wait(lambda: bench.answers and bench.answers[-1][0] == (backlog - 1) / rate)
    bench.tracker.takes_s = 0.04
    bench.worker.start(place(0), stamp=1e-9)
    begin = time.monotonic()
    for i in range(backlog, 3 * backlog):
        send(i)
        time.sleep(max(0.0, begin + (i - backlog + 1) / rate - time.monotonic()))
        if any("caught up" in line for line in bench.lines):
            break
    # A second behind, at twice the pace of the camera: a second to catch up.
    assert 0.5 < time.monotonic() - begin < 1.9, bench.lines
    send(i + 1)
    bench.wait(lambda: bench.answers[-1][0] == (i + 1) / rate)
    assert iou(bench.target.box, place(round(0.19 * (i + 1)))) > 0.5
    stamps = [stamp for stamp, _ in bench.answers]
    assert stamps == sorted(set(stamps))


@pytest.mark.parametrize(
    ("stamp", "line"),
    [
        (
            1.0,
            "older than all that are held, see history_s and history_mb; it is started on the nearest image, 1.0",
        ),
        (5.0, "newer than the newest; it is started on the nearest image, 2.000 s earlier"),
        (2.52, "of one that never arrived; it is started on the nearest image, 0.020 s earlier"),
    ],
)
def test_a_stamp_without_its_image_starts_on_the_nearest_and_says_so(bench, stamp, line):
    bench.worker.hold(seconds=1.0, megabytes=256)
    for t in range(31):
        bench.show(t)
    bench.worker.start(place(25), stamp)
    assert line in bench.says("init box: its stamp is")
    bench.says("started at")


def test_a_box_that_is_refused_leaves_the_previous_target_where_it_is(bench):
    for t in range(5):
        bench.show(t)
    bench.start(place(4))
    bench.show(5)
    bench.worker.start(Box(1000, 0, 10, 10), stamp=0.1)
    bench.says("refused")
    bench.show(6)
    assert bench.target.target_id == 1 and iou(bench.target.box, place(6)) > 0.9


def test_of_boxes_that_come_faster_than_they_can_be_started_the_newest_counts(bench):
    bench.tracker.takes_s = 0.03
    bench.show(0)
    for i in range(100):  # 100 Hz
        if i % 10 == 0:
            bench.show(i // 10, stamp=i / 100, wait=False)
        bench.worker.start(place(i / 10))
        time.sleep(0.01)
    bench.show(10)
    started = [line for line in bench.lines if "started at" in line]
    assert 5 < len(started) < 50
    assert len(bench.answers) > 5
    assert iou(bench.target.box, place(10)) > 0.5
    assert bench.target.target_id == len(started)


# Several targets

STILL = Box(300, 110, SIDE, SIDE), Box(60, 10, SIDE, SIDE)
"""Two pieces of the background."""


def numbers(bench):
    """Of the targets in the last answer."""
    return [target.target_id for target in bench.answers[-1][1]]


def test_each_box_adds_a_target_up_to_the_limit_and_every_image_is_answered_for_all(three):
    three.show(0)
    three.start(place(0))
    three.show(1)
    assert numbers(three) == [1]
    three.start(STILL[0])
    three.start(STILL[1])
    for t in range(2, 6):
        three.show(t)
        assert numbers(three) == [1, 2, 3]
        for target, box in zip(three.answers[-1][1], (place(t), *STILL), strict=True):
            assert target.state is State.TRACKING and iou(target.box, box) > 0.9
    assert len(three.answers) == 6
    assert three.tracker.batches == [1] + [3] * 4
    three.worker.start(place(5))
    three.says("init box refused: there are 1, 2, 3 already, max_targets is 3")
    three.show(6)
    assert numbers(three) == [1, 2, 3]


def test_boxes_that_come_at_once_are_as_many_targets(three):
    three.show(0)
    for box in (place(0), *STILL):
        three.worker.start(box)
    three.wait(lambda: three.worker.target_id == 3)
    three.show(1)
    assert numbers(three) == [1, 2, 3]


def test_with_one_target_a_box_replaces_it(bench):
    bench.show(0)
    bench.start(STILL[0])
    bench.start(place(0))
    bench.show(1)
    assert numbers(bench) == [2] and iou(bench.target.box, place(1)) > 0.9


def test_one_target_can_be_stopped_and_its_number_is_not_used_again(three):
    three.show(0)
    for box in (place(0), *STILL):
        three.start(box)
    three.worker.stop_target(2)
    three.says("target 2: stopped")
    three.show(1)
    assert [(target.state.name, target.target_id) for target in three.answers[-1][1]] == [
        *(("TRACKING", 1), ("TRACKING", 3), ("IDLE", 2))
    ]
    three.show(2)
    assert numbers(three) == [1, 3]
    three.worker.stop_target(2)
    three.says("target 2: there is none, nothing to stop")
    three.start(STILL[0])
    three.show(3)
    assert numbers(three) == [1, 3, 4]
    three.worker.stop("stopped")
    for t, ended in ((4, [1, 3, 4]), (5, [4])):
        three.show(t)
        assert [(target.state, target.target_id) for target in three.answers[-1][1]] == [(State.IDLE, n) for n in ended]
    three.start(place(5))
    three.show(6)
    assert numbers(three) == [5]


def test_a_target_on_an_old_image_catches_up_while_the_others_go_on(three):
    three.show(0)
    three.start(STILL[0])
    for t in range(1, 20):
        three.show(t)
    three.tracker.takes_s = 0.02  # for the targets to come
    three.worker.start(place(5), stamp=0.5)
    three.says("started at")
    begin = time.monotonic()
    for t in range(20, 57):
        three.show(t)
        assert numbers(three)[0] == 1
        if len(numbers(three)) == 2:
            break
        time.sleep(max(0.0, begin + 0.1 * (t - 19) - time.monotonic()))
    # 1.5 seconds behind; at twice the pace of the camera, or faster, it is there after as long.
    assert 21 < t < 45, three.lines
    assert iou(three.answers[-1][1][1].box, place(t)) > 0.9
    assert [round(10 * stamp) for stamp, _ in three.answers] == list(range(t + 1))


def test_a_box_that_is_refused_leaves_all_targets_where_they_are(three):
    three.show(0)
    three.start(place(0))
    three.start(STILL[0])
    three.worker.start(Box(1000, 0, 10, 10))
    three.says("refused")
    three.show(1)
    assert numbers(three) == [1, 2]


def test_a_target_that_fails_costs_the_others_nothing(three):
    three.show(0)
    for box in (place(0), *STILL):
        three.start(box)
    three.tracker.failing.add(STILL[0])
    three.show(1)
    states = [target.state for target in three.answers[-1][1]]
    assert states == [State.TRACKING, State.LOST, State.TRACKING]
    assert "division by zero" in three.worker.failure
    three.tracker.failing.clear()
    three.show(2)
    assert all(target.state is State.TRACKING for target in three.answers[-1][1])
    assert not three.worker.failure


# A detector as fast as the camera


EMPTY = np.concatenate([view(50)[:, : scene.WIDTH // 2], view(0)[:, scene.WIDTH // 2 :]], axis=1)
"""The background alone."""


class Watched(Bench):
    """A bench whose every answer is followed by what a detector saw on that image, as in detections.py."""

    detected: Sequence[Box] = ()

    def _answer(self, frame, targets):
        super()._answer(frame, targets)
        self.worker.suggest(frame.image, self.detected)


@pytest.fixture
def watched():
    bench = Watched()
    yield bench
    bench.worker.close()


def test_a_detector_as_fast_as_the_camera_does_not_disturb_a_tracked_target_and_costs_it_nothing(bench, watched):
    for each in (bench, watched):
        each.show(0)
        each.start(place(0))
    for t in range(1, 40):
        watched.detected = *STILL, place(t), place(t)._replace(x=place(t).x + 10)
        bench.show(t)
        watched.show(t)
        assert watched.target.state is State.TRACKING
        assert watched.target == bench.target
    assert watched.tracker.batches == bench.tracker.batches == [1] * 39  # one call of the network for each image


def lose(bench):
    """Start the target and show it no more until it is LOST; the number of the last image."""
    bench.show(0)
    bench.start(place(0))
    for t in range(1, 40):
        bench.show(t, image=rgb_image(Header(), EMPTY if t > 1 else view(t)))
        if bench.target.state is State.LOST:
            return t
    raise AssertionError(bench.lines)


def images_until_found(bench, t, there):
    """How many images with the target at frame `there` of the scene it takes until it is tracked."""
    for i in range(1, 20):
        bench.show(t + i, image=rgb_image(Header(), view(there)))
        if bench.target.state is State.TRACKING:
            assert iou(bench.target.box, place(there)) > 0.9
            return i
    raise AssertionError(bench.lines)


def test_a_detector_as_fast_as_the_camera_brings_a_lost_target_back_at_once(bench, watched):
    watched.detected = STILL
    t = lose(watched)
    watched.detected = *STILL, place(50)
    confirmed = Thresholds().confirm_frames
    assert images_until_found(watched, t, 50) <= confirmed + 1
    # Without the detector, the search of the frame takes longer.
    assert images_until_found(bench, lose(bench), 50) > confirmed + 1


# Faults


FAILURES = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported"),
    ZeroDivisionError("division by zero"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_a_tracker_that_fails_claims_no_box_and_goes_on_when_it_works_again(bench, failure):
    bench.show(0)
    bench.start(place(0))
    bench.show(1)
    bench.tracker.failure = failure
    for t in (2, 3):
        bench.show(t)
        assert (bench.target.state, bench.target.confidence, bench.target.target_id) == (State.LOST, 0.0, 1)
    line = bench.says("the tracker failed, no box is claimed")
    assert str(failure).split("\n")[0] in line and "\n" not in line
    assert bench.worker.failure and bench.worker.counts["failed"] == 2
    bench.tracker.failure = None
    bench.show(4)
    assert bench.target.state is State.TRACKING and iou(bench.target.box, place(4)) > 0.9
    assert not bench.worker.failure


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_a_tracker_that_fails_at_a_start_has_no_target(bench, failure):
    bench.show(0)
    bench.start(place(0))
    bench.show(1)
    bench.tracker.failure = failure
    bench.worker.start(place(1))
    bench.says("init box refused, and the target let go")
    bench.show(2)
    assert bench.target.state is State.IDLE
    bench.tracker.failure = None
    bench.start(place(2))
    bench.show(3)
    assert bench.target.state is State.TRACKING and bench.target.target_id == 2


class OnCuda(Matcher):
    """Says that it computes on a GPU; no GPU is needed."""

    def __init__(self):
        super().__init__()
        self.device = torch.device("cuda")

    def _batch(self, parts):
        return torch.as_tensor(np.concatenate(parts))


@pytest.fixture
def cuda(monkeypatch):
    """A bench with a tracker on CUDA, of which the test says whether it works. test_node_process.py has the process."""
    bench = Bench(tracker=OnCuda())
    bench.freed, bench.kernel_error = 0, None

    def free():
        bench.freed += 1

    def synchronize(device):
        if bench.kernel_error:
            raise bench.kernel_error

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", free)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    yield bench
    bench.worker.close()


def test_where_cuda_runs_out_of_memory_its_reserve_is_freed_and_the_next_image_is_a_new_chance(cuda):
    cuda.show(0)
    cuda.start(place(0))
    cuda.show(1)
    assert cuda.freed == 0
    cuda.tracker.failure = FAILURES[0]
    cuda.show(2)
    assert cuda.target.state is State.LOST
    cuda.wait(lambda: cuda.freed == 1)
    cuda.tracker.failure = None
    cuda.show(3)
    assert cuda.target.state is State.TRACKING and iou(cuda.target.box, place(3)) > 0.9
    cuda.tracker.failure = FAILURES[0]
    cuda.worker.start(place(3))
    cuda.says("init box refused")
    cuda.wait(lambda: cuda.freed >= 2)
    assert not cuda.given_up


def test_where_a_kernel_fails_the_image_is_answered_lost_before_the_worker_gives_up(cuda):
    cuda.show(0)
    cuda.start(place(0))
    cuda.show(1)
    cuda.tracker.failure = cuda.kernel_error = FAILURES[1]
    cuda.show(2)
    assert cuda.target.state is State.LOST
    cuda.wait(lambda: cuda.given_up)
    assert len(cuda.answers) == 3


def test_a_kernel_that_fails_at_a_start_makes_the_worker_give_up_too(cuda):
    cuda.show(0)
    cuda.tracker.failure = cuda.kernel_error = FAILURES[1]
    cuda.worker.start(place(0))
    cuda.says("init box refused")
    cuda.wait(lambda: cuda.given_up)


def test_one_image_in_twenty_that_is_corrupt_costs_only_itself(bench):
    def jpeg(t):
        data = cv2.imencode(".jpg", view(t)[..., ::-1])[1].tobytes()
        return CompressedImage(format="jpeg", data=b"\xff\xd8 no picture" if t % 20 == 10 else data)

    bench.show(0, image=jpeg(0))
    bench.start(place(0))
    for t in range(1, 50):
        bench.show(t, image=jpeg(t), wait=t % 20 != 10)
        bench.wait(lambda: bench.worker.counts["refused"] == (t + 10) // 20)  # noqa: B023
    assert bench.worker.counts["answered"] == 48
    assert all(target.state is State.TRACKING for _, [target] in bench.answers[1:])
    assert iou(bench.target.box, place(49)) > 0.9


def test_images_of_another_size_in_the_middle_are_answered_too(bench):
    bench.show(0)
    bench.start(place(0))
    bench.show(1)
    for t, size in enumerate([(240, 80), (960, 320), (64, 64), (480, 160)], 2):
        bench.show(t, image=rgb_image(Header(), cv2.resize(view(t), size)))
    assert len(bench.answers) == 6


def test_every_image_that_arrived_is_accounted_for(bench):
    bench.tracker.takes_s = 0.02
    bench.show(0)
    bench.start(place(0))
    for t in range(1, 40):
        bench.show(t, wait=False)
        time.sleep(0.003)
    bench.show(39, stamp=3.85, wait=False)  # late
    bench.show(39, stamp=4.0, image=Image(encoding="rgb565"), wait=False)
    bench.show(40, stamp=4.1)
    counts = bench.worker.counts
    assert counts["received"] == 43
    assert counts["late"] == 1 and counts["refused"] == 1 and counts["skipped"] > 10
    assert counts["answered"] + counts["skipped"] + counts["late"] + counts["refused"] == counts["received"]


def test_a_jump_back_in_time_lets_the_target_go_with_one_line(bench):
    for t in range(20):
        bench.show(t)
    bench.start(place(19))
    bench.show(20)
    for t in range(5):  # the bag starts again
        bench.show(t)
        assert bench.target.state is State.IDLE
    assert [line for line in bench.lines if "jumped" in line] == ["time jumped back 2.0 s: target let go"]


def test_closing_does_not_wait_for_the_images_that_wait():
    bench = Bench()
    bench.tracker.takes_s = 0.2
    for t in range(20):
        bench.show(t)
    bench.worker.start(place(0), stamp=1e-9)
    bench.says("started")
    begin = time.monotonic()
    bench.worker.close()
    assert time.monotonic() - begin < 2  # all of them take 4
    assert [target.state for target in bench.worker.targets] == [State.IDLE]


def test_nothing_is_decoded_without_a_target(bench, monkeypatch):
    monkeypatch.setattr(cv2, "cvtColor", lambda *_: np.zeros(0))
    message = rgb_image(Header(), view(0))
    message.encoding = "bgr8"
    bench.show(0, image=message)
    assert bench.target.state is State.IDLE
