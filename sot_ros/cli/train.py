"""Trains or fine-tunes a model on one's own data."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, help="YAML file, such as sot_ros/training/sot_mobile.yaml")
    parser.add_argument("--data", type=Path, required=True, help="folder that the file's data entries lie in")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, record and checkpoint")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; CUDA where there is one by default")
    parser.add_argument("--init", type=Path, help="a weights file to go on from, such as a shipped one")
    parser.add_argument("--set", metavar="NAME=VALUE", action="append", default=[], help="change a value of the file")


def run(args: argparse.Namespace) -> None:
    from sot_ros.cli.eval import parse_settings
    from sot_ros.training.train import train

    changes = parse_settings(args.set)
    held_out = train(args.config, args.data, args.out, args.device, args.init, **changes)
    for name, auc in held_out.items():
        print(f"{auc:.3f}  {name}")
