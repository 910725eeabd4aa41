"""Training of the default model from one YAML file; the same file, data and seed give the same weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import safetensors.torch
import torch
import yaml
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from sot_ros.evaluation.sequences import Sequence, evaluate
from sot_ros.networks.sot_mobile import SotMobile, sot_mobile
from sot_ros.trackers.models import MODELS, PRECISIONS, find_device
from sot_ros.training.data import folder_of, load_images, manifest_hash, read_source, read_tracks
from sot_ros.training.losses import tracking_loss
from sot_ros.training.pairs import Pair, PairDataset, PairSettings
from sot_ros.training.trunk import find_trunk_weights, imagenet_trunk

TRAINED_BLOCKS = 1
"""How many of the trunk's last blocks are trained; those before keep what they learned on ImageNet."""


def train(
    config_file: Path, data: Path, out: Path, device: str | None = None, init: Path | None = None
) -> dict[str, float]:
    """Train as `config_file` says on what lies in `data`, and write the model to `out`.

    Every `save_every` steps it writes sot_mobile.safetensors (the moving average in fp16), sot_mobile.json (how it
    was made, and its AUC on the held-out tracks) and checkpoint.pt, from which a second call with the same arguments
    goes on. `init` is a file of weights to start from, instead of ImageNet's trunk. Returns the last AUCs.
    """
    config = yaml.safe_load(config_file.read_text())
    # Before the workers fork: they would wait for ever for threads of OpenCV's that only this process has.
    cv2.setNumThreads(0)
    where = find_device(device)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config["seed"])
    network = sot_mobile()
    if init is not None:
        network.load_state_dict(safetensors.torch.load_file(init))
    else:
        network.trunk = imagenet_trunk(find_trunk_weights())
    sources = [read_source(data, entry) for entry in config["data"]]
    images = load_images(sources)
    pairs = PairDataset(
        sources, images, PairSettings(**config["pairs"]), config["steps"] * config["batch"], config["seed"]
    )
    sequences = held_out_sequences(data, config["data"])
    record = {
        "command": f"sot train {config_file.name} --data {data.name} --out {out.name}",
        "init": init.name if init else None,
        "config": config,
        "data_sha256": manifest_hash(sources, data),
        "torch": torch.__version__,
        "device": str(where),
    }
    for step, average in _fit(network.to(where), pairs, config, out / "checkpoint.pt", where):
        write_weights(average, out / "sot_mobile.safetensors")
        record |= {"step": step, "held_out_auc": validate(average, sequences, where)}
        (out / "sot_mobile.json").write_text(json.dumps(record, indent=2) + "\n")
        tqdm.write(f"step {step}: AUC on held-out tracks {record['held_out_auc'].get('mean', float('nan')):.3f}")
    return record["held_out_auc"]


def write_weights(network: nn.Module, path: Path) -> None:
    """The network's tensors in fp16, as a safetensors file."""
    state = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    safetensors.torch.save_file({k: v.contiguous().cpu() for k, v in state.items()}, path)


def _fit(
    network: SotMobile, pairs: PairDataset, config: Mapping[str, Any], checkpoint: Path, device: torch.device
) -> Iterator[tuple[int, SotMobile]]:
    """Train, and every so often yield the step and the moving average of the network's weights."""
    for block in (network.trunk.conv_stem, *network.trunk.blocks[:-TRAINED_BLOCKS]):
        block.requires_grad_(False)
    trunk = [p for p in network.trunk.parameters() if p.requires_grad]
    rest = [p for name, p in network.named_parameters() if not name.startswith("trunk.")]
    rates = [config["trunk_learning_rate"], config["learning_rate"]]
    optimizer = torch.optim.AdamW(
        [{"params": p, "lr": r} for p, r in zip((trunk, rest), rates, strict=True)],
        weight_decay=config["weight_decay"],
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rates, config["steps"], pct_start=config["warmup"] / config["steps"], cycle_momentum=False
    )
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config["ema"]), use_buffers=True)
    parts = {"network": network, "average": average, "optimizer": optimizer, "schedule": schedule}
    start = 0
    if checkpoint.is_file():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        start = saved.pop("step")
        for name, part in parts.items():
            part.load_state_dict(saved[name])

    dtype, recent = PRECISIONS[config["precision"]], np.full((5,), np.nan)
    progress = tqdm(_batches(pairs, config, start), initial=start, total=config["steps"], desc="train", unit="step")
    network.train()
    for step, batch in enumerate(progress, start + 1):
        batch = Pair(*(t.to(device, non_blocking=True) for t in batch))
        with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
            template = network.embed(batch.template.float(), batch.extent)
            maps = network(template, batch.search.float())
        losses = tracking_loss(maps, batch.box, batch.present)
        optimizer.zero_grad()
        losses.total.backward()
        nn.utils.clip_grad_norm_(trunk + rest, 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(network)
        now = np.array([float(v.detach()) for v in losses])
        recent = now if np.isnan(recent).all() else 0.98 * recent + 0.02 * now
        progress.set_postfix_str(" ".join(f"{k} {v:.3f}" for k, v in zip(losses._fields, recent, strict=True)))
        if step % config["save_every"] == 0 or step == config["steps"]:
            torch.save({"step": step} | {k: v.state_dict() for k, v in parts.items()}, checkpoint)
            yield step, average.module.eval()


def _batches(pairs: PairDataset, config: Mapping[str, Any], start: int) -> Iterator[Pair]:
    return iter(
        DataLoader(
            Subset(pairs, range(start * config["batch"], len(pairs))),
            batch_size=config["batch"],
            num_workers=config["workers"],
        )
    )


def held_out_sequences(data: Path, entries: list[Mapping[str, Any]]) -> list[Sequence]:
    """The tracks that training leaves out, forwards and backwards."""
    found = []
    for entry in entries:
        if not entry.get("hold_out"):
            continue
        for track in read_tracks(data / entry["annotations"], data / entry["images"]):
            if folder_of(track) in entry["hold_out"]:
                frames, truth = [i.image for i in track], np.array([i.box for i in track])
                found.append(Sequence(folder_of(track), frames, truth))
                found.append(Sequence(folder_of(track) + " backwards", frames[::-1], truth[::-1]))
    return found


def validate(network: SotMobile, sequences: list[Sequence], device: torch.device) -> dict[str, float]:
    """AUC of the default tracker with this network on each sequence, and their mean."""
    row = MODELS["sot_mobile"]
    tracker = row.tracker(network, row.settings, device, torch.float32)
    aucs = {s.name: evaluate(tracker, s).auc for s in sequences}
    return aucs | {"mean": float(np.mean(list(aucs.values())))} if aucs else {}
