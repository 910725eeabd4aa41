"""Pairs of a template and a search region, rendered with everything that makes tracking hard.

Everything random about pair number i comes from (seed, i): the same pairs come whatever the number of workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from torch.utils.data import Dataset

from sot_ros.geometry import Box, intersection
from sot_ros.training.data import Instance, Source, enclosing_box


@dataclass(frozen=True)
class PairSettings:
    """Sizes in pixels, chances in 0..1, and ranges of the search region as in OSTrack's training."""

    template_size: int = 128
    template_factor: float = 2.0
    search_size: int = 256
    search_factor: float = 4.0
    center_jitter: float = 3.0
    """Full range of the search region's shift, in square roots of the target's area."""
    scale_jitter: float = 0.25
    """Standard deviation of the logarithm of the search region's change of scale."""
    absent: float = 0.1
    """Chance of a search region without the target."""
    swap_still: float = 0.5
    """Chance that the search region of a still image's object shows another background."""
    swap_track: float = 0.15
    distractors: float = 0.5
    """Chance of objects pasted around the target."""
    fill: float = 0.7
    """Chance that what lies outside the image shows another image instead of black."""


class Pair(NamedTuple):
    """template (3, h, w) and search (3, H, W) uint8 RGB; extent (2,) and box (4,), centre x, y, width, height, as
    shares of the template's and search region's side; present is 0 where the target is not in the search region."""

    template: np.ndarray
    extent: np.ndarray
    search: np.ndarray
    box: np.ndarray
    present: np.float32


