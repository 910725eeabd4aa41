"""The default model works from a fresh install: its weights are shipped, and they track."""

from pathlib import Path

import numpy as np
import pytest
import torch
from golden import synthetic_clip as clip

import sot_ros
from sot_ros.evaluation.sequences import evaluate, read_sequence
from sot_ros.geometry import Box, iou
from sot_ros.networks.heads import CenterHead, decode_center, hann_window, over_neighbors
from sot_ros.networks.sot_mobile import Template, _by_cell, sot_mobile
from sot_ros.trackers.models import DEFAULT_MODEL, shipped_weights
from sot_ros.trackers.sot_mobile import compile_for_cpu

SEQUENCES = Path(__file__).parents[2] / "shared" / "sequences"


@pytest.fixture(scope="module")
def tracker():
    return sot_ros.create_tracker(device="cpu")


def test_the_default_is_shipped_and_small():
    assert DEFAULT_MODEL == "sot_mobile"
    assert shipped_weights(DEFAULT_MODEL).stat().st_size < 8e6


def test_it_follows_the_synthetic_clip(tracker):
    tracker.initialize(clip.frame(0), clip.box(0))
    overlaps = []
    for t in range(1, 30):
        estimate = tracker.track(clip.frame(t))
        overlaps.append(iou(estimate.box, Box(*clip.box(t))))
        assert 0 <= estimate.confidence <= 1 and estimate.box == tracker.box
    assert np.mean(overlaps) > 0.6


def test_confidence_falls_when_the_target_is_gone(tracker):
    tracker.initialize(clip.frame(0), clip.box(0))
    there = tracker.track(clip.frame(1)).confidence
    gone = tracker.track(np.full_like(clip.frame(2), 118)).confidence
    assert gone < 0.5 * there


def test_size_lr_0_keeps_the_size(tracker):
    still = sot_ros.create_tracker(device="cpu", size_lr=0.0)
    still.initialize(clip.frame(0), clip.box(0))
    assert still.track(clip.frame(6)).box[2:] == pytest.approx(clip.box(0)[2:])
    tracker.initialize(clip.frame(0), clip.box(0))
    assert tracker.track(clip.frame(6)).box[2:] != pytest.approx(clip.box(0)[2:], rel=1e-3)


def test_what_hides_the_target_does_not_change_its_size(tracker):
    easy = sot_ros.create_tracker(device="cpu", unsure_below=0.0)
    for each, stays in ((tracker, True), (easy, False)):
        each.initialize(clip.frame(0), clip.box(0))
        before = each.track(clip.frame(1)).box
        found = each.track(np.full_like(clip.frame(2), 118))
        assert found.confidence < tracker.settings.unsure_below
        assert (found.box[2:] == pytest.approx(before[2:], rel=1e-3)) == stays


def test_after_an_unsure_find_the_search_region_is_larger(tracker):
    tracker.initialize(clip.frame(0), clip.box(0))
    x, y, w, h = clip.box(20)
    # The usual search region reaches 1.75 far: to within the target.
    place, found = (x - 1.85 * np.sqrt(w * h), y, w, h), []
    for _ in range(2):
        tracker.box = place
        found.append(tracker.track(clip.frame(20)))
    assert found[0].confidence < tracker.settings.unsure_below < found[1].confidence
    overlaps = [iou(each.box, Box(x, y, w, h)) for each in found]
    assert overlaps[1] > 0.7 > overlaps[0]


@pytest.mark.parametrize(("above", "share"), [(0, 1), (0.05, 0.75), (0.1, 0.5), (0.15, 0.25)])
def test_the_less_sure_a_find_is_the_less_it_changes_the_size(tracker, above, share):
    def change(unsure_below):
        each = sot_ros.create_tracker(device="cpu", size_lr=1.0, unsure_below=unsure_below)
        each.initialize(clip.frame(0), clip.box(0))
        found = each.track(clip.frame(6))
        return np.log(found.box.w / clip.box(0)[2]), found.confidence

    whole, confidence = change(0.0)
    assert abs(whole) > 0.01
    assert change(confidence + above)[0] == pytest.approx(share * whole, abs=1e-4)


