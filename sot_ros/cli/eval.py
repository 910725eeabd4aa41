"""Runs a model over annotated sequences and prints how well and how fast it tracks."""

from __future__ import annotations

import argparse
from pathlib import Path

import yaml


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="a sequence (img/ and groundtruth_rect.txt), or a folder of them")
    parser.add_argument("--model", help="a name from `sot models`; the shipped default by default")
    parser.add_argument("--weights", help="a checkpoint, or 'random'; the shipped weights by default")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; CUDA where there is one by default")
    parser.add_argument("--precision", default="fp32", help="fp32, fp16 or bf16")
    parser.add_argument("--set", metavar="NAME=VALUE", action="append", default=[], help="change a model's setting")


def run(args: argparse.Namespace) -> None:
    import numpy as np
    from tqdm import tqdm

    from sot_ros.evaluation.sequences import evaluate, find_sequences
    from sot_ros.trackers.models import DEFAULT_MODEL, create_tracker

    model = args.model or DEFAULT_MODEL
    tracker = create_tracker(model, args.weights, args.device, args.precision, **parse_settings(args.set))
    sequences = find_sequences(args.folder)
    results = [evaluate(tracker, s) for s in tqdm(sequences, desc=model, unit="sequence", leave=False)]
    rows = [(r.sequence.name, len(r.boxes), r.auc, r.precision, r.fps) for r in results]
    width = max(len("sequence"), *(len(row[0]) for row in rows))
    print(f"{'sequence':{width}}  frames    AUC  prec.20    fps")
    for row in [*rows, ("mean", sum(r[1] for r in rows), *(np.mean([r[i] for r in rows]) for i in (2, 3, 4)))]:
        print(f"{row[0]:{width}}  {row[1]:6d}  {row[2]:.3f}  {row[3]:7.3f}  {row[4]:5.1f}")


def parse_settings(assignments: list[str]) -> dict[str, float | int | bool | str]:
    """["window_influence=0.3"] -> {"window_influence": 0.3}; raises ValueError for what is no NAME=VALUE."""
    settings = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not name or not equals:
            raise ValueError(f"--set {assignment} refused: NAME=VALUE is accepted")
        settings[name] = yaml.safe_load(value)
    return settings
