"""Confidence is in 0..1 for every model, and falls with what the model can see of its target."""

from pathlib import Path

import numpy as np
import pytest
import torch
from golden import synthetic_clip as clip

import sot_ros
from sot_ros.evaluation.sequences import find_sequences, read_image
from sot_ros.geometry import Box
from sot_ros.networks.heads import expected_corner

SEQUENCES = Path(__file__).parents[2] / "shared" / "sequences"
HIDDEN = range(20, 26)
"""Frames on which the target is covered, so that its loss is no matter of drift."""


def cover(image: np.ndarray, box: Box) -> np.ndarray:
    """The image with the target under as large a piece of its surroundings, from where one fits."""
    height, width = image.shape[:2]
    x, y = max(0, int(box.x)), max(0, int(box.y))
    w, h = min(width, int(box.x + box.w) + 1) - x, min(height, int(box.y + box.h) + 1) - y
    beside = [(x - w, y), (x + w, y), (x, y - h), (x, y + h)]
    left, top = next((u, v) for u, v in beside if 0 <= u <= width - w and 0 <= v <= height - h)
    covered = image.copy()
    covered[y : y + h, x : x + w] = image[top : top + h, left : left + w]
    return covered


def scramble(image: np.ndarray, box: Box) -> np.ndarray:
    """The image with noise in place of the target, each value one that occurs somewhere in the image."""
    scrambled = image.copy()
    target = scrambled[max(0, int(box.y)) : int(box.y + box.h) + 1, max(0, int(box.x)) : int(box.x + box.w) + 1]
    pixels = np.random.default_rng(0).integers(image.size // 3, size=target.shape[:2])
    target[:] = image.reshape(-1, 3)[pixels]
    return scrambled


@pytest.fixture(scope="module")
def default():
    return sot_ros.create_tracker(device="cpu")


def mean_confidences(tracker, frames, boxes, hide) -> tuple[float, float]:
    """Mean confidence on the frames where the target is visible, and on those where it is hidden, in one run."""
    visible, hidden = [], []
    for t, (image, box) in enumerate(zip(frames, boxes, strict=False)):
        if t == 0:
            tracker.initialize(image, box)
        elif t in HIDDEN:
            hidden.append(tracker.track(hide(image, Box(*box))).confidence)
        else:
            visible.append(tracker.track(image).confidence)
    return np.mean(visible), np.mean(hidden)


@pytest.mark.parametrize("hide", [cover, scramble])
def test_the_default_is_less_sure_of_a_hidden_target(hide, default):
    times = range(40)
    visible, hidden = mean_confidences(default, map(clip.frame, times), map(clip.box, times), hide)
    assert hidden < visible


@pytest.mark.skipif(not SEQUENCES.is_dir(), reason=f"the development sequences are not at {SEQUENCES}")
def test_on_real_footage_the_default_is_less_sure_of_a_hidden_target_in_every_sequence(default):
    means = {}
    for sequence in find_sequences(SEQUENCES):
        frames = map(read_image, sequence.frames[:40])
        means[sequence.name] = mean_confidences(default, frames, sequence.truth, cover)
    assert all(hidden < visible for visible, hidden in means.values()), means
    visible, hidden = np.mean(list(means.values()), axis=0)
    assert hidden < 0.8 * visible


def heat_map(x: float, y: float, n: int = 20, width: float = 0.3) -> torch.Tensor:
    """Logits of a Gaussian around a place in cells."""
    at = torch.arange(n)
    return -((at - x) ** 2 + (at[:, None] - y) ** 2)[None, None] / (2 * width**2)


@pytest.mark.parametrize(("x", "y"), [(7, 7), (7.5, 7), (7.5, 7.5), (0, 0), (18.5, 19)])
def test_a_corner_between_cells_is_as_sure_as_one_on_a_cell(x, y):
    place, sharpness = expected_corner(heat_map(x, y))
    assert (20 * place[0]).tolist() == pytest.approx([x, y], abs=0.01)
    assert sharpness.item() == pytest.approx(1, abs=0.01) and sharpness <= 1


def test_the_wider_a_corner_is_spread_the_less_sure_it_is():
    sharpness = [expected_corner(heat_map(7.5, 7, width=w))[1].item() for w in (0.3, 1, 2, 5, 1000)]
    assert sharpness == sorted(sharpness, reverse=True)
    assert sharpness[-1] == pytest.approx(4 / 400, rel=1e-3)  # nothing but chance


# Untrained weights cannot tell a target from its surroundings, but confidence has to follow what the network says:
# heat maps of corners are flattened by a factor, scores lowered by a summand.
CORNERS = ("box_head.conv5_tl", "box_head.conv5_br")
FLATTENED = [
    ("stark_s50", {}, CORNERS),
    ("stark_lightning", {}, ("box_head.conv_tower.2",)),
    ("ostrack_256", {"head": "CORNER"}, CORNERS),
    ("simtrack_b16", {}, CORNERS),
]
LOWERED = [
    ("stark_st50", {}, ("cls_head.6",)),
    ("swintrack_tiny", {}, ("head.cls_mlp.layers.2",)),
    ("ostrack_256", {}, ("box_head.conv5_ctr",)),
]


def heard(model, settings, layers, say, sureness) -> list[float]:
    """Confidences on one frame when these layers of the network say it more and more weakly."""
    tracker = sot_ros.create_tracker(model, weights="random", device="cpu", **settings)
    said = {"with": sureness[0]}
    for layer in layers:
        said_by = tracker.network.get_submodule(layer)
        said_by.register_forward_hook(lambda module, inputs, logits: say(logits, said["with"]))
    tracker.initialize(clip.frame(0), clip.box(0))
    confidences = []
    for said["with"] in sureness:
        tracker.box = clip.box(1)
        confidences.append(tracker.track(clip.frame(1)).confidence)
    return confidences


@pytest.mark.parametrize(("model", "settings", "layers"), FLATTENED, ids=str)
def test_flatter_heat_maps_of_corners_are_less_sure(model, settings, layers):
    sharp, blurred, flat = heard(model, settings, layers, lambda x, factor: factor * x / x.std(), (50, 2, 0))
    assert 1 >= sharp > blurred > flat > 0


@pytest.mark.parametrize(("model", "settings", "layers"), LOWERED, ids=str)
def test_lower_scores_are_less_sure(model, settings, layers):
    high, middle, low = heard(model, settings, layers, lambda x, summand: x + summand, (3, 0, -3))
    assert 1 >= high > middle > low > 0
