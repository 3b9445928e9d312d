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

"""Runs a network with eager PyTorch on the CPU."""

from collections.abc import Sequence

from lednet_ros.checkpoint import Checkpoint
from lednet_ros.inference.backends.base import Outputs, Style, Wanted
from lednet_ros.inference.encodings import Frame
from lednet_ros.inference.options import SegmenterOptions
from lednet_ros.inference.postprocess import classify_on_host
from lednet_ros.inference.preprocess import normalize, resize_on_host
from lednet_ros.models import SegmentationNetwork
import numpy as np
from numpy.typing import NDArray
import torch

PRECISIONS: dict[str, torch.dtype] = {
    'fp32': torch.float32,
    'fp16': torch.float16,
    'bf16': torch.bfloat16,
}


class TorchBackend:
    """
    Eager PyTorch with an input buffer that is allocated once and reused.

    Parameters
    ----------
    network
        The network with its weights, float32; it is changed.
    checkpoint
        Its classes and normalization; the network may have more outputs.
    options
        Resolved; the precision and the size of the input are used.

    """

    draws = False

    def __init__(
        self, network: SegmentationNetwork, checkpoint: Checkpoint, options: SegmenterOptions
    ) -> None:
        self._dtype = PRECISIONS[options.precision]
        network.eval()
        network.fold_batch_norm()
        self._network = network.to(dtype=self._dtype)
        # The faster layout on CPUs, too.
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._num_classes = checkpoint.label_map.num_classes
        self._input_size = options.input_size or checkpoint.input_size
        self._mean, self._std = tuple(checkpoint.mean), tuple(checkpoint.std)
        self._images = np.empty((0, *self._input_size, 3), np.uint8)
        self._logits: NDArray[np.float32] = np.empty((0, 0, 0, 0), np.float32)

    @torch.inference_mode()
    def run(
        self, frames: Sequence[Frame], outputs: Sequence[Outputs], wanted: Wanted, style: Style
    ) -> None:
        """Segment a batch; see `Backend.run`."""
        count = len(frames)
        if len(self._images) < count:
            self._images = np.empty((count, *self._input_size, 3), np.uint8)
        images = self._images[:count]
        for image, frame in zip(images, frames, strict=True):
            resize_on_host(frame.pixels, self._input_size, frame.color_order == 'bgr', image)
        prepared = normalize(torch.from_numpy(images), self._mean, self._std, self._dtype)
        logits = self._network.scores(prepared)[:, : self._num_classes]
        self._logits = logits.permute(0, 2, 3, 1).float().contiguous().numpy()
        for one, output in zip(self._logits, outputs, strict=True):
            classify_on_host(
                one,
                style,
                output.array('labels'),
                output.array('confidence') if wanted.confidence else None,
            )

    def last_logits(self) -> NDArray[np.float32]:
        """Return the logits of the last batch; see `Backend.last_logits`."""
        return self._logits
