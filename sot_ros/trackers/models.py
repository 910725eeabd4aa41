"""The table of models, and the way from a model's name to a tracker."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sot_ros.checkpoints import MisfitError, load_weights, misfit, read_state_dict, rename
from sot_ros.networks import ostrack, simtrack, stark, stark_lightning, swintrack
from sot_ros.networks.siamfc import SIAMTRACKERS_NAMES, siamfc
from sot_ros.networks.sot_mobile import sot_mobile
from sot_ros.trackers.acceleration import COMPILE, accelerate, fastest
from sot_ros.trackers.base import Tracker
from sot_ros.trackers.examples import example_inputs
from sot_ros.trackers.onnx_graphs import Graph, read_graphs
from sot_ros.trackers.ostrack import OSTrackSettings, OSTrackTracker
from sot_ros.trackers.precision import PRECISIONS, candidates, check_precision
from sot_ros.trackers.settings import Value, built_by, computed_by, override
from sot_ros.trackers.siamfc import SiamFCSettings, SiamFCTracker
from sot_ros.trackers.simtrack import SimTrackSettings, SimTrackTracker
from sot_ros.trackers.sot_mobile import SotMobileSettings, SotMobileTracker
from sot_ros.trackers.stark import (
    StarkLightningSettings,
    StarkLightningTracker,
    StarkSettings,
    StarkSTSettings,
    StarkSTTracker,
    StarkTracker,
)
from sot_ros.trackers.swintrack import (
    SwinTrackMotionSettings,
    SwinTrackMotionTracker,
    SwinTrackSettings,
    SwinTrackTracker,
)

DEFAULT_MODEL = "sot_mobile"
SHIPPED_WEIGHTS = Path(__file__).parent.parent / "weights"
BACKENDS = ("torch", "onnxruntime")
PRECISION_CHOICES = ("auto", *PRECISIONS)


@dataclass(frozen=True)
class Model:
    """One row of the table: what builds the model, and where its weights come from.

    `network` takes those settings by name that are marked with `builds`.
    """

    tracker: type[Tracker]
    network: Callable[..., nn.Module]
    settings: Any
    published: str
    """Where the authors publish the weights, and the file's name; empty where the package ships them."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Prefixes of tensor names in files of other layouts, and ours."""
    unused: tuple[str, ...] = ()
    """Tensors in published files that upstream never reads; a name that ends with a dot stands for all below it."""
    occluded_below: float = 0.3
    """Confidence under which a session takes the target for hidden, unless told otherwise."""
    tracking_above: float = 0.5
    """Confidence from which on a session takes it for visible again."""

    def build(self, settings: Any) -> nn.Module:
        """The untrained network, as these settings want it."""
        return self.network(**{name: getattr(settings, name) for name in built_by(settings)})


STARK_FILES = "{}, linked from the model zoo of github.com/researchmm/Stark"
SWINTRACK_FILES = "the file for {}, from the Google Drive folder linked from github.com/LitingLin/SwinTrack"
SWINTRACK_MOTION_FILES = "weights trained with this model (its authors published none whose layout is known)"
OSTRACK_FILES = "{}/OSTrack_ep0300.pth.tar, linked from github.com/botaoye/OSTrack"
SIMTRACK_FILES = "{}, linked from the table of results in github.com/LPXTT/SimTrack"

