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

"""Workload of the benchmarks: a network with any number of classes, and frames of streets."""

from dataclasses import replace

from lednet_ros.checkpoint import Checkpoint, load_checkpoint
from lednet_ros.labels import Label, LabelMap
from lednet_ros.models import LEDNet
from lednet_ros.synthetic import StreetScene
import numpy as np
from numpy.typing import NDArray
import torch

# Number of frames, which are used one after the other.
FRAMES = 4
# Why a precision was not measured.
EMULATED = 'emulated on this machine, so slower than fp32'
# Factor of the copied logits: a copy never wins where its original is above zero.
COPY_SCALE = 0.9


def widen(checkpoint: Checkpoint, classes: int) -> Checkpoint:
    """
    Extend a trained network to more classes by repeating its outputs with lower logits.

    Random weights would not do: their labels change from pixel to pixel, and the cost of drawing
    labels depends on how often they change.

    Parameters
    ----------
    checkpoint
        A trained `lednet` or `lednet_heavy`.
    classes
        New number of classes.

    Raises
    ------
    ValueError
        `classes` is below the checkpoint's number of classes.

    """
    base = checkpoint.label_map.num_classes
    if classes < base:
        raise ValueError(f'classes is {classes}; it must be {base}, as in the checkpoint, or more')
    original = torch.arange(classes) % base
    copied = torch.arange(classes) >= base
    state = dict(checkpoint.state_dict)
    for name, tensor in checkpoint.state_dict.items():
        # Tensors with an entry for each class.
        if name.startswith(LEDNet.HEADS) and tensor.ndim and len(tensor) == base:
            state[name] = tensor = tensor[original].float()
            # Scale and shift of the last normalization; ReLU keeps the factor.
            if name.endswith(('.conv.1.weight', '.conv.1.bias')):
                tensor[copied] *= COPY_SCALE
    labels = checkpoint.label_map.labels
    more = tuple(
        Label(f'{labels[k % base].name}_{k // base}', labels[k % base].color, 'copy', (k,))
        for k in range(base, classes)
    )
    return replace(
        checkpoint,
        label_map=LabelMap(checkpoint.label_map.name, labels[:base] + more),
        state_dict=state,
    )


def make_checkpoint(name: str, classes: int | None, input_size: tuple[int, int]) -> Checkpoint:
    """
    Load a checkpoint for the benchmark.

    Parameters
    ----------
    name
        Checkpoint file, or the name of a shipped one.
    classes
        Number of outputs; None takes the checkpoint's.
    input_size
        Height and width of the network's input.

    """
    checkpoint = replace(load_checkpoint(name), input_size=input_size)
    return checkpoint if classes is None else widen(checkpoint, classes)


def draw_frames(size: tuple[int, int], count: int) -> list[NDArray[np.uint8]]:
    """Draw moments of a synthetic street, each (*size, 3) uint8 BGR, contiguous."""
    scene = StreetScene(size[1], size[0], seed=1)
    return [np.ascontiguousarray(scene.render(index / 2)[0][..., ::-1]) for index in range(count)]
