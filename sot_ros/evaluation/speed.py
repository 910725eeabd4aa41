"""How long a tracker takes for a whole frame, for its parts, and how long this machine needs at the least."""

from __future__ import annotations

import multiprocessing
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from sot_ros.geometry import Box
from sot_ros.trackers.base import Tracker
from sot_ros.trackers.examples import example_inputs
from sot_ros.trackers.models import create_tracker, find_device
from sot_ros.trackers.precision import PRECISIONS, computing_in, store_in

WARM_UP = 3
FEWEST = 5
"""Frames that are timed however long they take."""
PAUSE_S = 0.01
"""Between one program's turn and the next: for some milliseconds, threads that have nothing to do spin."""


@dataclass(frozen=True)
class Speed:
    """One model on one backend. Times are in milliseconds, for whole frames: from an image to a box."""

    model: str
    backend: str
    precision: str
    compiled: str
    """What was done to make the network faster; see `accelerate`."""
    device: str
    frames: int
    p50: float
    p95: float
    crop: float
    """Share of the time before the network is called; then that in it, and after it."""
    network: float
    decode: float
    memory_mb: float
    """The most that was taken: by the whole process on a CPU, by tensors on a GPU."""
    against: dict[str, dict[str, float]]
    """Of each other program, its `p50`, and the `ratio`: the median of our time over its time, frame by frame."""


@dataclass(frozen=True)
class Rates:
    """What this machine does at its best."""

    flops: float
    """Operations a second in a product of large matrices; a multiplication with its addition is two."""
    bandwidth: float
    """Bytes a second, read or written, when memory is copied."""

    def floor(self, operations: float, size: float) -> float:
        """Milliseconds that so many operations on so many bytes of weights take at the least.

        Convolutions that need fewer operations than a matrix product, such as Winograd's, can be faster.
        """
        return 1e3 * max(operations / self.flops, size / self.bandwidth)


def alone(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a function returns in a new process, whose memory is its alone."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


def measure(
    model: str,
    images: Sequence[np.ndarray],
    box: Box,
    seconds: float,
    against: Mapping[str, str],
    **options: Any,
) -> Speed:
    """Time a model, each frame with the target in `box`, for so many seconds at least; see `alone`.

    images   (H, W, 3) uint8 RGB, in turn
    against  other programs by their names: commands, each of which says `ready` on a line, and then, for each line that
             it reads, tracks a frame and writes a line with the milliseconds that it took. They take turns with us
    options  of `create_tracker`
    """
    precision = options.get("precision", "fp32")
    tracker = create_tracker(model, **options)
    tracker.initialize(images[0], box)
    others = {name: Program(command) for name, command in against.items()}

    def track(i: int) -> float:
        tracker.box = box
        begin = time.perf_counter()
        tracker.track(images[i % len(images)])
        return 1e3 * (time.perf_counter() - begin)

    for i in range(WARM_UP):
        track(i)
    ours, theirs = [], {name: [] for name in others}
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(ours) < FEWEST:
        ours.append(track(len(ours)))
        for name, program in others.items():
            time.sleep(PAUSE_S)
            theirs[name].append(program.track())
        time.sleep(PAUSE_S * bool(others))
    for program in others.values():
        program.close()
    crop, network, decode = parts(tracker, images, box, min(len(ours), 20))
    cuda = tracker.device.type == "cuda"
    taken = torch.cuda.max_memory_allocated() if cuda else peak_bytes()
    return Speed(
        model,
        options.get("backend", "torch"),
        tracker.precision if precision == "auto" else precision,
        tracker.compiled,
        options.get("device") or str(tracker.device),
        len(ours),
        float(np.percentile(ours, 50)),
        float(np.percentile(ours, 95)),
        crop,
        network,
        decode,
        taken / 1e6,
        {n: {"p50": float(np.median(t)), "ratio": float(np.median(np.divide(ours, t)))} for n, t in theirs.items()},
    )


def parts(tracker: Tracker, images: Sequence[np.ndarray], box: Box, frames: int) -> tuple[float, float, float]:
    """Shares of a frame's time before, in and after the network; medians of so many frames."""
    sibling = tracker.sibling()
    sibling.initialize(images[0], box)
    marks = []

    def mark() -> None:
        if tracker.device.type == "cuda":
            torch.cuda.synchronize(tracker.device)
        marks.append(time.perf_counter())

    def call(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        mark()
        outputs = tracker.call(*inputs)
        mark()
        return outputs

    sibling.call = call
    for i in range(frames):
        sibling.box = box
        mark()
        sibling.track(images[i % len(images)])
        mark()
    spans = np.diff(np.reshape(marks, (frames, 4)), axis=1)
    return tuple(np.median(spans / spans.sum(axis=1, keepdims=True), axis=0).tolist())


def work(model: str, **settings: Any) -> tuple[float, float]:
    """Operations of a model's network for one frame, its template not counted, and bytes of its weights in fp32."""
    tracker = create_tracker(model, "random", "cpu", compile="off", **settings)
    inputs = example_inputs(tracker)["compute"]
    tracker.network.requires_grad_(False)  # else the counter asks for the graph that leads back to the weights
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        tracker.compute(*inputs)
    return counter.get_total_flops(), sum(p.numel() * p.element_size() for p in tracker.network.parameters())


def rates(device: str | None, precision: str) -> Rates:
    """Measured on this machine: the best of several tries."""
    where = find_device(device)
    n, size = (1024, 2**26) if where.type == "cpu" else (8192, 2**30)
    x = torch.randn(n, n, device=where, dtype=PRECISIONS[precision])
    product = store_in(torch.nn.Linear(n, n, bias=False, device=where), precision)
    memory = torch.ones(size, dtype=torch.uint8, device=where)
    copied = torch.empty_like(memory)

    def fastest(function: Callable[[], Any]) -> float:
        times = []
        for _ in range(20):
            begin = time.perf_counter()
            function()
            if where.type == "cuda":
                torch.cuda.synchronize(where)
            times.append(time.perf_counter() - begin)
        return min(times)

    with torch.inference_mode(), computing_in(precision, where):
        flops = 2 * n**3 / fastest(lambda: product(x))
    return Rates(flops, 2 * size / fastest(lambda: copied.copy_(memory)))


def peak_bytes() -> int:
    """The most memory that this process has held. getrusage would tell its parent's, where that was larger."""
    with open("/proc/self/status") as status:
        [kilobytes] = (line.split()[1] for line in status if line.startswith("VmHWM:"))
    return 1024 * int(kilobytes)


class Program:
    """Another program that is timed in turn with ours; see `measure`."""

    def __init__(self, command: str):
        self._command = command
        self._process = subprocess.Popen(
            shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        if (said := self._process.stdout.readline().strip()) != "ready":
            raise ValueError(f"--against {command} refused: it says '{said}', and not 'ready'")

    def track(self) -> float:
        """Milliseconds that it says its next frame took."""
        self._process.stdin.write("\n")
        said = self._process.stdout.readline().strip()
        try:
            return float(said)
        except ValueError:
            raise ValueError(f"--against {self._command} refused: it says '{said}', and not a time") from None

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def as_dict(speed: Speed, machine: Rates, floor: float) -> dict[str, Any]:
    """A row of the JSON file: the speed, the rates of the machine, and the floor that these set."""
    rates = {"gflops": machine.flops / 1e9, "gbytes": machine.bandwidth / 1e9}
    return asdict(speed) | rates | {"fps": 1e3 / speed.p50, "floor": floor, "over_floor": speed.p50 / floor}
