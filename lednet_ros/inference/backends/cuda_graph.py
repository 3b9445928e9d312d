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
Runs a network on a CUDA device, a whole batch as one CUDA graph in memory that never moves.

The graph uploads frames and style from pinned memory, prepares the network's input, runs the
network, computes labels and colored images from its logits, and downloads what is wanted. It is
captured once for each combination of sizes, color orders and wanted results.

On the CPU, in Triton's interpreter, the same steps run one by one: for tests.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
import copy
from dataclasses import dataclass
import logging
from pathlib import Path

from lednet_ros.checkpoint import Checkpoint
from lednet_ros.inference.backends import cuda_kernels
from lednet_ros.inference.backends.base import Outputs, Style, Wanted
from lednet_ros.inference.backends.cuda_units import use_triton_units
from lednet_ros.inference.backends.torch_eager import PRECISIONS
from lednet_ros.inference.encodings import Frame
from lednet_ros.models import LEDNet, SegmentationNetwork
import numpy as np
import torch
from torch import Tensor

# A camera that changes its size all the time must not fill the device with graphs.
MAX_PROGRAMS = 8
# A candidate for the network may differ from the plain one by this fraction of its scores' range.
TOLERANCE = 0.02
TRIALS = 20

logger = logging.getLogger(__name__)


DeviceNetwork = Callable[[Tensor], Tensor]
"""
Runs a network on a device, without synchronizing: images (N, 3, H, W), channels-last in memory, to
scores (N, classes or more, h, w) in any layout.
"""


class _DeviceStyle:
    """The style in pinned memory, from which graphs take it, and on the device."""

    def __init__(self, device: torch.device, pinned: bool) -> None:
        self._host = (
            torch.empty((256, 3), dtype=torch.uint8, pin_memory=pinned),
            torch.empty(256, dtype=torch.uint8, pin_memory=pinned),
            torch.empty(2, dtype=torch.float32, pin_memory=pinned),
        )
        self.palette, self.visible, self.settings = (
            torch.empty_like(tensor, device=device, pin_memory=False) for tensor in self._host
        )

    def write(self, style: Style) -> None:
        """Put a style where the next upload takes it from."""
        palette, visible, settings = (tensor.numpy() for tensor in self._host)
        np.copyto(palette, style.palettes['rgb'])
        np.copyto(visible, style.visible)
        settings[:] = style.alpha, style.min_confidence

    def upload(self) -> None:
        for device, host in zip(
            (self.palette, self.visible, self.settings), self._host, strict=True
        ):
            device.copy_(host, non_blocking=True)


@dataclass(frozen=True)
class _Key:
    """Key of a program; outputs by their addresses, because graphs write to them."""

    frames: tuple[tuple[tuple[int, ...], str], ...]
    outputs: tuple[tuple[tuple[int, int], tuple[int, ...]], ...]
    wanted: Wanted


class _Program:
    """
    The steps for batches of one kind, captured as a graph where the device can.

    Parameters
    ----------
    backend
        Network, device, stream and normalization.
    frames, outputs, wanted
        The first batch of this kind; the outputs are those of all.

    """

    def __init__(
        self,
        backend: 'DeviceBackend',
        frames: Sequence[Frame],
        outputs: Sequence[Outputs],
        wanted: Wanted,
    ) -> None:
        device, pinned = backend.device, backend.device.type == 'cuda'
        self._backend = backend
        self._swaps = [frame.color_order == 'bgr' for frame in frames]
        self._wanted = wanted
        self._host_outputs = list(outputs)
        shapes = [frame.pixels.shape for frame in frames]
        self.uploads = [
            torch.zeros(shape, dtype=torch.uint8, pin_memory=pinned) for shape in shapes
        ]
        self._frames = [torch.zeros(shape, dtype=torch.uint8, device=device) for shape in shapes]
        self._outputs = [Outputs(output.size, device) for output in outputs]
        self.style = _DeviceStyle(device, pinned)
        self._images = torch.zeros(
            (len(frames), *backend.input_size, 3), dtype=backend.dtype, device=device
        )
        self._graph = _capture(self._all, backend.stream, device)

    def run(self) -> None:
        """Do the steps; returns when the outputs are valid."""
        stream = self._backend.stream
        if self._graph is None or stream is None:
            self._all()
            return
        with torch.cuda.device(self._backend.device), torch.cuda.stream(stream):
            self._graph.replay()
        stream.synchronize()

    def compute(self) -> None:
        """Do what lies between upload and download."""
        for frame, image, swap in zip(self._frames, self._images, self._swaps, strict=True):
            cuda_kernels.prepare(frame, swap, self._backend.factors, image)
        scores = self._backend.network(self._images.permute(0, 3, 1, 2))
        for own, frame, swap, output in zip(
            scores[:, : self._backend.num_classes], self._frames, self._swaps, self._outputs,
            strict=True,
        ):
            cuda_kernels.finish(
                own, frame, swap, self.style.palette, self.style.visible, self.style.settings,
                self._wanted, output,
            )

    def _all(self) -> None:
        self.style.upload()
        for frame, upload in zip(self._frames, self.uploads, strict=True):
            frame.copy_(upload, non_blocking=True)
        self.compute()
        for host, output in zip(self._host_outputs, self._outputs, strict=True):
            for name in self._wanted.names():
                host.tensor(name).copy_(output.tensor(name), non_blocking=True)


