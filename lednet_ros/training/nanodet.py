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


"""
Reads the encoder of NanoDet-m, a ShuffleNet V2 trained to detect objects, from ncnn's files.

A model of ncnn is a text file of layers (`.param`) and a binary one of their weights (`.bin`), in
the order of the layers. NanoDet's have normalizations folded into the convolutions; its encoder
comes first.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
import itertools
from pathlib import Path
import struct

from lednet_ros.checkpoint import CheckpointError
from lednet_ros.datasets import synthetic_frames
from lednet_ros.inference.preprocess import normalize
import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn, Tensor

SUFFIX = '.param'
MAGIC = '7767517'
# What precedes weights in half precision, and in single precision.
HALF, SINGLE = 0x01306B47, 0
# Frames from which the statistics of normalizations are estimated: number, size, seed.
STREETS = (16, (320, 416), 0)

Convolutions = list[tuple[Tensor, Tensor]]
"""Weight (out, in / groups, kernel, kernel) and bias (out,) of each, float32."""


def read_nanodet(
    path: Path, encoder: nn.Module, mean: Sequence[float], std: Sequence[float]
) -> dict[str, Tensor]:
    """
    Read the weights of a ShuffleNet V2 for RGB images.

    Normalizations get the statistics of synthetic streets, and weights that undo them: the encoder
    computes what the file's does, in training mode nearly so.

    Parameters
    ----------
    path
        The text file (`.param`); the binary one lies beside it.
    encoder
        The encoder; it is filled.
    mean, std
        Per channel (RGB), how the file's network expects images in 0..1 to be normalized.

    Returns
    -------
    dict
        The encoder's tensors by name.

    Raises
    ------
    CheckpointError
        The files can't be read, or their first convolutions aren't those of the encoder.

    """
    found = _read_convolutions(path)
    modules = [part for part in encoder.modules() if not [*part.children()]]
    pairs = [
        (part, following)
        for part, following in itertools.pairwise(modules)
        if isinstance(part, nn.Conv2d) and isinstance(following, nn.BatchNorm2d)
    ]
    shapes = [weight.shape for weight, _ in found[:len(pairs)]]
    if shapes != [conv.weight.shape for conv, _ in pairs]:
        raise CheckpointError(
            f'{path}: its first {len(pairs)} convolutions are not those of ShuffleNet V2 x1.0'
        )
    with torch.no_grad():
        for (conv, normalization), (weight, bias) in zip(pairs, found, strict=False):
            conv.weight.copy_(weight)
            normalization.reset_parameters()
            normalization.bias.copy_(bias)
        # OpenCV's order of colors.
        first = pairs[0][0].weight
        first.copy_(first.flip(1))
        images = (
            normalize(torch.from_numpy(frame.pixels)[None], mean, std)
            for frame in synthetic_frames(*STREETS)
        )
        _unfold(encoder, [normalization for _, normalization in pairs], images)
    return encoder.state_dict()


def _read_convolutions(path: Path) -> Convolutions:
    try:
        lines = path.read_text(encoding='utf-8').split('\n')
        data = path.with_suffix('.bin').read_bytes()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f'{path}: not a readable model of ncnn: {error}') from error
    found: Convolutions = []
    position = 0
    try:
        if lines[0].strip() != MAGIC:
            raise ValueError(f'it does not begin with {MAGIC}')
        for line in lines[2:]:
            kind, name, *rest = line.split() or ('', '')
            if not kind.startswith('Convolution'):
                continue
            inputs, outputs, *rest = rest
            options = dict(part.split('=', 1) for part in rest[int(inputs) + int(outputs):])
            if not options.keys() >= set('016') or options.get('5') != '1':
                raise ValueError(f"layer '{name}' has no sizes or no bias")
            channels, side, size = (int(options[key]) for key in '016')
            (tag,) = struct.unpack_from('<I', data, position)
            if tag not in (HALF, SINGLE):
                raise ValueError(f'weights of a type {tag:#x}')
            dtype = np.dtype('<f2' if tag == HALF else '<f4')
            weight = np.frombuffer(data, dtype, size, position + 4)
            # Weights are padded to four bytes.
            position += 4 + -(-weight.nbytes // 4) * 4
            bias = np.frombuffer(data, '<f4', channels, position)
            position += bias.nbytes
            weight = weight.reshape(channels, -1, side, side)
            found.append((_tensor(weight), _tensor(bias)))
        if position != len(data):
            raise ValueError(f'the first {position} of {len(data)} bytes are of convolutions')
    except (ValueError, struct.error) as error:
        raise CheckpointError(f'{path}: not a model of NanoDet-m: {error}') from error
    return found


def _tensor(values: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _unfold(
    encoder: nn.Module, normalizations: list[nn.BatchNorm2d], images: Iterable[Tensor]
) -> None:
    """Give normalizations that do nothing but add a bias the statistics of their inputs."""
    inputs: dict[nn.Module, list[Tensor]] = defaultdict(list)

    def keep(module: nn.Module, arguments: tuple[Tensor]) -> None:
        values = arguments[0].double()
        inputs[module].append(torch.stack([values.mean((0, 2, 3)), (values**2).mean((0, 2, 3))]))

    hooks = [part.register_forward_pre_hook(keep) for part in normalizations]
    encoder.eval()
    for image in images:
        encoder(image)
    for hook in hooks:
        hook.remove()
    for part in normalizations:
        mean, square = torch.stack(inputs[part]).mean(0)
        variance = (square - mean**2).clamp(min=0)
        part.weight.copy_((variance + part.eps).sqrt())
        part.bias.add_(mean)
        assert part.running_mean is not None
        assert part.running_var is not None
        part.running_mean.copy_(mean)
        part.running_var.copy_(variance)
