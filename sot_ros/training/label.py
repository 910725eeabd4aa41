"""From a few boxes in a clip to training data: outlines on which a tracker, there and back, and the image agree."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from sot_ros.evaluation.sequences import GROUND_TRUTH, Result, Sequence, evaluate, read_image
from sot_ros.geometry import Box, iou
from sot_ros.trackers.base import Tracker
from sot_ros.training.data import corners, cut_out, enclosing_box, outlines

LONGEST_SIDE = 640
"""Pixels of the longer side of a video's frames, above which they are made smaller."""
AGREEMENT = 0.65
"""IoU that the boxes of both ways need."""
SURE = 0.4
"""Confidence that the way there needs: the default's own `unsure_below`."""
FIT = 0.72
"""IoU that the box of the outline needs with the box of both ways."""
FEWEST = 6
"""Frames without which a clip's target is left out."""
ROW = "video,step,frames,target,frame,x,y,w,h"


class Clip(NamedTuple):
    """A target in a video: its boxes by frame, as they were drawn, the first on frame 0. A frame is `step` frames of
    the video after the one before; there are `frames`, or fewer where the video ends."""

    video: str
    step: int
    frames: int
    boxes: dict[int, Box]

    def scaled(self, scale: float, count: int) -> dict[int, Box]:
        """The boxes on the first `count` frames, as large as on frames that were made smaller by `scale`."""
        return {i: box.scaled(scale, scale) for i, box in self.boxes.items() if i < count}


def read_clips(file: Path) -> list[Clip]:
    """The targets in a CSV file with the columns video, step, frames, target, frame, x, y, w, h, one row for each box;
    x and y are 0-indexed, in pixels of the video, `target` tells targets of one video apart."""
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    drawn: dict[tuple[str, int, int, str], dict[int, Box]] = defaultdict(dict)
    try:
        for r in rows:
            target = r["video"], int(r["step"]), int(r["frames"]), r["target"]
            drawn[target][int(r["frame"])] = Box(*(float(r[c]) for c in "xywh"))
    except (KeyError, TypeError, ValueError):
        drawn.clear()
    clips = [Clip(*target[:3], dict(sorted(boxes.items()))) for target, boxes in drawn.items()]
    if not clips or not all(c.step > 0 and min(c.boxes) == 0 and max(c.boxes) < c.frames for c in clips):
        raise ValueError(
            f"{file} refused: rows {ROW} under a line with these names are accepted, one of each target for frame 0, "
            "each for a frame below its `frames`"
        )
    return clips


def label(clips: list[Clip], videos: Path, out: Path, tracker: Tracker) -> tuple[int, int]:
    """Label what can be labelled of `clips`, whose videos lie in `videos`; say how many targets and boxes that are.

    Writes the frames as JPEG files, a folder of `out` for each video, and out/labels.json: tracks in COCO's JSON, for
    `sot train` and others to read. Raises ValueError for a video that is missing, before anything is written, one that
    cannot be read, or a box that is not in it.
    """
    _need(clips, videos)
    images: dict[Path, dict[str, object]] = {}
    annotations: list[dict[str, object]] = []
    targets = 0
    by_video = defaultdict(list)
    for clip in clips:
        by_video[clip.video, clip.step].append(clip)
    for number, ((video, step), group) in enumerate(tqdm(sorted(by_video.items()), desc="label", unit="video")):
        frames, scale = write_frames(videos / video, step, max(c.frames for c in group), out / f"{number:04d}")
        for clip in group:
            try:
                found = follow(tracker, frames[: clip.frames], clip.scaled(scale, len(frames)))
            except ValueError as error:
                raise ValueError(f"{video}: {error}") from None
            if len(found) < FEWEST:
                continue
            for i, outline in found.items():
                frame = {"file_name": str(frames[i].relative_to(out)), "video_id": number, "frame_id": i}
                image = images.setdefault(frames[i], {"id": len(images)} | frame)
                shape = [[round(float(n), 1) for n in points.ravel()] for points in outline]
                annotation = {"id": len(annotations), "image_id": image["id"], "track_id": targets, "category_id": 1}
                annotations.append(annotation | {"bbox": enclosing_box(outline), "segmentation": shape, "iscrowd": 0})
            targets += 1
    content = {"images": list(images.values()), "annotations": annotations, "categories": [{"id": 1, "name": "target"}]}
    (out / "labels.json").write_text(json.dumps(content))
    return targets, len(annotations)


def write_drawn(clips: list[Clip], videos: Path, out: Path) -> None:
    """Write each target as a sequence for `sot eval`, a folder of `out` with img/ and groundtruth_rect.txt: nothing but
    the boxes that were drawn, to the last of them. Raises ValueError for a video that is missing or cannot be read.
    """
    _need(clips, videos)
    for number, clip in enumerate(tqdm(clips, desc="write", unit="target")):
        folder = out / f"{number:04d}"
        frames, scale = write_frames(videos / clip.video, clip.step, max(clip.boxes) + 1, folder / "img")
        truth = _truth(clip.scaled(scale, len(frames)), len(frames))
        np.savetxt(folder / GROUND_TRUTH, truth + (1, 1, 0, 0), fmt="%.2f", delimiter=",")


