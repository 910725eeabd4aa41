"""Trackers without PyTorch's kernels: their two functions written as ONNX graphs, and run by ONNX Runtime.

What cuts, decodes and moves the box stays the same code. On a Jetson, ONNX Runtime hands the graphs to TensorRT.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sot_ros.trackers.base import Tracker
from sot_ros.trackers.examples import deviation, example_inputs

PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}
"""Devices, and what ONNX Runtime tries there in this order."""
PRECISIONS = {"cpu": ("fp32",), "cuda": ("fp32", "tf32"), "tensorrt": ("fp32", "fp16")}
"""What each device can compute the graphs in, which are exported in fp32."""
ENGINES = Path("~/.cache/sot_ros/tensorrt")
"""Where TensorRT keeps what it builds of a graph at its first start, in minutes."""
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

    def __init__(self, path: str | Path, device: str | None = None, precision: str = "fp32"):
        try:
            import onnxruntime
        except ImportError:
            raise ValueError(f"backend 'onnxruntime' is not installed: {INSTALL}") from None
        providers = find_providers(device, precision, onnxruntime.get_available_providers())
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


def check(tracker: Tracker, name: str, path: str | Path) -> float:
    """The `deviation` of a graph on the CPU from the tracker's function."""
    inputs = example_inputs(tracker)[name]
    with torch.inference_mode():
        return deviation(getattr(tracker, name)(*inputs), Graph(path, "cpu")(*inputs))


def find_providers(device: str | None, precision: str, available: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """What runs a graph on a device, None for the fastest there is, each with ONNX Runtime's options for it.

    Raises ValueError where there is no such device, or it has no such precision.
    """
    usable = [name for name, providers in PROVIDERS.items() if providers[0] in available]
    if device is None:
        device = "cuda" if "cuda" in usable else "cpu"
    if device not in usable:
        raise ValueError(f"no device '{device}' for onnxruntime here: accepted are {', '.join(usable)}")
    if precision not in PRECISIONS[device]:
        accepted = " or ".join(PRECISIONS[device])
        raise ValueError(f"precision '{precision}' refused: onnxruntime on {device} computes in {accepted}")
    options = {
        "CPUExecutionProvider": {},
        "CUDAExecutionProvider": {"use_tf32": str(int(precision == "tf32"))},
        "TensorrtExecutionProvider": {
            "trt_fp16_enable": str(precision == "fp16"),
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": str(ENGINES.expanduser()),
        },
    }
    return [(provider, options[provider]) for provider in PROVIDERS[device]]


def read_graphs(
    model: str, path: str | Path, device: str | None = None, precision: str = "fp32"
) -> dict[str, Graph]:
    """The graphs of a model's two functions; raises ValueError or FileNotFoundError where they are not that."""
    files = graph_files(path)
    if Path(path).suffix != ".onnx":
        raise ValueError(f"weights {path} refused: onnxruntime takes the .onnx that `sot export {model}` writes")
    for file in files.values():
        if not file.is_file():
            raise FileNotFoundError(f"no file {file}: `sot export {model} --out {path}` writes it")
    graphs = {name: Graph(file, device, precision) for name, file in files.items()}
    for name, graph in graphs.items():
        if graph.about.get("model") != model:
            found = graph.about.get("model", "no export of sot_ros")
            raise ValueError(f"{files[name]} refused: it is {found}, not {model}")
    return graphs
