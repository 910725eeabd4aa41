"""Data sets are read in the layouts in which they are handed around: tiny ones here, made as the real ones are."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from sot_ros.training.data import ImageStore
from sot_ros.training.datasets import read_source
from sot_ros.training.pairs import PairDataset
from sot_ros.training.recipes import MOBILE_PAIRS

BOXES = [(20, 30, 40, 24), (22, 31, 40, 24), (25, 33, 42, 25)]


def write_frame(path, t):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(t).integers(255, size=(120, 160, 3), dtype=np.uint8))


def write_text(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(",".join(str(v) for v in np.atleast_1d(line)) for line in lines) + "\n")


def got10k(root):
    for number in (1, 2):
        folder = root / f"GOT-10k_Train_{number:06d}"
        for t in range(3):
            write_frame(folder / f"{t + 1:08d}.jpg", t)
        write_text(folder / "groundtruth.txt", BOXES)
        write_text(folder / "absence.label", [0, 1, 0])
    return {"layout": "got10k", "folder": root.name}


def lasot(root):
    for name in ("airplane-1", "airplane-2"):
        folder = root / "airplane" / name
        for t in range(3):
            write_frame(folder / "img" / f"{t + 1:08d}.jpg", t)
        write_text(folder / "groundtruth.txt", [(x + 1, y + 1, w, h) for x, y, w, h in BOXES])
        # One line for all frames, as LaSOT has it.
        write_text(folder / "full_occlusion.txt", [(0, 1, 0)])
        write_text(folder / "out_of_view.txt", [(0, 0, 0)])
    return {"layout": "lasot", "folder": root.name}


def youtube_vos(root):
    videos = {}
    for video in ("003234408d", "0043f083b5"):
        for t, frame in enumerate(("00000", "00005", "00010")):
            write_frame(root / "JPEGImages" / video / f"{frame}.jpg", t)
            (root / "Annotations" / video).mkdir(parents=True, exist_ok=True)
            mask = np.zeros((120, 160), np.uint8)
            mask[90:100, 100:150] = 2
            if t != 1:
                x, y, w, h = BOXES[t]
                mask[y : y + h, x : x + w] = 1
            image = Image.fromarray(mask).convert("P")
            image.putpalette([0, 0, 0, 236, 95, 103, 249, 145, 87])
            image.save(root / "Annotations" / video / f"{frame}.png")
        seen = {"1": ["00000", "00010"], "2": ["00000", "00005", "00010"]}
        videos[video] = {"objects": {n: {"category": "penguin", "frames": frames} for n, frames in seen.items()}}
    (root / "meta.json").write_text(json.dumps({"videos": videos}))
    return {"layout": "youtube_vos", "folder": root.name}


def coco_vid(root):
    """COCO-VID's JSON, as the tools of multi-object tracking write it: `instance_id`, unique within its video."""
    images, annotations = [], []
    for video in (1, 2):
        for t in range(3):
            number = 10 * video + t
            write_frame(root / "train" / f"video_{video}" / f"{t}.jpg", t)
            place = {"file_name": f"video_{video}/{t}.jpg", "video_id": video, "frame_id": t}
            images.append({"id": number, "width": 160, "height": 120} | place)
            if t != 1:
                box = {"image_id": number, "bbox": list(BOXES[t]), "area": 960, "iscrowd": 0, "category_id": 1}
                annotations.append({"id": number, "instance_id": 0} | box)
    (root / "train.json").write_text(json.dumps({"images": images, "annotations": annotations[::-1]}))
    return {"layout": "coco", "annotations": f"{root.name}/train.json", "images": f"{root.name}/train"}


def sequences(root):
    for name in ("Deer", "Diving"):
        for t in range(3):
            write_frame(root / name / "img" / f"{t + 1:04d}.jpg", t)
        boxes = [(x + 1, y + 1, w, h) for x, y, w, h in BOXES]
        write_text(root / name / "groundtruth_rect.txt", [boxes[0], [np.nan] * 4, boxes[2]])
    return {"layout": "sequences", "folder": root.name}


