"""Writes a model as ONNX graphs, for the backend onnxruntime."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

from sot_ros.cli.eval import parse_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a name from `sot models`")
    parser.add_argument("--weights", help="a checkpoint, or 'random'; the shipped weights by default")
    parser.add_argument("--out", type=Path, help="the file to write; MODEL.onnx by default")
    parser.add_argument("--set", metavar="NAME=VALUE", action="append", default=[], help="change a model's setting")


def run(args: argparse.Namespace) -> None:
    for package in ("onnx", "onnxscript"):
        if find_spec(package) is None:
            raise ValueError(f"{package} is not installed: pip install onnx onnxscript onnxruntime")

    from sot_ros.trackers.models import create_tracker
    from sot_ros.trackers.onnx_graphs import check, export, graph_files

    path = args.out or Path(f"{args.model}.onnx")
    if path.suffix != ".onnx":
        raise ValueError(f"--out {path} refused: a name that ends with .onnx is accepted")
    tracker = create_tracker(args.model, args.weights, "cpu", compile="off", **parse_settings(args.set))
    export(args.model, tracker, path)
    for name, file in graph_files(path).items():
        size = file.stat().st_size / 1e6
        print(f"{file}: {size:.1f} MB, within {check(tracker, name, file):.1e} of PyTorch's largest value")
