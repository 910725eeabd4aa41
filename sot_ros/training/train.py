"""Training of our own models from one YAML file; the same file, data and seed give the same weights."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import safetensors.torch
import torch
import torch.distributed as dist
import yaml
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from sot_ros.checkpoints import load_weights
from sot_ros.evaluation.confidence import presence_area, probe
from sot_ros.evaluation.sequences import Sequence, both_ways, evaluate
from sot_ros.trackers.models import MODELS, find_device
from sot_ros.trackers.precision import PRECISIONS, has_bf16
from sot_ros.training.data import ImageStore, manifest
from sot_ros.training.datasets import read_source, read_tracks
from sot_ros.training.losses import Losses
from sot_ros.training.pairs import Pair, PairDataset
from sot_ros.training.recipes import RECIPES, Recipe


class Processes(NamedTuple):
    """Which of `count` processes this is, the first being 0, and the device that it trains on."""

    rank: int
    count: int
    device: torch.device


def train(
    config_file: Path, data: Path, out: Path, device: str | None = None, init: Path | None = None, **changes: Any
) -> dict[str, float]:
    """Train as `config_file` says, but for `changes` of its values, on what lies in `data`; write the model to `out`.

    Every `save_every` steps it writes MODEL.safetensors (the moving average in fp16), MODEL.json (how it was made, and
    what it reaches on the held-out tracks), MODEL.data.txt (name and size of every image) and checkpoint.pt, from
    which a second call with the same arguments goes on. `init` is a file of weights to start from, instead of the
    recipe's. Started by torchrun, each process takes its part of every batch. Returns the last AUCs; in processes
    but the first, none.
    """
    config = yaml.safe_load(config_file.read_text())
    for name in changes:
        if name not in config:
            raise ValueError(f"unknown name '{name}': {config_file.name} has {', '.join(config)}")
    config |= changes
    model = config["model"]
    if model not in RECIPES:
        raise ValueError(f"{config_file}: model '{model}' cannot be trained here: {', '.join(RECIPES)} can")
    precision = config["precision"]
    if precision not in ("auto", "fp32", "fp16", "bf16"):
        raise ValueError(f"{config_file}: precision '{precision}' refused: auto, fp32, fp16 or bf16 is accepted")
    recipe = RECIPES[model]
    # Before the workers fork: they would wait for ever for threads of OpenCV's that only this process has.
    cv2.setNumThreads(0)
    with join_processes(device) as processes:
        if precision == "auto":
            half = "fp16" if processes.device.type == "cuda" else "fp32"
            config["precision"] = "bf16" if has_bf16(processes.device) else half
        network = start_network(recipe, model, config, init)
        sources = [read_source(data, entry) for entry in config["data"]]
        settings = replace(recipe.pairs, **config["pairs"])
        images = ImageStore(sources, config["memory_gb"])
        pairs = PairDataset(sources, images, settings, config["steps"] * config["batch"], config["seed"])
        if processes.rank > 0:
            for _ in _fit(network.to(processes.device), recipe, pairs, config, out, processes, None):
                pass
            return {}

        out.mkdir(parents=True, exist_ok=True)
        seen = manifest(sources, data)
        (out / f"{model}.data.txt").write_text(seen)
        sequences, curves = held_out_sequences(data, config["data"]), open_curves(out)
        record = {
            "command": f"sot train {config_file.name} --data {data.name} --out {out.name}",
            "init": made_from(init),
            "config": config,
            "data_sha256": hashlib.sha256(seen.encode()).hexdigest(),
            "torch": torch.__version__,
            "device": str(processes.device),
            "processes": processes.count,
        }
        for step, average in _fit(network.to(processes.device), recipe, pairs, config, out, processes, curves):
            write_weights(average, out / f"{model}.safetensors")
            aucs, roc = validate(average, model, sequences, processes.device)
            record |= {"step": step, "held_out_auc": aucs, "held_out_roc": roc if aucs else None}
            (out / f"{model}.json").write_text(json.dumps(record, indent=2) + "\n")
            if aucs:
                tqdm.write(f"step {step}: held-out tracks: AUC {aucs['mean']:.3f}, ROC of presence {roc:.3f}")
                curves.add_scalar("held_out/auc", aucs["mean"], step)
                curves.add_scalar("held_out/roc", roc, step)
        curves.close()
        return record["held_out_auc"]


@contextmanager
def join_processes(device: str | None) -> Iterator[Processes]:
    """This process among those that torchrun started, each with a GPU where there are GPUs; alone without torchrun."""
    count = int(os.environ.get("WORLD_SIZE", 1))
    if count == 1:
        yield Processes(0, 1, find_device(device))
        return
    own_gpu = f"cuda:{os.environ['LOCAL_RANK']}" if torch.cuda.is_available() else "cpu"
    where = find_device(device or own_gpu)
    dist.init_process_group("nccl" if where.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), count, where)
    finally:
        dist.destroy_process_group()


def start_network(recipe: Recipe, model: str, config: Mapping[str, Any], init: Path | None) -> nn.Module:
    """The network before its first step, with the parts that are not to learn frozen."""
    torch.manual_seed(config["seed"])
    network = recipe.network()
    if init is None:
        recipe.pretrained(network)
    else:
        row = MODELS[model]
        load_weights(network, init, row.names, row.unused, model)
    trunk = recipe.trunk(network)
    for part in trunk[: len(trunk) - config["trained_blocks"]]:
        part.requires_grad_(False)
    return network


def made_from(init: Path | None) -> Any:
    """What is recorded of the weights that a training starts from: how they were made, where that lies beside them; or
    else their file's name."""
    if init is None:
        return None
    record = init.with_suffix(".json")
    return json.loads(record.read_text()) if record.is_file() else init.name


