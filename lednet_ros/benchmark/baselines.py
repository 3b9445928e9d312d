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
The alternatives: the plain module, the code of most nodes, and ONNX Runtime.

Each takes BGR frames (height, width, 3) uint8 and returns labels (height, width) uint8 and an
overlay (height, width, 3) uint8 of the same size, as the package does.
"""

from collections.abc import Callable
from typing import Any

import cv2
from lednet_ros.checkpoint import Checkpoint
from lednet_ros.inference.onnx_export import export_onnx
from lednet_ros.models import load_network
import numpy as np
from numpy.typing import NDArray
import torch
from torch.nn import functional

Pixels = NDArray[np.uint8]
# From a frame to labels and overlay.
Pipeline = Callable[[Pixels], tuple[Pixels, Pixels]]


def preprocess(frame: Pixels, checkpoint: Checkpoint) -> torch.Tensor:
    """Resize, reorder and normalize as tutorials do; return (1, 3, *input_size) float32."""
    height, width = checkpoint.input_size
    image = cv2.cvtColor(cv2.resize(frame, (width, height)), cv2.COLOR_BGR2RGB)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float().div(255)
    mean = torch.tensor(checkpoint.mean)[:, None, None]
    std = torch.tensor(checkpoint.std)[:, None, None]
    return (tensor - mean) / std


def resize_nearest(values: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    """Resize an array to (height, width), to the nearest value; class ids stay valid."""
    return np.asarray(cv2.resize(values, size[::-1], interpolation=cv2.INTER_NEAREST))


def overlay_with_opencv(frame: Pixels, labels: Pixels, palette: Pixels) -> Pixels:
    """Blend a frame with the colors of its labels."""
    return np.asarray(cv2.addWeighted(frame, 0.5, palette[labels], 0.5, 0), np.uint8)


def overlay_with_numpy(frame: Pixels, labels: Pixels, palette: Pixels) -> Pixels:
    """Blend as the code of many nodes does, in floating point."""
    return (0.5 * frame + 0.5 * palette[labels]).astype(np.uint8)


class EagerModule:
    """
    The plain PyTorch module, its argmax at full resolution, eager fp32.

    Parameters
    ----------
    checkpoint
        The network.
    device
        Its device.
    at_frame_size
        Upsample the logits to the frame's size. By default the module upsamples them to the
        network's input size and the labels are resized, which is cheaper.
    numpy_overlay
        Draw the overlay with NumPy rather than with OpenCV.

    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str,
        *,
        at_frame_size: bool = False,
        numpy_overlay: bool = False,
    ) -> None:
        self.checkpoint = checkpoint
        self.network = load_network(checkpoint, 'benchmark').eval().to(device)
        self.device = device
        self.at_frame_size = at_frame_size
        self.draw = overlay_with_numpy if numpy_overlay else overlay_with_opencv
        self.palette = np.ascontiguousarray(checkpoint.label_map.palette[:, ::-1])

    def __call__(self, frame: Pixels) -> tuple[Pixels, Pixels]:
        """Segment a frame; return labels and overlay."""
        labels = self.segment(frame)
        return labels, self.draw(frame, labels, self.palette)

    @torch.inference_mode()
    def segment(self, frame: Pixels) -> Pixels:
        """Segment a frame; return the labels."""
        image = preprocess(frame, self.checkpoint).to(self.device)
        if self.at_frame_size:
            logits = functional.interpolate(
                self.network.scores(image), frame.shape[:2], mode='bilinear', align_corners=True
            )
        else:
            logits = self.network(image)
        labels: Pixels = logits.argmax(dim=1)[0].byte().cpu().numpy()
        same_size = labels.shape == frame.shape[:2]
        return labels if same_size else resize_nearest(labels, frame.shape[:2])

    @torch.inference_mode()
    def time_on_device(self, rounds: int) -> list[float]:
        """Measure the GPU's milliseconds for network and argmax with CUDA events."""
        image = torch.zeros(1, 3, *self.checkpoint.input_size, device=self.device)
        times = []
        for number in range(rounds + 3):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            self.network(image).argmax(dim=1)
            end.record()
            end.synchronize()
            if number >= 3:
                times.append(start.elapsed_time(end))
        return times


class OnnxRuntime:
    """
    The same module exported to ONNX and run by ONNX Runtime on the CPU, argmax in the graph.

    Parameters
    ----------
    checkpoint
        The network.
    threads
        CPU threads.

    Raises
    ------
    ImportError
        onnxscript or onnxruntime is not installed.

    """

    def __init__(self, checkpoint: Checkpoint, threads: int) -> None:
        import onnxruntime

        self.checkpoint = checkpoint
        self.palette = np.ascontiguousarray(checkpoint.label_map.palette[:, ::-1])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        network = _WithArgmax(load_network(checkpoint, 'benchmark')).eval()
        example = torch.zeros(1, 3, *checkpoint.input_size)
        self.session: Any = onnxruntime.InferenceSession(
            export_onnx(network, example, 'image', 'labels'),
            options,
            providers=['CPUExecutionProvider'],
        )

    def __call__(self, frame: Pixels) -> tuple[Pixels, Pixels]:
        """Segment a frame; return labels and overlay."""
        image = preprocess(frame, self.checkpoint).numpy()
        (classes,) = self.session.run(None, {'image': image})
        labels = resize_nearest(classes[0].astype(np.uint8), frame.shape[:2])
        return labels, overlay_with_opencv(frame, labels, self.palette)


class _WithArgmax(torch.nn.Module):
    """A network that returns class ids."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.argmax(self.network(image), dim=1)
