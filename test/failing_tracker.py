"""The tracker executable with a network that breaks CUDA at its CALLS-th call.

Where there is a GPU, a kernel really fails there; without one, the error is raised on the CPU and the device said to be
of no use any more.
"""

import itertools
import sys

import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from sot_ros.networks.siamfc import SiamFC
from sot_ros.node import worker
from sot_ros.node.main import main

CALLS = 5
calls = itertools.count(1)


def fail(module: torch.nn.Module, arguments: tuple) -> None:
    if not isinstance(module, SiamFC) or next(calls) < CALLS:
        return
    if torch.cuda.is_available():
        torch.zeros(1, device="cuda")[torch.tensor([5], device="cuda")].cpu()
    worker.usable = lambda device: False
    raise RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported")


register_module_forward_pre_hook(fail)
sys.exit(main())