LAYOUTS = {"got10k": got10k, "lasot": lasot, "youtube_vos": youtube_vos, "coco_vid": coco_vid, "sequences": sequences}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tracks_are_read_in_order_without_the_frames_that_do_not_show_the_target(layout, tmp_path):
    root = tmp_path / layout
    root.mkdir()
    source = read_source(tmp_path, LAYOUTS[layout](root) | {"weight": 1.0})
    tracks = [t for t in source.tracks if len(t.instances) == 2]
    assert len(tracks) == 2 and len({t.name for t in tracks}) == 2
    for track in tracks:
        assert len(track.instances) == 2
        for instance, truth in zip(track.instances, (BOXES[0], BOXES[2]), strict=True):
            assert instance.box == pytest.approx(truth, abs=0.6)
            assert instance.image.is_file()
        frames = [i.image.stem for i in track.instances]
        assert frames == sorted(frames) and int(frames[1]) - int(frames[0]) in (2, 10)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pairs_come_of_every_layout_and_a_held_out_track_is_not_among_them(layout, tmp_path):
    root = tmp_path / layout
    root.mkdir()
    entry = LAYOUTS[layout](root) | {"weight": 1.0}
    first, second = dict.fromkeys(t.name for t in read_source(tmp_path, entry).tracks)
    source = read_source(tmp_path, entry | {"hold_out": [second]})
    assert {t.name for t in source.tracks} == {first}
    assert all(first in str(path) for path in source.images())
    pairs = PairDataset([source], ImageStore([source], 1), MOBILE_PAIRS, 4, seed=0)
    assert pairs[0].template.shape == (3, 128, 128)


def test_still_images_of_coco_are_tracks_of_one_instance_without_crowds_and_run_lengths(tmp_path):
    write_frame(tmp_path / "val2017" / "000000000139.jpg", 0)
    polygon = [20, 30, 60, 30, 60, 54, 20, 54]
    common = {"image_id": 139, "bbox": [20, 30, 40, 24], "category_id": 1}
    annotations = [
        {"id": 1, "iscrowd": 0, "segmentation": [polygon]} | common,
        {"id": 2, "iscrowd": 1, "segmentation": {"counts": [1, 2], "size": [120, 160]}} | common,
        {"id": 3, "iscrowd": 0} | common,
    ]
    content = {"images": [{"id": 139, "file_name": "000000000139.jpg"}], "annotations": annotations}
    (tmp_path / "instances_val2017.json").write_text(json.dumps(content))
    entry = {"layout": "coco", "annotations": "instances_val2017.json", "images": "val2017", "weight": 1.0}
    tracks = read_source(tmp_path, entry).tracks
    assert [len(t.instances) for t in tracks] == [1, 1]
    assert all(t.instances[0].box == pytest.approx((20, 30, 40, 24)) for t in tracks)


def test_images_without_annotations_are_found_in_all_folders_below(tmp_path):
    write_frame(tmp_path / "photos" / "a.jpg", 0)
    write_frame(tmp_path / "photos" / "more" / "b.PNG", 1)
    (tmp_path / "photos" / "notes.txt").write_text("not an image")
    source = read_source(tmp_path, {"layout": "images", "folder": "photos", "weight": 1.0})
    assert [p.name for p in source.unlabelled] == ["a.jpg", "b.PNG"] and source.tracks == []
    assert PairDataset([source], ImageStore([source], 1), MOBILE_PAIRS, 4, seed=0)[1].search.ndim == 3


@pytest.mark.parametrize(
    "entry, complaint",
    [
        ({"layout": "imagenet", "folder": "."}, "unknown layout 'imagenet': known are images, coco"),
        ({"layout": "got10k", "folder": "nowhere"}, "nowhere does not exist"),
        ({"layout": "lasot", "folder": "."}, "a folder in the layout of lasot is accepted"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(entry, complaint, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=complaint):
        read_source(tmp_path, entry | {"weight": 1.0})


def test_boxes_that_do_not_fit_the_frames_are_refused(tmp_path):
    entry = got10k(tmp_path / "got10k")
    write_text(tmp_path / "got10k" / "GOT-10k_Train_000002" / "groundtruth.txt", BOXES[:2])
    with pytest.raises(ValueError, match="3 lines of four numbers"):
        read_source(tmp_path, entry | {"weight": 1.0})
