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

"""The segmenter: camera frames in; labels, confidence and colored images out."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
import gc
from importlib.util import find_spec
from pathlib import Path
import platform
from typing import Any

from lednet_ros.checkpoint import Checkpoint, load_checkpoint
from lednet_ros.inference.backends.base import (
    Backend,
    ConfigurationError,
    Outputs,
    Style,
    Wanted,
)
from lednet_ros.inference.backends.torch_eager import TorchBackend
from lednet_ros.inference.encodings import Frame, FrameError
from lednet_ros.labels import LabelMap
from lednet_ros.models import load_network
from lednet_ros.models.network import MIN_SIZE
import numpy as np
from numpy.typing import NDArray
import torch

MAX_SIZE = 8192
COLOR_ORDERS = ('rgb', 'bgr')
PALETTES = ('label_map', 'color_blind')
DEVICES = ('auto', 'cpu', 'cuda', 'cuda:N')
# What runs the network, with the precisions that it knows.
BACKENDS = {
    'torch_eager': ('fp32', 'fp16', 'bf16'),
    'openvino': ('fp32', 'bf16', 'int8'),
    'cuda_graph': ('fp32', 'fp16', 'bf16'),
    'tensorrt': ('fp32', 'fp16', 'int8'),
}
# Where each one runs, and the packages that it needs besides PyTorch, for int8 some more.
DEVICE_OF = {'openvino': 'cpu', 'cuda_graph': 'cuda', 'tensorrt': 'cuda'}
PACKAGES_OF = {
    'openvino': ('openvino',),
    'cuda_graph': ('triton',),
    'tensorrt': ('tensorrt', 'triton', 'onnxscript'),
}
INT8_PACKAGES_OF = {'openvino': ('nncf',), 'tensorrt': ('onnxruntime',)}


@dataclass(frozen=True)
class Segmentation:
    """
    Results of one call, a list entry for each frame, in the order of the frames.

    The arrays are views of the segmenter's buffers: valid until its next call.

    Attributes
    ----------
    labels
        Class ids, (H, W) uint8; 255 is unlabeled.
    confidence
        Softmax probability of the chosen class, (H, W) uint8, 0..255; None if not asked for.
    overlay
        Frame blended with the class colors, (H, W, 3) uint8 in the frame's color order; None if
        not asked for.
    color
        The class colors alone, (H, W, 3) uint8 RGB; None if not asked for.

    """

    labels: list[NDArray[np.uint8]]
    confidence: list[NDArray[np.uint8]] | None
    overlay: list[NDArray[np.uint8]] | None
    color: list[NDArray[np.uint8]] | None


class Segmenter:
    """
    Segments frames with one network; buffers are allocated once and reused.

    Not thread-safe: one thread at a time may call `segment`.

    Parameters
    ----------
    checkpoint
        Weights and metadata.
    source
        Where the checkpoint is from, for messages.
    device
        'auto' (CUDA if there is one), 'cpu', 'cuda' or 'cuda:N'.
    backend
        'auto' (OpenVINO on an x86 CPU where it is installed, otherwise 'torch_eager'),
        'torch_eager', 'openvino', 'cuda_graph' or 'tensorrt' (these two on CUDA); or what makes
        an object that runs the network instead.
    precision
        'auto' (fp16 on CUDA, bf16 with OpenVINO on a CPU that has it, otherwise fp32), 'fp32',
        'fp16' (not with OpenVINO), 'bf16' (not with TensorRT) or 'int8' (only with these two).
    input_size
        Height and width of the network's input; None takes the checkpoint's. Frames are resized
        to it.
    output_size
        Height and width of the results; None gives each result the size of its frame.
    num_threads
        CPU threads of OpenVINO; 0 leaves it to OpenVINO. PyTorch's are set for the process, by
        `torch.set_num_threads`.
    calibration
        Folder with images like those that the network will see, for int8; None takes synthetic
        streets.
    palette
        Colors of the classes: 'label_map' or 'color_blind' (`LabelMap.for_color_blind`).

    Attributes
    ----------
    label_map : LabelMap
        The classes, in the colors of the palette.
    overlay_alpha : float
        Weight of the colors in overlays, 0..1.
    min_confidence : float
        Pixels below this softmax probability (0..1) become 255.

    Raises
    ------
    ConfigurationError
        A setting is not allowed or the device is not there.
    CheckpointError
        The network is not known or the weights do not fit it.

    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        source: str | Path = 'checkpoint',
        device: str = 'auto',
        backend: str | Callable[[], Backend] = 'auto',
        precision: str = 'auto',
        input_size: tuple[int, int] | None = None,
        output_size: tuple[int, int] | None = None,
        num_threads: int = 0,
        calibration: str | Path | None = None,
        palette: str = 'label_map',
    ) -> None:
        self.device = _resolve_device(device)
        self.label_map = _recolor(checkpoint.label_map, palette)
        self.network_name = checkpoint.network
        self.input_size = _check_size(
            'input_size', input_size or checkpoint.input_size, MIN_SIZE
        )
        self.output_size = output_size and _check_size('output_size', output_size, 1)
        self.overlay_alpha = 0.5
        self.min_confidence = 0.0
        self._visible = _visibility(self.label_map, self.label_map.names)
        self._palettes = {
            'rgb': self.label_map.palette,
            'bgr': np.ascontiguousarray(self.label_map.palette[:, ::-1]),
        }
        network = load_network(checkpoint, source)
        self.num_parameters = sum(parameter.numel() for parameter in network.parameters())
        if isinstance(backend, str):
            self.backend = _resolve_backend(backend, self.device)
            self.precision = _resolve_precision(precision, self.backend, self.device)
            # Not a bound method: a circle would keep the memory of the backend.
            self._make_backend: Callable[[], Backend] = partial(
                _make_known_backend,
                self.backend,
                self.precision,
                self.device,
                checkpoint,
                source,
                self.input_size,
                num_threads,
                Path(calibration) if calibration else None,
            )
        else:
            self.backend = 'custom'
            self.precision = precision
            self._make_backend = backend
        self._backend = self._make_backend()
        self._outputs: list[Outputs] = []

    @classmethod
    def from_checkpoint(
        cls,
        path_or_name: str | Path,
        *,
        label_map: LabelMap | None = None,
        device: str = 'auto',
        backend: str = 'auto',
        precision: str = 'auto',
        input_size: tuple[int, int] | None = None,
        output_size: tuple[int, int] | None = None,
        num_threads: int = 0,
        calibration: str | Path | None = None,
        palette: str = 'label_map',
    ) -> 'Segmenter':
        """
        Build a segmenter from a checkpoint file or the name of a shipped checkpoint.

        Parameters
        ----------
        path_or_name, label_map
            See `lednet_ros.checkpoint.load_checkpoint`.
        device, backend, precision, input_size, output_size, num_threads, calibration, palette
            See the class.

        Raises
        ------
        CheckpointError, ConfigurationError
            See the class.

        """
        return cls(
            load_checkpoint(path_or_name, label_map),
            source=path_or_name,
            device=device,
            backend=backend,
            precision=precision,
            input_size=input_size,
            output_size=output_size,
            num_threads=num_threads,
            calibration=calibration,
            palette=palette,
        )

    def show_classes(self, names: Collection[str]) -> None:
        """
        Choose the classes that overlays draw; the others show the plain frame.

        Parameters
        ----------
        names
            Class names; none means all classes.

        Raises
        ------
        LabelMapError
            A name is not in the label map.

        """
        self._visible = _visibility(self.label_map, names or self.label_map.names)

    def warm_up(self, frame_size: tuple[int, int], batch_size: int = 1) -> None:
        """
        Allocate buffers and run once, so that the first real frame is as fast as the rest.

        Parameters
        ----------
        frame_size
            Height and width of the frames to expect.
        batch_size
            Largest batch to expect.

        """
        frame = np.zeros((*frame_size, 3), np.uint8)
        # The largest batch allocates for all; each size has its own choice of algorithms. The
        # second run finds everything made.
        for count in range(batch_size, 0, -1):
            for _ in range(2):
                self.segment([frame] * count)

    def restart(self) -> None:
        """
        Replace a backend that has failed by a fresh one; first the memory of the old one goes.

        Raises
        ------
        Exception
            Whatever the fresh one can't cope with either; the segmenter is of no use then.

        """
        del self._backend
        self._outputs = []
        # What failed may hold itself in a circle, by its traceback for example.
        gc.collect()
        if self.device.type == 'cuda':
            torch.cuda.empty_cache()
        self._backend = self._make_backend()

    def segment(
        self,
        frames: Sequence[NDArray[np.uint8] | Frame] | NDArray[np.uint8],
        *,
        confidence: bool = True,
        overlay: bool = True,
        color: bool = False,
    ) -> Segmentation:
        """
        Segment a batch of frames.

        Parameters
        ----------
        frames
            Frames (height, width, 3) uint8; plain arrays are RGB, `Frame` names its color order.
            Sizes may differ. A single (height, width, 3) array is a batch of one.
        confidence, overlay, color
            Which results to compute besides the labels.

        Returns
        -------
        Segmentation
            Views of buffers that the next call overwrites.

        Raises
        ------
        FrameError
            A frame has another dtype or shape; nothing is computed.

        """
        if isinstance(frames, np.ndarray) and frames.ndim == 3:
            frames = [frames]
        batch = [
            frame if isinstance(frame, Frame) else Frame(frame, 'rgb') for frame in frames
        ]
        wanted = Wanted(confidence, overlay, color)
        outputs = self.run(batch, wanted)
        results = {
            name: [output.array(name) for output in outputs] for name in wanted.names()
        }
        return Segmentation(
            labels=results['labels'],
            confidence=results.get('confidence'),
            overlay=results.get('overlay'),
            color=results.get('color'),
        )

    def run(self, frames: Sequence[Frame], wanted: Wanted) -> list[Outputs]:
        """
        Segment a batch of frames; `segment` is a wrapper of this.

        Parameters
        ----------
        frames
            The batch; sizes and color orders may differ.
        wanted
            The results to compute besides the labels.

        Returns
        -------
        list of Outputs
            One for each frame, with the labels and what is wanted; the next call overwrites them.

        Raises
        ------
        FrameError
            A frame has another dtype, shape or color order; nothing is computed.

        """
        for index, frame in enumerate(frames):
            _check_frame(frame, index)
        if not frames:
            raise FrameError('the batch is empty; it needs one frame or more', reason='size')
        outputs = self._prepare_outputs([frame.pixels.shape[:2] for frame in frames])
        style = Style(
            self._palettes, self._visible, self.overlay_alpha, self.min_confidence
        )
        self._backend.run(frames, outputs, wanted, style)
        return outputs

    def _prepare_outputs(self, frame_sizes: Sequence[tuple[int, ...]]) -> list[Outputs]:
        """Reuse the buffers of each place in the batch unless its size has changed."""
        pinned = self.device.type == 'cuda'
        all_outputs = self._outputs
        for index, (height, width) in enumerate(frame_sizes):
            size = self.output_size or (height, width)
            if index == len(all_outputs):
                all_outputs.append(Outputs(size, pinned=pinned))
            elif all_outputs[index].size != size:
                all_outputs[index] = Outputs(size, pinned=pinned)
        return all_outputs[: len(frame_sizes)]