def write_weights(network: nn.Module, path: Path) -> None:
    """The network's tensors in fp16, as a safetensors file."""
    state = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    safetensors.torch.save_file({k: v.contiguous().cpu() for k, v in state.items()}, path)


class _Step(nn.Module):
    """One forward pass up to the losses, which is what DistributedDataParallel wraps."""

    def __init__(self, network: nn.Module, recipe: Recipe):
        super().__init__()
        self.network, self.loss = network, recipe.loss

    def forward(self, pairs: Pair) -> Losses:
        return self.loss(self.network, pairs)


def _fit(
    network: nn.Module,
    recipe: Recipe,
    pairs: PairDataset,
    config: Mapping[str, Any],
    out: Path,
    processes: Processes,
    curves: Any,
) -> Iterator[tuple[int, nn.Module]]:
    """Train; the first process saves every so often, and yields the step and the moving average of the network."""
    optimizer, schedule = _optimizer(network, recipe, config)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config["ema"]), use_buffers=True)
    dtype, device = PRECISIONS[config["precision"]], processes.device
    scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
    parts = {"network": network, "average": average, "optimizer": optimizer, "schedule": schedule, "scaler": scaler}
    start, checkpoint = 0, out / "checkpoint.pt"
    if checkpoint.is_file():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        start = saved.pop("step")
        for name, part in parts.items():
            part.load_state_dict(saved[name])
    forward = _Step(network, recipe)
    if processes.count > 1:
        forward = DistributedDataParallel(forward, [device] if device.type == "cuda" else None)

    learning, recent = [p for p in network.parameters() if p.requires_grad], None
    hidden = processes.rank > 0
    batches = _batches(pairs, config, start, processes)
    progress = tqdm(batches, initial=start, total=config["steps"], desc="train", unit="step", disable=hidden)
    network.train()
    for step, batch in enumerate(progress, start + 1):
        batch = Pair(*(t.to(device, non_blocking=True) for t in batch))
        with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
            losses = forward(batch)
        optimizer.zero_grad()
        scaler.scale(losses.total).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(learning, 1.0)
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
        average.update_parameters(network)
        if hidden:
            continue
        now = torch.stack([v.detach().float() for v in losses]).cpu().numpy()
        recent = now if recent is None else 0.98 * recent + 0.02 * now
        shown = dict(zip(losses._fields, recent.tolist(), strict=True))
        progress.set_postfix_str(" ".join(f"{k} {v:.3f}" for k, v in shown.items()))
        if step % 10 == 0:
            for name, value in shown.items():
                curves.add_scalar(f"train/{name}", value, step)
        if step % config["save_every"] == 0 or step == config["steps"]:
            torch.save({"step": step} | {k: v.state_dict() for k, v in parts.items()}, checkpoint)
            yield step, average.module.eval()


