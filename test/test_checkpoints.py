"""Weights files: every published layout loads, nothing in a file is run, and a misfit is named."""

import collections
import os
import pickle
import sys
import types

import numpy as np
import pytest
import safetensors.torch
import torch

import sot_ros
from sot_ros.checkpoints import read_state_dict
from sot_ros.networks.siamfc import SIAMTRACKERS_NAMES, siamfc
from sot_ros.trackers.models import load_network

torch.manual_seed(0)
STATE = siamfc().state_dict()


def as_siamtrackers(state):
    theirs = {ours: prefix for prefix, ours in SIAMTRACKERS_NAMES.items()}
    split = {name: name.rsplit(".", 1) for name in state}
    return {theirs[stem + "."] + leaf: state[name] for name, (stem, leaf) in split.items()}


def without_counters(state):
    return {name: t for name, t in state.items() if not name.endswith("num_batches_tracked")}


LAYOUTS = {
    "bare": STATE,
    "SiamTrackers": as_siamtrackers(STATE),
    "DataParallel": {f"module.{name}": t for name, t in STATE.items()},
    "net": {"epoch": 50, "net": STATE, "optimizer": {"lr": 0.1}},
    "model": {"version": 2, "model": STATE},
    "state_dict": {"state_dict": collections.OrderedDict(STATE)},
    "before counters": without_counters(STATE),
    "parameters": {name: torch.nn.Parameter(t, False) for name, t in STATE.items()},
}


def assert_loads(path):
    loaded = load_network("siamfc", path).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in STATE.items())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_every_layout_loads(layout, zipped, tmp_path):
    torch.save(LAYOUTS[layout], tmp_path / "siamfc.pth", _use_new_zipfile_serialization=zipped)
    assert_loads(tmp_path / "siamfc.pth")


@pytest.mark.parametrize("layout", ["bare", "SiamTrackers"])
def test_safetensors_load(layout, tmp_path):
    safetensors.torch.save_file(LAYOUTS[layout], tmp_path / "siamfc.safetensors")
    assert_loads(tmp_path / "siamfc.safetensors")


@pytest.fixture
def foreign_classes():
    """Classes of a training code that is importable when the file is written and gone when it is read."""
    module = types.ModuleType("lib_of_others")
    exec(
        "class Settings:\n    pass\n"
        "class Config(dict):\n    pass\n"
        "class History(list):\n    pass\n",
        module.__dict__,
    )
    for name in ("Settings", "Config", "History"):
        getattr(module, name).__module__ = "lib_of_others"
    sys.modules["lib_of_others"] = module
    yield module
    sys.modules.pop("lib_of_others", None)


def test_foreign_objects_beside_the_weights_are_passed_over(foreign_classes, tmp_path):
    settings = foreign_classes.Settings()
    settings.depth = foreign_classes.Config(lr=np.float64(0.1))
    stats = collections.OrderedDict(loss=foreign_classes.History([1.0, 2.0]))
    torch.save({"net": STATE, "settings": settings, "stats": stats}, tmp_path / "STARK_ep0500.pth.tar")
    del sys.modules["lib_of_others"]
    assert_loads(tmp_path / "STARK_ep0500.pth.tar")


class Attack:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("function", [os.mkdir, exec, eval, getattr], ids=lambda f: f.__name__)
def test_a_file_that_calls_something_is_refused_and_not_run(function, zipped, tmp_path):
    mark = tmp_path / "was_run"
    arguments = {
        os.mkdir: (str(mark),),
        exec: (f"import os; os.mkdir({str(mark)!r})",),
        eval: (f"__import__('os').mkdir({str(mark)!r})",),
        getattr: (STATE, "clear"),
    }[function]
    torch.save(
        {"net": STATE, "stats": Attack(function, *arguments)},
        tmp_path / "hostile.pth",
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(ValueError, match=r"hostile.pth refused: it calls .* tensors and plain data are accepted"):
        read_state_dict(tmp_path / "hostile.pth")
    assert not mark.exists()


def test_a_bare_pickle_that_calls_something_is_not_run(tmp_path):
    mark = tmp_path / "was_run"
    (tmp_path / "hostile.pt").write_bytes(pickle.dumps(Attack(os.mkdir, str(mark))))
    with pytest.raises(ValueError, match="hostile.pt"):
        read_state_dict(tmp_path / "hostile.pt")
    assert not mark.exists()


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match="weights file /nowhere/siamfc.pth does not exist"):
        read_state_dict("/nowhere/siamfc.pth")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_truncated_file_is_refused(suffix, tmp_path):
    whole, part = tmp_path / f"whole.{suffix}", tmp_path / f"part.{suffix}"
    torch.save(STATE, whole) if suffix == "pth" else safetensors.torch.save_file(STATE, whole)
    part.write_bytes(whole.read_bytes()[:100_000])
    with pytest.raises(ValueError, match=f"part.{suffix} is damaged or no checkpoint"):
        read_state_dict(part)


@pytest.mark.parametrize("content", [{}, [1, 2], {"epoch": 3}, "text"], ids=str)
def test_a_file_without_tensors_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match="holds no tensors by name"):
        read_state_dict(tmp_path / "empty.pth")


def test_a_misfit_lists_what_is_missing_left_over_and_of_another_shape(tmp_path):
    state = dict(STATE)
    state["head.weight"] = state.pop("backbone.conv5.0.weight")
    state["backbone.conv2.0.weight"] = torch.zeros(256, 96, 5, 5)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(ValueError) as refusal:
        sot_ros.create_tracker("siamfc", weights=tmp_path / "other.pth", device="cpu")
    line = str(refusal.value)
    assert "does not fit siamfc" in line and "\n" not in line
    assert "missing: backbone.conv5.0.weight" in line
    assert "left over: head.weight" in line
    assert "backbone.conv2.0.weight (256, 96, 5, 5) instead of (256, 48, 5, 5)" in line