def _need(clips: list[Clip], videos: Path) -> None:
    missing = sorted({clip.video for clip in clips if not (videos / clip.video).is_file()})
    if missing:
        raise ValueError(f"{videos} lacks {len(missing)} of the videos, the first of them {missing[0]}")


def write_frames(video: Path, step: int, count: int, folder: Path) -> tuple[list[Path], float]:
    """Write the first and every `step`-th frame of a video, at most `count`, into a folder, none larger than
    LONGEST_SIDE. Returns the files, and the scale.

    Raises ValueError for what OpenCV cannot read as a video.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written, scale, reader = [], 1.0, cv2.VideoCapture(str(video))
    while len(written) < count and (got := reader.read())[0]:
        scale = min(1.0, LONGEST_SIDE / max(got[1].shape[:2]))
        small = cv2.resize(got[1], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        written.append(folder / f"{len(written) + 1:08d}.jpg")
        cv2.imwrite(str(written[-1]), small, [cv2.IMWRITE_JPEG_QUALITY, 95])
        for _ in range(step - 1):
            reader.grab()
    if not written:
        raise ValueError(f"{video} cannot be read as a video")
    return written, scale


def follow(tracker: Tracker, frames: list[Path], drawn: dict[int, Box]) -> dict[int, list[np.ndarray]]:
    """The target's outlines, polygons of (N, 2) points, on those `frames` where they are certain, by number.

    The target is in the boxes that were `drawn`, the first of them on frame 0. From each, the tracker follows it to the
    next and back; from the last, to the end, and back from the last frame on which it is sure. A drawn box is kept as
    it is: its outline is the object's, if there is one, stretched to the box.
    """
    found = {}
    for first, last in pairwise([*drawn, None]):
        stretch = frames[first : None if last is None else last + 1]
        there = _track(tracker, stretch, drawn[first])
        sure = np.flatnonzero(there.confidences > SURE)
        end = sure[-1] if last is None else last - first
        back = _track(tracker, stretch[end::-1], Box(*there.boxes[end]) if last is None else drawn[last])
        for i in sure.tolist():
            a, b = there.boxes[i], back.boxes[end - i]
            if first + i not in drawn and iou(Box(*a), Box(*b)) > AGREEMENT:
                outline = outline_in(read_image(stretch[i]), Box(*((a + b) / 2)))
                if outline:
                    found[first + i] = outline
    for i, box in drawn.items():
        outline = outline_in(read_image(frames[i]), box)
        x, y, w, h = enclosing_box(outline)
        stretched = [(points - (x, y)) * (box.w / w, box.h / h) + (box.x, box.y) for points in outline]
        found[i] = stretched or [corners(*box)]
    return found


def _track(tracker: Tracker, frames: list[Path], box: Box) -> Result:
    """What `tracker` finds on `frames`, from `box` on the first of them on."""
    return evaluate(tracker, Sequence("clip", frames, _truth({0: box}, len(frames))))


def _truth(boxes: dict[int, Box], count: int) -> np.ndarray:
    """The boxes of `count` frames (count, 4), x, y, w, h; nan where none is known."""
    truth = np.full((count, 4), np.nan)
    truth[list(boxes)] = list(boxes.values())
    return truth


def outline_in(image: np.ndarray, box: Box, side: int = 170) -> list[np.ndarray]:
    """The outline of the object that fills `box`, polygons of (N, 2) points; none where there is no such object.

    GrabCut on what is around the box, made as small as `side`. An ellipse in the box may be the object, what is a
    little outside of the box is not. Taken is what is mostly in one piece, fills a third of its own box, and has the
    box that was given.
    """
    root = np.sqrt(box.w * box.h)
    height, width = image.shape[:2]
    left, top, right, bottom = (round(v) for v in _widened(box, 0.45 * root, width, height))
    part = image[top:bottom, left:right]
    scale = min(1.0, side / max(part.shape[:2]))
    part = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    labels = np.full(part.shape[:2], cv2.GC_BGD, np.uint8)
    near = np.array(_widened(box, 0.07 * root, width, height)) - (left, top, left, top)
    x1, y1, x2, y2 = (near * scale).round().astype(int)
    labels[y1:y2, x1:x2] = cv2.GC_PR_BGD
    cx, cy = box.center
    middle = ((cx - left) * scale, (cy - top) * scale), (0.84 * box.w * scale, 0.84 * box.h * scale), 0.0
    cv2.ellipse(labels, middle, cv2.GC_PR_FGD, -1)
    piece, share = cut_out(part, labels)
    outline = [points / np.float32(scale) + np.float32([left, top]) for points in outlines(piece)]
    found = enclosing_box(outline)
    fills = piece.sum() > scale**2 * found.w * found.h / 3
    return outline if share > 0.85 and fills and iou(found, box) > FIT else []


def _widened(box: Box, margin: float, width: int, height: int) -> tuple[float, float, float, float]:
    """Left, top, right and lower edge of a box with a margin, cut to the image."""
    x, y, w, h = box
    return max(0, x - margin), max(0, y - margin), min(width, x + w + margin), min(height, y + h + margin)