def _make_known_backend(
    name: str,
    precision: str,
    device: torch.device,
    checkpoint: Checkpoint,
    source: str | Path,
    input_size: tuple[int, int],
    num_threads: int,
    calibration: Path | None,
) -> Backend:
    network = load_network(checkpoint, source)
    # Optional packages are imported where they are used; that takes a while, too.
    common: dict[str, Any] = {
        'num_classes': checkpoint.label_map.num_classes,
        'input_size': input_size,
        'mean': checkpoint.mean,
        'std': checkpoint.std,
    }
    if name == 'openvino':
        from lednet_ros.inference.backends.openvino import OpenVINOBackend

        return OpenVINOBackend(
            network,
            precision=precision,
            num_threads=num_threads,
            calibration=calibration,
            **common,
        )
    if name == 'torch_eager':
        return TorchBackend(network, device=device, precision=precision, **common)
    from lednet_ros.inference.backends.cuda_graph import DeviceBackend, make_device_network

    sized = replace(checkpoint, input_size=input_size)
    run, dtype = make_device_network(name, network, sized, device, precision, calibration)
    return DeviceBackend(run, sized, device, dtype)


def _check_frame(frame: Frame, index: int) -> None:
    pixels = frame.pixels
    if not isinstance(pixels, np.ndarray):
        raise FrameError(
            f'frame {index} is a {type(pixels).__name__}; it must be a NumPy array', reason='size'
        )
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise FrameError(
            f'frame {index} is {pixels.dtype} {pixels.shape}; '
            'it must be uint8 (height, width, 3) and not empty',
            reason='size',
        )
    if frame.color_order not in COLOR_ORDERS:
        raise FrameError(
            f'color order of frame {index} is {frame.color_order!r}; '
            f"allowed: {', '.join(COLOR_ORDERS)}",
            reason='encoding',
        )


