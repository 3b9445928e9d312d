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
Runs a network on a CUDA device, with memory that is allocated once and one wait for each batch.

Frames are uploaded from pinned memory and prepared, the network runs, labels and colored images
are computed from its logits, and what is wanted is downloaded: all on one stream, without waiting
in between. The network alone is a CUDA graph, one for each batch size, so that frames and outputs
of any size need no other graph.

One thread must make the backend and call it: PyTorch plans convolutions for each thread. On the
CPU the same steps run in Triton's interpreter: for tests.
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
from functools import lru_cache
import gc
import threading
from typing import Protocol

from lednet_ros.checkpoint import Checkpoint
from lednet_ros.inference.backends.base import Outputs, SIZES_KEPT, Style, Wanted
from lednet_ros.inference.backends.torch_eager import PRECISIONS
from lednet_ros.inference.encodings import Frame
from lednet_ros.inference.options import SegmenterOptions
from lednet_ros.inference.postprocess import classify
from lednet_ros.inference.preprocess import byte_factors, normalize, resize_on_device
import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

REPLAYS = 20

# PyTorch captures one graph at a time in a process.
_CAPTURING = threading.Lock()

DeviceNetwork = Callable[[Tensor], Tensor]
"""
Runs a network on a device without waiting: images (N, 3, H, W), channels-last in memory, to logits
(N, classes or more, h, w) in any layout.
"""


class Ends(Protocol):
    """The steps before and after the network."""

    draws: bool
    """Whether `finish` draws colored images; otherwise they are drawn on the CPU."""

    def prepare(self, frame: Tensor, swap: bool, image: Tensor) -> None:
        """Make a frame (h, w, 3) uint8 the network's input (H, W, 3); `swap` if it is BGR."""

    def finish(
        self, logits: Tensor, frame: Tensor, swap: bool, style: 'DeviceStyle', wanted: Wanted,
        out: Outputs,
    ) -> None:
        """Compute the outputs of a frame from its logits (C, h, w)."""


class TritonEnds:
    """One kernel before the network and one after it."""

    draws = True

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        # Optional, and slow to import.
        from lednet_ros.inference.backends import cuda_kernels

        self._kernels = cuda_kernels
        scale, shift = byte_factors(checkpoint.mean, checkpoint.std)
        self._factors = torch.tensor(scale + shift, device=device)

    def prepare(self, frame: Tensor, swap: bool, image: Tensor) -> None:
        """See `Ends`."""
        self._kernels.prepare(frame, swap, self._factors, image)

    def finish(
        self, logits: Tensor, frame: Tensor, swap: bool, style: 'DeviceStyle', wanted: Wanted,
        out: Outputs,
    ) -> None:
        """See `Ends`."""
        self._kernels.finish(
            logits, frame, swap, style.palette, style.visible, style.settings, wanted, out,
            threshold=style.has_threshold, ids=style.ids if style.renumbers else None,
        )


class TorchEnds:
    """PyTorch's operations, where there is no Triton; images are drawn on the CPU."""

    draws = False

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._mean, self._std = tuple(checkpoint.mean), tuple(checkpoint.std)

    def prepare(self, frame: Tensor, swap: bool, image: Tensor) -> None:
        """See `Ends`."""
        height, width = image.shape[:2]
        resized = resize_on_device(frame, (height, width), swap)[None]
        image.copy_(normalize(resized, self._mean, self._std, image.dtype)[0].permute(1, 2, 0))

    def finish(
        self, logits: Tensor, frame: Tensor, swap: bool, style: 'DeviceStyle', wanted: Wanted,
        out: Outputs,
    ) -> None:
        """See `Ends`."""
        confidence = out.tensor('confidence') if wanted.confidence else None
        classify(
            logits, out.size, style.ids if style.renumbers else None,
            style.settings[1:] if style.has_threshold else None, out.tensor('labels'), confidence,
        )


