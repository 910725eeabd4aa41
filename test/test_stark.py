"""STARK computes and tracks what its authors' code does, and renews its template only when it should."""

import json
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import synthetic_clip as clip
from golden.fill import fill_state
from timm.utils import reparameterize_model
from torch import nn

import sot_ros
from sot_ros.checkpoints import rename
from sot_ros.networks.stark import Tokens, sine_positions, stark_st50
from sot_ros.networks.stark_lightning import StarkLightning
from sot_ros.session import Session, State, Thresholds
from sot_ros.trackers.models import MODELS, load_network
from sot_ros.trackers.settings import override
from sot_ros.trackers.stark import StarkSTSettings, StarkSTTracker

GOLDEN = Path(__file__).parent / "golden"
SEED = 3
ROWS = json.loads((GOLDEN / "state_dicts.json").read_text())
MLP_ROWS = [
    [f"box_head.layers.{i}.{kind}", shape[:axes], "float32"]
    for i, shape in enumerate(([256, 256], [256, 256], [4, 256]))
    for kind, axes in (("weight", 2), ("bias", 1))
]
CASES = [("stark_s50", "CORNER"), ("stark_s50", "MLP"), ("stark_st50", "CORNER"), ("stark_st50", "MLP")]
CASES += [("stark_st101", "CORNER"), ("stark_lightning", "")]


@cache
def filled(name, shape, dtype):
    return fill_state({name: torch.zeros(shape, dtype=getattr(torch, dtype))}, SEED)[name]


def published_state(model, head=""):
    """Upstream's state dict, with weights that anyone can rebuild."""
    rows = [row for row in ROWS[model] if head != "MLP" or not row[0].startswith("box_head.")]
    rows += MLP_ROWS if head == "MLP" else []
    return {name: filled(name, tuple(shape), dtype) for name, shape, dtype in rows}


def published_file(folder, model, head=""):
    path = folder / f"{model}_{head}.pth.tar"
    torch.save({"epoch": 500, "net_type": "STARK", "net": published_state(model, head)}, path)
    return path


class Case:
    """A model with upstream's weights, and what upstream computes with them."""

    def __init__(self, model, head, folder):
        self.model = model
        self.network_level = np.load(GOLDEN / f"{model}{'_mlp' if head == 'MLP' else ''}.npz")
        lightning = model == "stark_lightning"
        self.tracks = np.load(GOLDEN / "stark_lightning_track.npz") if lightning else self.network_level
        self.meta = json.loads(str(self.tracks["meta"]))
        self.state = published_state(model, head)
        self.file = published_file(folder, model, head)
        settings = {"head": head} if head else {}
        if self.meta.get("update_interval"):
            settings["update_interval"] = self.meta["update_interval"]
        self.tracker = sot_ros.create_tracker(model, weights=self.file, device="cpu", **settings)
        # The largest model is held to the beginning of its tracks: the rest of its pipeline is that of stark_st50.
        most = 4 if model == "stark_st101" else None
        self.forced_frames, self.free_frames = (self.meta[f"{series}_frames"][:most] for series in ("forced", "free"))

    def compare(self, found, series):
        """Boxes within 0.05 pixel of upstream's, and confidences within 1e-4 where upstream has them."""
        boxes, confidences = np.array([e.box for e in found]), np.array([e.confidence for e in found])
        assert np.abs(boxes - self.tracks[f"{series}_boxes"][: len(found)]).max() < 0.05
        assert (confidences >= 0).all() and (confidences <= 1).all()
        if "_st" in self.model:
            assert np.abs(confidences - self.tracks[f"{series}_conf"][: len(found)]).max() < 1e-4


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(filter(None, case)))
def case(request, tmp_path_factory):
    case = Case(*request.param, tmp_path_factory.mktemp("stark"))
    yield case
    case.file.unlink()


