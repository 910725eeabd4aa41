"""A tracker that nobody trained: what training has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sot_ros.crops import stark_crop
from sot_ros.geometry import Box, clip
from sot_ros.networks.sot_mobile import STRIDE, TEMPLATE_FACTOR, TEMPLATE_SIZE, coverage
from sot_ros.trackers.base import Estimate
from sot_ros.training.trunk import find_trunk_weights, imagenet_trunk

SEARCH_SIZE = 2 * TEMPLATE_SIZE


class Untrained:
    """The template's features slide over the search region's, in the default model's trunk as ImageNet left it.

    To be run by `evaluate` beside ours. The box keeps its size. Confidence: the mean cosine at the chosen place.
    """

    def __init__(self):
        self.trunk = imagenet_trunk(find_trunk_weights()).eval()

    def initialize(self, image: np.ndarray, box: Sequence[float]) -> None:
        """Take what `box` (x, y, w, h) holds on an RGB image as the target."""
        self.box = Box(*map(float, box))
        patch, scale = stark_crop(image, self.box, TEMPLATE_FACTOR, TEMPLATE_SIZE)
        extent = torch.tensor([[0.5, 0.5, self.box.w * scale / TEMPLATE_SIZE, self.box.h * scale / TEMPLATE_SIZE]])
        cells = TEMPLATE_SIZE // STRIDE
        share = coverage(extent, cells).view(1, 1, cells, cells)
        self.filter = self._features(patch) * share / share.sum()

    def track(self, image: np.ndarray) -> Estimate:
        patch, scale = stark_crop(image, self.box, 2 * TEMPLATE_FACTOR, SEARCH_SIZE)
        # Places are whole cells apart, from a template half outside to one half outside on the other side.
        response = F.conv2d(self._features(patch), self.filter, padding=self.filter.shape[-1] // 2)[0, 0].numpy()
        side = STRIDE * len(response)
        response = cv2.resize(response, (side, side), interpolation=cv2.INTER_CUBIC)
        window = np.outer(np.hanning(side), np.hanning(side))
        row, column = np.unravel_index((response * window).argmax(), response.shape)
        (cx, cy), middle = self.box.center, (side - 1) / 2
        found = Box.from_center(cx + (column - middle) / scale, cy + (row - middle) / scale, *self.box[2:])
        self.box = clip(found, image.shape[1], image.shape[0])
        return Estimate(self.box, float(np.clip(response[row, column], 0, 1)))

    @torch.inference_mode()
    def _features(self, patch: np.ndarray) -> Tensor:
        """(H, W, 3) -> (1, C, H / 16, W / 16), of length 1 in each place."""
        return F.normalize(self.trunk(torch.from_numpy(patch).permute(2, 0, 1)[None].float()), dim=1)
