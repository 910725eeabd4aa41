"""What every tracker is to its user: a box given once, a box and a confidence back for every frame."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from timm.data import IMAGENET_DEFAULT_MEAN as IMAGENET_MEAN
from timm.data import IMAGENET_DEFAULT_STD as IMAGENET_STD
from torch import Tensor, nn

from sot_ros.geometry import Box, check_box
from sot_ros.networks.folding import fold_batchnorm
from sot_ros.trackers.precision import PRECISIONS, computing_in, store_in
from sot_ros.trackers.settings import built_by, computed_by


class Estimate(NamedTuple):
    """Where the target is on one frame, and how sure the tracker is: 0 (not there) to 1 (certainly this)."""

    box: Box
    confidence: float


Search = Generator[tuple[np.ndarray | Tensor, ...], tuple[Tensor, ...], Any]
"""A search for one target, which stands still where it needs the network: it yields what the network is to be given,
each with a first dimension of 1, is sent what the network returned, without that dimension, and returns what it found.
So the searches for several targets can be run in one batch; see `Tracker.run`."""


class Tracker(ABC):
    """A network and the pipeline around it: cut, run, decode, move the box.

    A family implements `set_template` and `locate`, which cut and decode, and `embed` and `compute`, which are all that
    the network does for them. They run without gradients, in the chosen precision. The network given to a tracker is
    made ready for that in place, and cannot be trained any more.
    """

    def __init__(self, network: nn.Module, settings: Any, device: torch.device, precision: str = "fp32"):
        self.network = store_in(fold_batchnorm(network.eval()), precision)
        self._settings = settings
        self.fixed = built_by(settings)
        """Names of the settings that cannot change."""
        self.device = device
        self.precision = precision
        self.faster: Callable[..., tuple[Tensor, ...]] | None = None
        """A function of a tracker and the inputs of its `compute`, which does the same in less time."""
        self.compiled = "not compiled"
        """What was done to make the network faster, and why other things were not."""
        self._mean, self._std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        self._box: Box | None = None
        self.visible = True
        """Whether the target was seen on the last frame, as a session says; where not, nothing is learnt from it."""
        self.appearance: np.ndarray | None = None
        """What `box` shows on the last frame, the first included: a vector of length 1, to be compared by cosine. Stays
        None in families that have none; their confidence alone then tells how much it looks like the first template."""

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are kept in."""
        return PRECISIONS[self.precision]

    @property
    def settings(self) -> Any:
        """The model's settings, a frozen dataclass. Settable to an `override` of itself at any time, except for what
        the network was built by: that raises ValueError."""
        return self._settings

    @settings.setter
    def settings(self, settings: Any) -> None:
        for name in self.fixed:
            built, wanted = getattr(self._settings, name), getattr(settings, name)
            if wanted != built:
                raise ValueError(f"{name} {wanted!r} refused: the network was built with {built!r}; it cannot change")
        self._settings = settings

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
        with self.inference():
            self.set_template(image, box)
        self._box = box

    def track(self, image: np.ndarray) -> Estimate:
        """Find the target on the next frame, (H, W, 3) uint8 RGB, near `box`, and move `box` there."""
        return track_together([self], image)[0]

    def compile_for_cpu(self) -> bool:
        """Make the network faster, where a way is known; it may take seconds. Returns whether there was one."""
        return False

    def use_graphs(self, embed: Callable[..., tuple[Tensor, ...]], compute: Callable[..., tuple[Tensor, ...]]) -> None:
        """Put other functions in the place of `embed` and `compute`. Settings that act in those cannot change then."""
        self.embed, self.compute = embed, compute
        self.fixed = computed_by(self._settings)

    def sibling(self) -> Tracker:
        """A tracker for another target, yet to be initialized: with the same network and settings, which take no more
        memory, and a state of its own. `track_together` runs siblings as one batch."""
        other = copy.copy(self)
        other._box, other.visible, other.appearance = None, True, None
        return other

    @abstractmethod
    def set_template(self, image: np.ndarray, box: Box) -> None:
        """Compute and keep the template of the target in `box`."""

    @abstractmethod
    def locate(self, image: np.ndarray) -> Search:
        """Search `image` around `self.box`, set `self.box` to what was found, and return the Estimate."""

    @abstractmethod
    def embed(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What `set_template` cut out, on the device -> what is kept of a template.

        A function of these tensors alone.
        """

    @abstractmethod
    def compute(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What searches yielded, in one batch on the device -> what they are sent, in one batch.

        A function of these tensors alone: nothing in it depends on a target in any other way.
        """

    def run(self, searches: Sequence[Search]) -> list[Any]:
        """What searches of this tracker and its siblings return. All share one upload of what they cut out, one call of
        the network, and one wait for it."""
        inputs = [next(search) for search in searches]
        outputs = self.call(*(self._batch(parts) for parts in zip(*inputs, strict=True)))
        rows = zip(*(outputs if self.device.type == "cpu" else fetch(outputs)), strict=True)
        return [_finish(search, row) for search, row in zip(searches, rows, strict=True)]

    def call(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """`compute`, as fast as is known."""
        return self.compute(*inputs) if self.faster is None else self.faster(self, *inputs)

    def to_device(self, patches: np.ndarray | Tensor) -> Tensor:
        """(B, H, W, 3) uint8 or float32 patches as a float (B, 3, H, W) tensor in 0..255 on the tracker's device."""
        return torch.as_tensor(patches, device=self.device).permute(0, 3, 1, 2).float()

    def to_normalized(self, patches: np.ndarray | Tensor) -> Tensor:
        """(B, H, W, 3) uint8 or float32 patches as float (B, 3, H, W), less ImageNet's mean and over its deviation."""
        return (self.to_device(patches) / 255 - self._mean) / self._std

    def embed_cut(self, *cut: np.ndarray) -> tuple[Tensor, ...]:
        """`embed` of arrays."""
        return self.embed(*(torch.as_tensor(part, device=self.device) for part in cut))

    def _batch(self, parts: Sequence[np.ndarray | Tensor]) -> Tensor:
        if len(parts) > 1:
            parts = [np.concatenate(parts) if isinstance(parts[0], np.ndarray) else torch.cat(parts)]
        batch = torch.as_tensor(parts[0])
        if batch.device == self.device:
            return batch
        # From memory that stays where it is, the GPU takes it while this thread goes on.
        return batch.pin_memory().to(self.device, non_blocking=True)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Within, `embed` and `compute` run as they should: without gradients, in the tracker's precision."""
        with torch.inference_mode(), computing_in(self.precision, self.device):
            yield


def track_together(trackers: Sequence[Tracker], image: np.ndarray) -> list[Estimate]:
    """Find the targets of several trackers, siblings of each other, on the next frame, (H, W, 3) uint8 RGB.

    What `track` of each would do, in one batch. Raises ValueError for an image that cannot be used and for trackers
    that are no siblings or have unlike settings; all boxes are then where they were.
    """
    check_image(image)
    for tracker in trackers:
        if tracker.box is None:
            raise RuntimeError("track() called before initialize(): there is no target yet")
        if tracker.network is not trackers[0].network or tracker.settings != trackers[0].settings:
            raise ValueError("trackers refused: siblings of one tracker with the same settings are accepted")
    if not trackers:
        return []
    with trackers[0].inference():
        return trackers[0].run([tracker.locate(image) for tracker in trackers])


def fetch(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Tensors (B, ...) of any types, copied to the CPU at once: each copy by itself would wait for the GPU."""
    rows = [x.reshape(len(x), -1).contiguous().view(torch.uint8) for x in outputs]
    fetched = torch.cat(rows, dim=1).cpu().split([row.shape[1] for row in rows], dim=1)
    # Cloned, for numbers that begin anywhere in memory cannot be viewed as such.
    clones = (row.clone(memory_format=torch.contiguous_format) for row in fetched)
    return [row.view(x.dtype).view(x.shape) for row, x in zip(clones, outputs, strict=True)]


def _finish(search: Search, outputs: tuple[Tensor, ...]) -> Any:
    try:
        search.send(outputs)
    except StopIteration as end:
        return end.value
    raise RuntimeError("a search has asked the network twice: it may do so once")


def check_image(image: np.ndarray) -> None:
    """Raise ValueError unless `image` is a non-empty (H, W, 3) uint8 array."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"image refused: an (H, W, 3) uint8 RGB array is accepted, this is {got}")
    if image.size == 0:
        raise ValueError(f"image refused: it is empty, {image.shape}")