def network_inputs():
    """Template and search region, each with its padding."""
    patches = []
    for tag, size in (("z", 128), ("x", 320)):
        rng = np.random.default_rng(zlib.crc32(f"{SEED}:{tag}".encode()))
        pixels = torch.from_numpy(rng.standard_normal((1, 3, size, size)).astype(np.float32))
        patches.append((pixels, torch.zeros(1, size, size, dtype=torch.bool)))
    search_padding = patches[1][1]
    search_padding[:, :24] = True
    search_padding[:, :, 280:] = True
    return patches


def run(network, templates=1, dtype=torch.float32):
    z, x = ([t.to(dtype) if t.is_floating_point() else t for t in inputs] for inputs in network_inputs())
    with torch.inference_mode():
        return network([network.embed(*z)] * templates, *x)


def test_the_network_computes_upstreams_boxes_and_score(case):
    boxes, score = run(case.tracker.network, templates=2 if "_st" in case.model else 1)
    assert boxes.shape == (1, 4) and score.shape == (1,) and 0 <= score <= 1
    expected = case.network_level["pred_boxes"].reshape(1, 4)
    assert np.abs(boxes.numpy() - expected).max() < 1e-4 * np.abs(expected).max()
    if "pred_logits" in case.network_level:
        assert torch.logit(score).item() == pytest.approx(case.network_level["pred_logits"].item(), rel=1e-4)


def test_every_tensor_of_a_published_file_is_loaded(case):
    row = MODELS[case.model]
    assert row.unused == ()
    loaded = load_network(case.model, case.file, case.tracker.settings).state_dict()
    for name, tensor in rename(case.state, row.names).items():
        assert torch.equal(loaded.pop(name), tensor), name
    assert all(name.endswith("num_batches_tracked") for name in loaded)


def test_the_tracker_finds_upstreams_boxes_around_given_ones(case):
    tracker = case.tracker
    tracker.initialize(clip.frame(0), case.meta["init_box"])
    found = []
    for t, state in zip(case.forced_frames, case.tracks["forced_states"], strict=False):
        tracker.box = state
        found.append(tracker.track(clip.frame(t)))
    case.compare(found, "forced")


def test_the_tracker_follows_upstreams_track(case):
    case.tracker.initialize(clip.frame(0), case.meta["init_box"])
    case.compare([case.tracker.track(clip.frame(t)) for t in case.free_frames], "free")


def test_the_template_is_embedded_once(case):
    embedded = []
    hook = case.tracker.network.bottleneck.register_forward_hook(lambda *call: embedded.append(call[2].shape[-1]))
    case.tracker.initialize(clip.frame(0), case.meta["init_box"])
    embedded.clear()
    case.tracker.track(clip.frame(1))
    hook.remove()
    assert embedded == [20]


def test_lightning_is_the_same_with_its_branches_fused():
    network = StarkLightning().eval()
    network.load_state_dict(fill_state(network.state_dict(), SEED))
    # In double precision, for in single one how much is lost to rounding is the processor's.
    fused = reparameterize_model(network.double())
    assert sum(p.numel() for p in fused.parameters()) < sum(p.numel() for p in network.parameters())
    for trained, plain in zip(*(run(n, dtype=torch.float64) for n in (network, fused)), strict=True):
        assert torch.allclose(trained, plain, rtol=0, atol=1e-9)


def test_lightning_is_fused_when_it_is_loaded(tmp_path):
    file = published_file(tmp_path, "stark_lightning")
    tracker = sot_ros.create_tracker("stark_lightning", weights=file, device="cpu")
    assert not any("conv_1x1" in name for name in tracker.network.state_dict())


def test_half_precision_tracks_too():
    tracker = sot_ros.create_tracker("stark_lightning", weights="random", device="cpu", precision="bf16")
    tracker.initialize(clip.frame(0), clip.box(0))
    box, confidence = tracker.track(clip.frame(1))
    assert np.isfinite(box).all() and 0 <= confidence <= 1


def test_a_region_like_the_first_has_confidence_1():
    tracker = sot_ros.create_tracker("stark_lightning", weights="random", device="cpu")
    tracker.initialize(clip.frame(0), clip.box(0))
    assert tracker.track(clip.frame(0)).confidence == pytest.approx(1)


