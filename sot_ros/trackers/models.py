"""The table of models, and the way from a model's name to a tracker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sot_ros.checkpoints import load_weights
from sot_ros.networks.siamfc import SIAMTRACKERS_NAMES, siamfc
from sot_ros.networks.sot_mobile import sot_mobile
from sot_ros.trackers.base import Tracker
from sot_ros.trackers.settings import override
from sot_ros.trackers.siamfc import SiamFCSettings, SiamFCTracker
from sot_ros.trackers.sot_mobile import SotMobileSettings, SotMobileTracker

DEFAULT_MODEL = "siamfc"
SHIPPED_WEIGHTS = Path(__file__).parent.parent / "weights"
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Model:
    """One row of the table: what builds the model, and where its weights come from."""

    tracker: type[Tracker]
    network: Callable[[], nn.Module]
    settings: Any
    published: str
    """Where the authors publish the weights, and the file's name; empty where the package ships them."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Prefixes of tensor names in files of other layouts, and ours."""
    occluded_below: float = 0.3
    """Confidence under which a session takes the target for hidden, unless told otherwise."""
    tracking_above: float = 0.5
    """Confidence from which on a session takes it for visible again."""


MODELS: dict[str, Model] = {
    "sot_mobile": Model(SotMobileTracker, sot_mobile, SotMobileSettings(), published=""),
    "siamfc": Model(
        SiamFCTracker,
        siamfc,
        SiamFCSettings(),
        published="siamfc_alexnet_e50.pth, linked from github.com/huanglianghua/siamfc-pytorch",
        names=SIAMTRACKERS_NAMES,
    ),
}


def list_models() -> list[str]:
    """Names that `create_tracker` accepts."""
    return list(MODELS)


def create_tracker(
    model: str = DEFAULT_MODEL,
    weights: str | Path | None = None,
    device: str | None = None,
    precision: str = "fp32",
    **settings: float | int,
) -> Tracker:
    """A tracker ready for `initialize`.

    model      one of `list_models()`
    weights    a checkpoint as its authors published it; None for the weights shipped with the package;
               "random" for untrained ones, for tests and timing
    device     "cpu", "cuda" or "cuda:1"; None for CUDA where there is one
    precision  "fp32", "fp16" or "bf16"
    settings   changes to the model's own settings by name, such as search_factor=5.0

    Raises ValueError or FileNotFoundError with one line that says what was wrong and what is accepted.
    """
    row = find_model(model)
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision '{precision}': accepted are {', '.join(PRECISIONS)}")
    chosen = override(row.settings, **settings)
    where = find_device(device)
    network = row.network()
    if weights != "random":
        load_weights(network, weights or shipped_weights(model), row.names, model)
    return row.tracker(network, chosen, where, PRECISIONS[precision])


def find_model(model: str) -> Model:
    """The row of the table; raises ValueError with the known names."""
    if model not in MODELS:
        raise ValueError(f"unknown model '{model}': known are {', '.join(MODELS)}")
    return MODELS[model]


def find_device(device: str | None) -> torch.device:
    """The torch device of that name; raises ValueError where this machine has no such device."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    accepted = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if device != "cuda" and device not in accepted or device == "cuda" and len(accepted) == 1:
        raise ValueError(f"no device '{device}' on this machine: accepted here are {', '.join(accepted)}")
    return torch.device(device)


def shipped_weights(model: str) -> Path:
    """The weights file that the package ships for a model; raises FileNotFoundError where it ships none."""
    path = SHIPPED_WEIGHTS / f"{model}.safetensors"
    if not path.is_file():
        raise FileNotFoundError(
            f"no weights are shipped for {model}: download {MODELS[model].published}, and pass its path as weights"
        )
    return path
