"""What differs between the networks that one training loop trains: pairs, loss, and what they start from."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from sot_ros.networks.mobilenet import MobilePatchEmbed
from sot_ros.networks.ostrack import OSTrack, ostrack_tiny
from sot_ros.networks.siamfc import SiamFC, siamfc
from sot_ros.networks.sot_mobile import (
    SEARCH_FACTOR,
    SEARCH_SIZE,
    TEMPLATE_FACTOR,
    TEMPLATE_SIZE,
    SotMobile,
    sot_mobile,
)
from sot_ros.trackers.base import IMAGENET_MEAN, IMAGENET_STD
from sot_ros.trackers.siamfc import CONTEXT
from sot_ros.training.losses import Losses, response_loss, tracking_loss
from sot_ros.training.pairs import Pair, PairSettings
from sot_ros.training.trunk import find_trunk_weights, imagenet_trunk


class Recipe(NamedTuple):
    """How a model of the table of models is trained."""

    network: Callable[[], nn.Module]
    """The untrained network."""
    pretrained: Callable[[nn.Module], None]
    """Gives parts of it the weights that training starts from, unless it goes on from a file."""
    trunk: Callable[[nn.Module], list[nn.Module]]
    """The parts of it that were trained before, first to last: the last `trained_blocks` of them learn, slowly."""
    pairs: PairSettings
    loss: Callable[[nn.Module, Pair], Losses]


def mobile_loss(network: SotMobile, pairs: Pair) -> Losses:
    maps = network(network.embed(pairs.template.float(), pairs.extent), pairs.search.float())
    return tracking_loss(maps, pairs.box, pairs.present)


def siamfc_loss(network: SiamFC, pairs: Pair) -> Losses:
    responses = network.compare(network.embed(pairs.template.float()), pairs.search.float())
    return response_loss(responses, pairs.box, pairs.present, pairs.search.shape[-1])


def ostrack_loss(network: OSTrack, pairs: Pair) -> Losses:
    maps, _ = network(network.embed(_normalized(pairs.template)), _normalized(pairs.search))
    return tracking_loss(maps, pairs.box, pairs.present)


def _normalized(x: Tensor) -> Tensor:
    mean, std = (x.new_tensor(v, dtype=float).float().view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (x / 255 - mean) / std


def _imagenet(owner: SotMobile | MobilePatchEmbed) -> None:
    owner.trunk = imagenet_trunk(find_trunk_weights())


def _trunk(owner: SotMobile | MobilePatchEmbed) -> list[nn.Module]:
    return [owner.trunk.conv_stem, *owner.trunk.blocks]


def _patch_embed(network: OSTrack) -> MobilePatchEmbed:
    return network.backbone.patch_embed


def attend_to_likeness(blocks: nn.ModuleList) -> None:
    """Make layers of timm's ViT attend to tokens that are alike: keys are the queries, each a rotation of its token.

    From where timm starts, the search region has to learn first to look at the template at all.
    """
    for block in blocks:
        queries, keys, _ = block.attn.qkv.weight.data.chunk(3)
        keys.copy_(nn.init.orthogonal_(queries))
        nn.init.zeros_(block.attn.qkv.bias)


def _start_mobile(network: SotMobile) -> None:
    _imagenet(network)
    attend_to_likeness(network.joint)


def _start_ostrack(network: OSTrack) -> None:
    _imagenet(_patch_embed(network))
    attend_to_likeness(network.backbone.blocks)


MOBILE_PAIRS = PairSettings(TEMPLATE_SIZE, TEMPLATE_FACTOR, SEARCH_SIZE, SEARCH_FACTOR)
# The network takes search regions of any size: smaller ones than the tracker's train in half the time.
SIAMFC_PAIRS = PairSettings(127, 1.0, 191, 191 / 127, context=CONTEXT)
OSTRACK_PAIRS = PairSettings(128, 2.0, 256, 4.0)

RECIPES: dict[str, Recipe] = {
    "sot_mobile": Recipe(sot_mobile, _start_mobile, _trunk, MOBILE_PAIRS, mobile_loss),
    "siamfc_sot": Recipe(siamfc, lambda network: None, lambda network: [], SIAMFC_PAIRS, siamfc_loss),
    "ostrack_tiny": Recipe(
        ostrack_tiny,
        _start_ostrack,
        lambda network: _trunk(_patch_embed(network)),
        OSTRACK_PAIRS,
        ostrack_loss,
    ),
}
