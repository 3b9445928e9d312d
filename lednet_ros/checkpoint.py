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
Checkpoints: network weights with everything that is needed to use them.

The format is safetensors with JSON metadata. The authors' `.pth` and `.pth.tar` files and those of
other training scripts load too; neither format can run code while it is read.
"""

from collections.abc import Mapping
import contextlib
from dataclasses import dataclass, field
import json
import math
from pathlib import Path
import pickle
import re
from typing import Any
import zipfile

from lednet_ros.files import atomic_path
from lednet_ros.labels import LabelMap, LabelMapError
from lednet_ros.limits import MAX_SIZE
from safetensors import safe_open, SafetensorError
from safetensors.torch import save_file
import torch
from torch import nn, Tensor

WEIGHTS_DIRECTORY = Path(__file__).parent / 'weights'

METADATA_KEY = 'lednet_ros'
FORMAT_VERSION = 1
# Biases with one value per output; every network has one of them.
OUTPUTS = ('encoder.output_conv.bias', 'classifier.bias')
FOREIGN_SUFFIXES = ('.pth', '.tar', '.pt', '.bin', '.ckpt')
# How PyTorch's files begin: as a zip archive, or as a pickle.
FOREIGN_STARTS = (b'PK\x03\x04', b'\x80')
# Entries of training checkpoints that hold a state dict: averaged weights first, as they are those
# that were evaluated.
CONTAINERS = (
    'state_dict_ema', 'ema_state_dict', 'model_ema', 'ema_model', 'ema', 'state_dict',
    'model_state_dict', 'model_state', 'model', 'network', 'net', 'module', 'weights', 'params',
)
# Prefixes by which averaging, DataParallel and Lightning wrap a network.
WRAPPERS = ('ema_model.', 'model_ema.', 'ema.', 'module.', 'model.', 'network.', 'net.')
# Absent from files of old and of slim training scripts; nothing here reads it.
COUNTER = '.num_batches_tracked'
KEYS_SHOWN = 5

METADATA_ERRORS = (
    AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError,
)


class CheckpointError(RuntimeError):
    """A checkpoint that can't be used; the message names the file and the problem."""


@dataclass(frozen=True)
class Checkpoint:
    """
    Weights and their metadata.

    Attributes
    ----------
    network
        Name of the network, a key of `lednet_ros.models.NETWORKS`.
    label_map
        The classes. The network may have more outputs than classes; the outputs past the last
        class (the authors' "ignore") never win a pixel.
    input_size
        Height and width in pixels of the input that the weights were trained for.
    mean, std
        Per-channel (red, green, blue) normalization of images scaled to 0..1.
    state_dict
        Tensors by parameter name.
    training
        Training data and procedure, for people to read.
    metrics
        Measured accuracy, fractions of 1.
    activation_ranges
        Lowest and highest input of each convolution, by its name in the networks that backends
        run, for int8; empty if they were not measured (`lednet quantize`).

    """

    network: str
    label_map: LabelMap
    input_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    state_dict: dict[str, Tensor]
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    activation_ranges: dict[str, tuple[float, float]] = field(default_factory=dict)


def resolve_checkpoint(name_or_path: str | Path) -> Path:
    """
    Find a checkpoint by path or by the name of one that ships with the package.

    Raises
    ------
    CheckpointError
        There is no such file.

    """
    path = Path(name_or_path)
    if not path.suffix and not path.is_file():
        path = WEIGHTS_DIRECTORY / f'{name_or_path}.safetensors'
    if not path.is_file():
        raise CheckpointError(
            f"no checkpoint '{name_or_path}': {path} is not a file; shipped checkpoints: "
            f"{', '.join(shipped_checkpoints()) or 'none'}"
        )
    return path


def shipped_checkpoints() -> list[str]:
    """List the names of the checkpoints that ship with the package."""
    return sorted(file.stem for file in WEIGHTS_DIRECTORY.glob('*.safetensors'))


def save_checkpoint(checkpoint: Checkpoint, path: Path | str) -> None:
    """
    Write a checkpoint as safetensors with metadata.

    Parameters
    ----------
    checkpoint
        The checkpoint; tensors keep their dtype.
    path
        File name, usually ending in `.safetensors`; replaced in one step.

    Raises
    ------
    OSError
        The file can't be written.

    """
    metadata = {
        'format_version': FORMAT_VERSION,
        'network': checkpoint.network,
        'label_map': checkpoint.label_map.to_dict(),
        'input_size': list(checkpoint.input_size),
        'mean': list(checkpoint.mean),
        'std': list(checkpoint.std),
        'training': checkpoint.training,
        'metrics': checkpoint.metrics,
        'activation_ranges': checkpoint.activation_ranges,
    }
    tensors = {name: tensor.contiguous() for name, tensor in checkpoint.state_dict.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={METADATA_KEY: json.dumps(metadata)})
        # The library lets only the owner read the file; nodes run as other users.
        temporary.chmod(0o644)