def test_an_unknown_head_is_refused():
    with pytest.raises(ValueError, match="head 'CENTER' refused: CORNER or MLP is accepted"):
        sot_ros.create_tracker("stark_s50", weights="random", head="CENTER")


def test_half_precision_runs_through_the_whole_network():
    network = stark_st50().eval()
    z, x = (torch.zeros(1, 3, n, n) for n in (32, 64))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        template = network.embed(z, z[:, 0] > 0)
        boxes, score = network([template, template], x, x[:, 0] > 0)
    assert boxes.isfinite().all() and 0 <= score <= 1


def test_positions_count_only_cells_inside_the_image():
    padding = torch.zeros(2, 20, 20, dtype=torch.bool)
    padding[1, :5] = True
    whole, cut = sine_positions(padding, 256).unflatten(1, (20, 20))
    assert torch.allclose(cut[-1], whole[-1], atol=1e-5)
    assert torch.allclose(cut[5, 0, 128:], whole[5, 0, 128:], atol=1e-5)
    assert not torch.allclose(cut[5], whole[5], atol=0.1)


class Scripted(nn.Module):
    """A network that finds the target in the middle, as surely as it is told, and keeps what templates it was shown."""

    score = 0.9

    def embed(self, pixels, padding):
        return Tokens(pixels, pixels, padding)

    def forward(self, templates, pixels, padding):
        self.templates = [template.features for template in templates]
        return torch.tensor([[0.5, 0.5, 0.2, 0.2]]), torch.tensor([self.score])


def scripted_tracker(**settings):
    tracker = StarkSTTracker(Scripted(), override(StarkSTSettings(), **settings), torch.device("cpu"))
    tracker.initialize(clip.frame(0), clip.box(0))
    return tracker


def second_templates(tracker, frames, track=None):
    """Which of the frames the second template was cut from when each of `frames` was searched."""
    cut_from = {0: tracker.templates[0][0]}
    shown = []
    for t in frames:
        (track or tracker.track)(clip.frame(t))
        first, second = tracker.network.templates
        assert first is cut_from[0]
        shown.append(next(i for i, template in cut_from.items() if torch.equal(template, second)))
        with torch.inference_mode():
            cut_from[t] = tracker.to_normalized(tracker.cut_template(clip.frame(t), tracker.box).pixels)
    return shown


def test_the_second_template_is_renewed_every_update_interval():
    assert second_templates(scripted_tracker(update_interval=3), range(1, 9)) == [0, 0, 0, 3, 3, 3, 6, 6]


def test_the_second_template_is_renewed_only_above_the_update_threshold():
    assert second_templates(scripted_tracker(update_interval=1, update_threshold=0.95), range(1, 4)) == [0, 0, 0]
    assert second_templates(scripted_tracker(update_interval=1, update_threshold=0.85), range(1, 4)) == [0, 1, 2]


def test_a_new_target_starts_with_its_own_templates():
    tracker = scripted_tracker(update_interval=1)
    tracker.track(clip.frame(1))
    tracker.initialize(clip.frame(5), clip.box(5))
    assert second_templates(tracker, range(1, 2)) == [0]


def test_no_template_is_taken_from_a_frame_on_which_the_session_calls_the_target_hidden():
    tracker = scripted_tracker(update_interval=1, update_threshold=0.0)
    session = Session(tracker, Thresholds(0.3, 0.6, coast_s=10, confirm_frames=1))
    session.start(clip.frame(0), clip.box(0), 0.0)
    # The target is hidden on frames 2 and 3: on 3 its score is already above the threshold of the template, not of
    # the session.
    scores = {1: 0.9, 2: 0.1, 3: 0.5, 4: 0.9, 5: 0.9}
    states = {}

    def track(image):
        t = len(states) + 1
        tracker.network.score = scores[t]
        states[t] = session.update(image, t / 10).state

    assert second_templates(tracker, range(1, 6), track) == [0, 1, 1, 1, 4]
    hidden = [t for t, state in states.items() if state is State.OCCLUDED]
    assert hidden == [2, 3]
