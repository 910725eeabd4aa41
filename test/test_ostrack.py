"""OSTrack computes and tracks what its authors' code does, eliminates candidates for real, and obeys its settings."""

import json
import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import synthetic_clip as clip
from golden.fill import fill_state, normal_input

import sot_ros
from sot_ros.drawing import draw_kept
from sot_ros.networks.ostrack import ELIMINATION_BLOCKS, UNUSED, Elimination, OneStreamViT
from sot_ros.trackers.models import find_model, load_network
from sot_ros.trackers.ostrack import template_rows
from sot_ros.trackers.settings import override

GOLDEN = Path(__file__).parent / "golden"
SEED = 3
MODELS = ("ostrack_256", "ostrack_256_ce", "ostrack_384", "ostrack_384_ce")
ROWS = json.loads((GOLDEN / "state_dicts.json").read_text())
CHOICES = np.load(GOLDEN / "ostrack_choices.npz")


@lru_cache
def published_state(model):
    """Upstream's state dict with weights that anyone can rebuild; tensors that two sizes share are filled once."""
    known = {} if model == "ostrack_256" else published_state("ostrack_256")
    state = {name: torch.zeros(shape, dtype=getattr(torch, dtype)) for name, shape, dtype in ROWS[model]}
    shared = {name: known[name] for name in known if known[name].shape == state[name].shape}
    return {**fill_state({name: state[name] for name in state if name not in shared}, SEED), **shared}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Files as upstream's training writes them. Models of one size share theirs, as the names and shapes do."""
    folder = tmp_path_factory.mktemp("ostrack")
    files = {}
    for model in ("ostrack_256", "ostrack_384"):
        files[model] = files[f"{model}_ce"] = folder / f"{model}.pth.tar"
        torch.save({"epoch": 300, "net_type": "OSTrack", "net": published_state(model)}, files[model])
    yield files
    for file in folder.iterdir():
        file.unlink()


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return request.param


@pytest.fixture(scope="module")
def tracker(model, weights):
    return sot_ros.create_tracker(model, weights=weights[model], device="cpu")


@pytest.fixture(scope="module")
def tracker_256(weights):
    return sot_ros.create_tracker("ostrack_256_ce", weights=weights["ostrack_256"], device="cpu")


@pytest.fixture(scope="module")
def upstream(model):
    return np.load(GOLDEN / f"{model}.npz")