def _check_size(name: str, size: tuple[int, int], smallest: int) -> tuple[int, int]:
    height, width = size
    if not (smallest <= height <= MAX_SIZE and smallest <= width <= MAX_SIZE):
        raise ConfigurationError(
            f'{name} is {height}x{width} (height x width); '
            f'both must be {smallest} to {MAX_SIZE}'
        )
    return height, width


def _resolve_device(name: str) -> torch.device:
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ('cpu', 'cuda'):
        raise ConfigurationError(f"device is '{name}'; allowed: {', '.join(DEVICES)}")
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigurationError(
            f"device is '{name}', but {torch.cuda.device_count()} CUDA devices are there; "
            "allowed: 'auto', 'cpu' or a device that is there"
        )
    return device


def _resolve_backend(name: str, device: torch.device) -> str:
    if name == 'auto':
        x86 = platform.machine() in ('x86_64', 'AMD64')
        fits = device.type == 'cpu' and x86 and find_spec('openvino') is not None
        return 'openvino' if fits else 'torch_eager'
    if name not in BACKENDS:
        raise ConfigurationError(f"backend is '{name}'; allowed: auto, {', '.join(BACKENDS)}")
    needed = DEVICE_OF.get(name, device.type)
    if device.type != needed:
        raise ConfigurationError(
            f"backend is '{name}' and device '{device}'; with it the device must be '{needed}'"
        )
    for package in PACKAGES_OF.get(name, ()):
        if find_spec(package) is None:
            raise ConfigurationError(
                f"backend is '{name}', which needs {package} (pip install {package}); "
                "allowed without it: 'auto' or 'torch_eager'"
            )
    return name


