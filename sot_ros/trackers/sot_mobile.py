"""The default model's pipeline: OSTrack's, with a template that is computed once and a damped change of size."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sot_ros.crops import stark_crop, stark_uncrop
from sot_ros.geometry import Box, clip
from sot_ros.networks.heads import decode_center, hann_window
from sot_ros.networks.sot_mobile import SEARCH_SIZE, STRIDE, TEMPLATE_SIZE, SotMobile, Template
from sot_ros.trackers.base import Estimate, Tracker
from sot_ros.trackers.settings import setting

TEMPLATE_FACTOR = 2.0


@dataclass(frozen=True)
class SotMobileSettings:
    search_factor: float = setting(4.0, "side of the search region, in square roots of the target's area", 2.0, 8.0)
    window_influence: float = setting(1.0, "cosine window on the scores: 0 is none, 1 is all of OSTrack's", 0.0, 1.0)
    size_lr: float = setting(0.35, "share of a change of size taken over in one frame", 0.0, 1.0)


class SotMobileTracker(Tracker):
    """Confidence: the unwindowed score at the chosen place."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.window = hann_window(SEARCH_SIZE // STRIDE).to(self.device)
        compilable = self.device.type == "cpu" and self.dtype is torch.float32
        self.search = compile_for_cpu(self.network) if compilable else self.network

    def set_template(self, image: np.ndarray, box: Box) -> None:
        patch, scale = stark_crop(image, box, TEMPLATE_FACTOR, TEMPLATE_SIZE)
        extent = torch.tensor([[box.w, box.h]], device=self.device) * scale / TEMPLATE_SIZE
        self.template: Template = self.network.embed(self.to_device(patch[None]), extent)

    def locate(self, image: np.ndarray) -> Estimate:
        s = self.settings
        patch, scale = stark_crop(image, self.box, s.search_factor, SEARCH_SIZE)
        score, size, offset = (m.float() for m in self.search(self.template, self.to_device(patch[None])))
        windowed = score * (1 - s.window_influence + s.window_influence * self.window)
        boxes, index = decode_center(windowed, size, offset)
        found = stark_uncrop(*boxes[0].tolist(), self.box, SEARCH_SIZE, scale)
        w, h = (old ** (1 - s.size_lr) * new**s.size_lr for old, new in zip(self.box[2:], found[2:], strict=True))
        self.box = clip(Box.from_center(*found.center, w, h), image.shape[1], image.shape[0])
        return Estimate(self.box, float(score.flatten()[index[0]]))


def compile_for_cpu(network: SotMobile) -> Callable[[Template, Tensor], tuple[Tensor, Tensor, Tensor]]:
    """A function that computes what the network does, a fifth faster. Takes a second or two.

    TorchScript fuses convolutions with what follows and keeps their weights in the order that oneDNN wants.
    torch.compile, which is to replace it, needs a C++ compiler where the tracker runs.
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        template = network.embed(torch.zeros(1, 3, TEMPLATE_SIZE, TEMPLATE_SIZE), torch.full((1, 2), 0.5))
        example = (*template, torch.zeros(1, 3, SEARCH_SIZE, SEARCH_SIZE))
        traced = torch.jit.trace(_Search(network).eval(), example, check_trace=False)
        compiled = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
    with torch.inference_mode():
        for _ in range(3):  # TorchScript's first calls are slow, and the first frames of a target must not be
            compiled(*example)
    return lambda template, x: compiled(*template, x)


class _Search(nn.Module):
    """The network with tensors alone for arguments, as tracing wants them."""

    def __init__(self, network: SotMobile):
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor, foreground: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.network(Template(tokens, foreground), x)
