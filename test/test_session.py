"""The life of a target, told with a tracker whose eyes the test sees through, and once with the default model."""

import math

import cv2
import numpy as np
import pytest
from golden import synthetic_clip as clip
from hypothesis import given
from hypothesis import strategies as st

import sot_ros
from sot_ros.geometry import Box, iou
from sot_ros.recovery import COAST_S, STEP, Motion, places
from sot_ros.session import Session, State, Thresholds
from sot_ros.trackers import Estimate
from sot_ros.trackers.models import DEFAULT_MODEL, MODELS

IMAGE = np.zeros((100, 100, 3), np.uint8)
FIRST = Box(10, 10, 20, 20)


class Scripted:
    """Moves one pixel to the right on every frame, as sure as it is told."""

    confidence = 1.0
    appearance = None
    box = None

    def initialize(self, image, box):
        if box[2] <= 0:
            raise ValueError("box refused")
        self.box = Box(*box)

    def track(self, image):
        self.box = self.box._replace(x=self.box.x + 1)
        return Estimate(self.box, self.confidence)


class Seeing:
    """Finds what is there, if its centre is within twice its size of where it looks, and sees what it looks like.

    `things` are boxes and appearances, angles in degrees; the target's is 0.
    """

    def __init__(self):
        self.things, self.looks = {}, []

    def initialize(self, image, box):
        self.box, self.appearance = Box(*box), direction(0)

    def track(self, image):
        self.looks.append(self.box)
        for thing, angle in self.things.items():
            if max(abs(a - b) for a, b in zip(thing.center, self.box.center, strict=True)) <= 2 * math.sqrt(
                thing.w * thing.h
            ):
                self.box, self.appearance = thing, direction(angle)
                return Estimate(thing, 0.81)
        self.appearance = direction(90)
        return Estimate(self.box, 0.04)


def direction(degrees):
    return np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])


DEFAULT_THRESHOLDS = Thresholds(MODELS[DEFAULT_MODEL].occluded_below, MODELS[DEFAULT_MODEL].tracking_above)


@pytest.fixture(scope="module")
def default_tracker():
    return sot_ros.create_tracker(device="cpu")


@pytest.fixture
def session():
    return Session(Scripted(), Thresholds(occluded_below=0.3, tracking_above=0.6, coast_s=1.0, confirm_frames=1))


@pytest.fixture
def seeing():
    """A session in a frame of 640 x 480 that has seen its target, 20 x 20 pixels, at (310, 230)."""
    session = Session(Seeing(), Thresholds(occluded_below=0.5, tracking_above=0.7, coast_s=1.0, confirm_frames=3))
    session.start(WIDE, Box(310, 230, 20, 20), 0.0)
    return session


WIDE = np.zeros((480, 640, 3), np.uint8)


def update(session, confidence, time):
    session.tracker.confidence = confidence
    return session.update(IMAGE, time)


def play(session, first, last, **things):
    """What the session says of frames first..last at 30 frames a second, with these things in view."""
    if things:
        session.tracker.things = things["things"]
    return [session.update(WIDE, t / 30) for t in range(first, last + 1)]


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


def test_a_hidden_target_is_predicted_to_slow_down_and_keeps_its_size():
    motion = Motion(Box(0, 50, 20, 10), 0.0)
    for i in range(1, 61):
        motion.see(Box(2 * i, 50, 20, 10), i / 30)
    xs = [motion.predict(2 + t / 30, 1000, 1000).x for t in range(0, 61)]
    steps = np.diff(xs)
    assert xs[0] == 120 and steps[0] == pytest.approx(2, rel=0.1)
    assert all(0 < later < earlier for earlier, later in zip(steps, steps[1:], strict=False))
    assert xs[-1] == pytest.approx(120 + 60 * COAST_S, abs=0.5)
    assert motion.predict(9, 1000, 1000)[1:] == (50, 20, 10)
    assert motion.predict(9, 125, 40).center == (125, 40)


@given(st.lists(st.integers(1, 15), min_size=2, max_size=40))
def test_velocity_does_not_depend_on_which_frames_were_dropped(gaps):
    every, some = Motion(FIRST, 0.0), Motion(FIRST, 0.0)
    for i in range(1, sum(gaps) + 1):
        every.see(FIRST._replace(x=10 + 3 * i), i / 30)
    for i in np.cumsum(gaps).tolist():
        some.see(FIRST._replace(x=10 + 3 * i), i / 30)
    assert some.velocity == pytest.approx(every.velocity)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.data())