class PairDataset(Dataset):
    """`length` pairs from `sources`, whose decoded images are `images`."""

    def __init__(
        self, sources: list[Source], images: Mapping[Path, np.ndarray], settings: PairSettings, length: int, seed: int
    ):
        self.sources, self.images, self.settings, self.length, self.seed = sources, images, settings, length, seed
        self.weights = np.array([s.weight for s in sources]) / sum(s.weight for s in sources)
        self.cut_outs = [s for s in sources if s.tracks] or sources
        self.paths = sorted(images)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Pair:
        rng = np.random.default_rng((self.seed, index))
        s = self.settings
        source = self.sources[rng.choice(len(self.sources), p=self.weights)]
        track = self._track(rng, source)
        first, second = track[rng.integers(len(track))], track[rng.integers(len(track))]
        still = len(track) == 1
        swap = rng.random() < (s.swap_still if still else s.swap_track)
        present = rng.random() >= s.absent

        flip = rng.random() < 0.5
        template, box = self._template(rng, first, flip, swap_background=swap and rng.random() < 0.3)
        extent = np.float32([box.w, box.h]) / s.template_size
        if not present:
            second = self._other(rng, first)
        search, box = self._search(rng, second, track, flip, swap, still, present)
        template, search = _photometric(rng, template, search)
        box = np.float32([*box.center, min(box.w, s.search_size), min(box.h, s.search_size)]) / s.search_size
        chw = (np.ascontiguousarray(p.transpose(2, 0, 1)) for p in (template, search))
        return Pair(next(chw), extent, next(chw), box, np.float32(present))

    def _track(self, rng: np.random.Generator, source: Source) -> list[Instance]:
        if source.tracks:
            return source.tracks[rng.integers(len(source.tracks))]
        path = source.images[rng.integers(len(source.images))]
        return [_invent(rng, path, self.images[path])]

    def _other(self, rng: np.random.Generator, instance: Instance) -> Instance:
        """An object from another clip or still image; where there is none, a place on any image."""
        for _ in range(50):
            track = self._track(rng, self.cut_outs[rng.integers(len(self.cut_outs))])
            other = track[rng.integers(len(track))]
            if other.image.parent != instance.image.parent or len(track) == 1 and other.image != instance.image:
                return other
        path = self.paths[rng.integers(len(self.paths))]
        return _invent(rng, path, self.images[path])

    def _template(
        self, rng: np.random.Generator, instance: Instance, flip: bool, swap_background: bool
    ) -> tuple[np.ndarray, Box]:
        size = self.settings.template_size
        turn = _linear(1.0, 0.0, 1.0, 0.0, flip)
        box = enclosing_box(_transform(instance.outline, turn))
        scale = size / (self.settings.template_factor * np.sqrt(box.w * box.h) * np.exp(rng.normal(0, 0.03)))
        shift = rng.normal(0, 0.02, 2) * np.sqrt(box.w * box.h) * scale
        matrix = _place(turn * scale, box.center, scale, size / 2 + shift)
        patch = self._render(rng, instance, matrix, size, swap_background)
        return patch, enclosing_box(_transform(instance.outline, matrix))

    def _search(
        self,
        rng: np.random.Generator,
        instance: Instance,
        track: list[Instance],
        flip: bool,
        swap_background: bool,
        still: bool,
        present: bool,
    ) -> tuple[np.ndarray, Box]:
        s, size = self.settings, self.settings.search_size
        # A still image shows its object once, so its pose has to be varied more than a track's.
        strength = 1.0 if still else 0.4
        if rng.random() < 0.05:
            flip = not flip
        aspect, angle, shear = np.exp(rng.normal(0, 0.12)), rng.normal(0, 10), rng.normal(0, 0.08)
        turn = _linear(aspect**strength, angle * strength, 1.0, shear * strength, flip)
        box = enclosing_box(_transform(instance.outline, turn))
        root = np.sqrt(box.w * box.h)
        scale = size / (s.search_factor * root * np.exp(np.clip(rng.normal(0, s.scale_jitter), -0.5, 0.5)))
        # Most moves between frames are small: half the draws shift by a third of the range.
        reach = s.center_jitter * root * scale * (1 if rng.random() < 0.5 else 1 / 3)
        shift = (rng.random(2) - 0.5) * reach
        matrix = _place(turn * scale, box.center, scale, size / 2 + shift)
        patch = self._render(rng, instance, matrix, size, swap_background)
        outline = _transform(instance.outline, matrix)
        if rng.random() < s.distractors:
            self._paste_distractors(rng, patch, outline, track, present)
        return patch, enclosing_box(outline)

    def _render(
        self, rng: np.random.Generator, instance: Instance, matrix: np.ndarray, size: int, swap_background: bool
    ) -> np.ndarray:
        image = self.images[instance.image]
        patch = _warp(image, matrix, size)
        if swap_background:
            background = self._background(rng, size)
            alpha = _mask(_transform(instance.outline, matrix), size)
            return _blend(background, patch, alpha)
        if rng.random() < self.settings.fill:
            inside = cv2.warpAffine(np.full(image.shape[:2], 255, np.uint8), matrix, (size, size))
            if inside.min() < 255:
                return _blend(self._background(rng, size), patch, inside)
        return patch

    def _background(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """A random square of a random image."""
        image = self.images[self.paths[rng.integers(len(self.paths))]]
        side = int(min(image.shape[:2]) * rng.uniform(0.4, 1.0))
        y, x = (int(rng.integers(n - side + 1)) for n in image.shape[:2])
        return cv2.resize(image[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_LINEAR)

    def _paste_distractors(
        self,
        rng: np.random.Generator,
        patch: np.ndarray,
        target: list[np.ndarray],
        track: list[Instance],
        present: bool,
    ) -> None:
        """Paste up to three objects into `patch`: others, or the target's own likeness, plainly altered."""
        size = len(patch)
        box = enclosing_box(target)
        covered = np.zeros((size, size), np.uint8)
        target_mask = _mask(target, size)
        for _ in range(rng.integers(1, 4)):
            likeness = rng.random() < 0.35
            other = track[rng.integers(len(track))] if likeness else self._other(rng, track[0])
            angle = rng.choice([90, 180, 270]) if likeness and rng.random() < 0.5 else rng.normal(0, 12)
            turn = _linear(np.exp(rng.normal(0, 0.15)), angle, 1.0, rng.normal(0, 0.1), rng.random() < 0.5)
            other_box = enclosing_box(_transform(other.outline, turn))
            scale = np.sqrt(box.w * box.h / (other_box.w * other_box.h)) * np.exp(rng.normal(0, 0.3))
            matrix = _place(turn * scale, other_box.center, scale, rng.uniform(0, size, 2))
            outline = _transform(other.outline, matrix)
            mask = _mask(outline, size)
            place = enclosing_box(outline)
            hidden = cv2.countNonZero(cv2.bitwise_and(cv2.max(mask, covered), target_mask))
            too_close = intersection(place, box) > 0.4 * min(place.w * place.h, box.w * box.h)
            if present and (too_close or hidden > 0.35 * max(cv2.countNonZero(target_mask), 1)):
                continue
            covered = cv2.max(covered, mask)
            sprite = _warp(self.images[other.image], matrix, size)
            if likeness:
                sprite = _recolour(rng, sprite)
            patch[:] = _blend(patch, sprite, mask)


def _invent(rng: np.random.Generator, path: Path, image: np.ndarray) -> Instance:
    """An ellipse on an image without annotations, where it has most texture out of a few tries."""
    height, width = image.shape[:2]
    best, best_texture = None, -1.0
    for _ in range(5):
        root, aspect = min(height, width) * rng.uniform(0.12, 0.5), np.exp(rng.normal(0, 0.35))
        w, h = min(root * aspect, 0.9 * width), min(root / aspect, 0.9 * height)
        x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
        texture = image[int(y) : int(y + h) : 4, int(x) : int(x + w) : 4].std()
        if texture > best_texture:
            best, best_texture = Box(x, y, w, h), texture
    phase = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    ellipse = np.stack([np.cos(phase), np.sin(phase)], axis=1) * (best.w / 2, best.h / 2) + best.center
    return Instance(path, (np.float32(ellipse),))


def _linear(aspect: float, angle: float, scale: float, shear: float, flip: bool) -> np.ndarray:
    """The (2, 2) matrix of a change of aspect, a shear, a rotation in degrees, a scale and a mirror image."""
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    stretch = np.diag([np.sqrt(aspect), 1 / np.sqrt(aspect)]) @ np.array([[1, shear], [0, 1]])
    return scale * np.array([[c, -s], [s, c]]) @ stretch @ np.diag([-1.0 if flip else 1.0, 1.0])


def _place(linear: np.ndarray, center: tuple[float, float], scale: float, at: np.ndarray) -> np.ndarray:
    """The (2, 3) matrix that brings `center`, given after the unscaled part of `linear`, to the point `at`."""
    return np.column_stack([linear, np.asarray(at) - scale * np.asarray(center)])


def _transform(outline: tuple[np.ndarray, ...], matrix: np.ndarray) -> list[np.ndarray]:
    linear, shift = matrix[:, :2], matrix[:, 2] if matrix.shape[1] == 3 else 0
    return [points @ linear.T + shift for points in outline]


def _warp(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    # Coordinates of outlines count from pixel corners, those of warpAffine from pixel centres.
    centred = matrix.copy()
    centred[:, 2] += matrix[:, :2].sum(1) * 0.5 - 0.5
    return cv2.warpAffine(image, centred, (size, size), flags=cv2.INTER_LINEAR)


def _mask(outline: list[np.ndarray], size: int) -> np.ndarray:
    """(size, size) uint8, 255 inside the outline, with a soft edge."""
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [np.rint(np.clip(p, -4 * size, 5 * size)).astype(np.int32) for p in outline], 255)
    return cv2.blur(mask, (3, 3))


def _blend(below: np.ndarray, above: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = cv2.merge([alpha] * 3).astype(np.float32) * (1 / 255)
    return (below + (above.astype(np.float32) - below) * share).astype(np.uint8)


def _recolour(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Other channels, other brightness: the same shape, plainly another thing."""
    gain = rng.choice([rng.uniform(0.4, 0.7), rng.uniform(1.4, 2.0)])
    return cv2.convertScaleAbs(image[..., rng.permutation(3)], alpha=gain, beta=rng.uniform(-20, 20))


def _photometric(rng: np.random.Generator, template: np.ndarray, search: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Light, colour and camera: partly common to both, as of one scene, partly of each its own."""
    gray = rng.random() < 0.15
    common = _color_gains(rng, 0.25)
    coarse = rng.uniform(1, 4) if rng.random() < 0.5 else 1.0
    done = []
    for patch, blur in ((template, 0.1), (search, 0.3)):
        gains = common * _color_gains(rng, 0.12)
        patch = cv2.transform(patch, _saturation(rng) @ np.diag(gains))
        if rng.random() < 0.5:
            patch = cv2.convertScaleAbs(patch, alpha=1, beta=max(0.0, rng.normal(0, 20)))
        if gray:
            patch = cv2.cvtColor(cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        size = len(patch)
        # A small target is enlarged by the crop; one from a large photograph has to look like that, too.
        small = max(16, round(size / (coarse * rng.uniform(0.8, 1.25)))) if coarse > 1 else size
        if small < size:
            patch = cv2.resize(patch, (small, small), interpolation=cv2.INTER_AREA)
        if rng.random() < blur:
            patch = _motion_blur(rng, patch, 0.05 * small)
        if rng.random() < 0.2:
            noise = rng.standard_normal(patch.shape, dtype=np.float32) * rng.uniform(2, 12)
            patch = np.clip(patch + noise, 0, 255).astype(np.uint8)
        if rng.random() < 0.25:
            _, code = cv2.imencode(".jpg", patch, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 75))])
            patch = cv2.imdecode(code, cv2.IMREAD_COLOR)
        if small < size:
            patch = cv2.resize(patch, (size, size), interpolation=cv2.INTER_LINEAR)
        done.append(patch)
    return done[0], done[1]


def _color_gains(rng: np.random.Generator, spread: float) -> np.ndarray:
    return np.exp(rng.normal(0, spread) + rng.normal(0, spread / 4, 3))


def _saturation(rng: np.random.Generator) -> np.ndarray:
    """A (3, 3) matrix that moves colours towards or away from gray."""
    s = rng.uniform(0.5, 1.4)
    return s * np.eye(3) + (1 - s) * np.array([0.299, 0.587, 0.114])[None]


def _motion_blur(rng: np.random.Generator, patch: np.ndarray, length: float) -> np.ndarray:
    n = 2 * int(rng.uniform(1, max(2, length))) + 1
    kernel = np.zeros((n, n), np.float32)
    angle = rng.uniform(0, np.pi)
    dx, dy = np.cos(angle) * n / 2, np.sin(angle) * n / 2
    cv2.line(kernel, (round(n / 2 - dx), round(n / 2 - dy)), (round(n / 2 + dx), round(n / 2 + dy)), 1.0)
    return cv2.filter2D(patch, -1, kernel / max(kernel.sum(), 1))
