"""Trackers without PyTorch's kernels: their two functions written as ONNX graphs, and run by ONNX Runtime.

What cuts, decodes and moves the box stays the same code. On a Jetson, ONNX Runtime hands the graphs to TensorRT.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sot_ros.geometry import Box
from sot_ros.trackers.base import Tracker

PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}
"""Devices, and what ONNX Runtime tries there in this order."""
METADATA = "sot_ros"
INSTALL = "pip install onnxruntime, or onnxruntime-gpu where there is a GPU"


def graph_files(path: str | Path) -> dict[str, Path]:
    """The files of the functions `embed` and `compute` of a tracker that is exported to `path`, MODEL.onnx."""
    path = Path(path)
    return {"embed": path.with_suffix(".template.onnx"), "compute": path}


def export(model: str, tracker: Tracker, path: str | Path) -> None:
    """Write `graph_files(path)`, of one target each, with the model's name and the settings they were made with.

    Needs onnx and onnxscript. The tracker must be on the CPU, in fp32, and not compiled.
    """
    about = json.dumps({"model": model, "settings": dataclasses.asdict(tracker.settings)})
    files = graph_files(path)
    for name, inputs in example_inputs(tracker).items():
        logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it tells what it leaves as it is
        with torch.no_grad():
            graph = _Function(tracker, name).eval()
            program = torch.onnx.export(graph, inputs, dynamo=True, external_data=False, verbose=False)
        program.model.metadata_props[METADATA] = about
        files[name].parent.mkdir(parents=True, exist_ok=True)
        program.save(files[name], external_data=False)


def example_inputs(tracker: Tracker) -> dict[str, tuple[Tensor, ...]]:
    """What `embed` and `compute` are given for one target."""
    given = {}

    def record(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(*inputs: Tensor) -> Any:
            given[name] = tuple(torch.from_numpy(x.numpy().copy()) for x in inputs)
            return function(*inputs)

        return recorded

    sibling = tracker.sibling()
    for name in ("embed", "compute"):
        setattr(sibling, name, record(name, getattr(tracker, name)))
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    sibling.initialize(image, Box(140, 100, 40, 40))
    sibling.track(image)
    return given


class _Function(nn.Module):
    """A tracker's function as a module, for its weights to be found."""

    def __init__(self, tracker: Tracker, name: str):
        super().__init__()
        self.network = tracker.network
        self._function = getattr(tracker, name)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(self._function(*inputs))


class Graph:
    """A graph in ONNX Runtime, called as the function that it was made from, with any number of targets."""

    def __init__(self, path: str | Path, device: str | None = None):
        try:
            import onnxruntime
        except ImportError:
            raise ValueError(f"backend 'onnxruntime' is not installed: {INSTALL}") from None
        providers = find_providers(device, onnxruntime.get_available_providers())
        onnxruntime.set_default_logger_severity(3)  # errors; its warnings are about nodes that the graph shares
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers)
        except Exception as error:  # ONNX Runtime has a dozen kinds, none of them public
            raise ValueError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
        self._names = [node.name for node in self._session.get_inputs()]
        self.about: dict[str, Any] = json.loads(self._session.get_modelmeta().custom_metadata_map.get(METADATA, "{}"))
        """The model's name and its settings."""

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        targets = zip(*(x.numpy()[:, None] for x in inputs), strict=True)
        outputs = [self._session.run(None, dict(zip(self._names, target, strict=True))) for target in targets]
        return tuple(torch.from_numpy(np.concatenate(rows)) for rows in zip(*outputs, strict=True))


def deviation(tracker: Tracker, name: str, path: str | Path) -> float:
    """How far a graph on the CPU is from the tracker's function, in shares of the largest value of each output."""
    inputs = example_inputs(tracker)[name]
    with torch.inference_mode():
        outputs = getattr(tracker, name)(*inputs), Graph(path, "cpu")(*inputs)
    pairs = zip(*([x.double() for x in found] for found in outputs), strict=True)
    return max(float((x - exported).abs().max() / x.abs().max().clamp(min=1e-9)) for x, exported in pairs)


def find_providers(device: str | None, available: Sequence[str]) -> tuple[str, ...]:
    """What runs a graph on a device, None for the fastest there is; raises ValueError where it cannot."""
    usable = [name for name, providers in PROVIDERS.items() if providers[0] in available]
    if device is None:
        device = "cuda" if "cuda" in usable else "cpu"
    if device not in usable:
        raise ValueError(f"no device '{device}' for onnxruntime here: accepted are {', '.join(usable)}")
    return PROVIDERS[device]


def read_graphs(model: str, path: str | Path, device: str | None = None) -> dict[str, Graph]:
    """The graphs of a model's two functions; raises ValueError or FileNotFoundError where they are not that."""
    files = graph_files(path)
    if Path(path).suffix != ".onnx":
        raise ValueError(f"weights {path} refused: onnxruntime takes the .onnx that `sot export {model}` writes")
    for file in files.values():
        if not file.is_file():
            raise FileNotFoundError(f"no file {file}: `sot export {model} --out {path}` writes it")
    graphs = {name: Graph(file, device) for name, file in files.items()}
    for name, graph in graphs.items():
        if graph.about.get("model") != model:
            found = graph.about.get("model", "no export of sot_ros")
            raise ValueError(f"{files[name]} refused: it is {found}, not {model}")
    return graphs
