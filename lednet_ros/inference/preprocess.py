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
From frames to the network's input; training, evaluation and the node all use these functions.

A frame is resized bilinearly with half-pixel centers and no antialiasing, put into RGB order,
scaled to 0..1 and normalized per channel.
"""

from collections.abc import Sequence
import functools

import cv2
import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from torch.nn import functional


def resize_on_host(
    pixels: NDArray[np.uint8], size: tuple[int, int], swap_colors: bool, out: NDArray[np.uint8]
) -> None:
    """
    Resize a frame on the CPU.

    Parameters
    ----------
    pixels
        (height, width, 3) uint8; rows may be strided.
    size
        Height and width of the network's input.
    swap_colors
        Exchange the first and third channel (BGR frames).
    out
        Receives (*size, 3) uint8.

    """
    height, width = size
    if pixels.shape[:2] == size:
        np.copyto(out, pixels)
    else:
        cv2.resize(pixels, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)
    if swap_colors:
        cv2.cvtColor(out, cv2.COLOR_BGR2RGB, dst=out)


def resize_on_device(pixels: Tensor, size: tuple[int, int], swap_colors: bool) -> Tensor:
    """
    Resize a frame where it lies, for devices other than the CPU.

    Parameters
    ----------
    pixels
        (height, width, 3) uint8.
    size
        Height and width of the network's input.
    swap_colors
        Exchange the first and third channel (BGR frames).

    Returns
    -------
    Tensor
        (*size, 3) uint8, rounded as on the CPU.

    """
    planes = pixels.permute(2, 0, 1)[None].float()
    resized = functional.interpolate(planes, size=size, mode='bilinear', align_corners=False)
    resized = resized.round_().clamp_(0, 255).to(torch.uint8)[0]
    if swap_colors:
        resized = resized.flip(0)
    return resized.permute(1, 2, 0)


def normalize(
    images: Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype = torch.float32
) -> Tensor:
    """
    Scale and normalize images.

    Parameters
    ----------
    images
        (N, H, W, 3) uint8 RGB.
    mean, std
        Per channel, for images scaled to 0..1.
    dtype
        Floating-point type of the result.

    Returns
    -------
    Tensor
        (N, 3, H, W) of `dtype`, channels-last in memory: `(images / 255 - mean) / std`.

    """
    scale, shift = _factors(tuple(mean), tuple(std), images.device)
    # The bytes already lie channels-last, which is the layout that the networks run in.
    return images.permute(0, 3, 1, 2).float().mul_(scale).sub_(shift).to(dtype)


def byte_factors(
    mean: Sequence[float], std: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Return scale and shift of each channel: `normalize` computes `bytes * scale - shift`."""
    return [1 / (255 * s) for s in std], [m / s for m, s in zip(mean, std, strict=True)]


@functools.lru_cache(maxsize=16)
def _factors(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return scale and shift, (3, 1, 1), on the device; made once, not for every frame."""
    # Cached tensors outlive the inference mode in which they may be made first.
    with torch.inference_mode(mode=False):
        scale, shift = (torch.tensor(x, device=device) for x in byte_factors(mean, std))
        return scale[:, None, None], shift[:, None, None]