MODELS: dict[str, Model] = {
    "sot_mobile": Model(
        SotMobileTracker,
        sot_mobile,
        SotMobileSettings(),
        published="",
        # Chosen as docs/robots.md tells.
        occluded_below=0.55,
        tracking_above=0.65,
    ),
    "siamfc": Model(
        SiamFCTracker,
        siamfc,
        SiamFCSettings(),
        published="siamfc_alexnet_e50.pth, linked from github.com/huanglianghua/siamfc-pytorch",
        names=SIAMTRACKERS_NAMES,
    ),
    "siamfc_sot": Model(SiamFCTracker, siamfc, SiamFCSettings(), published=""),
    "stark_s50": Model(
        StarkTracker,
        stark.stark_s50,
        StarkSettings(),
        published=STARK_FILES.format("stark_s/baseline/STARKS_ep0500.pth.tar"),
        names=stark.STARK_NAMES,
    ),
    "stark_st50": Model(
        StarkSTTracker,
        stark.stark_st50,
        StarkSTSettings(),
        published=STARK_FILES.format("stark_st2/baseline/STARKST_ep0050.pth.tar"),
        names=stark.STARK_NAMES,
    ),
    "stark_st101": Model(
        StarkSTTracker,
        stark.stark_st101,
        StarkSTSettings(),
        published=STARK_FILES.format("stark_st2/baseline_R101/STARKST_ep0050.pth.tar"),
        names=stark.STARK_NAMES,
    ),
    "stark_lightning": Model(
        StarkLightningTracker,
        stark_lightning.stark_lightning,
        StarkLightningSettings(),
        published="STARKLightningXtrt_ep0500.pth.tar, linked from its tutorial in github.com/researchmm/Stark",
        names=stark_lightning.LIGHTNING_NAMES,
    ),
    "swintrack_tiny": Model(
        SwinTrackTracker, swintrack.swintrack_tiny, SwinTrackSettings(), published=SWINTRACK_FILES.format("Tiny")
    ),
    "swintrack_base": Model(
        SwinTrackTracker, swintrack.swintrack_base, SwinTrackSettings(), published=SWINTRACK_FILES.format("Base")
    ),
    "swintrack_base_384": Model(
        SwinTrackTracker,
        swintrack.swintrack_base_384,
        SwinTrackSettings(),
        published=SWINTRACK_FILES.format("Base-384"),
    ),
    "swintrack_tiny_motion": Model(
        SwinTrackMotionTracker,
        swintrack.swintrack_tiny,
        SwinTrackMotionSettings(),
        published=SWINTRACK_MOTION_FILES,
    ),
    "swintrack_base_384_motion": Model(
        SwinTrackMotionTracker,
        swintrack.swintrack_base_384,
        SwinTrackMotionSettings(),
        published=SWINTRACK_MOTION_FILES,
    ),
    "ostrack_256": Model(
        OSTrackTracker,
        ostrack.ostrack_256,
        OSTrackSettings(),
        published=OSTRACK_FILES.format("vitb_256_mae_32x4_ep300"),
        unused=ostrack.UNUSED,
    ),
    "ostrack_256_ce": Model(
        OSTrackTracker,
        ostrack.ostrack_256,
        OSTrackSettings(elimination=True),
        published=OSTRACK_FILES.format("vitb_256_mae_ce_32x4_ep300"),
        unused=ostrack.UNUSED,
    ),
    "ostrack_384": Model(
        OSTrackTracker,
        ostrack.ostrack_384,
        OSTrackSettings(search_factor=5.0),
        published=OSTRACK_FILES.format("vitb_384_mae_32x4_ep300"),
        unused=ostrack.UNUSED,
    ),
    "ostrack_384_ce": Model(
        OSTrackTracker,
        ostrack.ostrack_384,
        OSTrackSettings(search_factor=5.0, elimination=True),
        published=OSTRACK_FILES.format("vitb_384_mae_ce_32x4_ep300"),
        unused=ostrack.UNUSED,
    ),
    "ostrack_tiny": Model(OSTrackTracker, ostrack.ostrack_tiny, OSTrackSettings(), published=""),
    "simtrack_b16": Model(
        SimTrackTracker,
        simtrack.simtrack_b16,
        SimTrackSettings(),
        published=SIMTRACK_FILES.format("Sim-B/16"),
        names=simtrack.CLIP_NAMES,
        unused=simtrack.UNUSED,
    ),
    "simtrack_mae_b16": Model(
        SimTrackTracker,
        simtrack.simtrack_mae_b16,
        SimTrackSettings(),
        published=SIMTRACK_FILES.format("MAE-B/16"),
        names=simtrack.MAE_NAMES,
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
    backend: str = "torch",
    compile: str = "auto",
    **settings: Value,
) -> Tracker:
    """A tracker ready for `initialize`.

    model      one of `list_models()`
    weights    a checkpoint as its authors published it; None for the weights shipped with the package;
               "random" for untrained ones, for tests and timing
    device     "cpu", "cuda" or "cuda:1"; None for CUDA where there is one
    precision  "fp32"; "tf32" on NVIDIA's GPUs since Ampere; "fp16" or "bf16"; or "auto" for the fastest of these here
               that finds what fp32 finds, which is tried, and takes a second or some; "int8" on CPUs, less exact
    backend    "torch"; or "onnxruntime", with an .onnx of `sot export` as weights, which fixes those settings that are
               part of it, and with "cpu", "cuda" or "tensorrt" as device, of which the last knows fp16
    compile    "auto", "inductor" or "off": how much is done to make the network faster, see `accelerate`
    settings   changes to the model's own settings by name, such as search_factor=5.0

    Raises ValueError or FileNotFoundError with one line that says what was wrong and what is accepted.
    """
    row = find_model(model)
    for name, value, accepted in (
        ("precision", precision, PRECISION_CHOICES),
        ("backend", backend, BACKENDS),
        ("compile", compile, COMPILE),
    ):
        if value not in accepted:
            raise ValueError(f"unknown {name} '{value}': accepted are {', '.join(accepted)}")
    if backend == "onnxruntime":
        return _create_from_graphs(row, read_graphs(model, weights or f"{model}.onnx", device, precision), **settings)
    chosen = override(row.settings, **settings)
    where = find_device(device)
    check_precision(precision, where)
    network = load_network(model, weights, chosen).to(where)
    if precision == "auto":
        precision = _fastest_precision(row, network, chosen, where, compile)
    tracker = row.tracker(network, chosen, where, precision)
    tracker.compiled = accelerate(tracker, compile)
    return tracker


def load_network(model: str, weights: str | Path | None = None, settings: Any = None) -> nn.Module:
    """The network of a model for these settings, by default the model's own, as its authors have it, before a tracker
    makes it ready. `weights` and what is raised are those of `create_tracker`."""
    row = find_model(model)
    settings = settings or row.settings
    network = row.build(settings)
    if weights == "random":
        return network
    path = weights or shipped_weights(model)
    changed = [n for n in built_by(settings) if getattr(settings, n) != getattr(row.settings, n)]
    name = model + "".join(f" with {n}={getattr(settings, n)}" for n in changed)
    try:
        load_weights(network, path, row.names, row.unused, name)
    except MisfitError as error:
        others = fitting_models(path)
        raise MisfitError(f"{error}{'; this is ' if others else ''}{' or '.join(others)}") from None
    return network


def _fastest_precision(row: Model, network: nn.Module, settings: Any, device: torch.device, compile: str) -> str:
    """What `fastest` says of this model on this device."""
    names = candidates(device)
    if len(names) == 1:
        return names[0]
    trackers = {}
    for name in names:
        trackers[name] = row.tracker(copy.deepcopy(network), settings, device, name)
        accelerate(trackers[name], "off" if compile == "off" else "auto")
    return fastest(trackers, example_inputs(trackers["fp32"])["compute"])


def _create_from_graphs(row: Model, graphs: Mapping[str, Graph], **settings: Value) -> Tracker:
    exported = graphs["compute"].about["settings"]
    fixed = override(row.settings, **{name: exported[name] for name in computed_by(row.settings)})
    with torch.device("meta"):
        network = row.build(fixed)
    tracker = row.tracker(network, fixed, torch.device("cpu"))
    tracker.use_graphs(**graphs)
    tracker.settings = override(tracker.settings, **settings)
    return tracker


def fitting_models(path: str | Path) -> list[str]:
    """Models that a weights file is for, by the names and shapes of its tensors."""
    state = read_state_dict(path)
    with torch.device("meta"):
        networks = {model: row.build(row.settings) for model, row in MODELS.items()}
    return [m for m, row in MODELS.items() if not misfit(rename(state, row.names), networks[m], row.unused)]


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
        published = MODELS[model].published
        if not published:
            raise FileNotFoundError(f"{path} is missing, which the package ships: install it again")
        raise FileNotFoundError(
            f"no weights are shipped for {model}: download {published}, and pass its path as weights"
        )
    return path
