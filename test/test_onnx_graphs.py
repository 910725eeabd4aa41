"""A model that is exported tracks in ONNX Runtime as it does in PyTorch."""

import numpy as np
import pytest
import torch
from golden import synthetic_clip as clip
from robot import Robot

import sot_ros
from sot_ros.cli import main
from sot_ros.geometry import Box
from sot_ros.trackers.models import shipped_weights
from sot_ros.trackers.multi import MultiTracker
from sot_ros.trackers.onnx_graphs import PROVIDERS, export, find_providers
from sot_ros.trackers.settings import override

FAMILIES = [
    ("sot_mobile", {}),
    ("siamfc", {"scale_num": 3}),
    ("stark_lightning", {}),
    ("stark_st50", {"update_interval": 2, "update_threshold": 0.0}),
    ("swintrack_tiny_motion", {"motion_interval": 1}),
    ("ostrack_tiny", {"elimination": True, "keep_ratio": 0.5, "template_range": "GT_BOX"}),
    ("simtrack_b16", {}),
]


def create(model, **settings):
    torch.manual_seed(0)
    weights = None if model == "sot_mobile" else "random"
    return sot_ros.create_tracker(model, weights, "cpu", compile="off", **settings)


@pytest.fixture(scope="module", params=FAMILIES, ids=[model for model, _ in FAMILIES])
def pair(request, tmp_path_factory):
    """A tracker, and the one that its export makes."""
    model, settings = request.param
    path = tmp_path_factory.mktemp("graphs") / f"{model}.onnx"
    tracker = create(model, **settings)
    export(model, tracker, path)
    exported = sot_ros.create_tracker(model, path, "cpu", backend="onnxruntime", **settings)
    return tracker, exported


def test_the_track_is_the_same(pair):
    tracks = []
    for tracker in pair:
        tracker.initialize(clip.frame(0), clip.box(0))
        tracks.append([tracker.track(clip.frame(t)) for t in range(1, 4)])
    boxes, confidences = (np.array([[e[i] for e in track] for track in tracks]) for i in (0, 1))
    assert np.abs(boxes[1] - boxes[0]).max() < 0.05
    assert np.abs(confidences[1] - confidences[0]).max() < 1e-4
    assert boxes[0].std(axis=0).max() > 0.1, "a box that stands still shows nothing"


def test_several_targets_are_tracked_as_they_are_alone(pair):
    _, exported = pair
    targets = [Box(*map(float, clip.box(0))), Box(30.0, 40.0, 50.0, 40.0)]
    alone = []
    for target in targets:
        exported.initialize(clip.frame(0), target)
        alone.append(exported.track(clip.frame(1)).box)
    together = MultiTracker(exported)
    together.initialize(clip.frame(0), targets)
    assert np.abs(np.array([e.box for e in together.track(clip.frame(1))]) - np.array(alone)).max() < 0.01


@pytest.fixture(scope="module")
def mobile(tmp_path_factory):
    """The default model as `sot export` writes it, with a setting of its own."""
    path = tmp_path_factory.mktemp("graphs") / "mine.onnx"
    assert main(["export", "sot_mobile", "--out", str(path), "--set", "window_influence=0.8"]) == 0
    return path


def test_export_says_what_it_wrote_and_how_exact_it_is(tmp_path, capsys):
    path = tmp_path / "deep" / "siamfc.onnx"
    assert main(["export", "siamfc", "--weights", "random", "--out", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [str(path.with_suffix(".template.onnx")), str(path)]
    assert all(float(line.split("within ")[1].split()[0]) < 1e-4 for line in lines)


def test_what_the_graph_computes_with_is_that_of_the_export_and_cannot_change(mobile):
    tracker = sot_ros.create_tracker("sot_mobile", mobile, backend="onnxruntime", search_factor=5.0)
    assert (tracker.settings.window_influence, tracker.settings.search_factor) == (0.8, 5.0)
    tracker.settings = override(tracker.settings, search_factor=3.0)
    with pytest.raises(ValueError, match="window_influence 1.0 refused: the network was built with 0.8"):
        tracker.settings = override(tracker.settings, window_influence=1.0)
    with pytest.raises(ValueError, match="window_influence 0.5 refused"):
        sot_ros.create_tracker("sot_mobile", mobile, backend="onnxruntime", window_influence=0.5)


def test_other_files_and_devices_are_refused_in_one_line(mobile, tmp_path):
    def refusal(model="sot_mobile", weights=mobile, device="cpu"):
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            sot_ros.create_tracker(model, weights, device, backend="onnxruntime")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "it is sot_mobile, not siamfc" in refusal(model="siamfc")
    checkpoint = shipped_weights("sot_mobile")
    assert "onnxruntime takes the .onnx that `sot export sot_mobile` writes" in refusal(weights=checkpoint)
    assert "no file" in refusal(weights=tmp_path / "none.onnx")
    assert "accepted are cpu" in refusal(device="tensorrt")
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    (tmp_path / "broken.template.onnx").write_bytes(b"no graph")
    assert "broken.template.onnx cannot be read" in refusal(weights=tmp_path / "broken.onnx")


def test_each_device_computes_in_the_precisions_that_it_has():
    everything = {provider for providers in PROVIDERS.values() for provider in providers}
    assert find_providers(None, "fp32", ["CPUExecutionProvider"]) == [("CPUExecutionProvider", {})]
    name, options = find_providers("tensorrt", "fp16", everything)[0]
    assert (name, options["trt_fp16_enable"]) == ("TensorrtExecutionProvider", "True")
    assert find_providers("cuda", "fp32", everything)[0] == ("CUDAExecutionProvider", {"use_tf32": "0"})
    with pytest.raises(ValueError, match="precision 'bf16' refused: onnxruntime on cuda computes in fp32 or tf32"):
        find_providers("cuda", "bf16", everything)


def test_the_node_runs_it(_ros, mobile):
    robot = Robot(backend="onnxruntime", weights=mobile, device="cpu", window_influence=0.8)
    try:
        robot.meet()
        robot.start()
        assert all(robot.follows(t) for t in range(2, 6))
        assert "window_influence refused" in robot.set("window_influence", 0.5)
        assert robot.set("search_factor", 4.5) == ""
        assert robot.follows(6)
    finally:
        robot.close()