def test_no_clock_and_no_image_breaks_a_session(times, data):
    session = Session(Seeing(), Thresholds(coast_s=1.0))
    session.start(IMAGE, FIRST, times[0])
    for time in times + times[:1]:
        session.tracker.things = {FIRST: 0} if data.draw(st.booleans()) else {}
        image = np.zeros((data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40)), 3), np.uint8)
        assert all(map(math.isfinite, session.update(image, time).box))


def test_the_clock_goes_back_and_the_target_is_still_given_up_in_time(session):
    session.start(IMAGE, FIRST, 100.0)
    assert update(session, 0.1, 3.0).state is State.OCCLUDED
    assert update(session, 0.1, 4.1).state is State.LOST


@given(st.tuples(*[st.floats(-50, 700)] * 2, *[st.floats(12, 200)] * 2), st.integers(1, 640), st.integers(1, 480))
def test_the_search_reaches_every_point_of_the_image_from_the_nearest_place_on(box, width, height):
    box = Box(*box)
    found, seen = [], places(box, width, height)
    for place in seen:
        if found and place == found[0]:
            break
        found.append(place)
    middle = [min(max(0, c), side) for c, side in zip(box.center, (width, height), strict=True)]
    assert found[0].center == pytest.approx(middle)
    far = [max(abs(a - b) for a, b in zip(place.center, middle, strict=True)) for place in found]
    assert far == pytest.approx(sorted(far))
    reach = STEP * math.sqrt(box.w * box.h) / 2 + 1e-6
    for x in np.linspace(0, width, 7):
        for y in np.linspace(0, height, 7):
            assert any(abs(x - p.center[0]) <= reach and abs(y - p.center[1]) <= reach for p in found)


def test_a_lost_target_is_found_anywhere_in_the_frame_and_held_before_it_is_claimed(seeing):
    assert play(seeing, 1, 10, things={Box(310, 230, 20, 20): 0})[-1].state is State.TRACKING
    hidden = play(seeing, 11, 60, things={})
    assert [t.state for t in hidden] == 30 * [State.OCCLUDED] + 20 * [State.LOST]
    looks = len(seeing.tracker.looks)
    back = play(seeing, 61, 500, things={Box(30, 20, 20, 20): 20})
    states = [t.state for t in back]
    found = states.index(State.TRACKING)
    assert back[found].box == Box(30, 20, 20, 20)
    assert [look == Box(30, 20, 20, 20) for look in seeing.tracker.looks[looks:][found - 2 : found + 1]] == [
        False, True, True,
    ]  # fmt: skip
    assert set(states[:found]) == {State.LOST} and {t.box for t in back[:found]} == {hidden[-1].box}
    assert set(states[found:]) == {State.TRACKING}


def test_one_look_is_spent_on_a_frame_whatever_the_state(seeing):
    play(seeing, 1, 100, things={})
    assert len(seeing.tracker.looks) == 100


def test_a_lookalike_is_not_taken_for_the_target(seeing):
    play(seeing, 1, 40, things={})
    assert {t.state for t in play(seeing, 41, 500, things={Box(30, 20, 20, 20): 50})} == {State.LOST}


def test_what_changes_suddenly_is_hidden_and_what_changes_slowly_is_not(seeing):
    place = Box(310, 230, 20, 20)
    for t in range(1, 61):
        assert play(seeing, t, t, things={place: t})[0].state is State.TRACKING
    assert play(seeing, 61, 61, things={place: 60 + 75})[0].state is State.OCCLUDED


def test_doubtful_looks_do_not_become_the_looks_of_the_target(seeing):
    place = Box(310, 230, 20, 20)
    doubtful = [play(seeing, t, t, things={place: 59})[0] for t in range(1, 5)]
    assert {t.state for t in doubtful} == {State.TRACKING}
    assert play(seeing, 5, 5, things={place: 0})[0].confidence > 0.9


def test_confidence_is_measured_by_what_is_usual_for_the_target(seeing):
    place, sure = Box(310, 230, 20, 20), seeing.tracker.track
    seeing.tracker.track = lambda image: sure(image)._replace(confidence=0.2)
    assert {round(t.confidence, 6) for t in play(seeing, 1, 30, things={place: 0})} == {1}
    seeing.tracker.track = lambda image: sure(image)._replace(confidence=0.05)
    assert play(seeing, 31, 31)[0].confidence == pytest.approx(0.5, abs=0.01)


