# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Runs a network with eager PyTorch, on the CPU or on a CUDA device."""

from collections.abc import Sequence

from lednet_ros.inference.encodings import Frame
from lednet_ros.inference.postprocess import classify
from lednet_ros.inference.preprocess import normalize, resize_on_device, resize_on_host
from lednet_ros.models import LEDNet
import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

PRECISIONS: dict[str, torch.dtype] = {
    'fp32': torch.float32,
    'fp16': torch.float16,
    'bf16': torch.bfloat16,
}


class LabelBuffer:
    """
    Labels and confidence of one frame, on the host and on the device.

    On the CPU both are the same memory; on CUDA the host side is pinned.

    Parameters
    ----------
    size
        Height and width.
    device
        Where the network runs.

    """

    def __init__(self, size: tuple[int, int], device: torch.device) -> None:
        self.size = size
        pinned = device.type == 'cuda'
        self._host = torch.empty((2, *size), dtype=torch.uint8, pin_memory=pinned)
        self._device = torch.empty_like(self._host, device=device) if pinned else self._host

    @property
    def labels(self) -> NDArray[np.uint8]:
        """Class ids on the host, (height, width) uint8."""
        return self._host[0].numpy()

    @property
    def confidence(self) -> NDArray[np.uint8]:
        """Softmax probability of the winner on the host, (height, width) uint8, 0..255."""
        return self._host[1].numpy()

    def classify(self, scores: Tensor, min_confidence: float, confidence: bool) -> None:
        """Fill the device side from the scores (C, h, w) and start the copy to the host."""
        classify(
            scores,
            self.size,
            min_confidence,
            self._device[0],
            self._device[1] if confidence else None,
        )
        if self._host is not self._device:
            planes = 2 if confidence else 1
            self._host[:planes].copy_(self._device[:planes], non_blocking=True)


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
        The network with its weights.
    num_classes
        Outputs that may win a pixel; the network may have more.
    input_size
        Height and width of the network's input.
    mean, std
        Normalization per channel (red, green, blue).
    device
        Where to run.
    precision
        One of `PRECISIONS`.

    """

    def __init__(
        self,
        network: LEDNet,
        *,
        num_classes: int,
        input_size: tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
        precision: str,
    ) -> None:
        self.device = device
        self._dtype = PRECISIONS[precision]
        # Channels-last is the faster layout on tensor cores and on the CPU alike.
        self._network = network.to(device=device, dtype=self._dtype).eval()
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._num_classes = num_classes
        self._input_size = input_size
        self._mean = tuple(mean)
        self._std = tuple(std)
        self._images = torch.empty((0, *input_size, 3), dtype=torch.uint8, device=device)
        self._uploads: list[_Upload] = []

    @torch.inference_mode()
    def run(
        self,
        frames: Sequence[Frame],
        buffers: Sequence[LabelBuffer],
        min_confidence: float,
        confidence: bool,
    ) -> None:
        """
        Segment a batch; the host side of the buffers is valid when this returns.

        Parameters
        ----------
        frames
            The batch; sizes and color orders may differ.
        buffers
            One for each frame, of the size that its labels shall have.
        min_confidence
            See `classify`.
        confidence
            Also compute the confidence.

        """
        count = len(frames)
        if len(self._images) < count:
            self._images = torch.empty(
                (count, *self._input_size, 3), dtype=torch.uint8, device=self.device
            )
        images = self._images[:count]
        for index, frame in enumerate(frames):
            self._load(frame, index)
        scores = self._network.scores(normalize(images, self._mean, self._std, self._dtype))
        for buffer, frame_scores in zip(buffers, scores[:, : self._num_classes], strict=True):
            buffer.classify(frame_scores, min_confidence, confidence)
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)

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
