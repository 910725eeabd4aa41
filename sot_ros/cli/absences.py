"""Makes targets go away and come back, and prints how well that is noticed, with a session and without."""

from __future__ import annotations

import argparse

from sot_ros.cli import eval


def add_arguments(parser: argparse.ArgumentParser) -> None:
    eval.add_model_arguments(parser)
    parser.add_argument("--session-only", action="store_true", help="not what the tracker does alone, which takes long")


def run(args: argparse.Namespace) -> None:
    import dataclasses

    import numpy as np
    from tqdm import tqdm

    from sot_ros.evaluation.absences import absences
    from sot_ros.evaluation.recovery import claims_from, evaluate_session, follow, follow_alone, judge, summarize
    from sot_ros.evaluation.sequences import evaluate
    from sot_ros.session import Session, Thresholds
    from sot_ros.trackers.models import DEFAULT_MODEL, create_tracker, find_model
    from sot_ros.trackers.settings import override

    model = args.model or DEFAULT_MODEL
    row, given = find_model(model), eval.parse_settings(args.set)
    thresholds = Thresholds(row.occluded_below, row.tracking_above)
    names = {field.name for field in dataclasses.fields(thresholds)} & set(given)
    thresholds = override(thresholds, **{name: given.pop(name) for name in names})
    tracker = create_tracker(model, args.weights, args.device, args.precision, **given)
    sequences = eval.sequences_of(args)

    outcomes = {"session": [], "tracker alone": [], f"from {thresholds.tracking_above:g} on": []}
    for clip in tqdm(absences(sequences), desc=model, unit="clip", leave=False):
        outcomes["session"].append(judge(clip, follow(Session(tracker, thresholds), clip)))
        if not args.session_only:
            alone = follow_alone(tracker, clip)
            for name, threshold in zip(list(outcomes)[1:], (0.0, thresholds.tracking_above), strict=True):
                outcomes[name].append(judge(clip, claims_from(alone, threshold)))
    print(f"{'':14}  {'absence':8}  clips  noticed  frames  false claims  recovered  frames")
    for name, found in outcomes.items():
        kinds = list(dict.fromkeys(o.kind for o in found))
        for kind in [*kinds, "all"] if found else []:
            s = summarize([o for o in found if kind in (o.kind, "all")])
            print(
                f"{name:14}  {kind:8}  {s.clips:5d}  {s.noticed:7.1%}  {s.frames_to_notice:6.1f}"
                f"  {s.false_claims:12.1%}  {s.recovered:9.1%}  {s.frames_to_recover:6.1f}"
            )

    plain = [evaluate_session(Session(tracker, thresholds), s) for s in tqdm(sequences, desc="plain", leave=False)]
    print(f"sequences as they are: mean AUC {np.mean([r.auc for r, _ in plain]):.3f} in a session", end="")
    if not args.session_only:
        print(f", {np.mean([evaluate(tracker, s).auc for s in sequences]):.3f} of the tracker alone", end="")
    print(f"; not TRACKING a visible target on {np.mean([hidden for _, hidden in plain]):.1%} of the frames")