def load_checkpoint(
    name_or_path: str | Path, label_map: LabelMap | str | Path | None = None
) -> Checkpoint:
    """
    Read a checkpoint of this package or of the LEDNet authors' layout.

    Parameters
    ----------
    name_or_path
        A file, or the name of a shipped checkpoint.
    label_map
        Classes to use instead of the checkpoint's; a label map, its name or file. Files
        without metadata (`.pth`) need it unless they have the 19 or 20 outputs of Cityscapes.

    Returns
    -------
    Checkpoint
        Tensors on the CPU.

    Raises
    ------
    CheckpointError
        The file is missing, truncated, of another format, holds code, or its parts disagree.
    LabelMapError
        The label map can't be read.

    """
    if isinstance(label_map, (str, Path)):
        label_map = LabelMap.load(label_map)
    path = resolve_checkpoint(name_or_path)
    if is_foreign(path):
        checkpoint = _load_foreign(path, label_map)
    else:
        checkpoint = _load_safetensors(path, label_map)
    outputs = output_channels(checkpoint.state_dict, path)
    classes = checkpoint.label_map.num_classes
    # One more output than classes is the authors' "ignore"; any other surplus is a wrong map.
    if outputs not in (classes, classes + 1):
        raise CheckpointError(
            f"{path}: {outputs} outputs do not fit label map '{checkpoint.label_map.name}' "
            f'of {classes} classes; allowed: {classes} or {classes + 1}'
        )
    bad = [
        key
        for key, tensor in checkpoint.state_dict.items()
        if tensor.is_floating_point() and not torch.isfinite(tensor).all()
    ]
    if bad:
        raise CheckpointError(f'{path}: {_named("not finite", bad)}')
    return checkpoint


def load_weights(network: nn.Module, state_dict: Mapping[str, Tensor], source: str | Path) -> None:
    """
    Load weights into a network; every name and every shape must match.

    Only BatchNorm's counts of batches, which nothing reads, may be missing.

    Parameters
    ----------
    network
        The network to fill.
    state_dict
        Tensors by parameter name, any floating-point dtype.
    source
        File of the weights, for messages.

    Raises
    ------
    CheckpointError
        Keys are missing, unknown or of another shape.

    """
    expected = network.state_dict()
    problems = {
        'missing': [
            key for key in expected if key not in state_dict and not key.endswith(COUNTER)
        ],
        'unexpected': [key for key in state_dict if key not in expected],
        'of another shape': [
            f'{key} {tuple(tensor.shape)} instead of {tuple(expected[key].shape)}'
            for key, tensor in state_dict.items()
            if key in expected and tensor.shape != expected[key].shape
        ],
    }
    named = [_named(problem, keys) for problem, keys in problems.items() if keys]
    if named:
        raise CheckpointError(
            f"{source}: weights do not fit {type(network).__name__}: {'; '.join(named)}"
        )
    network.load_state_dict({**expected, **state_dict})


def output_channels(state_dict: Mapping[str, Tensor], source: str | Path) -> int:
    """
    Return the number of outputs of the network that the weights are for.

    Raises
    ------
    CheckpointError
        The weights have no class output.

    """
    name = next((name for name in OUTPUTS if name in state_dict), OUTPUTS[0])
    return int(_tensor(state_dict, name, source).shape[0])


def _load_safetensors(path: Path, label_map: LabelMap | None) -> Checkpoint:
    try:
        with safe_open(path, framework='pt') as file:
            metadata = file.metadata() or {}
            keys = file.keys()
            state_dict = {key: file.get_tensor(key) for key in keys}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f'{path}: not a readable safetensors file: {_first_line(error)}'
        ) from error
    if METADATA_KEY not in metadata:
        raise CheckpointError(
            f"{path}: no '{METADATA_KEY}' metadata; it was not written by this package"
        )
    try:
        content = json.loads(metadata[METADATA_KEY])
        version = content['format_version']
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f'{path}: format version is {version!r}; this package reads {FORMAT_VERSION}'
            )
        checkpoint = Checkpoint(
            network=str(content['network']),
            label_map=label_map or LabelMap.from_dict(content['label_map'], str(path)),
            input_size=_read_size(content['input_size']),
            mean=_read_triple(content['mean']),
            std=_read_triple(content['std']),
            state_dict=state_dict,
            training=dict(content['training']),
            metrics=dict(content['metrics']),
            activation_ranges=_read_ranges(content.get('activation_ranges', {})),
        )
    except LabelMapError as error:
        raise CheckpointError(str(error)) from error
    except METADATA_ERRORS as error:
        raise CheckpointError(f'{path}: damaged metadata: {error!r}') from error
    if min(checkpoint.std) <= 0:
        raise CheckpointError(f'{path}: std is {checkpoint.std}; every value must be above 0')
    return checkpoint


def is_foreign(path: Path) -> bool:
    """Return whether a file is PyTorch's, by its start or else by its suffix."""
    try:
        with path.open('rb') as file:
            start = file.read(9)
    except OSError as error:
        raise CheckpointError(f'{path}: not readable: {error.strerror}') from error
    # The length of its header precedes the header of a safetensors file.
    is_safetensors = start[8:9] == b'{'
    return not is_safetensors and (
        start.startswith(FOREIGN_STARTS) or path.suffix.lower() in FOREIGN_SUFFIXES
    )


