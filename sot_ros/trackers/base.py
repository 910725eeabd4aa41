"""What every tracker is to its user: a box given once, a box and a confidence back for every frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from timm.data import IMAGENET_DEFAULT_MEAN as IMAGENET_MEAN
from timm.data import IMAGENET_DEFAULT_STD as IMAGENET_STD
from torch import Tensor, nn

from sot_ros.geometry import Box, check_box


class Estimate(NamedTuple):
    """Where the target is on one frame, and how sure the tracker is: 0 (not there) to 1 (certainly this)."""

    box: Box
    confidence: float


class Tracker(ABC):
    """A network and the pipeline around it: cut, run, decode, move the box.

    A family implements `set_template` and `locate`; both run without gradients, in the chosen precision.
    """

    def __init__(self, network: nn.Module, settings: Any, device: torch.device, dtype: torch.dtype):
        self.network = network.eval().to(device)
        self.settings = settings
        self.device = device
        self.dtype = dtype
        self._box: Box | None = None
        self.visible = True
        """Whether the target was seen on the last frame, as a session says; where not, nothing is learnt from it."""

    @property
    def box(self) -> Box | None:
        """The tracker's state: the target's box on the last frame, None before `initialize`. Settable."""
        return self._box

    @box.setter
    def box(self, box: Sequence[float]) -> None:
        self._box = Box(*map(float, box))

    def initialize(self, image: np.ndarray, box: Sequence[float]) -> None:
        """Take what `box` (x, y, w, h) holds on `image`, (H, W, 3) uint8 RGB, as the target from now on.

        Raises ValueError for an image or box that cannot be used; the previous target, if any, is then kept.
        """
        check_image(image)
        box = check_box(box, width=image.shape[1], height=image.shape[0])
        with self._inference():
            self.set_template(image, box)
        self._box = box

    def track(self, image: np.ndarray) -> Estimate:
        """Find the target on the next frame, (H, W, 3) uint8 RGB, near `box`, and move `box` there."""
        check_image(image)
        if self._box is None:
            raise RuntimeError("track() called before initialize(): there is no target yet")
        with self._inference():
            estimate = self.locate(image)
        return estimate

    @abstractmethod
    def set_template(self, image: np.ndarray, box: Box) -> None:
        """Compute and keep the template of the target in `box`."""

    @abstractmethod
    def locate(self, image: np.ndarray) -> Estimate:
        """Search `image` around `self.box`, set `self.box` to what was found, and report it."""

    def to_device(self, patches: np.ndarray) -> Tensor:
        """(B, H, W, 3) uint8 or float32 patches as a float (B, 3, H, W) tensor in 0..255 on the tracker's device."""
        return torch.from_numpy(patches).to(self.device).permute(0, 3, 1, 2).float()

    def to_normalized(self, patches: np.ndarray) -> Tensor:
        """(B, H, W, 3) uint8 or float32 patches as float (B, 3, H, W), less ImageNet's mean and over its deviation."""
        x = self.to_device(patches) / 255
        return (x - x.new_tensor(IMAGENET_MEAN).view(3, 1, 1)) / x.new_tensor(IMAGENET_STD).view(3, 1, 1)

    @contextmanager
    def _inference(self) -> Iterator[None]:
        half = self.dtype is not torch.float32
        with torch.inference_mode(), torch.autocast(self.device.type, self.dtype, enabled=half):
            yield


def check_image(image: np.ndarray) -> None:
    """Raise ValueError unless `image` is a non-empty (H, W, 3) uint8 array."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"image refused: an (H, W, 3) uint8 RGB array is accepted, this is {got}")
    if image.size == 0:
        raise ValueError(f"image refused: it is empty, {image.shape}")
