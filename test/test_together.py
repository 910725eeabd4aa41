"""Several targets in one batch: what each would be found to be alone, by one call of the network for all."""

import numpy as np
import pytest
import torch
from golden import synthetic_clip as clip
from golden.fill import fill_state

import sot_ros
from sot_ros.session import Session, State, Thresholds
from sot_ros.trackers import MultiTracker, track_together
from sot_ros.trackers.models import find_model
from sot_ros.trackers.settings import override

CASES = [
    ("sot_mobile", {}),
    ("siamfc", {}),
    ("stark_s50", {}),
    ("stark_st50", {"update_interval": 1, "update_threshold": 0.0}),
    ("stark_lightning", {}),
    ("swintrack_tiny", {}),
    ("swintrack_tiny_motion", {"motion_interval": 1}),
    ("ostrack_tiny", {}),
    ("ostrack_256_ce", {"template_range": "GT_BOX"}),
    ("simtrack_b16", {}),
]
BOXES = [clip.box(0), (200, 150, 30, 60), (10, 220, 90, 40)]
"""The target of the clip, and two pieces of its background of other shapes."""
FRAMES = range(1, 3)


def filled(model, **settings):
    """A tracker whose weights, other than random ones, give boxes that are spread out."""
    row = find_model(model)
    network = row.build(row.settings)
    network.load_state_dict(fill_state(network.state_dict(), seed=3))
    return row.tracker(network, override(row.settings, **settings), torch.device("cpu"))


@pytest.fixture(scope="module")
def tracker():
    return sot_ros.create_tracker(device="cpu")


def started(tracker, boxes=BOXES):
    """Siblings of a tracker, each with a target of its own."""
    siblings = [tracker.sibling() for _ in boxes]
    for sibling, box in zip(siblings, boxes, strict=True):
        sibling.initialize(clip.frame(0), box)
    return siblings


def boxes_of(trackers):
    return np.array([tracker.box for tracker in trackers])


@pytest.mark.parametrize(("model", "settings"), CASES, ids=lambda part: part if isinstance(part, str) else "")
def test_three_targets_together_are_three_alone(model, settings, monkeypatch):
    tracker = filled(model, **settings)
    compute, batches = type(tracker).compute, []

    def counted(self, *inputs):
        batches.append(len(inputs[0]))
        return compute(self, *inputs)

    monkeypatch.setattr(type(tracker), "compute", counted)
    single, together = started(tracker), started(tracker)
    batches.clear()
    for t in FRAMES:
        alone = [each.track(clip.frame(t)) for each in single]
        found = track_together(together, clip.frame(t))
        assert np.abs(np.array([e.box for e in found]) - np.array([e.box for e in alone])).max() < 0.01
        assert [e.confidence for e in found] == pytest.approx([e.confidence for e in alone], abs=1e-4)
        assert np.abs(boxes_of(together) - boxes_of(single)).max() < 0.01
    assert batches == [1, 1, 1, 3] * len(FRAMES)


def test_all_that_is_cut_out_is_one_upload(tracker, monkeypatch):
    trackers, uploads = started(tracker), []
    as_tensor = torch.as_tensor

    def upload(data, **options):
        uploads.extend([data.shape] if isinstance(data, np.ndarray) else [])
        return as_tensor(data, **options)

    monkeypatch.setattr(torch, "as_tensor", upload)
    track_together(trackers, clip.frame(1))
    assert uploads == [(3, 224, 224, 3)]


def test_targets_come_and_go_without_touching_the_others(tracker):
    first, second, third = started(tracker)
    alone = started(tracker, BOXES[1:2])[0]
    for t, trackers in enumerate(([first, second], [second], [third, second], [second, first]), 1):
        track_together(trackers, clip.frame(t))
        alone.track(clip.frame(t))
        assert second.box == pytest.approx(alone.box, abs=0.01)
    assert track_together([], clip.frame(0)) == []


def test_a_sibling_has_a_target_of_its_own_and_no_network_of_its_own(tracker):
    tracker.initialize(clip.frame(0), BOXES[0])
    sibling = tracker.sibling()
    assert sibling.box is None and sibling.network is tracker.network
    sibling.initialize(clip.frame(0), BOXES[1])
    assert tracker.box == BOXES[0] and sibling.box == BOXES[1]


def test_a_refused_image_moves_no_target(tracker):
    trackers = started(tracker)
    with pytest.raises(ValueError, match="image refused"):
        track_together(trackers, clip.frame(1)[..., 0])
    assert [each.box for each in trackers] == BOXES


def test_what_fails_before_the_network_moves_no_target(tracker):
    trackers = started(tracker)
    trackers[2].template = [torch.zeros(1, 64, 5), *trackers[2].template[1:]]
    with pytest.raises(RuntimeError):
        track_together(trackers, clip.frame(1))
    assert [each.box for each in trackers] == BOXES


def test_strangers_are_refused(tracker):
    trackers = started(tracker)
    trackers[1].settings = override(tracker.settings, window_influence=0.5)
    with pytest.raises(ValueError, match="trackers refused: siblings of one tracker with the same settings"):
        track_together(trackers, clip.frame(1))
    with pytest.raises(ValueError, match="trackers refused"):
        track_together([trackers[0], *started(filled("siamfc"), BOXES[:1])], clip.frame(1))
    with pytest.raises(RuntimeError, match="before initialize"):
        track_together([trackers[0], tracker.sibling()], clip.frame(1))


def test_a_list_of_boxes_in_a_list_of_estimates_out(tracker):
    several = MultiTracker(tracker)
    several.initialize(clip.frame(0), BOXES)
    alone = started(tracker)
    for t in (1, 2):
        estimates = several.track(clip.frame(t))
        for estimate, each in zip(estimates, alone, strict=True):
            assert estimate.box == pytest.approx(each.track(clip.frame(t)).box, abs=0.01)
    with pytest.raises(ValueError, match="refused"):
        several.initialize(clip.frame(5), [BOXES[0], (1000, 0, 10, 10)])
    assert [each.box for each in several.trackers] == [estimate.box for estimate in estimates]


def test_sessions_that_share_a_batch_live_as_they_would_alone(tracker):
    """The first target is covered on frames 3 to 5."""

    def shown(t):
        image = clip.frame(t)
        if 3 <= t <= 5:
            x, y, w, h = map(round, clip.box(t))
            image[y - 5 : y + h + 5, x - 5 : x + w + 5] = 118
        return image

    thresholds = Thresholds(occluded_below=0.5, tracking_above=0.6, confirm_frames=1)
    together, alone = ([Session(each, thresholds) for each in started(tracker)] for _ in range(2))
    for session, box in zip(together + alone, BOXES * 2, strict=True):
        session.start(clip.frame(0), box, 0.0)
    states = []
    for t in range(1, 8):
        image, time = shown(t), t / 30
        assert all(session.aim(image, time) for session in together)
        estimates = track_together([session.tracker for session in together], image)
        for session, estimate, single in zip(together, estimates, alone, strict=True):
            target, expected = session.take(image, time, estimate), single.update(image, time)
            assert target.state is expected.state and target.target_id == expected.target_id
            assert target.box == pytest.approx(expected.box, abs=0.01)
        states.append(together[0].target.state)
    assert states == [State.TRACKING] * 2 + [State.OCCLUDED] * 3 + [State.TRACKING] * 2
