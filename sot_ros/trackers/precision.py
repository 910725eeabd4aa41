"""The number formats that a network can compute in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from sot_ros.networks.mobilenet import MobileTrunk
from sot_ros.trackers import int8

PRECISIONS = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "int8": torch.float32,
}
"""Names, and what the network's weights are kept in. With tf32, which NVIDIA's GPUs have since Ampere, products round
their factors to 10 bits; with int8, for CPUs, factors are whole numbers (see int8.py), and all else stays in fp32."""


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

    Within `computing_in` it computes what it would with all weights in fp32, to the bit. With int8 it does not, and
    neither does a `MobileTrunk` in half precision, which is centered before.
    """
    if precision == "int8":
        return int8.quantize(network)
    dtype = PRECISIONS[precision]
    if dtype is not torch.float32:
        for module in network.modules():  # a trunk comes before its convolutions, and so is centered in fp32
            if isinstance(module, MobileTrunk):
                module.center()
            elif isinstance(module, (nn.Linear, nn.Conv2d)):
                module.to(dtype)
    return network


def candidates(device: torch.device) -> tuple[str, ...]:
    """What `auto` tries there: fp32, and precisions that may be faster. Not int8, which one trial cannot vouch for."""
    if device.type == "cpu":
        return ("fp32", "bf16") if has_bf16(device) else ("fp32",)
    return ("fp32", "tf32", "bf16", "fp16") if has_bf16(device) else ("fp32", "fp16")


def has_bf16(device: torch.device) -> bool:
    """Whether the device itself has products in bf16, as NVIDIA's GPUs since Ampere have; else they are emulated.

    Of CPUs only Linux tells it; elsewhere they count as without.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    features = Path("/proc/cpuinfo")
    return features.is_file() and "bf16" in features.read_text()


def check_precision(precision: str, device: torch.device) -> None:
    """Raise ValueError where a device has no such products, and would compute in fp32 or not at all."""
    if precision == "tf32" and precision not in candidates(device):
        raise ValueError(f"precision 'tf32' refused: {device} has no such products; NVIDIA's GPUs since Ampere have")
    if precision == "int8" and not (device.type == "cpu" and int8.is_available()):
        raise ValueError(f"precision 'int8' refused: {device} has no such products; CPUs have, by PyTorch's oneDNN")