def test_a_target_that_was_out_of_view_is_taken_back_with_the_looks_that_it_had_last(seeing):
    place = Box(310, 230, 20, 20)
    for t in range(1, 71):
        play(seeing, t, t, things={place: t})
    play(seeing, 71, 75, things={})
    assert play(seeing, 76, 78, things={place: 70})[-1].state is State.TRACKING


def test_once_it_is_lost_only_the_looks_of_the_first_frame_count(seeing):
    place = Box(310, 230, 20, 20)
    for t in range(1, 71):
        play(seeing, t, t, things={place: t})
    play(seeing, 71, 110, things={})
    assert seeing.target.state is State.LOST
    assert {t.state for t in play(seeing, 111, 600, things={place: 70})} == {State.LOST}
    back = play(seeing, 601, 1100, things={place: 20})
    found = [t.state for t in back].index(State.TRACKING)
    assert back[found].confidence < 0.95 and back[found + 1].confidence > 0.99  # its new looks are its recent ones now


def test_one_confident_frame_of_a_hidden_target_does_not_bring_it_back(seeing):
    place = Box(310, 230, 20, 20)
    play(seeing, 1, 5, things={})
    for t in range(6, 30):
        assert play(seeing, t, t, things={place: 0} if t % 3 else {})[0].state is State.OCCLUDED
    assert play(seeing, 31, 33, things={place: 0})[-1].state is State.TRACKING


def test_a_target_that_turns_away_is_followed_to_where_its_motion_would_not_have_led(seeing):
    """It is not claimed meanwhile, and every second look stays with the prediction."""
    away = [Box(310 + 15 * t, 230, 20, 20) for t in range(21)]
    turned = [play(seeing, t, t, things={away[t]: 65})[0] for t in range(1, 21)]
    assert {t.state for t in turned} == {State.OCCLUDED}
    assert {t.box for t in turned} == {away[0]} == set(seeing.tracker.looks[2::2])
    assert [t.state for t in play(seeing, 21, 24, things={away[20]: 0})][-1] is State.TRACKING
    assert seeing.target.box == away[20]


def test_what_hides_a_target_is_not_followed(seeing):
    for t in range(1, 21):
        play(seeing, t, t, things={Box(310 + 15 * t, 230, 20, 20): 85})
    assert set(seeing.tracker.looks) == {Box(310, 230, 20, 20)}


def test_a_glimpse_that_was_nothing_is_forgotten(seeing):
    play(seeing, 1, 5, things={Box(340, 230, 20, 20): 65})
    play(seeing, 6, 20, things={})
    assert set(seeing.tracker.looks[-12:]) == {Box(310, 230, 20, 20)}


def test_a_target_that_leaves_through_the_border_is_gone_when_a_rest_of_its_box_is_left(seeing):
    seeing.start(WIDE, Box(600, 230, 20, 20), 0.0)
    widths = (20, 16, 12, 8, 6, 4, 3)
    states = [play(seeing, i, i, things={Box(640 - w, 230, w, 20): 0})[0].state for i, w in enumerate(widths, 1)]
    assert states == 5 * [State.TRACKING] + 2 * [State.OCCLUDED]


def test_a_detector_brings_a_lost_target_back_when_its_box_looks_like_it(seeing):
    target, other = Box(600, 440, 20, 20), Box(30, 440, 20, 20)
    play(seeing, 1, 40, things={})
    seeing.tracker.things = {target: 10, other: 60}
    assert not seeing.suggest(WIDE, [other, Box(300, 40, 20, 20)])
    assert not seeing.suggest(WIDE, [Box(570, 440, 20, 20)])  # beside the target
    assert seeing.suggest(WIDE, [other, target])
    assert [t.state for t in play(seeing, 41, 42)] == [State.LOST, State.TRACKING]
    assert seeing.target.box == target


def test_a_detector_is_believed_near_the_prediction_only_while_the_target_is_occluded(seeing):
    play(seeing, 1, 5, things={})
    seeing.tracker.things = {Box(100, 100, 20, 20): 0}
    assert not seeing.suggest(WIDE, [Box(100, 100, 20, 20)])
    seeing.tracker.things = {Box(315, 235, 20, 20): 0}
    assert seeing.suggest(WIDE, [Box(100, 100, 20, 20), Box(315, 235, 20, 20)])


