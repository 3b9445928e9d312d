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

"""Runs a network with eager PyTorch, on the CPU or on a CUDA device."""

from collections.abc import Sequence

from lednet_ros.checkpoint import Checkpoint
from lednet_ros.inference.backends.base import Outputs, Style, Wanted
from lednet_ros.inference.encodings import Frame
from lednet_ros.inference.options import SegmenterOptions
from lednet_ros.inference.postprocess import classify, draw_on_host
from lednet_ros.inference.preprocess import normalize, resize_on_device, resize_on_host
from lednet_ros.models import SegmentationNetwork
import numpy as np
import torch

PRECISIONS: dict[str, torch.dtype] = {
    'fp32': torch.float32,
    'fp16': torch.float16,
    'bf16': torch.bfloat16,
}


class _Upload:
    """Pinned host memory and device memory for the pixels of one frame."""

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        self.host = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        self.device = torch.empty(shape, dtype=torch.uint8, device=device)


class TorchBackend:
    """
    Eager PyTorch with input buffers that are allocated once and reused.

    Parameters
    ----------
    network
        The network with its weights, float32; it is changed.
    checkpoint
        Its classes and normalization; the network may have more outputs.
    options
        Resolved; device, precision and the size of the input count.

    """

    def __init__(
        self, network: SegmentationNetwork, checkpoint: Checkpoint, options: SegmenterOptions
    ) -> None:
        device = torch.device(options.device)
        input_size = options.input_size or checkpoint.input_size
        self.device = device
        self._dtype = PRECISIONS[options.precision]
        # Channels-last is the faster layout on tensor cores and on the CPU alike.
        network.eval()
        network.fold_batch_norm()
        self._network = network.to(device=device, dtype=self._dtype)
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._num_classes = checkpoint.label_map.num_classes
        self._input_size = input_size
        self._mean = tuple(checkpoint.mean)
        self._std = tuple(checkpoint.std)
        self._images = torch.empty((0, *input_size, 3), dtype=torch.uint8, device=device)
        self._uploads: list[_Upload] = []
        self._outputs: list[Outputs] = []

    @torch.inference_mode()
    def run(
        self, frames: Sequence[Frame], outputs: Sequence[Outputs], wanted: Wanted, style: Style
    ) -> None:
        """Segment a batch; see `Backend.run`."""
        count = len(frames)
        if len(self._images) < count:
            self._images = torch.empty(
                (count, *self._input_size, 3), dtype=torch.uint8, device=self.device
            )
        images = self._images[:count]
        for index, frame in enumerate(frames):
            self._load(frame, index)
        scores = self._network.scores(normalize(images, self._mean, self._std, self._dtype))
        names = ('labels', 'confidence') if wanted.confidence else ('labels',)
        for index, output in enumerate(outputs):
            own = self._own(index, output)
            classify(
                scores[index, : self._num_classes],
                output.size,
                style.min_confidence,
                own.tensor('labels'),
                own.tensor('confidence') if wanted.confidence else None,
            )
            if own is not output:
                for name in names:
                    output.tensor(name).copy_(own.tensor(name), non_blocking=True)
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
        draw_on_host(frames, outputs, wanted, style)

    def _own(self, index: int, output: Outputs) -> Outputs:
        """Return the device memory of a place in the batch; on the CPU, the output itself."""
        if self.device.type == 'cpu':
            return output
        while len(self._outputs) <= index:
            self._outputs.append(Outputs(output.size, self.device))
        if self._outputs[index].size != output.size:
            self._outputs[index] = Outputs(output.size, self.device)
        return self._outputs[index]

    def _load(self, frame: Frame, index: int) -> None:
        """Put a frame, resized and in RGB order, into its place in the input batch."""
        swap = frame.color_order == 'bgr'
        target = self._images[index]
        if self.device.type == 'cpu':
            resize_on_host(frame.pixels, self._input_size, swap, target.numpy())
            return
        shape = frame.pixels.shape
        while len(self._uploads) <= index:
            self._uploads.append(_Upload(shape, self.device))
        upload = self._uploads[index]
        if upload.host.shape != shape:
            upload = self._uploads[index] = _Upload(shape, self.device)
        np.copyto(upload.host.numpy(), frame.pixels)
        upload.device.copy_(upload.host, non_blocking=True)
        target.copy_(resize_on_device(upload.device, self._input_size, swap))