def test_what_is_found_moves_smoothly_with_the_box_it_is_searched_around(tracker):
    tracker.initialize(clip.frame(0), clip.box(0))
    x, y, w, h = clip.box(1)
    found = []
    for shift in np.linspace(0, 2, 41):
        tracker.box = (x + shift, y + 0.7 * shift, w + 0.3 * shift, h)
        found.append(tracker.track(clip.frame(1)).box)
    # Steps are of a twentieth of a pixel. Crops of whole pixels move what is found by a pixel now and then.
    assert np.abs(np.diff(found, axis=0)).max() < 0.2


def test_sizes_relative_to_the_templates_stay_where_no_change_is_seen():
    tracker = sot_ros.create_tracker(weights="random", device="cpu", size_lr=1.0, unsure_below=0.0)
    last = tracker.network.box_head.conv5_size
    torch.nn.init.zeros_(last.weight)
    for change, bias in ((1.0, 0.0), (4**0.5, np.log(3))):  # sigmoid(log 3) = 3/4, half way from 1 to 4
        torch.nn.init.constant_(last.bias, bias)
        tracker.search = tracker.network.search
        tracker.initialize(clip.frame(0), clip.box(0))
        w, h = tracker.track(clip.frame(1)).box[2:]
        assert (w, h) == pytest.approx([change * side for side in clip.box(0)[2:]], rel=0.02)


def test_half_precision_finds_the_same_place(tracker):
    half = sot_ros.create_tracker(device="cpu", precision="bf16")
    for each in (tracker, half):
        each.initialize(clip.frame(0), clip.box(0))
    assert iou(tracker.track(clip.frame(2)).box, half.track(clip.frame(2)).box) > 0.8


def test_a_template_kept_from_before_gives_what_joint_evaluation_gives():
    torch.manual_seed(0)
    network = sot_mobile().eval()
    z, x = 255 * torch.rand(3, 3, 128, 128), 255 * torch.rand(3, 3, 224, 224)
    extent = torch.tensor([[0.5, 0.5], [0.7, 0.3], [0.1, 1.2]])
    with torch.inference_mode():
        together = network(network.embed(z, extent), x)
        kept = [network.embed(z[i : i + 1], extent[i : i + 1]) for i in range(3)]
        for i in range(3):
            for joint, alone in zip(together, network(kept[i], x[i : i + 1]), strict=True):
                torch.testing.assert_close(joint[i : i + 1], alone, atol=1e-4, rtol=1e-4)


def test_the_compiled_network_computes_what_the_network_does(tracker):
    tracker.initialize(clip.frame(0), clip.box(0))
    x = 255 * torch.rand(1, 3, 224, 224)
    compiled = compile_for_cpu(tracker.network)
    with torch.inference_mode():
        template = Template(*tracker.template)
        for fast, plain in zip(compiled(template, x), tracker.network.search(template, x), strict=True):
            torch.testing.assert_close(fast, plain, atol=1e-4, rtol=1e-4)


def test_a_template_knows_how_much_of_each_cell_the_target_fills():
    network = sot_mobile().eval()
    with torch.inference_mode():
        fill = network.embed(torch.zeros(2, 3, 128, 128), torch.tensor([[0.5, 0.25], [0.05, 2.0]])).foreground
    first, second = fill.reshape(2, 8, 8)
    assert first.sum() == pytest.approx(0.5 * 0.25 * 64, abs=1e-4)
    assert (first[3:5, 2:6] == 1).all() and first[3:5, 2:6].numel() == 8
    assert second[:, 3:5].numpy() == pytest.approx(0.2, abs=1e-4)


def test_of_the_templates_fine_tokens_only_the_targets_count():
    network = sot_mobile().eval()
    with torch.inference_mode():
        fine = network.embed(255 * torch.rand(1, 3, 128, 128), torch.tensor([[0.5, 0.25]])).fine
    length = fine.norm(dim=-1).reshape(8, 8, 2, 2).transpose(1, 2).reshape(16, 16)
    torch.testing.assert_close(length[6:10, 4:12], torch.ones(4, 8))
    assert length.sum() == pytest.approx(32, abs=1e-3)


