"""Lists the models: what each is, and where its weights come from."""

from __future__ import annotations

import argparse
from pathlib import Path

import yaml

FACTS = Path(__file__).parent.parent / "trackers" / "models.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--markdown", action="store_true", help="everything that is known of them, as a table")


def run(args: argparse.Namespace) -> None:
    print(markdown() if args.markdown else plain())


def plain() -> str:
    """Two lines a model."""
    facts, origins = read_facts(), weights_origins()
    width = max(map(len, facts))
    rows = (f"{name:{width}}  {f['about']}\n{'':{width}}  weights: {origins[name]}" for name, f in facts.items())
    return "\n".join(rows)


def markdown() -> str:
    """The table in docs/models.md."""
    origins = weights_origins()
    lines = [
        "| model | what it is | published accuracy, % | published frames/s "
        "| M parameters | GMACs | ms on 2 CPU cores | weights |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, f in read_facts().items():
        cells = (f["about"], f["accuracy"], f["speed"], f["millions"], f["gmacs"], f["cpu_ms"], origins[name])
        lines.append(f"| `{name}` | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def read_facts() -> dict[str, dict[str, str | float]]:
    """What sot_ros/trackers/models.yaml says of each model."""
    return yaml.safe_load(FACTS.read_text())


def weights_origins() -> dict[str, str]:
    """Where the weights of each model come from."""
    from sot_ros.trackers.models import DEFAULT_MODEL, MODELS, SHIPPED_WEIGHTS

    origins = {}
    for name, row in MODELS.items():
        shipped = (SHIPPED_WEIGHTS / f"{name}.safetensors").is_file()
        origin = "shipped" if shipped else row.published or "train it with sot train"
        origins[name] = origin + (" (the default)" if name == DEFAULT_MODEL else "")
    return origins
