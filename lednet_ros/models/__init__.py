# Copyright 2026 the lednet_ros authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Segmentation networks: one flat file per network, one builder, no dependency but torch."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lednet_ros.checkpoint import Checkpoint, CheckpointError, load_weights, output_channels
from lednet_ros.models.lednet import LEDNet, lednet, lednet_heavy
from lednet_ros.models.network import MergedOutputs, SegmentationNetwork
from lednet_ros.models.shufflenet_v2 import (
    shufflenet_v2_deeplab,
    shufflenet_v2_dpc,
    ShuffleNetV2,
)

Builders = Mapping[str, Callable[[int], SegmentationNetwork]]
"""Functions that build a network for a number of classes, by its name."""

NETWORKS: dict[str, Callable[[int], SegmentationNetwork]] = {
    'lednet': lednet,
    'lednet_heavy': lednet_heavy,
    'shufflenet_v2_deeplab': shufflenet_v2_deeplab,
    'shufflenet_v2_dpc': shufflenet_v2_dpc,
}


def build_network(
    name: str, num_classes: int, networks: Builders = NETWORKS
) -> SegmentationNetwork:
    """
    Build a network with freshly initialized weights.

    Parameters
    ----------
    name
        One of the keys of `networks`.
    num_classes
        Number of output channels, at least 1.
    networks
        The networks to choose from.

    Returns
    -------
    SegmentationNetwork
        The network, in training mode, on the CPU, in float32.

    Raises
    ------
    ValueError
        Unknown name or number of classes below 1.

    """
    if name not in networks:
        raise ValueError(f"unknown network '{name}'; allowed: {', '.join(networks)}")
    if num_classes < 1:
        raise ValueError(f'num_classes is {num_classes}; it must be 1 or more')
    return networks[name](num_classes)


def load_network(
    checkpoint: Checkpoint,
    source: str | Path,
    networks: Builders = NETWORKS,
    groups: Sequence[Sequence[int]] = (),
) -> SegmentationNetwork:
    """
    Build the network of a checkpoint with its weights, in training mode, on the CPU, in float32.

    Parameters
    ----------
    checkpoint
        Weights and metadata.
    source
        File of the checkpoint, for messages.
    networks
        The networks to choose from.
    groups
        For inference: `LabelMap.groups`, where logits of classes are to be merged.

    Raises
    ------
    CheckpointError
        The network is unknown, or the weights do not fit it.

    """
    if checkpoint.network not in networks:
        raise CheckpointError(
            f"{source}: unknown network '{checkpoint.network}'; allowed: {', '.join(networks)}"
        )
    outputs = output_channels(checkpoint.state_dict, source)
    network = build_network(checkpoint.network, outputs, networks)
    load_weights(network, checkpoint.state_dict, source)
    if groups and tuple(groups) != checkpoint.label_map.groups:
        network.merge = MergedOutputs(groups)
    return network


__all__ = [
    'NETWORKS',
    'Builders',
    'LEDNet',
    'SegmentationNetwork',
    'ShuffleNetV2',
    'build_network',
    'lednet',
    'lednet_heavy',
    'load_network',
    'shufflenet_v2_deeplab',
    'shufflenet_v2_dpc',
]
