"""Weights of any published layout: find the file, read it without running code from it, fit it to a network."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

CONTAINERS = ("net", "model", "state_dict")
"""Keys under which upstream's files keep the state dict, beside optimisers and settings."""


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors, .pth, .pt or .pth.tar file, by name, on the CPU.

    Wrapped state dicts (`net`, `model`, `state_dict`) are unwrapped and DataParallel's `module.` is dropped.
    No code from the file is run. Raises FileNotFoundError, or ValueError with the reason if the file is refused.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"weights file {path} does not exist")
    try:
        content = safetensors.torch.load_file(path) if path.suffix == ".safetensors" else _read_pickled(path)
    except UnsafeFileError as error:
        raise ValueError(f"weights file {path} refused: {error}") from None
    except Exception as error:  # torch and safetensors raise a dozen types for a damaged file
        raise ValueError(
            f"weights file {path} is damaged or no checkpoint ({type(error).__name__}): "
            "a .safetensors, .pth, .pt or .pth.tar file is accepted"
        ) from None
    for key in CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    state = {}
    if isinstance(content, Mapping):
        state = {str(k).removeprefix("module."): v for k, v in content.items() if isinstance(v, Tensor)}
    if not state:
        raise ValueError(f"weights file {path} holds no tensors by name: a state dict is accepted")
    return state


class MisfitError(ValueError):
    """A file whose tensors are not those of the network."""


def load_weights(
    network: nn.Module, path: str | Path, names: Mapping[str, str], unused: tuple[str, ...], model: str
) -> None:
    """Fill `network` from a file, with prefixes of the file's names replaced as `names` says.

    Raises MisfitError that lists the tensors which are missing, left over or of another shape; `model` is the name
    that the message uses. Tensors named in `unused` are passed over, as `misfit` says.
    """
    state = rename(read_state_dict(path), names)
    if problems := misfit(state, network, unused):
        raise MisfitError(f"weights file {path} does not fit {model}: {'; '.join(problems)}")
    known = network.state_dict().keys()
    network.load_state_dict({name: tensor for name, tensor in state.items() if name in known}, strict=False)


def misfit(state: Mapping[str, Tensor], network: nn.Module, unused: tuple[str, ...] = ()) -> list[str]:
    """Why a renamed state dict is not the network's: what is missing, left over or of another shape. Empty if it is.

    Tensors that upstream stores and never reads may be left over: those named in `unused`, where a name that ends
    with a dot stands for all that begin so. Counters of BatchNorm may be missing: files from before PyTorch 0.4.1
    have none.
    """
    expected = network.state_dict()
    prefixes = tuple(name for name in unused if name.endswith("."))
    missing = [n for n in expected if n not in state and not n.endswith("num_batches_tracked")]
    left_over = [n for n in state if n not in expected and n not in unused and not n.startswith(prefixes)]
    misshapen = [
        f"{n} {tuple(state[n].shape)} instead of {tuple(expected[n].shape)}"
        for n in expected
        if n in state and state[n].shape != expected[n].shape
    ]
    return [
        f"{title}: {_some(found)}"
        for title, found in (("missing", missing), ("left over", left_over), ("of another shape", misshapen))
        if found
    ]


def rename(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """The state dict with every prefix in `names` replaced by its value; other names stay."""
    renamed = {}
    for name, tensor in state.items():
        prefix = next((p for p in names if name.startswith(p)), "")
        renamed[names.get(prefix, "") + name.removeprefix(prefix)] = tensor
    return renamed


def _some(found: list[str], most: int = 5) -> str:
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


class UnsafeFileError(Exception):
    """The file would run code when it is read."""


class _ForeignMeta(type):
    def __call__(cls, *args: Any, **kwargs: Any) -> None:
        called = f"{cls.__module__}.{cls.__name__}"
        raise UnsafeFileError(f"it calls {called} when it is read; tensors and plain data are accepted")


class _Foreign(metaclass=_ForeignMeta):
    """Stands in for an object of a class that is not here, such as upstream's training statistics.

    Unpickling creates it without calling it; a file that calls something, as an attack must, is refused.
    """

    def __new__(cls, *args: Any) -> _Foreign:
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, item: Any) -> None: ...

    def extend(self, items: Any) -> None: ...


_HARMLESS = {
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("builtins", "set"),
    ("__builtin__", "set"),
    ("_codecs", "encode"),
    ("torch", "device"),
    ("torch", "Size"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch.nn.parameter", "Parameter"),
    ("torch.serialization", "_get_layout"),
}
_NUMPY_SCALARS = {
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
}


class _TensorUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        storage = module in ("torch", "torch.storage") and name.endswith("Storage")
        dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if storage or dtype or (module, name) in _HARMLESS | _NUMPY_SCALARS:
            return super().find_class(module, name)
        return _ForeignMeta(name, (_Foreign,), {"__module__": module})


def _read_pickled(path: Path) -> Any:
    unpickling = SimpleNamespace(
        __name__="sot_ros.checkpoints",
        Unpickler=_TensorUnpickler,
        load=lambda file, **kwargs: _TensorUnpickler(file, **kwargs).load(),
    )
    return torch.load(path, map_location="cpu", weights_only=False, pickle_module=unpickling)
