"""Faster ways and precisions to run a tracker's network in, each taken only if it finds the same when it is tried."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sot_ros.trackers.base import Tracker
from sot_ros.trackers.examples import deviation, example_inputs
from sot_ros.trackers.settings import computed_by

COMPILE = ("auto", "inductor", "off")
CACHE = Path("~/.cache/sot_ros/inductor")
"""Where what the Inductor has compiled stays, unless TORCHINDUCTOR_CACHE_DIR says otherwise."""
TOLERANCE = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Largest deviation of a faster way, by what the weights are kept in: other orders of summation round otherwise."""
BOX_TOLERANCE = 0.002
"""How far a box of another precision may be from fp32's, in shares of the search region's side: half a pixel of 256."""
CALLS = 5
"""Of each precision, whose fastest counts."""
Compute = Callable[..., tuple[Tensor, ...]]


def accelerate(tracker: Tracker, way: str = "auto") -> str:
    """Make a tracker's network faster, if its device has a way; returns what was done, and why other things were not.

    auto      what takes a second or two: CUDA graphs, or on a CPU what the tracker's family knows
    inductor  torch.compile, and CUDA graphs of that. Takes a minute, and less when it is started again. Needs a C++
              compiler, on a GPU Triton, too; without them, auto
    off       nothing
    """
    if way == "off":
        return "not compiled"
    compute, begin, failed = type(tracker).compute, time.monotonic(), ""
    cuda, ways = tracker.device.type == "cuda", {}
    if way == "inductor" and cuda:
        ways["Inductor and CUDA graphs"] = lambda: CudaGraphs(inductor(compute))
    elif way == "inductor":
        ways["Inductor"] = lambda: inductor(compute)
    if cuda:
        ways["CUDA graphs"] = lambda: CudaGraphs(compute)
    for name, make in ways.items():
        reason = _try(tracker, make)
        if not reason:
            return f"{name}, ready after {time.monotonic() - begin:.1f} s{failed}"
        failed += f"; no {name}: {reason}"
    known = not cuda and tracker.compile_for_cpu()
    done = f"compiled for CPUs, ready after {time.monotonic() - begin:.1f} s" if known else "not compiled"
    return done + failed


def _try(tracker: Tracker, make: Callable[[], Compute]) -> str:
    """Let a tracker use a way; where it fails, or finds something else, go back and say why."""
    try:
        with tracker.inference():
            inputs = example_inputs(tracker)["compute"]
            expected = tracker.compute(*inputs)
            tracker.faster = make()
            off = deviation(expected, tracker.call(*inputs))
        if off <= TOLERANCE[tracker.dtype]:
            return ""
        reason = f"it finds something else, off by {off:.1g} of the largest value"
    except Exception as error:  # of PyTorch, Triton, a compiler or a driver: any means that this way is closed
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    tracker.faster = None
    return reason


def inductor(compute: Compute) -> Compute:
    """`compute`, compiled by PyTorch's Inductor when it is first called."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(CACHE.expanduser()))
    return torch.compile(compute, dynamic=False)


class CudaGraphs:
    """`compute` of a tracker, whose kernels are sent to the GPU as a whole: alone, each costs the CPU microseconds.

    Captured once for each number of targets and each choice of settings, which takes a fraction of a second. What it
    returns is overwritten by the next call.
    """

    def __init__(self, compute: Compute):
        self._compute = compute
        self._captured: dict[Hashable, _Capture] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, tracker: Tracker, *inputs: Tensor) -> tuple[Tensor, ...]:
        fixed = tuple(getattr(tracker.settings, name) for name in computed_by(tracker.settings))
        key = fixed, tuple((x.shape, x.dtype) for x in inputs)
        if key not in self._captured:
            self._captured[key] = self._capture(tracker, inputs)
        captured = self._captured[key]
        for held, given in zip(captured.inputs, inputs, strict=True):
            held.copy_(given, non_blocking=True)
        captured.graph.replay()
        return captured.outputs

    def _capture(self, tracker: Tracker, inputs: tuple[Tensor, ...]) -> _Capture:
        held = tuple(x.clone() for x in inputs)
        # What is only done once, such as the choice of kernels, must not be captured. On a stream of its own, as
        # PyTorch's manual has it.
        side = torch.cuda.Stream(tracker.device)
        side.wait_stream(torch.cuda.current_stream(tracker.device))
        with torch.cuda.stream(side):
            for _ in range(3):
                self._compute(tracker, *held)
        torch.cuda.current_stream(tracker.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(tracker.device), torch.cuda.graph(graph, self._pool, capture_error_mode="thread_local"):
            outputs = self._compute(tracker, *held)
        return _Capture(graph, held, outputs)


class _Capture(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


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
        if np.abs(found - expected).max() <= BOX_TOLERANCE * max(1.0, np.abs(expected).max()):
            times[name] = min(seconds[1:])
    return min(times, key=times.get)
