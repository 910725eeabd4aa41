"""Deterministic weights: the value of every tensor depends on its name, its shape and the seed only."""

import re
import zlib

import numpy as np
import torch

GAINS = [
    # The last match wins; these keep the random networks' boxes spread out and unsaturated.
    (r"^box_head\.conv5_(tl|br)\.weight$", 4.0),
    (r"^box_head\.conv5_(ctr|offset|size)\.weight$", 2.0),
    (r"^head\.(cls|reg)_mlp\.layers\.2\.weight$", 2.0),
]
EMBEDDINGS = (
    "pos_embed|query_embed|cls_token|class_embedding|positional_embedding|"
    "relative_position_bias_table|rpe|row_embed|col_embed"
)


def fill(name, shape, seed):
    rng = np.random.default_rng(zlib.crc32(f"{seed}:{name}".encode()))
    values = rng.standard_normal(shape)
    if name.endswith("running_var"):
        values = 0.5 + np.abs(values)
    elif name.endswith("running_mean"):
        values = 0.1 * values
    elif len(shape) <= 1:
        values = 1.0 + 0.1 * values if name.endswith(("weight", "gamma")) else 0.05 * values
    elif re.search(EMBEDDINGS, name):
        values = 0.1 * values
    else:
        values = values * np.sqrt(1.5 / np.prod(shape[1:]))
    for pattern, gain in GAINS:
        if re.search(pattern, name):
            values = values * gain
    return values.astype(np.float32)


def fill_state(state, seed):
    """A copy of a state dict with every float tensor filled; integer tensors keep what the constructor computed."""
    return {
        name: torch.from_numpy(np.asarray(fill(name, tuple(tensor.shape), seed)))
        if tensor.is_floating_point()
        else tensor.clone()
        for name, tensor in state.items()
    }


def normal_input(tag, size, seed=3):
    """The network input (1, 3, size, size) of the golden files: tag `z` for the template, `x` for the search region."""
    rng = np.random.default_rng(zlib.crc32(f"{seed}:{tag}".encode()))
    return torch.from_numpy(rng.standard_normal((1, 3, size, size)).astype(np.float32))
