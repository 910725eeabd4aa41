"""The library's front door: models, settings and devices by name, and one clear line for what does not exist."""

import json

import numpy as np
import pytest
import torch
from golden import synthetic_clip as clip

import sot_ros
from sot_ros.geometry import Box, iou
from sot_ros.trackers import models
from sot_ros.trackers.models import MODELS, shipped_weights
from sot_ros.trackers.settings import override

IMAGE = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)


def siamfc(**options):
    return sot_ros.create_tracker("siamfc", **{"weights": "random", "device": "cpu", **options})


def test_every_listed_model_tracks():
    assert "siamfc" in sot_ros.list_models()
    for model in sot_ros.list_models():
        tracker = sot_ros.create_tracker(model, weights="random", device="cpu")
        tracker.initialize(IMAGE, (40, 30, 50, 40))
        box, confidence = tracker.track(IMAGE)
        assert np.isfinite(box).all() and box.w > 0 and box.h > 0
        assert 0 <= confidence <= 1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precision_is_chosen_by_name(precision):
    tracker = siamfc(precision=precision)
    tracker.initialize(IMAGE, (40, 30, 50, 40))
    assert np.isfinite(tracker.track(IMAGE).box).all()


def test_the_box_is_readable_and_settable():
    tracker = siamfc()
    assert tracker.box is None
    tracker.initialize(IMAGE, (40, 30, 50, 40))
    assert tracker.box == (40, 30, 50, 40)
    tracker.box = (60, 40, 50, 40)
    assert tracker.box == (60, 40, 50, 40)
    assert tracker.track(IMAGE).box == tracker.box


def test_a_refused_box_leaves_the_previous_target():
    tracker = siamfc()
    tracker.initialize(IMAGE, (40, 30, 50, 40))
    with pytest.raises(ValueError, match="refused"):
        tracker.initialize(IMAGE, (400, 30, 50, 40))
    assert tracker.box == (40, 30, 50, 40)


def test_track_before_initialize_says_so():
    with pytest.raises(RuntimeError, match="before initialize"):
        siamfc().track(IMAGE)


@pytest.mark.parametrize(
    "image", [None, IMAGE[..., 0], IMAGE.astype(np.float32), IMAGE[:0], IMAGE[..., :2]], ids=lambda i: str(np.shape(i))
)
def test_other_than_rgb_images_are_refused(image):
    with pytest.raises(ValueError, match="image refused"):
        siamfc().initialize(image, (40, 30, 50, 40))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"precision": "int3"}, "unknown precision 'int3': accepted are auto, fp32, tf32, fp16, bf16, int8"),
        ({"device": "gpu"}, "no device 'gpu' on this machine: accepted here are cpu"),
        ({"scale": 3}, "unknown setting 'scale': this model has scale_lr, scale_num"),
        ({"scale_num": 3.5}, "scale_num 3.5 refused: a whole number from 1 to 15 is accepted"),
        ({"scale_num": True}, "scale_num True refused"),
        ({"scale_step": "1.1"}, "scale_step '1.1' refused: a number from 1.001 to 1.5 is accepted"),
        ({"search_factor": float("nan")}, "search_factor nan refused"),
        ({"window_influence": 2}, "window_influence 2 refused: a number from 0 to 1 is accepted"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(options, line):
    with pytest.raises(ValueError) as refusal:
        siamfc(**options)
    assert str(refusal.value).startswith(line)
    assert "\n" not in str(refusal.value)


def test_an_unknown_model_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown model 'siamrcnn': known are .*siamfc"):
        sot_ros.create_tracker("siamrcnn")


def test_a_missing_cuda_device_is_refused_with_what_is_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="no device 'cuda' on this machine: accepted here are cpu"):
        siamfc(device="cuda")


def test_a_model_without_shipped_weights_says_where_they_are_published():
    with pytest.raises(FileNotFoundError, match="no weights are shipped for siamfc: download siamfc_alexnet_e50.pth"):
        sot_ros.create_tracker("siamfc")


def test_an_incomplete_install_is_not_called_a_download(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "SHIPPED_WEIGHTS", tmp_path)
    with pytest.raises(FileNotFoundError, match="siamfc_sot.safetensors is missing, which the package ships"):
        sot_ros.create_tracker("siamfc_sot", device="cpu")


def trainings_in(record):
    """The records of the trainings that a mean, or a mean of means, was made of; a repeated one is told once."""
    if isinstance(record, str):
        return []
    return [made for part in record["mean_of"] for made in trainings_in(part)] if "mean_of" in record else [record]


@pytest.mark.parametrize("model", ["sot_mobile", "siamfc_sot", "ostrack_tiny"])
def test_models_trained_here_track_from_a_fresh_install(model):
    """Their weights are shipped, with the record of how they were made."""
    path = shipped_weights(model)
    assert path.stat().st_size < 10e6
    record = json.loads(path.with_suffix(".json").read_text())
    assert all(made["step"] == made["config"]["steps"] for made in trainings_in(record))
    assert 0 < record["held_out_auc"]["mean"] < 1
    tracker = sot_ros.create_tracker(model, device="cpu")
    tracker.initialize(clip.frame(0), clip.box(0))
    overlaps = [iou(tracker.track(clip.frame(t)).box, Box(*clip.box(t))) for t in range(1, 16)]
    assert np.mean(overlaps) > 0.5


def test_settings_take_whole_numbers_for_real_ones():
    settings = override(MODELS["siamfc"].settings, search_factor=2, scale_num=5.0)
    assert (settings.search_factor, settings.scale_num) == (2.0, 5)
    assert isinstance(settings.search_factor, float) and isinstance(settings.scale_num, int)