def _optimizer(network: nn.Module, recipe: Recipe, config: Mapping[str, Any]) -> tuple[Any, Any]:
    """AdamW, slower for what was trained before, and the schedule of both learning rates: up, and down in a cosine."""
    trained = [p for part in recipe.trunk(network) for p in part.parameters() if p.requires_grad]
    known = set(trained)
    rest = [p for p in network.parameters() if p.requires_grad and p not in known]
    groups = [{"params": rest, "lr": config["learning_rate"]}]
    if trained:
        groups.append({"params": trained, "lr": config["trunk_learning_rate"]})
    optimizer = torch.optim.AdamW(groups, weight_decay=config["weight_decay"])
    share = config["warmup"] / config["steps"]
    rates = [group["lr"] for group in groups]
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rates, config["steps"], pct_start=share, cycle_momentum=False
    )


def _batches(pairs: PairDataset, config: Mapping[str, Any], start: int, processes: Processes) -> DataLoader:
    """This process's part of every batch from step `start` on. However many, together they see the same pairs."""
    share, left_over = divmod(config["batch"], processes.count)
    if left_over or not share:
        raise ValueError(f"batch {config['batch']} refused: a multiple of {processes.count} processes is accepted")
    first = [step * config["batch"] + processes.rank * share for step in range(start, config["steps"])]
    workers = config["workers"]
    return DataLoader(
        pairs,
        batch_sampler=[range(i, i + share) for i in first],
        num_workers=workers,
        pin_memory=processes.device.type == "cuda",
        # Forked workers share the decoded images.
        multiprocessing_context="fork" if workers else None,
    )


class _NoCurves:
    """Takes the place of TensorBoard's writer where that is not installed."""

    def add_scalar(self, name: str, value: float, step: int) -> None: ...

    def close(self) -> None: ...


def open_curves(out: Path) -> Any:
    """A writer of curves for TensorBoard into `out`, where it is installed."""
    if importlib.util.find_spec("tensorboard") is None:
        tqdm.write("no curves: pip install tensorboard to see them with tensorboard --logdir")
        return _NoCurves()
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(out)


def held_out_sequences(data: Path, entries: list[Mapping[str, Any]]) -> list[Sequence]:
    """The tracks that training leaves out."""
    found = []
    for entry in entries:
        held_out = entry.get("hold_out", ())
        for track in read_tracks(data, entry) if held_out else ():
            if track.name in held_out:
                frames, truth = [i.image for i in track.instances], np.array([i.box for i in track.instances])
                found.append(Sequence(track.name, frames, truth))
    return found


def validate(
    network: nn.Module, model: str, sequences: list[Sequence], device: torch.device
) -> tuple[dict[str, float], float]:
    """AUC of the model's tracker with this network on each sequence, forwards and backwards, and their mean; and how
    well its confidence tells a target that is there from one that is not, as area under the ROC."""
    row = MODELS[model]
    tracker = row.tracker(copy.deepcopy(network), row.settings, device)
    if not sequences:
        return {}, float("nan")
    aucs = {s.name: evaluate(tracker, s).auc for s in both_ways(sequences)}
    # Forwards alone: backwards, another sequence could be the same clip, which shows the target.
    return aucs | {"mean": float(np.mean(list(aucs.values())))}, presence_area(list(probe(tracker, sequences)))
