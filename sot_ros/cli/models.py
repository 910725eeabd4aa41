"""Lists the models, and where their weights come from."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`sot models` has none."""


def run(args: argparse.Namespace) -> None:
    from sot_ros.trackers.models import DEFAULT_MODEL, MODELS, SHIPPED_WEIGHTS

    width = max(map(len, MODELS))
    for name, row in MODELS.items():
        shipped = (SHIPPED_WEIGHTS / f"{name}.safetensors").is_file()
        origin = "shipped" if shipped else row.published or "train it with sot train"
        print(f"{name:{width}}  {origin}{' (the default)' if name == DEFAULT_MODEL else ''}")
