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

"""Size and cost of networks."""

from pathlib import Path
from typing import Any

from lednet_ros.checkpoint import load_checkpoint
from lednet_ros.models import build_network, load_network
import torch
from torch.utils.flop_counter import FlopCounterMode


def describe_network(name: str, num_classes: int, input_size: tuple[int, int]) -> dict[str, Any]:
    """
    Count the parameters and operations of a network.

    Parameters
    ----------
    name, num_classes
        See `build_network`.
    input_size
        Height and width of the image for which operations are counted.

    Returns
    -------
    dict
        `network`, `classes`, `parameters`, `gflops` (1e9 floating-point operations by torch's
        counter; a multiply-add counts as two) and `gflops_input_size`.

    Raises
    ------
    ValueError
        Unknown name, number of classes below 1, or input smaller than 64x64.

    """
    network = build_network(name, num_classes)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    # Tensors on the meta device have shapes but no data: nothing is computed.
    network = network.to('meta').eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.scores(torch.empty((1, 3, *input_size), device='meta'))
    return {
        'network': name,
        'classes': num_classes,
        'parameters': parameters,
        'gflops': counter.get_total_flops() / 1e9,
        'gflops_input_size': list(input_size),
    }


def describe_checkpoint(name_or_path: str | Path, input_size: tuple[int, int]) -> dict[str, Any]:
    """
    Describe a checkpoint and its network.

    Parameters
    ----------
    name_or_path
        See `lednet_ros.checkpoint.load_checkpoint`.
    input_size
        See `describe_network`.

    Returns
    -------
    dict
        The result of `describe_network`, with the label map's number of classes as `classes`,
        and the checkpoint's metadata.

    Raises
    ------
    CheckpointError, ValueError
        The checkpoint can't be used; the input is smaller than 64x64.

    """
    checkpoint = load_checkpoint(name_or_path)
    network = load_network(checkpoint, name_or_path)
    return describe_network(checkpoint.network, network.num_classes, input_size) | {
        'classes': checkpoint.label_map.num_classes,
        'label_map': checkpoint.label_map.name,
        'class_names': list(checkpoint.label_map.names),
        'input_size': list(checkpoint.input_size),
        'training': checkpoint.training,
        'metrics': checkpoint.metrics,
    }
