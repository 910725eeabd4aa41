"""The life of a target, told with a tracker whose confidence the test decides."""

import numpy as np
import pytest

from sot_ros.geometry import Box
from sot_ros.session import Session, State, Thresholds
from sot_ros.trackers import Estimate

IMAGE = np.zeros((100, 100, 3), np.uint8)
FIRST = Box(10, 10, 20, 20)


class Scripted:
    """Moves one pixel to the right on every frame, as sure as it is told."""

    confidence = 1.0
    box = None

    def initialize(self, image, box):
        if box[2] <= 0:
            raise ValueError("box refused")
        self.box = Box(*box)

    def track(self, image):
        self.box = self.box._replace(x=self.box.x + 1)
        return Estimate(self.box, self.confidence)


@pytest.fixture
def session():
    return Session(Scripted(), Thresholds(occluded_below=0.3, tracking_above=0.6, coast_s=1.0))


def update(session, confidence, time):
    session.tracker.confidence = confidence
    return session.update(IMAGE, time)


def test_nothing_is_tracked_before_a_start(session):
    assert session.update(IMAGE, 0.0) == (State.IDLE, 0, (0, 0, 0, 0), 0.0)


def test_a_start_gives_every_target_its_own_number(session):
    assert session.start(IMAGE, FIRST, 0.0) == (State.TRACKING, 1, FIRST, 1.0)
    assert update(session, 0.9, 0.1) == (State.TRACKING, 1, (11, 10, 20, 20), 0.9)
    assert session.start(IMAGE, FIRST, 0.2).target_id == 2


def test_a_refused_start_keeps_the_previous_target(session):
    session.start(IMAGE, FIRST, 0.0)
    with pytest.raises(ValueError, match="refused"):
        session.start(IMAGE, Box(1, 1, 0, 0), 0.1)
    assert update(session, 0.9, 0.2).target_id == 1


def test_confidence_between_the_thresholds_changes_no_state(session):
    session.start(IMAGE, FIRST, 0.0)
    assert update(session, 0.4, 0.1).state is State.TRACKING
    assert update(session, 0.2, 0.2).state is State.OCCLUDED
    assert update(session, 0.4, 0.3).state is State.OCCLUDED
    assert update(session, 0.6, 0.4).state is State.TRACKING


def test_the_tracker_hears_whether_its_target_was_seen_on_the_last_frame(session):
    session.start(IMAGE, FIRST, 0.0)
    heard = []
    for i, confidence in enumerate((0.9, 0.1, 0.1, 0.9, 0.9)):
        update(session, confidence, 0.1 * i)
        heard.append(session.tracker.visible)
    assert heard == [True, True, False, False, True]


def test_a_target_hidden_for_too_long_is_lost_and_claimed_nowhere(session):
    session.start(IMAGE, FIRST, 0.0)
    update(session, 0.9, 0.1)
    hidden = update(session, 0.1, 1.0)
    assert hidden.state is State.OCCLUDED
    for time in (1.2, 2.0, 3.0):
        assert update(session, 0.1, time) == (State.LOST, 1, hidden.box, 0.0)


def test_a_lost_target_is_taken_back_when_it_is_seen_again(session):
    session.start(IMAGE, FIRST, 0.0)
    assert update(session, 0.1, 2.0).state is State.LOST
    assert update(session, 0.5, 2.1).state is State.LOST
    assert update(session, 0.7, 2.2).state is State.TRACKING


def test_stop_lets_the_target_go(session):
    session.start(IMAGE, FIRST, 0.0)
    session.stop()
    assert session.update(IMAGE, 0.1).state is State.IDLE


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ((0.6, 0.3), "occluded_below <= tracking_above"),
        ((-0.1, 0.3), "occluded_below <= tracking_above"),
        ((0.1, 1.3), "occluded_below <= tracking_above"),
        ((0.1, float("nan")), "occluded_below <= tracking_above"),
        ((0.1, 0.3, -1.0), "coast_s -1 refused"),
    ],
)
def test_thresholds_that_make_no_sense_are_refused(values, reason):
    with pytest.raises(ValueError, match=reason):
        Thresholds(*values)