def test_a_detector_is_not_asked_while_the_target_is_seen_or_there_is_none(seeing):
    assert not seeing.suggest(WIDE, [FIRST])
    seeing.stop()
    assert not seeing.suggest(WIDE, [FIRST])
    assert not seeing.tracker.looks


def test_the_default_model_notices_a_cover_and_finds_the_target_elsewhere(default_tracker):
    """Frames of the synthetic clip: seen, covered by background, then back 150 pixels away, as if it had jumped."""
    session = Session(default_tracker, DEFAULT_THRESHOLDS)
    background = clip.frame(47)[:150, :150]

    def covered(t):
        image = clip.frame(t).copy()
        x, y, w, h = (round(v) for v in clip.box(t))
        image[y - 3 : y + h + 3, x - 3 : x + w + 3] = background[: h + 6, : w + 6]
        return image

    session.start(clip.frame(0), clip.box(0), 0.0)
    seen = [session.update(clip.frame(t), t / 30).state for t in range(1, 10)]
    hidden = [session.update(covered(10), t / 30).state for t in range(10, 85)]
    back = [session.update(clip.frame(44), t / 30) for t in range(85, 145)]
    assert set(seen) == {State.TRACKING}
    assert State.TRACKING not in hidden and hidden[-1] is State.LOST
    assert back[-1].state is State.TRACKING and iou(back[-1].box, Box(*clip.box(44))) > 0.5


def test_a_lost_target_is_found_in_images_of_another_size(seeing):
    play(seeing, 1, 60, things={})
    assert seeing.target.state is State.LOST
    seeing.tracker.things = {Box(1200, 900, 20, 20): 0}
    larger = np.zeros((960, 1280, 3), np.uint8)
    assert State.TRACKING in [seeing.update(larger, t / 30).state for t in range(61, 1000)]


# Images that change their size


@pytest.mark.parametrize("size", [(1280, 960), (320, 240), (642, 480)])
@pytest.mark.parametrize("switch", [5, 15, 43], ids=["tracking", "occluded", "being confirmed"])
@pytest.mark.parametrize("hidden", [90, 65], ids=["hidden", "turned away"])
def test_a_camera_that_switches_its_resolution_changes_nothing_but_the_unit(size, switch, hidden):
    """Two sessions of one scene, of which one sees it in another resolution from frame `switch` on."""
    sx, sy = size[0] / 640, size[1] / 480
    thresholds = Thresholds(occluded_below=0.5, tracking_above=0.7, coast_s=3.0, confirm_frames=3)
    same, other = Session(Seeing(), thresholds), Session(Seeing(), thresholds)
    for session in (same, other):
        session.start(WIDE, Box(310, 230, 20, 20), 0.0)
    for t in range(1, 60):
        switched = t >= switch
        thing = Box(310 + 2 * min(t, 13), 230 + min(t, 13), 20, 20)
        angle = 0 if t < 10 or t > 40 else hidden
        same.tracker.things = {thing: angle}
        other.tracker.things = {thing.scaled(sx, sy) if switched else thing: angle}
        image = np.zeros((size[1], size[0], 3), np.uint8) if switched else WIDE
        expected, got = same.update(WIDE, t / 30), other.update(image, t / 30)
        assert got.state is expected.state
        assert got.box == pytest.approx(expected.box.scaled(sx, sy) if switched else expected.box)
    assert got.state is State.TRACKING


def test_in_images_of_another_shape_the_target_is_looked_for_at_its_old_pixels(seeing):
    play(seeing, 1, 5, things={Box(310, 230, 20, 20): 0})
    seeing.update(np.zeros((720, 640, 3), np.uint8), 0.2)
    assert seeing.tracker.looks[-1] == Box(310, 230, 20, 20)


def test_the_default_model_follows_through_every_switch_of_resolution(default_tracker):
    session = Session(default_tracker, DEFAULT_THRESHOLDS)
    session.start(clip.frame(0), clip.box(0), 0.0)
    for t in range(1, 20):
        scale = (1, 0.5, 2, 1)[t // 5]
        image = cv2.resize(clip.frame(t), None, fx=scale, fy=scale)
        target = session.update(image, t / 30)
        assert target.state is State.TRACKING
        assert iou(target.box, Box(*clip.box(t)).scaled(scale, scale)) > 0.5
