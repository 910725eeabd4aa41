"""SiamFC computes and tracks what its authors' code does, and obeys its settings."""

import json
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from golden import synthetic_clip as clip
from golden.fill import fill_state

from sot_ros.geometry import Box, iou
from sot_ros.trackers.models import find_model
from sot_ros.trackers.settings import override

UPSTREAM = np.load(Path(__file__).parent / "golden" / "siamfc.npz")
META = json.loads(str(UPSTREAM["meta"]))
SEED = META["seed"]


def siamfc(**settings):
    row = find_model("siamfc")
    network = row.build(row.settings)
    network.load_state_dict(fill_state(network.state_dict(), SEED))
    return row.tracker(network, override(row.settings, **settings), torch.device("cpu"))


def normal_input(tag, shape):
    rng = np.random.default_rng(zlib.crc32(f"{SEED}:{tag}".encode()))
    return torch.from_numpy(50 * rng.standard_normal(shape).astype(np.float32) + 110)


def test_the_network_computes_upstreams_response():
    network = siamfc().network
    with torch.inference_mode():
        template = network.embed(normal_input("z", (1, 3, 127, 127)))
        response = network(template, normal_input("x", (3, 3, 255, 255))).numpy()
    assert response.shape == (3, 1, 17, 17)
    assert np.abs(response - UPSTREAM["response"]).max() < 1e-4 * np.abs(UPSTREAM["response"]).max()


def test_the_tracker_follows_upstreams_track():
    tracker = siamfc()
    tracker.initialize(clip.frame(0), META["init_box"])
    track = [tracker.track(clip.frame(t)).box for t in META["free_frames"]]
    assert np.abs(np.array(track) - UPSTREAM["free_boxes"]).max() < 0.05


@pytest.mark.parametrize(
    "settings", [{"scale_num": 1}, {"scale_num": 5}, {"search_factor": 1.5}, {"search_factor": 3.0}], ids=str
)
def test_other_scales_and_search_factors_track_too(settings):
    tracker = siamfc(**settings)
    tracker.initialize(clip.frame(0), clip.box(0))
    for t in range(1, 6):
        estimate = tracker.track(clip.frame(t))
        assert iou(estimate.box, Box(*clip.box(t))) > 0.8
        assert 0 <= estimate.confidence <= 1


def test_a_growing_target_is_followed_in_size_only_by_scale_lr():
    grown = cv2.resize(clip.frame(0), None, fx=1.2, fy=1.2)
    around = [v * 1.2 for v in clip.box(0)]
    sizes = []
    for scale_lr in (0.0, 1.0):
        tracker = siamfc(scale_lr=scale_lr, scale_step=1.2, scale_penalty=1.0)
        tracker.initialize(clip.frame(0), clip.box(0))
        tracker.box = Box.from_center(*Box(*around).center, *clip.box(0)[2:])
        sizes.append(tracker.track(grown).box.w / clip.box(0)[2])
    assert sizes == pytest.approx([1.0, 1.2])


def test_a_window_of_influence_1_keeps_the_target_in_place():
    tracker = siamfc(window_influence=1.0, scale_num=1)
    tracker.initialize(clip.frame(0), clip.box(0))
    (cx, cy), (ox, oy) = tracker.track(clip.frame(5)).box.center, Box(*clip.box(0)).center
    assert abs(cx - ox) < 1 and abs(cy - oy) < 1


def test_confidence_falls_when_the_target_is_gone():
    tracker = siamfc()
    tracker.initialize(clip.frame(0), clip.box(0))
    there = tracker.track(clip.frame(1)).confidence
    gone = tracker.track(np.full_like(clip.frame(2), 118)).confidence
    assert gone < there


def test_an_even_number_of_scales_is_refused():
    with pytest.raises(ValueError, match="scale_num 4 refused: an odd number is accepted"):
        siamfc(scale_num=4)