def load_foreign_weights(path: Path) -> dict[str, Tensor]:
    """
    Read the tensors of a PyTorch file, without ever unpickling code.

    Parameters
    ----------
    path
        A state dict, or a training checkpoint with one under one of `CONTAINERS`.

    Returns
    -------
    dict of str to Tensor
        Tensors by name, without `WRAPPERS`. If a part of the names has one, the others belong to
        something else, like the loss, and are left out.

    Raises
    ------
    CheckpointError
        The file can't be read, or holds something else.

    """
    _refuse_compressed(path)
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r'GLOBAL ([\w.]+)', str(error))
        what = f"like '{found[1]}'" if found else _first_line(error)
        raise CheckpointError(
            f'{path}: refused, because it is damaged or holds more than tensors, {what} (it is '
            'never unpickled as code); save its state dict alone: torch.save(model.state_dict())'
        ) from error
    except Exception as error:
        # A damaged pickle can raise nearly anything: IndexError, AttributeError, struct.error.
        raise CheckpointError(
            f'{path}: not a readable PyTorch file: {_first_line(error)}'
        ) from error
    content = _find_state_dict(content)
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f'{path}: holds {type(content).__name__}, not a state dict')
    others = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise CheckpointError(
            f'{path}: {_named("not tensors", others)}; it must be a state dict, or hold one under '
            f'{", ".join(CONTAINERS)}'
        )
    # torch.compile wraps parts of a network, too.
    tensors = {str(key).replace('_orig_mod.', ''): value for key, value in content.items()}
    # Twice, as they are combined in any order.
    for wrapper in WRAPPERS * 2:
        wrapped = {
            key.removeprefix(wrapper): value
            for key, value in tensors.items() if key.startswith(wrapper)
        }
        tensors = wrapped or tensors
    return tensors


def _find_state_dict(content: Any) -> Any:
    """Return the state dict of a training checkpoint; anything else as it is."""
    if isinstance(content, Mapping):
        for name in CONTAINERS:
            if isinstance(inner := content.get(name), Mapping) and inner:
                return _find_state_dict(inner)
    return content


def _load_foreign(path: Path, label_map: LabelMap | None) -> Checkpoint:
    state_dict = load_foreign_weights(path)
    pyramid = _tensor(state_dict, 'decoder.apn.down1.conv.0.weight', path)
    outputs = output_channels(state_dict, path)
    if label_map is None:
        if outputs not in (19, 20):
            raise CheckpointError(
                f'{path}: has {outputs} outputs and no metadata; name its label map'
            )
        label_map = LabelMap.load('cityscapes')
    return Checkpoint(
        network='lednet' if pyramid.shape[0] == 1 else 'lednet_heavy',
        label_map=label_map,
        input_size=(512, 1024),
        # The authors scale images to 0..1 and do not normalize further.
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        state_dict=state_dict,
        training={'source': path.name},
    )


def _refuse_compressed(path: Path) -> None:
    """Refuse archives with compressed entries, which may have any size when unpacked."""
    if not zipfile.is_zipfile(path):
        return
    with contextlib.suppress(zipfile.BadZipFile, OSError), zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise CheckpointError(
                    f"{path}: '{entry.filename}' is compressed, which PyTorch doesn't do; it must "
                    'be stored as it is'
                )


def _tensor(state_dict: Mapping[str, Tensor], key: str, source: str | Path) -> Tensor:
    if key not in state_dict:
        raise CheckpointError(
            f"{source}: not the weights of a known network: no '{key}'; "
            f'{_named("tensors", list(state_dict))}'
        )
    if not state_dict[key].ndim:
        raise CheckpointError(f"{source}: '{key}' is a single number; it must have channels")
    return state_dict[key]


def _first_line(error: Exception) -> str:
    """Return the first line of another library's error, which may have paragraphs of text."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _named(problem: str, keys: list[str]) -> str:
    """Describe the keys that have a problem in one phrase."""
    more = f' and {len(keys) - KEYS_SHOWN} more' if len(keys) > KEYS_SHOWN else ''
    return f"{len(keys)} {problem}: {', '.join(keys[:KEYS_SHOWN])}{more}"


def _read_size(values: Any) -> tuple[int, int]:
    height, width = map(int, values)
    if not (0 < height <= MAX_SIZE and 0 < width <= MAX_SIZE):
        raise ValueError(f'input_size is {height}x{width}; allowed: 1 to {MAX_SIZE}')
    return height, width


def _read_ranges(values: Any) -> dict[str, tuple[float, float]]:
    ranges = {str(name): (float(low), float(high)) for name, (low, high) in values.items()}
    for name, (low, high) in ranges.items():
        if not -math.inf < low <= 0 <= high < math.inf:
            raise ValueError(f'activation_ranges of {name} are {low} to {high}')
    return ranges


def _read_triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    if not all(map(math.isfinite, (red, green, blue))):
        raise ValueError(f'{values} has a value that is not finite')
    return red, green, blue
