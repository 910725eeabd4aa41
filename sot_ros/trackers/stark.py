"""STARK's pipeline: embed the template once, search around the last box, and in STARK-ST renew the second template.

Source of every step and constant: lib/test/tracker/stark_s.py, stark_st.py and stark_lightning_X_trt.py in
researchmm/Stark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
from timm.utils import reparameterize_model
from torch import Tensor, nn

from sot_ros.crops import stark_crop, stark_padding, stark_uncrop
from sot_ros.geometry import Box, clip
from sot_ros.networks.stark import SEARCH_SIZE, TEMPLATE_SIZE, Tokens
from sot_ros.trackers.base import Estimate, Search, Tracker
from sot_ros.trackers.settings import setting

TEMPLATE_FACTOR = 2.0


@dataclass(frozen=True)
class StarkLightningSettings:
    search_factor: float = setting(5.0, "side of the search region over the square root of the target's area", 2.0, 8.0)


@dataclass(frozen=True)
class StarkSettings(StarkLightningSettings):
    head: str = setting("CORNER", "the head that the weights were trained with", choices=("CORNER", "MLP"), builds=True)


@dataclass(frozen=True)
class StarkSTSettings(StarkSettings):
    # Upstream's interval is 200 on most benchmarks, 25 on TrackingNet and 10 on VOT2020.
    update_interval: int = setting(200, "frames from one renewal of the second template to the next", 1, 1_000_000)
    update_threshold: float = setting(0.5, "confidence above which the second template is renewed", 0.0, 1.0)


class Patch(NamedTuple):
    """A cut-out."""

    pixels: np.ndarray
    """(1, size, size, 3) uint8 RGB."""
    padding: np.ndarray
    """(1, size, size) bool, true outside the image."""


class StarkTracker(Tracker):
    """STARK-S. Confidence: how sharply the less certain corner is found, as a share of how sharply it is on the first
    frame. Upstream has none. With the MLP head nothing can be measured: confidence is 1 always, and says nothing."""

    def set_template(self, image: np.ndarray, box: Box) -> None:
        templates = [self.embed_cut(*self.cut_template(image, box))]
        [(_, self.first_score)] = self.run([self.search(image, box, templates)])
        self.templates = templates

    def locate(self, image: np.ndarray) -> Search:
        self.box, score = yield from self.search(image, self.box, self.templates)
        return Estimate(self.box, min(1.0, score / max(self.first_score, 1e-12)))

    def search(self, image: np.ndarray, around: Box, templates: Sequence[tuple[Tensor, ...]]) -> Search:
        """The box found in the region `around` a box, cut to the image, and the network's score of it."""
        patch, scale = cut(image, around, self.settings.search_factor, SEARCH_SIZE)
        box, score = yield *patch, *chain(*templates)
        found = stark_uncrop(*box.tolist(), around, SEARCH_SIZE, scale)
        return clip(found, image.shape[1], image.shape[0]), score.item()

    def embed(self, pixels: Tensor, padding: Tensor) -> Tokens:
        return self.network.embed(self.to_normalized(pixels), padding)

    def compute(self, pixels: Tensor, padding: Tensor, *tokens: Tensor) -> tuple[Tensor, Tensor]:
        fields = len(Tokens._fields)
        templates = [Tokens(*tokens[i : i + fields]) for i in range(0, len(tokens), fields)]
        return self.network(templates, self.to_normalized(pixels), padding)

    def cut_template(self, image: np.ndarray, box: Box) -> Patch:
        """The template of the target in `box`, before it is embedded."""
        return cut(image, box, TEMPLATE_FACTOR, TEMPLATE_SIZE)[0]


class StarkLightningTracker(StarkTracker):
    """STARK-Lightning: the branches of its RepVGG blocks are fused into one convolution each, with the same result."""

    def __init__(self, network: nn.Module, *args, **kwargs):
        exported = next(network.parameters()).is_meta  # it has no weights here, and its graph has them fused
        super().__init__(network if exported else reparameterize_model(network, inplace=True), *args, **kwargs)


class StarkSTTracker(StarkTracker):
    """STARK-ST: the first template stays, a second one is renewed. Confidence: the network's own score."""

    def set_template(self, image: np.ndarray, box: Box) -> None:
        first = self.embed_cut(*self.cut_template(image, box))
        self.templates = [first, first]
        self.frames = 0
        self.candidate: Patch | None = None

    def locate(self, image: np.ndarray) -> Search:
        # Embedded only now, when a session has said what it thinks of the frame that the candidate was cut from.
        if self.candidate is not None and self.visible:
            self.templates[1] = self.embed_cut(*self.candidate)
        self.candidate = None
        self.box, confidence = yield from self.search(image, self.box, self.templates)
        self.frames += 1
        s = self.settings
        if self.frames % s.update_interval == 0 and confidence > s.update_threshold:
            self.candidate = self.cut_template(image, self.box)
        return Estimate(self.box, confidence)


def cut(image: np.ndarray, box: Box, factor: float, size: int) -> tuple[Patch, float]:
    """The square around a box, and how many of its pixels stand for one of the image's."""
    pixels, scale = stark_crop(image, box, factor, size)
    return Patch(pixels[None], stark_padding(image, box, factor, size)[None]), scale