def _resolve_precision(name: str, backend: str, device: torch.device) -> str:
    if name == 'auto':
        if backend == 'openvino':
            from lednet_ros.inference.backends.openvino import cpu_has_bf16

            return 'bf16' if cpu_has_bf16() else 'fp32'
        return 'fp16' if device.type == 'cuda' else 'fp32'
    if name not in BACKENDS[backend]:
        raise ConfigurationError(
            f"precision is '{name}'; allowed with backend '{backend}': "
            f"auto, {', '.join(BACKENDS[backend])}"
        )
    for package in INT8_PACKAGES_OF[backend] if name == 'int8' else ():
        if find_spec(package) is None:
            others = ', '.join(other for other in BACKENDS[backend] if other != 'int8')
            raise ConfigurationError(
                f"precision is 'int8', which needs {package} (pip install {package}); "
                f'allowed without it: auto, {others}'
            )
    return name


def _recolor(label_map: LabelMap, palette: str) -> LabelMap:
    if palette not in PALETTES:
        raise ConfigurationError(f"palette is '{palette}'; allowed: {', '.join(PALETTES)}")
    return label_map.for_color_blind() if palette == 'color_blind' else label_map


def _visibility(label_map: LabelMap, names: Collection[str]) -> NDArray[np.uint8]:
    visible = np.zeros(256, np.uint8)
    visible[[label_map.id_of(name) for name in names]] = 255
    return visible
