"""Faster ways to run a network find the same as the plain one, or are left with a reason."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from golden import synthetic_clip as clip

import sot_ros
from sot_ros.trackers.acceleration import accelerate
from sot_ros.trackers.multi import MultiTracker
from sot_ros.trackers.settings import override

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
INDUCTOR = "import sot_ros; print(sot_ros.create_tracker('ostrack_tiny', 'random', 'cpu', compile='inductor').compiled)"


def create(model, compile, device="cpu", **settings):
    torch.manual_seed(0)
    weights = None if model == "sot_mobile" else "random"
    return sot_ros.create_tracker(model, weights, device, compile=compile, **settings)


def track(tracker, frames=4):
    tracker.initialize(clip.frame(0), clip.box(0))
    return np.array([tracker.track(clip.frame(t)).box for t in range(1, frames)])


@pytest.fixture(scope="module")
def compiled():
    return create("ostrack_tiny", "inductor")


def test_the_inductor_tracks_the_same(compiled):
    assert compiled.compiled.startswith("Inductor, ready after"), compiled.compiled
    plain = create("ostrack_tiny", "off")
    assert plain.compiled == "not compiled"
    assert np.abs(track(compiled) - track(plain)).max() < 0.05


def test_siblings_of_a_compiled_tracker_have_settings_of_their_own(compiled):
    plain = create("ostrack_tiny", "off", window_influence=0.2)
    sibling = compiled.sibling()
    sibling.settings = override(sibling.settings, window_influence=0.2)
    assert np.abs(track(sibling) - track(plain)).max() < 0.05


def test_without_a_compiler_the_tracker_runs_and_says_why(tmp_path):
    environment = {"CXX": "/no/compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "PATH": ""}
    said = subprocess.run([sys.executable, "-c", INDUCTOR], env=environment, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("not compiled; no Inductor: ")


def test_a_way_that_finds_something_else_is_not_taken(monkeypatch):
    def wrong(compute):
        return lambda tracker, *inputs: tuple(1.1 * x for x in compute(tracker, *inputs))

    monkeypatch.setattr("sot_ros.trackers.acceleration.inductor", wrong)
    tracker = create("ostrack_tiny", "off")
    assert "no Inductor: it finds something else, off by 0.1 of the largest value" in accelerate(tracker, "inductor")
    assert tracker.faster is None


@needs_gpu
@pytest.mark.parametrize("model", ["sot_mobile", "siamfc", "stark_st50", "swintrack_tiny", "ostrack_tiny"])
def test_cuda_graphs_track_the_same(model):
    settings = {"elimination": True, "keep_ratio": 0.5} if model == "ostrack_tiny" else {}
    graphs, plain = (create(model, compile, "cuda", **settings) for compile in ("auto", "off"))
    assert graphs.compiled.startswith("CUDA graphs, ready after"), graphs.compiled
    assert np.abs(track(graphs) - track(plain)).max() < 0.05


@needs_gpu
def test_a_graph_is_captured_again_for_other_settings_and_numbers_of_targets():
    graphs, plain = (create("sot_mobile", compile, "cuda") for compile in ("auto", "off"))
    for tracker in (graphs, plain):
        tracker.settings = override(tracker.settings, window_influence=0.2)
    assert np.abs(track(graphs) - track(plain)).max() < 0.05
    boxes = [clip.box(0), (30.0, 40.0, 50.0, 40.0)]
    found = []
    for tracker in (graphs, plain):
        several = MultiTracker(tracker)
        several.initialize(clip.frame(0), boxes)
        found.append([e.box for e in several.track(clip.frame(1))])
    assert np.abs(np.subtract(*found)).max() < 0.05