class DeviceStyle:
    """
    A style on the device, uploaded as one buffer when it has changed.

    Attributes
    ----------
    palette, visible, ids, settings
        (256, 3) uint8 RGB; (256,) uint8; (256,) uint8; alpha and the lowest confidence of each id,
        (257,) float32.
    has_threshold, renumbers
        As in the style.

    """

    def __init__(self, device: torch.device) -> None:
        sizes = [4 * 257, 256, 256, 3 * 256]
        self._host = torch.empty(sum(sizes), dtype=torch.uint8, pin_memory=device.type == 'cuda')
        self._device = torch.empty(sum(sizes), dtype=torch.uint8, device=device)
        settings, self.visible, self.ids, palette = torch.split(self._device, sizes)
        self.settings, self.palette = settings.view(torch.float32), palette.view(256, 3)
        self.has_threshold = self.renumbers = False
        self._uploaded: Style | None = None

    def upload(self, style: Style) -> None:
        """Put a style where the kernels read it."""
        if style is self._uploaded:
            return
        settings = np.full(257, style.alpha, np.float32)
        settings[1:] = style.min_confidences
        parts = settings.view(np.uint8), style.visible, style.ids, style.palettes['rgb'].ravel()
        self._host.numpy()[:] = np.concatenate(parts)
        self._device.copy_(self._host, non_blocking=True)
        self.has_threshold, self.renumbers = style.has_threshold, style.renumbers
        self._uploaded = style


