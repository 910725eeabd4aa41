"""What a session, or a tracker alone, says of targets that go away and come back, and how right that is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from sot_ros.evaluation.absences import AFTER, Clip
from sot_ros.evaluation.sequences import Result, evaluate
from sot_ros.evaluation.sequences import Sequence as Annotated
from sot_ros.geometry import Box, iou
from sot_ros.session import Session, State
from sot_ros.trackers.base import Estimate, Tracker

RATE = 30.0
"""Frames a second that a session is told."""
ABSENT, PRESENT = 0.1, 0.5
"""Share of the target in view: up to ABSENT it counts as absent, from PRESENT on as back."""
NOTICED_WITHIN = 10
"""Frames."""


class Claim(NamedTuple):
    """A box on one frame, and whether the target is said to be there."""

    box: Box
    claimed: bool


class Outcome(NamedTuple):
    """How one clip went."""

    kind: str
    absent: int
    """Frames without the target."""
    false_claims: int
    """Those of them on which it was claimed."""
    noticed: int | None
    """Frames from the first of them to the first without a claim; None where every one had a claim."""
    recovered: int | None
    """Frames from the target's return to the first claim with an IoU above 0.5; None for AFTER or more."""


def follow(session: Session, clip: Clip) -> list[Claim]:
    """What a session says of each frame of a clip but the first: TRACKING is a claim."""
    moments = clip.moments()
    first = next(moments)
    session.start(first.image, first.truth, 0.0)
    targets = [session.update(moment.image, t / RATE) for t, moment in enumerate(moments, 1)]
    return [Claim(target.box, target.state is State.TRACKING) for target in targets]


def follow_alone(tracker: Tracker, clip: Clip) -> list[Estimate]:
    """What a tracker says of each frame of a clip but the first."""
    moments = clip.moments()
    first = next(moments)
    tracker.initialize(first.image, first.truth)
    return [tracker.track(moment.image) for moment in moments]


def claims_from(estimates: Iterable[Estimate], threshold: float) -> list[Claim]:
    """The claims of a tracker that is believed from a confidence of `threshold` on."""
    return [Claim(box, confidence >= threshold) for box, confidence in estimates]


def judge(clip: Clip, claims: Sequence[Claim]) -> Outcome:
    """Compare what was said on each frame of a clip but the first with the truth."""
    truths = [(truth, visible) for _, truth, visible in clip.moments()][1:]
    absent = [visible <= ABSENT for _, visible in truths]
    gone = absent.index(True)
    back = next(t for t in range(gone, len(truths)) if truths[t][1] >= PRESENT)
    unclaimed = (t - gone for t in range(gone, back) if absent[t] and not claims[t].claimed)
    right = (t - back for t in range(back, len(truths)) if claims[t].claimed and iou(claims[t].box, truths[t][0]) > 0.5)
    recovered = next(right, AFTER)
    return Outcome(
        clip.kind,
        absent=sum(absent),
        false_claims=sum(a and c.claimed for a, c in zip(absent, claims, strict=True)),
        noticed=next(unclaimed, None),
        recovered=recovered if recovered < AFTER else None,
    )


class Summary(NamedTuple):
    """The figures over some clips. Shares are 0..1; medians are over the clips where the thing happened."""

    clips: int
    noticed: float
    """Share of the clips whose absence was noticed within NOTICED_WITHIN frames."""
    frames_to_notice: float
    false_claims: float
    """Share of all absent frames on which the target was claimed."""
    recovered: float
    frames_to_recover: float


def summarize(outcomes: Sequence[Outcome]) -> Summary:
    noticed = [o.noticed for o in outcomes if o.noticed is not None]
    recovered = [o.recovered for o in outcomes if o.recovered is not None]
    return Summary(
        len(outcomes),
        sum(n < NOTICED_WITHIN for n in noticed) / len(outcomes),
        float(np.median(noticed)) if noticed else float("nan"),
        sum(o.false_claims for o in outcomes) / sum(o.absent for o in outcomes),
        len(recovered) / len(outcomes),
        float(np.median(recovered)) if recovered else float("nan"),
    )


class InSession:
    """A session as a tracker for `evaluate`: what it publishes, at RATE."""

    def __init__(self, session: Session):
        self.session = session
        self.states: list[State] = []

    def initialize(self, image: np.ndarray, box: Sequence[float]) -> None:
        self.session.start(image, box, 0.0)
        self.states = []

    def track(self, image: np.ndarray) -> Estimate:
        target = self.session.update(image, (len(self.states) + 1) / RATE)
        self.states.append(target.state)
        return Estimate(target.box, target.confidence)


def evaluate_session(session: Session, sequence: Annotated) -> tuple[Result, float]:
    """One pass over a sequence as it is: the boxes, and the share of frames with the target without TRACKING."""
    follower = InSession(session)
    result = evaluate(follower, sequence)
    known = ~np.isnan(sequence.truth).any(axis=1)[1:]
    return result, float(np.mean(np.array(follower.states)[known] != State.TRACKING))
