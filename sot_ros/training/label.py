"""From one box in a clip to training data: outlines on which a tracker, there and back, and the image agree."""

from __future__ import annotations

import csv
import json
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from sot_ros.evaluation.sequences import Sequence, evaluate, read_image
from sot_ros.geometry import Box, iou
from sot_ros.trackers.base import Tracker
from sot_ros.training.data import cut_out, enclosing_box, outlines

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


class Clip(NamedTuple):
    """Where a target is to be followed in a video: from its box on the first frame, over `frames` frames at most, each
    `step` frames of the video after the one before."""

    video: str
    step: int
    frames: int
    box: Box


def read_clips(file: Path) -> list[Clip]:
    """The rows video, step, frames, x, y, w, h of a CSV file with these names in its first line; x and y are 0-indexed,
    in pixels of the video."""
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    try:
        clips = [Clip(r["video"], int(r["step"]), int(r["frames"]), Box(*(float(r[c]) for c in "xywh"))) for r in rows]
    except (KeyError, TypeError, ValueError):
        clips = []
    if not clips or min(min(c.step, c.frames) for c in clips) < 1:
        raise ValueError(f"{file} refused: rows video,step,frames,x,y,w,h under a line with these names are accepted")
    return clips


def label(clips: list[Clip], videos: Path, out: Path, tracker: Tracker) -> tuple[int, int]:
    """Label what can be labelled of `clips`, whose videos lie in `videos`; say how many targets and boxes that are.

    Writes the frames as JPEG files, a folder of `out` for each video, and out/labels.json: tracks in COCO's JSON, for
    `sot train` and others to read. Raises ValueError for a video that is missing, before anything is written, one that
    cannot be read, or a box that is not in it.
    """
    missing = sorted({clip.video for clip in clips if not (videos / clip.video).is_file()})
    if missing:
        raise ValueError(f"{videos} lacks {len(missing)} of the videos, the first of them {missing[0]}")
    images: dict[Path, dict[str, object]] = {}
    annotations: list[dict[str, object]] = []
    targets = 0
    by_video = [list(group) for _, group in groupby(sorted(clips), key=lambda clip: (clip.video, clip.step))]
    for number, group in enumerate(tqdm(by_video, desc="label", unit="video")):
        video, step = group[0][:2]
        frames, scale = write_frames(videos / video, step, max(c.frames for c in group), out / f"{number:04d}")
        for clip in group:
            try:
                found = follow(tracker, frames[: clip.frames], clip.box.scaled(scale, scale))
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


def follow(tracker: Tracker, frames: list[Path], box: Box) -> dict[int, list[np.ndarray]]:
    """The target's outlines, polygons of (N, 2) points, on those `frames` where they are certain, by number.

    The target is in `box` on the first frame. The tracker follows it to the end, and back from the last frame on which
    it is sure.
    """
    given = np.full((len(frames), 4), np.nan)
    given[0] = box
    there = evaluate(tracker, Sequence("there", frames, given))
    sure = np.flatnonzero(there.confidences > SURE)
    back = evaluate(tracker, Sequence("back", frames[sure[-1] :: -1], there.boxes[sure[-1] :: -1])).boxes[::-1]
    found = {}
    for i in sure.tolist():
        a, b = there.boxes[i], back[i]
        if iou(Box(*a), Box(*b)) > AGREEMENT:
            outline = outline_in(read_image(frames[i]), Box(*((a + b) / 2)))
            if outline:
                found[i] = outline
    return found


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
