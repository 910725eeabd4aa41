"""Times models on this machine: whole frames, their parts, and the least that they could take here."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sot_ros.cli.eval import parse_settings

if TYPE_CHECKING:
    import numpy as np

    from sot_ros.geometry import Box

COLUMNS = {
    "model": "{model}",
    "backend": "{backend}",
    "precision": "{precision}",
    "p50 ms": "{p50:.1f}",
    "p95 ms": "{p95:.1f}",
    "frames/s": "{fps:.1f}",
    "crop %": "{crop:.0%}",
    "network %": "{network:.0%}",
    "decode %": "{decode:.0%}",
    "MB": "{memory_mb:.0f}",
    "GFLOP/s": "{gflops:.0f}",
    "GB/s": "{gbytes:.1f}",
    "floor ms": "{floor:.1f}",
    "over floor": "{over_floor:.1f}",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names from `sot models`; the default by default")
    parser.add_argument("--weights", help="a checkpoint, 'random', or an .onnx; by default shipped ones or random")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; CUDA where there is one by default")
    parser.add_argument("--precisions", default="fp32", help="some of fp32,tf32,fp16,bf16,int8,auto")
    parser.add_argument("--backends", default="torch", help="some of torch,onnxruntime")
    parser.add_argument("--compile", default="auto", help="auto, inductor or off: how much makes PyTorch faster")
    parser.add_argument("--sequence", type=Path, help="take images and box from img/ and groundtruth_rect.txt in there")
    parser.add_argument("--seconds", type=float, default=5.0, help="to time each row for, at least; 5 by default")
    parser.add_argument(
        "--against",
        metavar="NAME=COMMAND",
        action="append",
        default=[],
        help="time another program in turn: it says `ready`, then the milliseconds of a frame for each line it reads",
    )
    parser.add_argument("--json", type=Path, help="write the rows to this file, too")
    parser.add_argument("--plot", type=Path, help="write a plot to this file, too; needs matplotlib")
    parser.add_argument("--set", metavar="NAME=VALUE", action="append", default=[], help="change a model's setting")


def run(args: argparse.Namespace) -> None:
    from sot_ros.evaluation.speed import alone, as_dict, measure, rates, work
    from sot_ros.trackers.models import DEFAULT_MODEL, find_model

    models = args.models or [DEFAULT_MODEL]
    for model in models:
        find_model(model)
    settings = parse_settings(args.set)
    against = parse_programs(args.against)
    images, box = frames(args.sequence)
    precisions = args.precisions.split(",")
    device = "cuda" if args.device == "tensorrt" else args.device  # as PyTorch, which measures the rates, calls it
    print("| " + " | ".join([*COLUMNS, *(f"{name} ms, ours over it" for name in against)]) + " |")
    print("|---" * (len(COLUMNS) + len(against)) + "|", flush=True)
    rows = []
    for model in models:
        operations, size = alone(work, model, **settings)
        for backend, precision in ((b, p) for b in args.backends.split(",") for p in precisions):
            weights = args.weights or default_weights(model, backend)
            options = {"weights": weights, "device": args.device, "precision": precision, "backend": backend}
            options["compile"] = args.compile
            speed = alone(measure, model, images, box, args.seconds, against, **options, **settings)
            # Beside each row, for a machine is not as fast at all times.
            machine = alone(rates, device, speed.precision)
            rows.append(as_dict(speed, machine, machine.floor(operations, size)))
            print(line(rows[-1]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2))
    if args.plot:
        plot(rows, args.plot)


def parse_programs(assignments: list[str]) -> dict[str, str]:
    """["theirs=python their.py"] -> {"theirs": "python their.py"}; raises ValueError for what is no NAME=COMMAND."""
    programs = {}
    for assignment in assignments:
        name, equals, command = assignment.partition("=")
        if not name or not command:
            raise ValueError(f"--against {assignment} refused: NAME=COMMAND is accepted")
        programs[name] = command
    return programs


def frames(folder: Path | None) -> tuple[list[np.ndarray], Box]:
    """The first images of a sequence and its first box; without one, noise of 1280x720 pixels with a box in it."""
    import numpy as np

    from sot_ros.evaluation.sequences import read_image, read_sequence
    from sot_ros.geometry import Box

    count = 8
    if folder is None:
        random = np.random.default_rng(0)
        return [random.integers(0, 256, (720, 1280, 3), dtype=np.uint8) for _ in range(count)], Box(580, 310, 120, 100)
    sequence = read_sequence(folder)
    return [read_image(path) for path in sequence.frames[:count]], Box(*map(float, sequence.truth[0]))


def default_weights(model: str, backend: str) -> str | None:
    """The shipped weights where there are some, else random ones: they take as long."""
    from sot_ros.trackers.models import SHIPPED_WEIGHTS

    if backend == "onnxruntime":
        return f"{model}.onnx"
    return None if (SHIPPED_WEIGHTS / f"{model}.safetensors").is_file() else "random"


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    others = [f"{other['p50']:.1f}, {other['ratio']:.2f}" for other in row["against"].values()]
    return "| " + " | ".join([*(text.format(**row) for text in COLUMNS.values()), *others]) + " |"


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Bars: the median time of each row, its parts, and its floor."""
    from sot_ros.cli.plots import pyplot

    names = [f"{row['model']}, {row['backend']}, {row['precision']}" for row in rows]
    figure, axes = pyplot().subplots(figsize=(9, 1.2 + 0.35 * len(rows)), layout="constrained")
    left = [0.0] * len(rows)
    for part in ("crop", "network", "decode"):
        widths = [row["p50"] * row[part] for row in rows]
        axes.barh(names, widths, left=left, label=part)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.plot([row["floor"] for row in rows], names, "k|", markersize=14, label="floor")
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds for a frame, median")
    axes.legend()
    figure.savefig(path)
