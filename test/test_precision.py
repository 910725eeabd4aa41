"""Precisions: each computes what it should, and `auto` takes the fastest that finds what fp32 finds."""

import copy
import time

import numpy as np
import pytest
import torch
from golden import synthetic_clip as clip
from hypothesis import given
from hypothesis import strategies as st

import sot_ros
from sot_ros.networks.mobilenet import MobileTrunk
from sot_ros.trackers.acceleration import fastest
from sot_ros.trackers.base import fetch
from sot_ros.trackers.examples import deviation, example_inputs
from sot_ros.trackers.precision import candidates, store_in

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


@pytest.mark.parametrize("model", ["sot_mobile", "siamfc", "stark_lightning", "swintrack_tiny", "ostrack_tiny"])
def test_weights_kept_in_half_give_what_weights_that_are_cast_give(model):
    """So that no frame has to cast them, and no track changes by it."""
    torch.manual_seed(0)
    whole = sot_ros.create_tracker(model, None if model == "sot_mobile" else "random", "cpu", compile="off")
    for trunk in (m for m in whole.network.modules() if isinstance(m, MobileTrunk)):
        trunk.center()
    half = copy.deepcopy(whole)
    half.network, half.precision = store_in(half.network, "bf16"), "bf16"
    assert torch.bfloat16 in {p.dtype for p in half.network.parameters()}
    inputs = example_inputs(whole)["compute"]
    with half.inference():
        found, cast = half.compute(*inputs), whole.compute(*inputs)
    with whole.inference():
        expected = whole.compute(*inputs)
    assert deviation(cast, found) == 0
    assert deviation(expected, found) > 0, "bf16 that changes nothing was not used"


def test_centering_a_trunk_changes_nothing_but_rounding():
    torch.manual_seed(0)
    trunk = MobileTrunk().double()
    for name, parameter in trunk.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    image = torch.rand(1, 3, 64, 64, dtype=torch.float64) * 255
    with torch.inference_mode():
        expected = trunk(image)
    for _ in range(2):
        trunk.center()
        with torch.inference_mode():
            assert deviation((expected,), (trunk(image),)) < 1e-9
    assert not trunk.blocks[0][-1].conv_pw.bias.any()


def test_in_half_precision_a_tracker_centers_its_trunk_and_loses_less():
    whole, half = (sot_ros.create_tracker(device="cpu", precision=p, compile="off") for p in ("fp32", "bf16"))
    patch = whole.to_device(clip.frame(0)[None, :224, :224])
    with whole.inference():
        expected = whole.network.trunk(patch)
    with half.inference():
        cast, centered = ((t.network.trunk(patch) - expected).square().mean().sqrt() for t in (whole, half))
    assert centered < cast / 2


class Slow:
    """What `fastest` asks of a tracker: its network finds a box after some milliseconds."""

    inference = staticmethod(torch.inference_mode)

    def __init__(self, milliseconds, x):
        self._seconds, self._box = milliseconds / 1e3, torch.tensor([[x, 0.5, 0.2, 0.2]])

    def call(self):
        time.sleep(self._seconds)
        return (self._box,)


def test_the_fastest_counts_only_where_it_finds_the_same():
    exact, near, wrong, broken = 0.5, 0.501, 0.51, float("nan")
    assert fastest({"fp32": Slow(20, exact), "bf16": Slow(1, near)}, ()) == "bf16"
    assert fastest({"fp32": Slow(1, exact), "bf16": Slow(20, near)}, ()) == "fp32"
    assert fastest({"fp32": Slow(20, exact), "bf16": Slow(1, wrong)}, ()) == "fp32"
    assert fastest({"fp32": Slow(20, exact), "fp16": Slow(1, broken), "bf16": Slow(5, near)}, ()) == "bf16"


def test_auto_tracks_as_fp32_does():
    tracks = []
    for precision in ("fp32", "auto"):
        tracker = sot_ros.create_tracker(device="cpu", precision=precision)
        tracker.initialize(clip.frame(0), clip.box(0))
        tracks.append([tracker.track(clip.frame(t)).box for t in range(1, 8)])
    assert tracker.precision in candidates(tracker.device)
    assert np.abs(np.subtract(*tracks)).mean() < 0.5


def test_what_a_device_has_not_is_refused():
    with pytest.raises(ValueError, match="precision 'tf32' refused: cpu has no such products"):
        sot_ros.create_tracker(device="cpu", precision="tf32")


@given(st.integers(1, 3), st.lists(st.sampled_from([torch.float32, torch.float16, torch.int64, torch.bool])))
def test_outputs_of_all_types_are_fetched_in_one_piece(targets, dtypes):
    outputs = [torch.arange(targets * (i + 1)).reshape(targets, i + 1).to(dtype) for i, dtype in enumerate(dtypes)]
    outputs.append(torch.rand(targets))
    fetched = fetch(outputs)
    assert [x.dtype for x in fetched] == [x.dtype for x in outputs]
    assert all(torch.equal(a, b) for a, b in zip(outputs, fetched, strict=True))


@needs_gpu
def test_tf32_is_allowed_only_while_a_tracker_that_wants_it_runs():
    def allowed():
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = allowed()
    trackers = [sot_ros.create_tracker(device="cuda", precision=precision) for precision in ("fp32", "tf32")]
    seen = []
    for tracker in trackers:
        with tracker.inference():
            seen.append(allowed())
    assert seen == [(False, False), (True, True)]
    assert allowed() == before