class _Place:
    """Memory of one place in the batch, for the sizes that were last seen there."""

    def __init__(self, device: torch.device) -> None:
        pinned = device.type == 'cuda'

        @lru_cache(maxsize=SIZES_KEPT)
        def buffers(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
            return (
                torch.empty(shape, dtype=torch.uint8, pin_memory=pinned),
                torch.empty(shape, dtype=torch.uint8, device=device),
            )

        self._buffers = buffers
        self.outputs = lru_cache(maxsize=SIZES_KEPT)(lambda size: Outputs(size, device))
        self.frame: Tensor
        self.swap = False

    def upload(self, frame: Frame) -> None:
        """Start to copy a frame to the device."""
        host, self.frame = self._buffers(frame.pixels.shape)
        np.copyto(host.numpy(), frame.pixels)
        self.frame.copy_(host, non_blocking=True)
        self.swap = frame.color_order == 'bgr'


class _Batch:
    """The network for one batch size, on memory that never moves."""

    def __init__(
        self, network: DeviceNetwork, images: Tensor, stream: 'torch.cuda.Stream | None'
    ) -> None:
        self.images = images
        self._inputs = images.permute(0, 3, 1, 2)
        self._network = network
        self._graph = None if stream is None else self._capture(stream)

    def run(self) -> Tensor:
        """Run the network on `images`; return the logits, valid until the next call."""
        if self._graph is None:
            self.logits = self._network(self._inputs)
        else:
            self._graph.replay()
        return self.logits

    def _capture(self, stream: 'torch.cuda.Stream') -> 'torch.cuda.CUDAGraph':
        # Algorithms are chosen and kernels compiled now: neither can be captured.
        for _ in range(3):
            self._network(self._inputs)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        collecting = gc.isenabled()
        with _CAPTURING:
            # A collection could free pinned memory, which can't be captured either.
            gc.disable()
            try:
                # Other threads of the process may use the device meanwhile.
                with torch.cuda.graph(graph, stream=stream, capture_error_mode='thread_local'):
                    self.logits = self._network(self._inputs)
            finally:
                if collecting:
                    gc.enable()
        return graph


class DeviceBackend:
    """
    A network on a CUDA device.

    Parameters
    ----------
    network
        Runs on the device.
    checkpoint
        Its classes and normalization; the network may have more outputs.
    options
        Resolved; the device, the precision and the size of the input are used.
    ends
        The steps around the network.
    captured
        Whether to run the network as a CUDA graph.

    """

    def __init__(
        self,
        network: DeviceNetwork,
        checkpoint: Checkpoint,
        options: SegmenterOptions,
        ends: Ends,
        captured: bool = True,
    ) -> None:
        self.device = torch.device(options.device)
        self._network = network
        self._num_classes = checkpoint.label_map.num_classes
        self._input_size = options.input_size or checkpoint.input_size
        # int8 networks take and return fp16.
        self._dtype = PRECISIONS.get(options.precision, torch.float16)
        self._ends = ends
        self.draws = ends.draws
        self._style = DeviceStyle(self.device)
        self._places: list[_Place] = []
        self._batches: dict[int, _Batch] = {}
        self._last: _Batch | None = None
        self._captured = captured
        self._stream = self._done = None
        if self.device.type == 'cuda':
            self._stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            # It sleeps: waiting on a stream would keep a core busy.
            self._done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]

    @torch.inference_mode()
    def run(
        self, frames: Sequence[Frame], outputs: Sequence[Outputs], wanted: Wanted, style: Style
    ) -> None:
        """Segment a batch; see `Backend.run`."""
        count = len(frames)
        with self._on_device():
            while len(self._places) < count:
                self._places.append(_Place(self.device))
            places = self._places[:count]
            self._style.upload(style)
            for place, frame in zip(places, frames, strict=True):
                place.upload(frame)
            self._compute(places, [output.size for output in outputs], wanted)
            for place, output in zip(places, outputs, strict=True):
                results = place.outputs(output.size)
                for name in self._computed(wanted):
                    output.tensor(name).copy_(results.tensor(name), non_blocking=True)
            if self._done is not None:
                self._done.record(self._stream)
        if self._done is not None:
            self._done.synchronize()

    def last_logits(self) -> NDArray[np.float32]:
        """Return the logits of the last batch; see `Backend.last_logits`."""
        assert self._last is not None
        logits = self._last.logits[:, : self._num_classes].permute(0, 2, 3, 1)
        found: NDArray[np.float32] = logits.float().cpu().numpy()
        return found

    @torch.inference_mode()
    def time_on_device(
        self, frames: Sequence[Frame], outputs: Sequence[Outputs], wanted: Wanted, style: Style,
        rounds: int,
    ) -> dict[str, list[float]]:
        """
        Time parts of a batch by the device's clock, interleaved, `REPLAYS` replays at a time.

        Parameters
        ----------
        frames, outputs, wanted, style
            As for `run`.
        rounds
            How often each part is timed.

        Returns
        -------
        dict of str to list of float
            Milliseconds of 'frame without copies' and 'network'; 0 on the CPU.

        """
        self.run(frames, outputs, wanted, style)
        places, sizes = self._places[: len(frames)], [output.size for output in outputs]
        parts: dict[str, Callable[[], object]] = {
            'frame without copies': lambda: self._compute(places, sizes, wanted),
            'network': self._batches[len(frames)].run,
        }
        times: dict[str, list[float]] = {name: [] for name in parts}
        with self._on_device():
            for _ in range(rounds):
                for name, step in parts.items():
                    times[name].append(self._time(step))
        return times

    def _time(self, step: Callable[[], object]) -> float:
        if self._stream is None:
            step()
            return 0.0
        start, end = (
            torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            for _ in range(2)
        )
        step()
        start.record(self._stream)
        for _ in range(REPLAYS):
            step()
        end.record(self._stream)
        end.synchronize()
        return float(start.elapsed_time(end)) / REPLAYS

    def _compute(
        self, places: Sequence[_Place], sizes: Sequence[tuple[int, int]], wanted: Wanted
    ) -> None:
        """Do what lies between upload and download."""
        batch = self._last = self._find_batch(len(places))
        for place, image in zip(places, batch.images, strict=True):
            self._ends.prepare(place.frame, place.swap, image)
        logits = batch.run()[:, : self._num_classes]
        for place, size, one in zip(places, sizes, logits, strict=True):
            self._ends.finish(
                one, place.frame, place.swap, self._style, wanted, place.outputs(size)
            )

    def _computed(self, wanted: Wanted) -> list[str]:
        names = wanted.names()
        return names if self.draws else [n for n in names if n in ('labels', 'confidence')]

    def _find_batch(self, count: int) -> _Batch:
        if count not in self._batches:
            images = torch.zeros(
                (count, *self._input_size, 3), dtype=self._dtype, device=self.device
            )
            stream = self._stream if self._captured else None
            self._batches[count] = _Batch(self._network, images, stream)
        return self._batches[count]

    @contextlib.contextmanager
    def _on_device(self) -> Iterator[None]:
        """Make device and stream the current ones: kernels are launched there."""
        if self._stream is None:
            yield
            return
        with torch.cuda.device(self.device), torch.cuda.stream(self._stream):
            yield
