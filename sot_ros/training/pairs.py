"""Pairs of a template and a search region, rendered with everything that makes tracking hard.

Everything random about pair number i comes from (seed, i): the same pairs come whatever the number of workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from torch.utils.data import Dataset

from sot_ros.crops import warp
from sot_ros.geometry import Box, intersection
from sot_ros.training.data import ImageStore, Instance, Source, enclosing_box, find_object


@dataclass(frozen=True)
class PairSettings:
    """What a pair shows. Sizes in pixels, chances in 0..1. The first five belong to the network."""

    template_size: int
    template_factor: float
    search_size: int
    search_factor: float
    """Sides of what the patches show, in square roots of the area of the target with its context."""
    context: float = 0.0
    """Margin around the target, as a share of width plus height: 0.5 in SiamFC, 0 in OSTrack."""
    smallest: float = 12
    """Objects below this, the square root of their box's area, are left out."""
    gap: int = 100
    """Most frames of a track between template and search region."""
    scale_jitter: float = 0.25
    """Standard deviation of the logarithm of the search region's change of scale."""
    absent: float = 0.25
    """Chance of a search region without the target: somewhere else, or with the target covered."""
    part: float = 0.3
    """Chance that the target is a part of a still image's object: only the template's box tells which."""
    found: float = 0.7
    """Chance that the object of an image without annotations is the one that stands out, where one does; otherwise it
    is an ellipse."""
    margin: float = 0.06
    """Standard deviation of the template box's edges around the object, in shares of its width and height."""
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
    """`length` pairs from `sources`, whose images come from `images`."""

    def __init__(self, sources: list[Source], images: ImageStore, settings: PairSettings, length: int, seed: int):
        self.sources, self.images, self.settings, self.length, self.seed = sources, images, settings, length, seed
        self.weights = np.array([s.weight for s in sources]) / sum(s.weight for s in sources)
        self._found: dict[Path, tuple[np.ndarray, ...]] = {}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Pair:
        rng = np.random.default_rng((self.seed, index))
        s = self.settings
        source = self.sources[rng.choice(len(self.sources), p=self.weights)]
        track = self._track(rng, source)
        first, second = self._two_frames(rng, track)
        still = len(track) == 1
        swap = rng.random() < (s.swap_still if still else s.swap_track)
        present = rng.random() >= s.absent

        flip, edges = rng.random() < 0.5, self._edges(rng, first, still)
        template, box = self._template(rng, first, edges, flip, swap_background=swap and rng.random() < 0.3)
        extent = np.float32([box.w, box.h]) / s.template_size
        covered = not present and rng.random() < 0.5
        if not present and not covered:
            second = self._other(rng, first)
        search, box = self._search(rng, second, edges, first, flip, swap, still, present, covered)
        template, search = _photometric(rng, template, search)
        box = np.float32([*box.center, min(box.w, s.search_size), min(box.h, s.search_size)]) / s.search_size
        chw = (np.ascontiguousarray(p.transpose(2, 0, 1)) for p in (template, search))
        return Pair(next(chw), extent, next(chw), box, np.float32(present))

    def _track(self, rng: np.random.Generator, source: Source) -> Sequence[Instance]:
        """One object of the source that is large enough somewhere."""
        for _ in range(100):
            if source.tracks:
                track = source.tracks[rng.integers(len(source.tracks))].instances
            else:
                track = [self._on_unlabelled(rng, source.unlabelled[rng.integers(len(source.unlabelled))])]
            if self._large(track[rng.integers(len(track))]):
                return track
        raise ValueError(f"training data refused: no objects of {self.settings.smallest} pixels or more were found")

    def _on_unlabelled(self, rng: np.random.Generator, path: Path) -> Instance:
        """An object on an image without annotations: what stands out there, or an ellipse."""
        if rng.random() < self.settings.found:
            if path not in self._found:
                self._found[path] = find_object(self.images[path])
            if self._found[path]:
                return Instance(path, self._found[path])
        return _invent(rng, path, self.images[path])

    def _two_frames(self, rng: np.random.Generator, track: Sequence[Instance]) -> tuple[Instance, Instance]:
        """Template and search region of one object, which is large enough on both."""
        first = second = None
        while first is None or not self._large(first):
            at = int(rng.integers(len(track)))
            first = track[at]
        low, high = max(0, at - self.settings.gap), min(len(track), at + self.settings.gap + 1)
        while second is None or not self._large(second):
            second = track[rng.integers(low, high)]
        return first, second

    def _large(self, instance: Instance) -> bool:
        return instance.box.w * instance.box.h >= self.settings.smallest**2

    def _other(self, rng: np.random.Generator, instance: Instance) -> Instance:
        """An object from another clip or still image; where there is none, a place on any image."""
        for _ in range(50):
            track = self._track(rng, self.sources[rng.integers(len(self.sources))])
            other = track[rng.integers(len(track))]
            elsewhere = other.image.parent != instance.image.parent or len(track) == 1 and other.image != instance.image
            if elsewhere and self._large(other):
                return other
        return self._on_unlabelled(rng, self._path(rng))

    def _path(self, rng: np.random.Generator) -> Path:
        """Any image of any source."""
        source = self.sources[rng.integers(len(self.sources))]
        if not source.tracks:
            return source.unlabelled[rng.integers(len(source.unlabelled))]
        track = source.tracks[rng.integers(len(source.tracks))].instances
        return track[rng.integers(len(track))].image

    def _root(self, box: Box) -> float:
        """Square root of the area of the target with its context."""
        margin = self.settings.context * (box.w + box.h)
        return np.sqrt((box.w + margin) * (box.h + margin))

    def _edges(self, rng: np.random.Generator, instance: Instance, still: bool) -> np.ndarray:
        """Left, top, right and lower edge of the target in shares of the object's box, whose own are 0, 0, 1, 1.

        People's boxes are wide or tight, and hold a face or a whole person. The same edges mean the same part on
        another frame as long as the object keeps its shape, so parts are for still images.
        """
        s = self.settings
        if still and rng.random() < s.part:
            size = rng.uniform(0.35, 0.9, 2)
            low = rng.uniform(0, 1 - size)
            box = instance.box
            if min(size) * min(box.w, box.h) >= 8:
                return np.array([*low, *(low + size)])
        return np.array([0, 0, 1, 1]) + np.clip(rng.normal(0, s.margin, 4), -0.15, 0.15)

    def _template(
        self, rng: np.random.Generator, instance: Instance, edges: np.ndarray, flip: bool, swap_background: bool
    ) -> tuple[np.ndarray, Box]:
        size = self.settings.template_size
        turn, target = _linear(1.0, 0.0, 1.0, 0.0, flip), _target(instance, edges)
        box = enclosing_box(_transform(target, turn))
        scale = size / (self.settings.template_factor * self._root(box) * np.exp(rng.normal(0, 0.03)))
        shift = rng.normal(0, 0.02, 2) * np.sqrt(box.w * box.h) * scale
        matrix = _place(turn * scale, box.center, scale, size / 2 + shift)
        patch = self._render(rng, instance, matrix, size, swap_background)
        return patch, enclosing_box(_transform(target, matrix))

    def _search(
        self,
        rng: np.random.Generator,
        instance: Instance,
        edges: np.ndarray,
        first: Instance,
        flip: bool,
        swap_background: bool,
        still: bool,
        present: bool,
        covered: bool,
    ) -> tuple[np.ndarray, Box]:
        s, size = self.settings, self.settings.search_size
        # A still image shows its object once, so its pose has to be varied more than a track's.
        strength = 1.0 if still else 0.4
        if rng.random() < 0.05:
            flip = not flip
        aspect, angle, shear = np.exp(rng.normal(0, 0.12)), rng.normal(0, 10), rng.normal(0, 0.08)
        turn = _linear(aspect**strength, angle * strength, 1.0, shear * strength, flip)
        target = _target(instance, edges)
        box = enclosing_box(_transform(target, turn))
        root = np.sqrt(box.w * box.h)
        scale = size / (s.search_factor * self._root(box) * np.exp(np.clip(rng.normal(0, s.scale_jitter), -0.5, 0.5)))
        # As far as the target stays in view. Most moves between frames are small: half the draws reach a third.
        reach = (s.search_factor * self._root(box) - root) * scale * (1 if rng.random() < 0.5 else 1 / 3)
        shift = (rng.random(2) - 0.5) * reach
        matrix = _place(turn * scale, box.center, scale, size / 2 + shift)
        patch = self._render(rng, instance, matrix, size, swap_background)
        outline = _transform(target, matrix)
        if covered:
            self._cover(rng, patch, enclosing_box(_transform(instance.outline, matrix)))
        if rng.random() < s.distractors:
            self._paste_distractors(rng, patch, outline, first, present)
        return patch, enclosing_box(outline)

    def _cover(self, rng: np.random.Generator, patch: np.ndarray, box: Box) -> None:
        """Hide `box` under a piece of what lies beside it, or where there is no room, of another image."""
        size = len(patch)
        w, h = (min(size - 1, int(side * rng.uniform(1.1, 1.4)) + 2) for side in box[2:])
        x, y = (int(np.clip(c - side / 2, 0, size - side)) for c, side in zip(box.center, (w, h), strict=True))
        source = self._background(rng, size)
        for _ in range(10):
            left, top = rng.integers(size - w + 1), rng.integers(size - h + 1)
            if abs(left - x) >= w or abs(top - y) >= h:
                source = patch[top : top + h, left : left + w].copy()
                break
        patch[y : y + h, x : x + w] = source[:h, :w]

    def _render(
        self, rng: np.random.Generator, instance: Instance, matrix: np.ndarray, size: int, swap_background: bool
    ) -> np.ndarray:
        image = self.images[instance.image]
        patch = warp(image, matrix, size)
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
        image = self.images[self._path(rng)]
        side = int(min(image.shape[:2]) * rng.uniform(0.4, 1.0))
        y, x = (int(rng.integers(n - side + 1)) for n in image.shape[:2])
        return cv2.resize(image[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_LINEAR)

    def _paste_distractors(
        self,
        rng: np.random.Generator,
        patch: np.ndarray,
        target: list[np.ndarray],
        first: Instance,
        present: bool,
    ) -> None:
        """Paste up to three objects into `patch`: others, or the likeness of the target in `first`, plainly altered."""
        size = len(patch)
        box = enclosing_box(target)
        covered = np.zeros((size, size), np.uint8)
        target_mask = _mask(target, size)
        for _ in range(rng.integers(1, 4)):
            likeness = rng.random() < 0.35
            other = first if likeness else self._other(rng, first)
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
            sprite = warp(self.images[other.image], matrix, size)
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


def _target(instance: Instance, edges: np.ndarray) -> list[np.ndarray]:
    """The object's outline, stretched until its box has these edges, in shares of the object's box."""
    box = instance.box
    low, span = (box.x, box.y), (box.w, box.h)
    return [((points - low) / span * (edges[2:] - edges[:2]) + edges[:2]) * span + low for points in instance.outline]


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
