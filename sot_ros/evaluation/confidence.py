"""What a tracker's confidence is worth: the same frames with the target there, covered, and elsewhere."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from sot_ros.evaluation.absences import covered
from sot_ros.evaluation.metrics import roc_area
from sot_ros.evaluation.sequences import Sequence as Annotated
from sot_ros.evaluation.sequences import read_image
from sot_ros.geometry import Box, iou
from sot_ros.trackers.base import Tracker


class Probe(NamedTuple):
    """What the tracker said once: `shown` is target, cover or elsewhere; right means a box with IoU above 0.5."""

    shown: str
    confidence: float
    right: bool


def probe(tracker: Tracker, sequences: Sequence[Annotated], every: int = 5) -> Iterator[Probe]:
    """Ask for every `every`-th frame, with the tracker put back on the frame before, so that drift does not count.

    Each frame is shown as it is, with the target covered by what lies beside it, and, where there are several
    sequences, replaced by the same frame of the next one. Sequences begin with the target in view.
    """
    for i, sequence in enumerate(sequences):
        other = sequences[(i + 1) % len(sequences)]
        tracker.initialize(read_image(sequence.frames[0]), sequence.truth[0])
        known = ~np.isnan(sequence.truth).any(axis=1)
        for t in range(every, len(known), every):
            if not (known[t - 1] and known[t]):
                continue
            image, truth = read_image(sequence.frames[t]), Box(*sequence.truth[t].tolist())
            shown = {"target": image, "cover": covered(image, truth)}
            if other is not sequence:
                elsewhere = read_image(other.frames[t % len(other.frames)])
                shown["elsewhere"] = cv2.resize(elsewhere, (image.shape[1], image.shape[0]))
            for name, view in shown.items():
                asked = copy.copy(tracker)  # so that it remembers nothing of what it was shown before
                asked.box = sequence.truth[t - 1]
                box, confidence = asked.track(view)
                yield Probe(name, confidence, name == "target" and iou(box, truth) > 0.5)


def presence_area(probes: Sequence[Probe], absent: Sequence[str] = ("cover", "elsewhere")) -> float:
    """Area under the ROC of the confidence, between the target shown and what is named in `absent` shown instead."""
    there, gone = ([p.confidence for p in probes if p.shown in names] for names in (("target",), absent))
    return roc_area(np.array(there), np.array(gone))
