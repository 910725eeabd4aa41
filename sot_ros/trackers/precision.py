"""The number formats that a network can compute in, and the choice of the fastest that finds the same."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from sot_ros.trackers import int8

if TYPE_CHECKING:
    from sot_ros.trackers.base import Tracker

PRECISIONS = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "int8": torch.float32,
}
"""Names, and what the network's weights are kept in. With tf32, which NVIDIA's GPUs have since Ampere, products round
their factors to 10 bits; with int8, for CPUs, factors are whole numbers (see int8.py), and all else stays in fp32."""
TOLERANCE = 0.002
"""How far a box may be from fp32's, in shares of the search region's side: half a pixel of 256."""
CALLS = 5
"""Of each precision, whose fastest counts."""


@contextmanager
def computing_in(precision: str, device: torch.device) -> Iterator[None]:
    """Within, products are computed so; norms and softmax stay in fp32."""
    dtype = PRECISIONS[precision]
    # A cast that is kept would be lost to a CUDA graph that was captured with it; each weight is used once anyway.
    with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32, cache_enabled=False):
        if device.type == "cpu":
            yield
            return
        before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        _allow_tf32(precision == "tf32", precision == "tf32")
        try:
            yield
        finally:
            _allow_tf32(*before)


def _allow_tf32(in_products: bool, in_convolutions: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = in_products
    torch.backends.cudnn.allow_tf32 = in_convolutions


def store_in(network: nn.Module, precision: str) -> nn.Module:
    """The network, whose weights of products are kept in this precision from now on, so that no frame has to cast them.

    Within `computing_in` it computes what it would with all weights in fp32, to the bit; but not with int8.
    """
    if precision == "int8":
        return int8.quantize(network)
    dtype = PRECISIONS[precision]
    if dtype is not torch.float32:
        for module in network.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                module.to(dtype)
    return network


def candidates(device: torch.device) -> tuple[str, ...]:
    """What `auto` tries there: fp32, and precisions that may be faster. Not int8, which one trial cannot vouch for."""
    if device.type == "cpu":
        return ("fp32", "bf16")
    recent = torch.cuda.get_device_capability(device) >= (8, 0)
    return ("fp32", "tf32", "bf16", "fp16") if recent else ("fp32", "fp16")


def check_precision(precision: str, device: torch.device) -> None:
    """Raise ValueError where a device has no such products, and would compute in fp32 or not at all."""
    if precision == "tf32" and precision not in candidates(device):
        raise ValueError(f"precision 'tf32' refused: {device} has no such products; NVIDIA's GPUs since Ampere have")
    if precision == "int8" and not (device.type == "cpu" and int8.is_available()):
        raise ValueError(f"precision 'int8' refused: {device} has no such products; CPUs have, by PyTorch's oneDNN")


def fastest(trackers: Mapping[str, Tracker], inputs: tuple[Tensor, ...]) -> str:
    """The name of the tracker whose network is fastest on `inputs`, out of those that find what `fp32` finds.

    Trackers whose network gives no boxes, but responses, are compared by these, in shares of the largest.
    """
    expected, times = None, {}
    for name, tracker in trackers.items():
        seconds = []
        for _ in range(1 + CALLS):
            begin = time.perf_counter()
            with tracker.inference():
                # Copied to the CPU, which waits for the GPU.
                found = tracker.call(*inputs)[0].float().cpu().numpy()
            seconds.append(time.perf_counter() - begin)
        expected = found if expected is None else expected
        if np.abs(found - expected).max() <= TOLERANCE * max(1.0, np.abs(expected).max()):
            times[name] = min(seconds[1:])
    return min(times, key=times.get)
