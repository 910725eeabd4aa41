"""One model of several: the mean of weights that were trained from one another, or from the same start."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from sot_ros.checkpoints import read_state_dict
from sot_ros.training.train import made_from


def average(files: Sequence[Path], out: Path) -> None:
    """Write the mean of the files' weights to `out`, in fp16, and beside it, as .json, how each of them was made.

    Wortsman et al., "Model soups", 2022. A file that is named twice has two shares, and is told once. Counters are
    those of the first file. Raises ValueError for a file that holds other tensors than the first.
    """
    states = [read_state_dict(file) for file in files]
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in states]
    for file, shape in zip(files, shapes, strict=True):
        if shape != shapes[0]:
            raise ValueError(f"{file} refused: its tensors are not those of {files[0]}: files of one model go together")
    mean = {}
    for name, first in states[0].items():
        each = torch.stack([state[name].float() for state in states])
        mean[name] = each.mean(0).half() if first.is_floating_point() else first
    out.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(mean, out)
    firsts = [files.index(file) for file in files]
    made = [made_from(files[i]) if i == first else f"mean_of[{first}]" for i, first in enumerate(firsts)]
    record = {"mean_of": _told_once(made)}
    out.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")


def _told_once(records: list[Any]) -> list[Any]:
    """The records, where what one began with is another of them, `mean_of[0]` or so stands for that."""

    def refer(record: Any) -> Any:
        known = isinstance(record, dict) and record.get("init") in records
        return record | {"init": f"mean_of[{records.index(record['init'])}]"} if known else record

    return [refer(record) for record in records]
