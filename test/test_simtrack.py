"""SimTrack computes and tracks what its authors' code does, on CLIP's trunk and on that of masked autoencoders."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import synthetic_clip as clip
from golden.fill import fill_state, normal_input
from hypothesis import given, settings
from hypothesis import strategies as st

import sot_ros
from sot_ros.checkpoints import rename
from sot_ros.networks.simtrack import CLIP_NAMES, UNUSED, simtrack_b16, simtrack_mae_b16, template_places
from sot_ros.trackers.models import load_network

GOLDEN = Path(__file__).parent / "golden"
SEED = 3
MODELS = ("simtrack_b16", "simtrack_mae_b16")


def published_state(model):
    """A state dict as the authors' code names it, with weights that anyone can rebuild."""
    if model == "simtrack_b16":
        rows = json.loads((GOLDEN / "state_dicts.json").read_text())[model]
        state = {name: torch.zeros(shape, dtype=getattr(torch, dtype)) for name, shape, dtype in rows}
    else:
        state = simtrack_mae_b16().state_dict()
    return fill_state(state, SEED)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Bare state dicts, as upstream's tracker loads them."""
    folder = tmp_path_factory.mktemp("simtrack")
    files = {model: folder / f"{model}.pth" for model in MODELS}
    for model, file in files.items():
        torch.save(published_state(model), file)
    yield files
    for file in files.values():
        file.unlink()


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return request.param


@pytest.fixture(scope="module")
def tracker(model, weights):
    return sot_ros.create_tracker(model, weights=weights[model], device="cpu")


@pytest.fixture(scope="module")
def upstream(model):
    return np.load(GOLDEN / f"{model}.npz")


def network_box(network):
    """Centre x, y, width and height that the network finds in the golden inputs."""
    with torch.inference_mode():
        template = network.embed(normal_input("z", 112), torch.tensor([[0.25, 0.25, 0.5, 0.5]]))
        corners, _ = network(template, normal_input("x", 224))
    x1, y1, x2, y2 = corners[0].float().tolist()
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])


def test_every_tensor_of_a_published_file_is_loaded_or_known_as_unused(weights, model):
    loaded, published = load_network(model, weights[model]).state_dict(), published_state(model)
    if model == "simtrack_b16":
        published = rename(published, CLIP_NAMES)
        assert set(published) - set(loaded) == set(UNUSED)
    assert all(torch.equal(tensor, published[name]) for name, tensor in loaded.items())


def test_the_network_computes_upstreams_box(tracker, upstream):
    ours = network_box(tracker.network)
    theirs = upstream["pred_boxes"].ravel()
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


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


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_finds_nearly_the_same(precision):
    torch.manual_seed(0)
    network = simtrack_b16().eval()
    network.backbone.blocks = network.backbone.blocks[:2]
    exact = network_box(network)
    with torch.autocast("cpu", precision):
        assert np.abs(network_box(network) - exact).max() < 0.01


def test_a_file_with_mae_in_the_place_of_clip_loads_too(tmp_path):
    state = simtrack_mae_b16().state_dict()
    trunk = ("backbone.cls_token", "backbone.pos_embed", "backbone.patch_embed", "backbone.blocks", "backbone.norm.")
    torch.save({n.replace("backbone.", "backbone.visual.") if n.startswith(trunk) else n: t for n, t in state.items()},
               tmp_path / "mae.pth")
    loaded = load_network("simtrack_mae_b16", tmp_path / "mae.pth").state_dict()
    (tmp_path / "mae.pth").unlink()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_a_file_for_the_other_trunk_is_named(weights):
    with pytest.raises(ValueError, match=r"b16.pth does not fit simtrack_mae_b16: .*; this is simtrack_b16$"):
        sot_ros.create_tracker("simtrack_mae_b16", weights=weights["simtrack_b16"], device="cpu")


unit = st.floats(0, 1)


@settings(deadline=None)
@given(st.tuples(unit, unit, unit, unit))
def test_template_places_say_how_much_of_each_patch_the_box_covers(box):
    x, y, w, h = box
    places = template_places(torch.tensor([box]))
    overlap = 2 * places[0, :, 0] - 1
    area = (min(x + w, 1) - x) * (min(y + h, 1) - y)
    assert places.shape == (1, 49, 3)
    assert ((overlap > -1e-5) & (overlap < 1 + 1e-5)).all()
    assert overlap.sum() / 49 == pytest.approx(area, abs=1e-5)
    centers = [[(i % 7 + 0.5) / 7, (i // 7 + 0.5) / 7] for i in range(49)]
    torch.testing.assert_close(places[0, :, 1:], torch.tensor(centers))
