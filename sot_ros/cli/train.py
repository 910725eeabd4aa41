"""Trains the default model."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, help="YAML file, such as sot_ros/training/sot_mobile.yaml")
    parser.add_argument("--data", type=Path, required=True, help="folder that the file's data entries lie in")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, record and checkpoint")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; CUDA where there is one by default")
    parser.add_argument("--init", type=Path, help="weights to start from, to fine-tune; ImageNet's by default")


def run(args: argparse.Namespace) -> None:
    from sot_ros.training.train import train

    held_out = train(args.config, args.data, args.out, args.device, args.init)
    for name, auc in held_out.items():
        print(f"{auc:.3f}  {name}")
    print(f"weights: {args.out / 'sot_mobile.safetensors'}")
