"""Runs a model over annotated sequences and prints how well and how fast it tracks."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from sot_ros.evaluation.confidence import Probe
    from sot_ros.evaluation.sequences import Result, Sequence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    parser.add_argument("--nanotrack", type=Path, metavar="DIR", help="also run OpenCV's NanoTrack on these ONNX files")
    parser.add_argument("--untrained", action="store_true", help="also run a tracker that nobody trained")
    parser.add_argument("--sre", action="store_true", help="also start from twelve first boxes that are a little wrong")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="track every Nth frame only")
    parser.add_argument("--plot", type=Path, help="write IoU over time of each sequence to this file; needs matplotlib")
    parser.add_argument("--confidence", action="store_true", help="also say what the model's confidence is worth")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """What every command has that runs one model over sequences."""
    parser.add_argument("folder", type=Path, help="a sequence (img/ and groundtruth_rect.txt), or a folder of them")
    parser.add_argument("--model", help="a name from `sot models`; the shipped default by default")
    parser.add_argument("--weights", help="a checkpoint, or 'random'; the shipped weights by default")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; CUDA where there is one by default")
    parser.add_argument("--precision", default="fp32", help="fp32, tf32, fp16, bf16, int8 or auto")
    parser.add_argument("--held-out", type=Path, metavar="CONFIG", help="tracks under FOLDER that a training holds out")
    parser.add_argument("--set", metavar="NAME=VALUE", action="append", default=[], help="change a model's setting")


def run(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from sot_ros.evaluation.confidence import probe
    from sot_ros.evaluation.nanotrack import NanoTrack
    from sot_ros.evaluation.sequences import both_ways, disturbed_starts, evaluate, every
    from sot_ros.trackers.models import DEFAULT_MODEL, create_tracker
    from sot_ros.training.untrained import Untrained

    model = args.model or DEFAULT_MODEL
    settings = parse_settings(args.set)
    trackers = {model: create_tracker(model, args.weights, args.device, args.precision, **settings)}
    if args.nanotrack:
        trackers["nanotrack"] = NanoTrack(args.nanotrack)
    if args.untrained:
        trackers["untrained"] = Untrained()
    sequences = every(args.every, sequences_of(args))
    passes = both_ways(sequences) if args.held_out else sequences
    results = {}
    for name, tracker in trackers.items():
        results[name], disturbed = [], []
        for s in tqdm(passes, desc=name, unit="sequence", leave=False):
            results[name].append(evaluate(tracker, s))
            if args.sre:
                disturbed.append([evaluate(tracker, s, start).auc for start in disturbed_starts(s.truth[0])])
        print_table(results[name], disturbed, heading=f"{name}\n" if len(trackers) > 1 else "")
    if args.plot:
        plot(results, args.plot)
    if args.confidence:
        print_confidence(list(tqdm(probe(trackers[model], sequences), desc="confidence", leave=False)))


def print_table(results: list[Result], disturbed: list[list[float]], heading: str = "") -> None:
    """A row for each sequence and the mean; and the mean and least of the AUCs from disturbed starts, if there are."""
    columns = {"AUC": ".3f", "prec.20": ".3f", "fps": ".1f"} | ({"SRE": ".3f", "least": ".3f"} if disturbed else {})
    rows = [[r.auc, r.precision, r.fps] for r in results]
    for row, aucs in zip(rows, disturbed, strict=False):
        row += [sum(aucs) / len(aucs), min(aucs)]
    rows.append([sum(column) / len(rows) for column in zip(*rows, strict=True)])
    names, frames = [r.sequence.name for r in results] + ["mean"], [len(r.boxes) for r in results]
    width = max(len("sequence"), *map(len, names))
    print(f"{heading}{'sequence':{width}}  frames" + "".join(f"  {name:>7}" for name in columns))
    for name, count, row in zip(names, [*frames, sum(frames)], rows, strict=True):
        cells = "".join(f"  {value:7{form}}" for value, form in zip(row, columns.values(), strict=True))
        print(f"{name:{width}}  {count:6d}{cells}")


def plot(results: dict[str, list[Result]], path: Path) -> None:
    """IoU over time, a field for each sequence and a line for each tracker; and the first one's confidence."""
    import numpy as np

    from sot_ros.cli.plots import pyplot
    from sot_ros.evaluation.metrics import ious

    (first, *_), columns = results.values(), 2
    shape = -(-len(first) // columns), columns
    figure, fields = pyplot().subplots(
        *shape, figsize=(11, 0.7 + 1.4 * shape[0]), sharey=True, squeeze=False, layout="constrained"
    )
    for field in fields.flat[len(first) :]:
        field.axis("off")
    for i, field in zip(range(len(first)), fields.flat, strict=False):
        for name, of_tracker in results.items():
            overlap = ious(of_tracker[i].boxes, of_tracker[i].sequence.truth)
            field.plot(np.where(np.isnan(of_tracker[i].sequence.truth[:, 0]), np.nan, overlap), label=name, linewidth=1)
        field.plot(first[i].confidences, "k:", label=f"confidence of {next(iter(results))}", linewidth=0.8)
        field.set_title(first[i].sequence.name, fontsize=9)
        field.set_ylim(0, 1)
    figure.supxlabel("frame")
    figure.supylabel("IoU")
    figure.legend(*fields.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(results) + 1)
    figure.savefig(path)


def print_confidence(probes: list[Probe]) -> None:
    """How well a target that is there is told from one that is not, and how often the tracker is right."""
    import numpy as np

    from sot_ros.evaluation.confidence import presence_area
    from sot_ros.evaluation.metrics import calibration

    for names in (("target",), ("cover",), ("elsewhere",), ("cover", "elsewhere")):
        values = [p.confidence for p in probes if p.shown in names]
        if not values:
            continue
        area = "" if names == ("target",) else f", area under ROC {presence_area(probes, names):.3f}"
        print(f"{' or '.join(names)}: mean confidence {np.mean(values):.3f} on {len(values)} frames{area}")
    print("confidence  right  frames")
    confidences, right = np.array([p[1:] for p in probes]).T
    for mean, share, count in calibration(confidences, right):
        print(f"{mean:10.2f}  {share:5.2f}  {count:6d}")


def sequences_of(args: argparse.Namespace) -> list[Sequence]:
    """The sequences in the folder, or those of the tracks in it that a training holds out."""
    from sot_ros.evaluation.sequences import find_sequences
    from sot_ros.training.train import held_out_sequences

    if args.held_out:
        return held_out_sequences(args.folder, yaml.safe_load(args.held_out.read_text())["data"])
    return find_sequences(args.folder)


def parse_settings(assignments: list[str]) -> dict[str, float | int | bool | str]:
    """["window_influence=0.3"] -> {"window_influence": 0.3}; raises ValueError for what is no NAME=VALUE."""
    settings = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not name or not equals:
            raise ValueError(f"--set {assignment} refused: NAME=VALUE is accepted")
        settings[name] = parse_value(value)
    return settings


def parse_value(text: str) -> float | int | bool | str:
    """A value as YAML reads it, but that 2e-5 is a number, too."""
    value = yaml.safe_load(text)
    if isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    return value