def outputs(network, settings, rows=None):
    """What the network makes of the golden inputs, as the tracker with these settings would ask it."""
    size = network.template_size
    rows = template_rows(settings.template_range, size, 0, 0) if rows is None else rows
    shares = torch.zeros(1, (size // 16) ** 2)
    shares[0, rows] = 1 / len(rows)
    elimination = Elimination(shares, settings.keep_ratio) if settings.elimination else None
    with torch.inference_mode():
        template = network.embed(normal_input("z", size))
        return network(template, normal_input("x", network.search_size), elimination, settings.token_order)


def assert_same(ours, theirs):
    """Within 1e-4 of the largest value."""
    ours = np.asarray(ours).reshape(theirs.shape)
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


def test_every_tensor_of_a_published_file_is_loaded_or_known_as_unused(weights, model):
    loaded, published = load_network(model, weights[model]).state_dict(), published_state(model.removesuffix("_ce"))
    assert list(ROWS[model]) == list(ROWS[model.removesuffix("_ce")])
    assert set(published) - set(loaded) == set(UNUSED)
    assert all(torch.equal(tensor, published[name]) for name, tensor in loaded.items())


@pytest.fixture(scope="module")
def run(tracker):
    """The maps that the network makes of the golden inputs, and how long the sequence was in each block's MLP."""
    lengths = []
    hooks = [
        block.mlp.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
        for block in tracker.network.backbone.blocks
    ]
    maps, _ = outputs(tracker.network, tracker.settings)
    for hook in hooks:
        hook.remove()
    return maps, lengths


def test_the_network_computes_upstreams_maps(run, upstream):
    maps, _ = run
    for name, ours in zip(("score_map", "size_map", "offset_map"), maps, strict=True):
        assert_same(ours, upstream[name])


def test_the_tracker_finds_what_upstream_finds_from_the_same_state(tracker, upstream):
    meta = json.loads(str(upstream["meta"]))
    tracker.initialize(clip.frame(0), meta["init_box"])
    boxes = []
    for t, state in zip(meta["forced_frames"], upstream["forced_states"], strict=True):
        tracker.box = state
        boxes.append(tracker.track(clip.frame(t)).box)
    assert np.abs(np.array(boxes) - upstream["forced_boxes"]).max() < 0.05


def test_the_tracker_follows_upstreams_track(tracker, upstream):
    meta = json.loads(str(upstream["meta"]))
    tracker.initialize(clip.frame(0), meta["init_box"])
    estimates = [tracker.track(clip.frame(t)) for t in meta["free_frames"]]
    assert np.abs(np.array([e.box for e in estimates]) - upstream["free_boxes"]).max() < 0.05
    assert all(0 <= e.confidence <= 1 for e in estimates)


def test_elimination_shortens_the_sequence(run, model):
    stages = {
        "ostrack_256": (320, 320, 320, 320),
        "ostrack_256_ce": (320, 244, 190, 153),
        "ostrack_384": (720, 720, 720, 720),
        "ostrack_384_ce": (720, 548, 427, 343),
    }[model]
    _, lengths = run
    assert lengths == [length for length in stages for _ in range(3)]


CHANGES = {
    "CTR_POINT": {},
    "ALL": {"template_range": "ALL"},
    "CTR_REC": {"template_range": "CTR_REC"},
    "GT_BOX": {"template_range": "GT_BOX"},
    "keep_ratio_0.5": {"keep_ratio": 0.5},
    "template_central": {"token_order": "template_central"},
    "partition": {"token_order": "partition"},
    "plain_template_central": {"elimination": False, "token_order": "template_central"},
    "plain_partition": {"elimination": False, "token_order": "partition"},
}


@pytest.mark.parametrize("choice", CHANGES)
def test_every_choice_of_upstreams_code_computes_what_it_computes_there(choice, tracker_256):
    settings = override(tracker_256.settings, **CHANGES[choice])
    rows = None
    if choice == "GT_BOX":
        *_, w, h = json.loads(str(CHOICES["meta"]))["template_anno"]
        rows = template_rows("GT_BOX", 128, 128 * w, 128 * h)
    (score, *_), kept = outputs(tracker_256.network, settings, rows)
    assert_same(score, CHOICES[f"{choice}.score_map"])
    if settings.elimination:
        removed = set(range(256)) - set(kept[-1][0].tolist())
        assert removed == set(CHOICES[f"{choice}.removed"].tolist())


@pytest.mark.parametrize("elimination", [True, False])
def test_the_corner_head_computes_what_upstreams_does(elimination, tracker_256):
    row = find_model("ostrack_256")
    settings = override(row.settings, head="CORNER", elimination=elimination)
    network = row.build(settings)
    network.backbone = tracker_256.network.backbone
    head = {name: tensor for name, tensor in network.state_dict().items() if name.startswith("box_head.")}
    network.load_state_dict(fill_state(head, SEED), strict=False)
    tracker = row.tracker(network, settings, torch.device("cpu"))

    (corners, sharpness), _ = outputs(network, tracker.settings)
    (x1, y1, x2, y2), choice = corners[0].tolist(), "CORNER" if elimination else "plain_CORNER"
    assert_same([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], CHOICES[f"{choice}.pred_boxes"])
    assert_same(sharpness, CHOICES[f"{choice}.peaks"].min(keepdims=True))

    tracker.initialize(clip.frame(0), clip.box(0))
    estimate = tracker.track(clip.frame(1))
    assert 0 <= estimate.confidence <= 1 and all(math.isfinite(v) for v in estimate.box)


@pytest.mark.parametrize("size", [128, 192])
def test_gt_box_asks_the_tokens_that_upstream_asks(size):
    for (_, _, w, h), asked in zip(CHOICES["boxes"], CHOICES[f"gt_box_{size}"], strict=True):
        scale = size / math.ceil(2 * math.sqrt(w * h))
        assert template_rows("GT_BOX", size, w * scale, h * scale) == np.flatnonzero(asked).tolist()


def test_a_box_too_thin_to_cover_a_token_asks_the_central_one():
    assert template_rows("GT_BOX", 128, 2, 2000) == template_rows("CTR_POINT", 128, 2, 2000) == [27]


def test_settings_act_on_a_running_tracker_and_what_was_kept_can_be_drawn(tracker_256):
    default = tracker_256.settings
    tracker_256.initialize(clip.frame(0), clip.box(0))
    tracker_256.track(clip.frame(1))
    kept = tracker_256.kept
    assert tracker_256.patch.shape == (256, 256, 3)
    assert [mask.shape for mask in kept] == [(16, 16)] * 3
    assert [mask.sum() for mask in kept] == [180, 126, 89]
    assert not (kept[1] & ~kept[0]).any() and not (kept[2] & ~kept[1]).any()

    picture = draw_kept(tracker_256.patch, kept)
    before, *_, after = picture.reshape(16, 16, 4, 16, 16, 3).transpose(2, 0, 3, 1, 4, 5)
    assert (picture[:, :256] == tracker_256.patch).all()
    assert (after[kept[2]] == before[kept[2]]).all() and (after[~kept[2]] >= 0.8 * 255).all()

    tracker_256.settings = override(default, keep_ratio=0.5)
    tracker_256.track(clip.frame(1))
    assert [mask.sum() for mask in tracker_256.kept] == [128, 64, 32]
    tracker_256.settings = override(default, elimination=False)
    tracker_256.track(clip.frame(1))
    assert tracker_256.kept == []
    tracker_256.settings = default


def test_what_the_network_was_built_by_cannot_change(tracker_256):
    with pytest.raises(
        ValueError, match="head 'CORNER' refused: the network was built with 'CENTER'; it cannot change"
    ):
        tracker_256.settings = override(tracker_256.settings, head="CORNER")
    assert tracker_256.settings.head == "CENTER"


def test_a_file_for_another_size_is_named(weights):
    with pytest.raises(ValueError) as refusal:
        sot_ros.create_tracker("ostrack_256", weights=weights["ostrack_384"], device="cpu")
    line = str(refusal.value)
    assert "ostrack_384.pth.tar does not fit ostrack_256: " in line and "\n" not in line
    assert "backbone.pos_embed_x (1, 576, 768) instead of (1, 256, 768)" in line
    assert line.endswith("; this is ostrack_384 or ostrack_384_ce")


def test_a_file_for_another_head_says_which_setting_it_was_asked_for(weights):
    with pytest.raises(ValueError, match="does not fit ostrack_256 with head=CORNER: missing: box_head.conv1_tl"):
        sot_ros.create_tracker("ostrack_256", weights=weights["ostrack_256"], device="cpu", head="CORNER")


def test_an_unknown_choice_is_refused():
    with pytest.raises(ValueError, match="template_range 'CENTRE' refused: ALL or CTR_POINT or CTR_REC or GT_BOX"):
        sot_ros.create_tracker("ostrack_256", weights="random", device="cpu", template_range="CENTRE")


@pytest.fixture(scope="module")
def features():
    """Search features of a small network with 4 x 4 template and 8 x 8 search tokens, for a batch of two."""
    torch.manual_seed(0)
    vit = OneStreamViT(template_size=64, search_size=128, dim=48, heads=3).eval()
    template, x = vit.embed(torch.randn(2, 3, 64, 64)), torch.randn(2, 3, 128, 128)

    def run(keep_ratio, token_order="direct", of=slice(None)):
        elimination = keep_ratio and Elimination(torch.eye(16)[[5, 5]][of], keep_ratio)
        with torch.inference_mode():
            return vit(template[of], x[of], elimination, token_order)

    return run


def test_removed_tokens_are_exact_zeros(features):
    tokens, kept = features(0.7)
    zeros = (tokens == 0).all(dim=2)
    assert len(kept) == len(ELIMINATION_BLOCKS)
    for row, indices in zip(zeros, kept[-1], strict=True):
        assert set(torch.arange(64)[~row].tolist()) == set(indices.tolist())


def test_a_keep_ratio_of_1_is_as_no_elimination(features):
    torch.testing.assert_close(features(1.0)[0], features(None)[0])


def test_without_it_the_order_of_tokens_is_of_no_effect(features):
    for token_order in ("template_central", "partition"):
        torch.testing.assert_close(features(None, token_order)[0], features(None)[0])


def test_images_of_a_batch_lose_tokens_of_their_own(features):
    together, kept = features(0.7)
    assert not torch.equal(kept[-1][0].sort().values, kept[-1][1].sort().values)
    for i in (0, 1):
        torch.testing.assert_close(features(0.7, of=slice(i, i + 1))[0], together[i : i + 1])


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_computes_nearly_the_same(precision, features):
    with torch.autocast("cpu", precision):
        plain, eliminated = features(None)[0], features(0.7)[0]
    torch.testing.assert_close(plain, features(None)[0], atol=0.1, rtol=0.1)
    assert eliminated.isfinite().all() and (eliminated == 0).all(dim=2).sum(dim=1).tolist() == [64 - 23] * 2
