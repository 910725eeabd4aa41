"""The program `sot`: one subcommand, one file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from sot_ros.cli import absences, average, bench, eval, export, label, models, train

SUBCOMMANDS = {
    "train": train,
    "average": average,
    "label": label,
    "eval": eval,
    "absences": absences,
    "bench": bench,
    "export": export,
    "models": models,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `sot` with these arguments, the process's own by default, and return its exit status."""
    parser = argparse.ArgumentParser(
        "sot", description="Single-object trackers: train, average, label, evaluate, time, export, list."
    )
    commands = parser.add_subparsers(metavar="command", required=True)
    for name, module in SUBCOMMANDS.items():
        summary = module.__doc__.strip()
        command = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    try:
        args.run(args)
    except (ValueError, FileNotFoundError) as error:
        print(f"sot: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
