"""`sot label` makes training data of boxes in a clip: outlines where they are certain, none where they are not."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import sot_ros.training
from sot_ros.cli import main
from sot_ros.evaluation.sequences import find_sequences
from sot_ros.geometry import Box, iou
from sot_ros.training.data import corners, enclosing_box
from sot_ros.training.datasets import read_coco
from sot_ros.training.label import outline_in, read_clips

WIDTH, HEIGHT, FRAMES, GONE = 800, 600, 16, 12
"""The red target of the video is covered from frame GONE on, the blue one is seen to the end."""
SIZE = 120


def place(color, t):
    """The box of a target on frame t."""
    x, y = {"red": (100 + 12 * t, 80), "blue": (560 - 10 * t, 380)}[color]
    return Box(x, y, SIZE, SIZE)


def draw(image, color, t, rng):
    x, y = place(color, t)[:2]
    shades = {"red": (40, 40, 200), "blue": (200, 60, 40)}[color] + rng.integers(-25, 25, (SIZE, SIZE, 3))
    yy, xx = np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2
    inside = xx**2 + yy**2 < (SIZE / 2) ** 2
    shades[abs(xx) < 12] = (230, 230, 230)
    image[y : y + SIZE, x : x + SIZE][inside] = shades[inside]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A folder with a video of two balls on a lawn."""
    root = tmp_path_factory.mktemp("videos")
    lawn = np.random.default_rng(0).integers(60, 110, (HEIGHT // 8, WIDTH // 8, 3), np.uint8) * np.uint8([[[1, 2, 1]]])
    lawn = cv2.resize(lawn, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    writer = cv2.VideoWriter(str(root / "balls.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 30, (WIDTH, HEIGHT))
    for t in range(FRAMES):
        image = lawn.copy()
        if t < GONE:
            draw(image, "red", t, np.random.default_rng(1))
        draw(image, "blue", t, np.random.default_rng(2))
        writer.write(image)
    writer.release()
    (root / "notes.txt").write_text("two balls")
    return root


def write_csv(path, *rows):
    with path.open("w", newline="") as lines:
        csv.writer(lines).writerows([("video", "step", "frames", "target", "frame", *"xywh"), *rows])
    return path


def run(tmp_path, videos, *rows):
    clips = write_csv(tmp_path / "clips.csv", *rows)
    status = main(["label", str(clips), "--videos", str(videos), "--out", str(tmp_path / "out"), "--device", "cpu"])
    return status, tmp_path / "out"


def test_two_targets_of_a_video_become_two_tracks_that_sot_train_reads(tmp_path, videos, capsys):
    rows = [("balls.avi", 1, FRAMES, color, 0, *place(color, 0)) for color in ("red", "blue")]
    status, out = run(tmp_path, videos, *rows)
    assert status == 0
    tracks = read_coco(out / "labels.json", out)
    assert len(tracks) == 2
    assert f"{sum(len(t.instances) for t in tracks)} outlines of 2 targets" in capsys.readouterr().out
    assert cv2.imread(str(tracks[0].instances[0].image)).shape == (480, 640, 3)
    for color, track in zip(("blue", "red"), sorted(tracks, key=lambda t: -t.instances[0].box.y), strict=True):
        assert len(track.instances) >= 9
        for instance in track.instances:
            t = int(instance.image.stem) - 1
            assert iou(instance.box, place(color, t).scaled(0.8, 0.8)) > 0.85
            area = sum(cv2.contourArea(polygon) for polygon in instance.outline)
            assert area == pytest.approx(np.pi / 4 * (0.8 * SIZE) ** 2, rel=0.1), "a disk, not its box"


def test_frames_without_the_target_are_left_out(tmp_path, videos):
    _, out = run(tmp_path, videos, ("balls.avi", 1, FRAMES, 0, 0, *place("red", 0)))
    (track,) = read_coco(out / "labels.json", out)
    assert {int(instance.image.stem) for instance in track.instances} <= set(range(1, GONE + 1))


def test_drawn_boxes_are_kept_as_they_are_with_the_outline_of_what_they_hold(tmp_path, videos):
    x, y, w, h = place("blue", 8)
    drawn = Box(x - 5, y - 5, w + 10, h + 20)
    rows = [(0, place("blue", 0)), (8, drawn)]
    _, out = run(tmp_path, videos, *(("balls.avi", 1, 12, 0, t, *box) for t, box in rows))
    (track,) = read_coco(out / "labels.json", out)
    by_frame = {int(instance.image.stem) - 1: instance for instance in track.instances}
    assert by_frame[8].box == pytest.approx(drawn.scaled(0.8, 0.8), abs=0.11)
    area = sum(cv2.contourArea(polygon) for polygon in by_frame[8].outline)
    assert area == pytest.approx(np.pi / 4 * 0.8**2 * drawn.w * drawn.h, rel=0.1), "a disk, not its box"
    assert set(by_frame) == set(range(12))
    assert all(iou(by_frame[t].box, place("blue", t).scaled(0.8, 0.8)) > 0.85 for t in range(12) if t != 8)


def test_a_target_that_was_lost_is_found_again_at_the_next_box(tmp_path, videos):
    """From the first box on, what is drawn is the lawn; the second is on the ball."""
    rows = [(0, Box(20, 300, SIZE, SIZE)), (4, place("blue", 4))]
    _, out = run(tmp_path, videos, *(("balls.avi", 1, 12, 0, t, *box) for t, box in rows))
    (track,) = read_coco(out / "labels.json", out)
    found = {int(instance.image.stem) - 1: instance.box for instance in track.instances}
    assert {t for t in found if t < 4} == {0}
    assert {t for t in found if t >= 4} == set(range(4, 12))
    assert all(iou(found[t], place("blue", t).scaled(0.8, 0.8)) > 0.85 for t in range(4, 12))


def test_only_so_many_frames_are_followed_each_a_step_after_the_last(tmp_path, videos):
    _, out = run(tmp_path, videos, ("balls.avi", 2, 6, 0, 0, *place("blue", 0)))
    (track,) = read_coco(out / "labels.json", out)
    assert [i.image.stem for i in track.instances] == [f"{t:08d}" for t in range(1, 7)]
    assert iou(track.instances[-1].box, place("blue", 10).scaled(0.8, 0.8)) > 0.85


def test_every_annotation_names_an_image_that_exists(tmp_path, videos):
    _, out = run(tmp_path, videos, *(("balls.avi", 1, 8, color, 0, *place(color, 0)) for color in ("red", "blue")))
    content = json.loads((out / "labels.json").read_text())
    ids = [image["id"] for image in content["images"]]
    assert len(set(ids)) == len(ids) == len({image["file_name"] for image in content["images"]})
    assert {a["image_id"] for a in content["annotations"]} == set(ids)
    assert all((out / image["file_name"]).is_file() for image in content["images"])


def test_drawn_boxes_alone_become_sequences_for_sot_eval(tmp_path, videos):
    rows = [("balls.avi", 2, 8, color, i, *place(color, 2 * i)) for color in ("red", "blue") for i in (0, 3)]
    clips = write_csv(tmp_path / "clips.csv", *rows)
    assert main(["label", str(clips), "--videos", str(videos), "--out", str(tmp_path / "out"), "--drawn"]) == 0
    sequences = find_sequences(tmp_path / "out")
    assert len(sequences) == 2
    for sequence, color in zip(sequences, ("red", "blue"), strict=True):
        assert len(sequence.frames) == 4
        assert sequence.truth[[0, 3]] == pytest.approx(
            np.array([place(color, t).scaled(0.8, 0.8) for t in (0, 6)]), abs=0.01
        )
        assert np.isnan(sequence.truth[[1, 2]]).all()


def test_drawn_boxes_alone_need_no_model(tmp_path, videos, capsys):
    clips = write_csv(tmp_path / "clips.csv", ("balls.avi", 1, 8, 0, 0, *place("red", 0)))
    command = ["label", str(clips), "--videos", str(videos), "--out", str(tmp_path / "out"), "--drawn"]
    assert main([*command, "--model", "siamfc_sot"]) != 0
    assert "--drawn follows nothing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (("notes.txt", 1, 8, 0, 0, 1, 1, 50, 50), "notes.txt cannot be read as a video"),
        (("balls.avi", 1, 8, 0, 0, 900, 10, 50, 50), "balls.avi: box (720, 8, 40, 40) refused"),
        (("balls.avi", 0, 8, 0, 0, 1, 1, 50, 50), "clips.csv refused: rows video,step,frames,target,frame,x,y,w,h"),
        (("balls.avi", 1, 8, 0, 0, "left", 1, 50, 50), "clips.csv refused: rows video,step,frames,target,frame,x,y"),
        (("balls.avi", 1, 8, 0, 0, 1, 1), "clips.csv refused: rows video,step,frames,target,frame,x,y,w,h"),
        (("balls.avi", 1, 8, 0, 3, 1, 1, 50, 50), "one of each target for frame 0"),
        (("balls.avi", 1, 8, 0, 8, 1, 1, 50, 50), "one of each target for frame 0"),
    ],
)
def test_what_cannot_be_labelled_is_refused_with_the_reason(tmp_path, videos, capsys, row, why):
    status, _ = run(tmp_path, videos, row)
    assert status == 1
    assert why in capsys.readouterr().err


def test_videos_are_looked_for_before_the_work(tmp_path, videos, capsys):
    rows = ("balls.avi", 1, 8, 0, 0, *place("red", 0)), ("zoo.avi", 1, 8, 0, 0, 1, 1, 50, 50)
    status, out = run(tmp_path, videos, *rows)
    assert status == 1
    assert f"{videos} lacks 1 of the videos, the first of them zoo.avi" in capsys.readouterr().err
    assert not out.exists()


def test_a_box_that_nothing_fills_gets_no_outline():
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    assert outline_in(noise, Box(60, 60, 80, 80)) == []


def test_an_object_at_the_image_border_gets_its_outline():
    image = np.full((200, 300, 3), 90, np.uint8)
    image += np.random.default_rng(0).integers(0, 10, image.shape, np.uint8)
    image[120:, 200:] = (220, 40, 40)
    outline = outline_in(image, Box(203, 118, 105, 84))
    assert iou(enclosing_box(outline), enclosing_box([corners(200, 120, 100, 80)])) > 0.9


def test_the_listed_public_clips_can_be_read_and_those_held_out_are_others():
    folder = Path(sot_ros.training.__path__[0])
    clips, held_out = (read_clips(folder / name) for name in ("clips.csv", "clips_held_out.csv"))
    for some, fewest in ((clips, 300), (held_out, 20)):
        assert len(some) == len({(clip.video, clip.step, clip.boxes[0]) for clip in some}) > fewest
    assert not {clip.video for clip in clips} & {clip.video for clip in held_out}
