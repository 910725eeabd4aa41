"""The default model's pipeline: OSTrack's, with a template that is computed once and a damped change of size."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sot_ros.crops import smooth_crop, stark_uncrop
from sot_ros.geometry import Box, clip
from sot_ros.networks.heads import decode_center, hann_window, over_neighbors
from sot_ros.networks.sot_mobile import (
    SEARCH_FACTOR,
    SEARCH_SIZE,
    STRIDE,
    TEMPLATE_FACTOR,
    TEMPLATE_SIZE,
    SotMobile,
    Template,
    appearance,
)
from sot_ros.trackers.base import Estimate, Search, Tracker
from sot_ros.trackers.settings import setting


@dataclass(frozen=True)
class SotMobileSettings:
    search_factor: float = setting(
        SEARCH_FACTOR, "side of the search region, in square roots of the target's area", 2.0, 8.0
    )
    window_influence: float = setting(
        1.0, "cosine window on the scores: 0 is none, 1 is all of OSTrack's", 0.0, 1.0, computes=True
    )
    size_lr: float = setting(0.6, "share of a change of size taken over in one frame", 0.0, 1.0)
    unsure_below: float = setting(
        0.4, "under this confidence the size changes less, and the next search region is larger", 0.0, 1.0
    )


UNSURE_BY = 0.2
"""So far under `unsure_below` the size stays as it is. A step there, instead of a slope, makes another track of what
differs by a hundredth of a pixel, or by an order of summation."""
UNSURE_GROWTH = 1.4
"""A search region, where the target may be hidden or just outside, over the usual one. No other value was tried."""


class SotMobileTracker(Tracker):
    """Confidence: the unwindowed score at the chosen place.

    What hides the target has a size of its own, and a search region that shrinks with it does not show the target when
    it is back. So the less sure a find is, the less it changes the size, and the larger the next search region is.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.window = hann_window(SEARCH_SIZE // STRIDE).to(self.device)
        self.search = self.network.search

    def compile_for_cpu(self) -> bool:
        compilable = self.precision == "fp32"
        if compilable:
            self.search = compile_for_cpu(self.network)
        return compilable

    def set_template(self, image: np.ndarray, box: Box) -> None:
        patch, scale = smooth_crop(image, box, TEMPLATE_FACTOR, TEMPLATE_SIZE)
        extent = np.float32([[box.w, box.h]]) * np.float32(scale) / TEMPLATE_SIZE
        *self.template, seen = self.embed_cut(patch[None], extent)
        self.appearance = seen[0].cpu().numpy()
        self.trust = 1.0

    def locate(self, image: np.ndarray) -> Search:
        s = self.settings
        factor = s.search_factor * UNSURE_GROWTH ** (1 - self.trust)
        patch, scale = smooth_crop(image, self.box, factor, SEARCH_SIZE)
        box, score, seen = yield *self.template, patch[None]
        self.appearance = seen.numpy()
        found, confidence = stark_uncrop(*box.tolist(), self.box, SEARCH_SIZE, scale), score.item()
        self.trust = min(max(1 - (s.unsure_below - confidence) / UNSURE_BY, 0), 1)
        lr = s.size_lr * self.trust
        w, h = (old ** (1 - lr) * new**lr for old, new in zip(self.box[2:], found[2:], strict=True))
        self.box = clip(Box.from_center(*found.center, w, h), image.shape[1], image.shape[0])
        return Estimate(self.box, confidence)

    def embed(self, patches: Tensor, extents: Tensor) -> tuple[Tensor, ...]:
        """A `Template`'s parts, and its appearance."""
        template = self.network.embed(self.to_device(patches), extents)
        centered = torch.cat([torch.full_like(extents, 0.5), extents], dim=1)
        return *template, appearance(template.tokens.float(), centered)

    def compute(
        self, tokens: Tensor, foreground: Tensor, extent: Tensor, fine: Tensor, patches: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        found = self.search(Template(tokens, foreground, extent, fine), self.to_device(patches))
        score, size, offset, tokens = (m.float() for m in found)
        influence = self.settings.window_influence
        windowed = score * (1 - influence + influence * self.window)
        boxes, index = decode_center(windowed, *over_neighbors(score, size, offset))
        return boxes, score.flatten(1).gather(1, index[:, None])[:, 0], appearance(tokens, boxes)


def compile_for_cpu(network: SotMobile) -> Callable[[Template, Tensor], tuple[Tensor, ...]]:
    """A function that computes what the network's `search` does, a fifth faster. Takes a second or two.

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

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        *template, x = inputs
        return self.network.search(Template(*template), x)