def test_fine_tokens_are_compared_by_the_cell_they_lie_in():
    maps = torch.rand(1, 32, 28, 28)
    row, column = 3, 5
    four = [maps[0, :, 2 * row + dy, 2 * column + dx] for dy in (0, 1) for dx in (0, 1)]
    assert torch.equal(_by_cell(maps).reshape(14, 14, 4, 32)[row, column], torch.stack(four))

    network, compared = sot_mobile().eval(), []
    network.cell_correlation.register_forward_pre_hook(lambda _, inputs: compared.append(inputs[0]))
    x = 255 * torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        template = network.embed(255 * torch.rand(1, 3, 128, 128), torch.full((1, 2), 0.5))
        network.search(template, x)
        _, fine = network._tokens(x)
    cell = row * 14 + column
    expected = fine.reshape(14, 14, 4, 32)[row, column] @ template.fine[0].T
    torch.testing.assert_close(compared[0][0, cell].reshape(4, 256), expected)


def test_the_centre_head_is_decoded_at_the_chosen_cell():
    choice = torch.zeros(2, 1, 4, 4)
    choice[0, 0, 1, 2] = choice[1, 0, 3, 0] = 1
    size, offset = torch.rand(2, 2, 4, 4), torch.rand(2, 2, 4, 4)
    boxes, index = decode_center(choice, size, offset)
    assert index.tolist() == [6, 12]
    center = (torch.tensor([2, 1]) + offset[0, :, 1, 2]) / 4
    assert boxes[0].tolist() == pytest.approx([*center.tolist(), *size[0, :, 1, 2].tolist()])


def test_neighbours_have_a_say_in_size_and_place_by_their_squared_scores():
    score = torch.full((1, 1, 4, 4), 1e-4)
    score[0, 0, 1, 1], score[0, 0, 1, 2], score[0, 0, 3, 3] = 0.9, 0.3, 0.9  # the last is no neighbour
    size, offset = torch.full((1, 2, 4, 4), 0.1), torch.full((1, 2, 4, 4), 0.5)
    size[0, 0, 1, 2], size[0, :, 3, 3] = 0.2, 1.0
    found_size, found_offset = over_neighbors(score, size, offset)
    assert found_size[0, :, 1, 1].tolist() == pytest.approx([0.1 * 2**0.1, 0.1], rel=1e-4)
    assert found_offset[0, :, 1, 1].tolist() == pytest.approx([0.5 + 0.1, 0.5], rel=1e-4)


def test_where_neighbours_agree_each_says_what_it_said():
    row, column = torch.meshgrid(torch.arange(5.0), torch.arange(5.0), indexing="ij")
    offset = torch.stack([2.2 - column, 2.7 - row])[None]  # all mean the point (2.2, 2.7)
    size = torch.full((1, 2, 5, 5), 0.3)
    found_size, found_offset = over_neighbors(torch.rand(1, 1, 5, 5), size, offset)
    torch.testing.assert_close(found_size, size)
    torch.testing.assert_close(found_offset, offset, atol=1e-5, rtol=1e-5)


def test_sure_scores_stay_below_1_in_half_precision():
    head = CenterHead(16, 32).eval()
    torch.nn.init.constant_(head.conv5_ctr.bias, 8.0)
    with torch.autocast("cpu", torch.bfloat16):
        score, _, _ = head(torch.zeros(1, 16, 4, 4))
    assert score.min() > 0.999 and score.max() < 1


def test_the_centre_heads_maps_are_in_range():
    score, size, offset = CenterHead(16, 32).eval()(50 * torch.randn(2, 16, 8, 8))
    assert score.shape == (2, 1, 8, 8) and size.shape == offset.shape == (2, 2, 8, 8)
    for shares in (score, size):
        assert shares.min() > 0 and shares.max() < 1


def test_the_window_has_its_top_in_the_middle_and_no_zero_at_the_edge():
    window = hann_window(16)
    assert window.min() > 0 and torch.equal(window, window.T)
    assert float(window.max()) == float(window[7, 8]) == pytest.approx(0.983, abs=1e-3)


@pytest.mark.skipif(not SEQUENCES.is_dir(), reason=f"the development sequences are not at {SEQUENCES}")
def test_it_tracks_real_footage(tracker):
    aucs = [evaluate(tracker, read_sequence(SEQUENCES / name)).auc for name in ("Deer", "DragonBaby")]
    assert np.mean(aucs) > 0.55
