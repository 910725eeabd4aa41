"""Makes one model of several of a kind: the mean of their weights."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    files = "files of one model, such as `sot train` writes; one that is named twice has two shares"
    parser.add_argument("weights", type=Path, nargs="+", help=files)
    parser.add_argument("--out", type=Path, required=True, help="the file to write, FILE.safetensors")


def run(args: argparse.Namespace) -> None:
    from sot_ros.training.average import average

    average(args.weights, args.out)
