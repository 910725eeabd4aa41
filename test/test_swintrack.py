"""SwinTrack computes and tracks what its authors' code does, and its motion token is what their paper describes."""

import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from golden import synthetic_clip as clip
from golden.fill import fill, fill_state, normal_input
from hypothesis import given
from hypothesis import strategies as st
from timm.models.swin_transformer import get_relative_position_index

import sot_ros
from sot_ros.geometry import Box
from sot_ros.networks.swintrack import swintrack_tiny
from sot_ros.trackers.base import Tracker
from sot_ros.trackers.swintrack import motion_places, within

GOLDEN = Path(__file__).parent / "golden"
ROWS = json.loads((GOLDEN / "state_dicts.json").read_text())
SEED = 3


class Pair(NamedTuple):
    """What upstream computed, and our tracker with the same weights, read from a file like upstream's."""

    results: dict[str, np.ndarray]
    init_box: list[float]
    free_frames: list[int]
    forced_frames: list[int]
    tracker: Tracker


def upstream_tensor(name, shape, dtype):
    if dtype == "float32":
        return torch.from_numpy(np.asarray(fill(name, shape, SEED)))
    assert name.endswith("relative_position_index")
    window = round(shape[0] ** 0.5)
    return get_relative_position_index(window, window)


@pytest.fixture(scope="module", params=["swintrack_tiny", "swintrack_base", "swintrack_base_384"])
def pair(request, tmp_path_factory):
    results = np.load(GOLDEN / f"{request.param}.npz")
    path = tmp_path_factory.mktemp("weights") / f"{request.param}.pth"
    state = {name: upstream_tensor(name, tuple(shape), dtype) for name, shape, dtype in ROWS[request.param]}
    torch.save({"version": 2, "model": state}, path)
    tracker = sot_ros.create_tracker(request.param, weights=path, device="cpu")
    path.unlink()
    meta = json.loads(str(results["meta"]))
    # The larger models take up to two seconds for a frame on a small machine.
    frames = slice(None if request.param == "swintrack_tiny" else 3)
    return Pair(results, meta["init_box"], meta["free_frames"][frames], meta["forced_frames"][frames], tracker)


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return sot_ros.create_tracker("swintrack_tiny", weights="random", device="cpu")


def test_the_network_computes_upstreams_scores_and_boxes(pair):
    network = pair.tracker.network
    with torch.inference_mode():
        template = network.embed(normal_input("z", network.template_size))
        outputs = network(template, normal_input("x", network.search_size), network.biases())
    for output, name in zip(outputs, ("class_score", "bbox"), strict=True):
        expected = pair.results[name]
        assert np.abs(output.numpy() - expected.reshape(output.shape)).max() < 1e-4 * np.abs(expected).max()