class DeviceBackend:
    """
    CUDA graphs around Triton kernels and a network.

    Parameters
    ----------
    network
        What runs on the device; see `make_device_network`.
    checkpoint
        Whose classes, input size and normalization count; the network may have more outputs.
    device
        A CUDA device, or the CPU with Triton's interpreter.
    dtype
        Of the network's input.

    """

    def __init__(
        self,
        network: DeviceNetwork,
        checkpoint: Checkpoint,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.network = network
        self.num_classes = checkpoint.label_map.num_classes
        self.input_size = checkpoint.input_size
        self.device = device
        self.dtype = dtype
        mean, std = checkpoint.mean, checkpoint.std
        factors = [1 / (255 * s) for s in std] + [m / s for m, s in zip(mean, std, strict=True)]
        self.factors = torch.tensor(factors, device=device)
        self.stream = _make_stream(device)
        self._programs: OrderedDict[_Key, _Program] = OrderedDict()

    @torch.inference_mode()
    def run(
        self, frames: Sequence[Frame], outputs: Sequence[Outputs], wanted: Wanted, style: Style
    ) -> None:
        """Segment a batch; see `Backend.run`."""
        program = self._find_program(frames, outputs, wanted)
        for upload, frame in zip(program.uploads, frames, strict=True):
            np.copyto(upload.numpy(), frame.pixels)
        program.style.write(style)
        program.run()

    @torch.inference_mode()
    def time_on_device(
        self,
        frames: Sequence[Frame],
        outputs: Sequence[Outputs],
        wanted: Wanted,
        rounds: int,
    ) -> dict[str, list[float]]:
        """
        Time parts of the graph by the device's own clock, interleaved, after a warm-up.

        Parameters
        ----------
        frames, outputs, wanted
            As for `run`.
        rounds
            How often each part is timed.

        Returns
        -------
        dict of str to list of float
            Milliseconds of 'graph without copies' and 'network'.

        """
        program = self._find_program(frames, outputs, wanted)
        images = torch.zeros(
            (len(frames), *self.input_size, 3), dtype=self.dtype, device=self.device
        ).permute(0, 3, 1, 2)

        def network() -> None:
            self.network(images)

        parts = {'graph without copies': program.compute, 'network': network}
        graphs = {name: _capture(steps, self.stream, self.device) for name, steps in parts.items()}
        times: dict[str, list[float]] = {name: [] for name in parts}
        for number in range(rounds + 3):
            for name, graph in graphs.items():
                elapsed = _time_on_device(graph, self.stream)
                if number >= 3:
                    times[name].append(elapsed)
        return times

    def _find_program(
        self, frames: Sequence[Frame], outputs: Sequence[Outputs], wanted: Wanted
    ) -> _Program:
        key = _Key(
            tuple((frame.pixels.shape, frame.color_order) for frame in frames),
            tuple(
                (output.size, tuple(output.tensor(name).data_ptr() for name in wanted.names()))
                for output in outputs
            ),
            wanted,
        )
        if key not in self._programs:
            while len(self._programs) >= MAX_PROGRAMS:
                self._programs.popitem(last=False)
            self._programs[key] = _Program(self, frames, outputs, wanted)
        self._programs.move_to_end(key)
        return self._programs[key]


def make_device_network(
    backend: str,
    network: SegmentationNetwork,
    checkpoint: Checkpoint,
    device: torch.device,
    precision: str,
    calibration: Path | None,
) -> tuple[DeviceNetwork, torch.dtype]:
    """
    Make what `DeviceBackend` runs.

    Parameters
    ----------
    backend
        'cuda_graph' or 'tensorrt'.
    network
        The trained network, float32, on the CPU; it is changed.
    checkpoint
        Its classes, input size and normalization.
    device
        A CUDA device.
    precision
        'fp32', 'fp16', 'bf16' (not with TensorRT) or 'int8' (only with TensorRT).
    calibration
        See `Segmenter`.

    Returns
    -------
    network : DeviceNetwork
        On the device.
    dtype : torch.dtype
        Of its input.

    Raises
    ------
    ImportError
        TensorRT is not installed.
    ConfigurationError
        The calibration folder can't be read or holds no image.

    """
    if backend == 'tensorrt':
        # Optional, and slow to import.
        from lednet_ros.inference.backends.tensorrt import OnnxSource, TensorRTNetwork

        engines = TensorRTNetwork(OnnxSource(network, checkpoint, precision, calibration), device)
        return engines, engines.dtype
    chosen = choose_network(network, checkpoint.input_size, device, precision)
    return chosen, PRECISIONS[precision]


@torch.inference_mode()
def choose_network(
    network: SegmentationNetwork, input_size: tuple[int, int], device: torch.device, precision: str
) -> DeviceNetwork:
    """
    Choose the fastest way to run a network on a device that gives the right scores.

    PyTorch's convolutions, channels-last, are compared with LEDNet's units as Triton kernels.

    Parameters
    ----------
    network
        The trained network, float32, in evaluation mode; it is changed.
    input_size
        Height and width of its input.
    device
        Where to run.
    precision
        One of `PRECISIONS`.

    Returns
    -------
    DeviceNetwork
        Whose scores were compared with those of PyTorch on a fixed random image.

    """
    network.eval()
    network.fold_batch_norm()
    generator = torch.Generator().manual_seed(0)
    image = torch.randn((1, 3, *input_size), generator=generator)
    image = image.to(device=device, dtype=PRECISIONS[precision])
    image = image.contiguous(memory_format=torch.channels_last)
    units = copy.deepcopy(network)
    plain = _place(network, image)
    if not isinstance(units, LEDNet):
        return network.scores
    try:
        use_triton_units(units)
        scores = _place(units, image)
        difference = float((scores - plain).abs().max() / (plain.max() - plain.min()))
        # Written so that NaN is refused too.
        if not difference <= TOLERANCE:
            raise ArithmeticError(f'their scores differ by {difference:.3g} of the range')
        times = [_time_network(candidate, image) for candidate in (network, units)]
    except Exception as error:
        # Whatever a compiler or a driver may throw: there is another way.
        logger.warning('units as Triton kernels are left out: %s', error)
        return network.scores
    logger.info('network by PyTorch: %.3f ms, units as Triton kernels: %.3f ms', *times)
    return units.scores if times[1] < times[0] else network.scores


def _place(network: SegmentationNetwork, image: Tensor) -> Tensor:
    """Move a network to where an image is; returns its scores, float32."""
    network.to(device=image.device, dtype=image.dtype)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.scores(image).float()


def _time_network(network: SegmentationNetwork, image: Tensor) -> float:
    """Measure the median milliseconds of a pass in a graph; 0 where there are no graphs."""
    stream = _make_stream(image.device)
    graph = _capture(lambda: network.scores(image), stream, image.device)
    return float(np.median([_time_on_device(graph, stream) for _ in range(TRIALS)]))


def _capture(
    steps: Callable[[], object], stream: 'torch.cuda.Stream | None', device: torch.device
) -> 'torch.cuda.CUDAGraph | None':
    if stream is None:
        return None
    # The sizes stay, so it pays to try cuDNN's algorithms.
    with torch.cuda.device(device), torch.backends.cudnn.flags(enabled=True, benchmark=True):
        # What was allocated and filled on the current stream must be there on this one.
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                steps()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Other threads of the process may use the device meanwhile.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode='thread_local'):
            steps()
    return graph


def _time_on_device(
    graph: 'torch.cuda.CUDAGraph | None', stream: 'torch.cuda.Stream | None'
) -> float:
    """Measure the milliseconds of one replay by the device's clock."""
    if graph is None or stream is None:
        return 0.0
    start, end = (
        torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        for _ in range(2)
    )
    with torch.cuda.stream(stream):
        start.record(stream)
        graph.replay()
        end.record(stream)
    end.synchronize()
    return float(start.elapsed_time(end))


def _make_stream(device: torch.device) -> 'torch.cuda.Stream | None':
    if device.type != 'cuda':
        return None
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