def test_the_tracker_follows_upstreams_track(pair):
    results, tracker = pair.results, pair.tracker
    scores = []
    hook = tracker.network.register_forward_hook(lambda *call: scores.append(call[2][0][0].numpy()))
    tracker.initialize(clip.frame(0), pair.init_box)
    free = [tracker.track(clip.frame(t)) for t in pair.free_frames]
    forced = []
    for t, box in zip(pair.forced_frames, results["forced_states"], strict=False):
        tracker.box = box
        forced.append(tracker.track(clip.frame(t)))
    hook.remove()

    confidences = []
    for found, series in ((free, "free"), (forced, "forced")):
        assert np.abs(np.array([e.box for e in found]) - results[f"{series}_boxes"][: len(found)]).max() < 0.05
        confidences.extend(results[f"{series}_conf"][: len(found)])
    # Upstream reports the windowed score, the tracker the score itself at the same place.
    hann = np.hanning(tracker.network.search_size // 16)
    windowed = 0.51 * np.array(scores) + 0.49 * np.outer(hann, hann).flatten()
    assert np.abs(windowed.max(axis=1) - confidences).max() < 1e-4
    chosen = np.take_along_axis(np.array(scores), windowed.argmax(axis=1)[:, None], axis=1)[:, 0]
    assert [e.confidence for e in free + forced] == pytest.approx(chosen)


def test_a_window_of_influence_1_keeps_the_target_in_the_middle():
    centred = sot_ros.create_tracker("swintrack_tiny", weights="random", device="cpu", window_influence=1.0)
    boxes = []
    centred.network.register_forward_hook(lambda *call: boxes.append(call[2][1][0]))
    centred.initialize(clip.frame(0), clip.box(0))
    found = centred.track(clip.frame(1)).box
    # Of 14 x 14 tokens the four in the middle share the window's peak, and the first of them is taken.
    _, _, w, h = clip.box(0)
    side = math.sqrt((w + 1.5 * (w + h)) * (h + 1.5 * (w + h)))
    assert found[2:] == pytest.approx((boxes[0][6 * 14 + 6, 2:] * side).tolist(), rel=1e-4)


def test_a_target_of_a_few_pixels_is_searched_as_one_of_ten(tiny):
    found = []
    for box in (Box(60, 60, 3, 4), Box(56.5, 57, 10, 10)):
        tiny.initialize(clip.frame(0), clip.box(0))
        tiny.box = box
        found.append(tiny.track(clip.frame(1)).box)
    assert found[0] == pytest.approx(found[1])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_finds_nearly_the_same(tiny, precision):
    half = sot_ros.create_tracker("swintrack_tiny", weights="random", device="cpu", precision=precision)
    half.network.load_state_dict(tiny.network.state_dict())
    for tracker in (tiny, half):
        tracker.initialize(clip.frame(0), clip.box(0))
    exact, rough = tiny.track(clip.frame(1)), half.track(clip.frame(1))
    assert rough.confidence == pytest.approx(exact.confidence, abs=0.02)
    assert rough.box == pytest.approx(exact.box, abs=10)


@pytest.mark.parametrize(
    ("box", "kept"),
    [
        (Box(10, 10, 20, 20), Box(10, 10, 20, 20)),
        (Box(-10, -10, 200, 200), Box(0.5, 0.5, 99, 79)),
        (Box(99, 10, 20, 20), Box(99, 10, 0.5, 20)),
        (Box(100, 10, 20, 20), None),
        (Box(10, -30, 20, 20), None),
    ],
)
def test_the_state_stays_half_a_pixel_inside_the_image(box, kept):
    assert within(box, width=100, height=80) == kept


BOXES, GRANULARITY = 4, 32


@pytest.fixture(scope="module")
def motion():
    torch.manual_seed(1)
    settings = dict(motion_boxes=BOXES, motion_interval=3, motion_granularity=GRANULARITY)
    return sot_ros.create_tracker("swintrack_tiny_motion", weights="random", device="cpu", **settings)


def test_without_its_column_of_attention_the_motion_token_changes_nothing():
    with_token, plain = swintrack_tiny(BOXES, GRANULARITY).eval(), swintrack_tiny().eval()
    with_token.load_state_dict(fill_state(with_token.state_dict(), SEED))
    shared = {name: tensor for name, tensor in with_token.state_dict().items() if not name.startswith("motion.")}
    plain.load_state_dict(shared)
    with_token, plain = with_token.double(), plain.double()
    places = torch.from_numpy(np.random.default_rng(0).integers(0, GRANULARITY + 1, (1, BOXES, 4)))
    z, x = (normal_input(tag, size).double() for tag, size in (("z", 112), ("x", 224)))
    with torch.inference_mode():
        expected = plain(plain.embed(z), x, plain.biases())
        template, biases = with_token.embed(z), with_token.biases()
        heard = with_token(template, x, biases, places)
        biases.decoder[..., 0] = -torch.inf
        unheard = with_token(template, x, biases, places)
    for a, b, c in zip(expected, unheard, heard, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-12)
        assert (a - c).abs().max() > 1e-4


# Multiples of 1/8 pixel and powers of two stay exact, so that no edge falls over a step's border by rounding.
eighths = st.integers(-400, 1200).map(lambda n: n / 8)


@given(
    st.lists(st.none() | st.builds(Box, eighths, eighths, eighths.map(abs), eighths.map(abs)), min_size=1, max_size=6),
    st.integers(-3000, 3000),
    st.integers(-3000, 3000),
    st.sampled_from([0.25, 0.5, 2, 8]),
)
def test_a_past_that_moves_and_grows_with_the_crop_has_the_same_places(boxes, dx, dy, growth):
    def moved(box):
        return Box((box.x + dx) * growth, (box.y + dy) * growth, box.w * growth, box.h * growth)

    around, side = Box(40, 30, 20, 24), 128.0
    before = motion_places(boxes, around, side, 64)
    after = motion_places([box and moved(box) for box in boxes], moved(around), side * growth, 64)
    assert np.array_equal(before, after)


def test_edges_are_told_apart_by_step_and_a_missing_box_by_the_step_after_the_last():
    around = Box(45, 45, 10, 10)
    boxes = [Box(0, 0, 100, 50), Box(-500, 30.1, 1000, 1), None]
    assert motion_places(boxes, around, side=100, granularity=10).tolist() == [
        [0, 0, 9, 5],
        [0, 3, 9, 3],
        [10, 10, 10, 10],
    ]


def test_the_past_is_sampled_from_the_last_frame_on_and_missing_where_there_was_none(motion):
    motion.initialize(clip.frame(0), (10, 10, 20, 20))
    around, side = Box(0, 0, 320, 320), 320.0
    sampled = []
    for t in range(8):
        motion.box = (10 * t, 10, 20, 20)
        motion.visible = t != 4
        [places] = motion.places(around, side)
        sampled.append(places[0, :, 0].tolist())
    motion.visible = True
    absent = GRANULARITY
    assert sampled[0] == [0, absent, absent, absent]
    assert sampled[3] == [3, 0, absent, absent]
    assert sampled[6] == [6, 3, 0, absent]
    assert sampled[4] == [absent, 1, absent, absent]
    assert sampled[7] == [7, absent, 1, absent]


def test_a_new_target_has_no_past(motion):
    for _ in range(2):
        motion.initialize(clip.frame(0), clip.box(0))
        first = motion.track(clip.frame(1))
        motion.track(clip.frame(2))
    assert motion.track(clip.frame(3)).confidence != first.confidence
    motion.initialize(clip.frame(0), clip.box(0))
    assert motion.track(clip.frame(1)) == first


def test_the_motion_tokens_size_follows_the_settings(motion):
    assert motion.network.motion.tables.shape == (4 * BOXES, GRANULARITY + 1, 384 // (4 * BOXES))
    large = sot_ros.create_tracker("swintrack_base_384_motion", weights="random", device="cpu")
    assert large.network.motion.tables.shape == (64, 65, 8)


def test_a_number_of_boxes_that_does_not_fill_the_token_is_refused():
    with pytest.raises(ValueError, match="motion_boxes 5 refused: .* fill 384 channels, as 1, 2, 3, 4, 6, 8"):
        sot_ros.create_tracker("swintrack_tiny_motion", weights="random", motion_boxes=5)
