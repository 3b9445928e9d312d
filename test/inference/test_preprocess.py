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

"""Tests of the way from frames to the network's input."""

from lednet_ros.inference.preprocess import normalize, resize_on_device, resize_on_host
import numpy as np
from numpy.typing import NDArray
import pytest
import torch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def random_frame(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def on_host(frame: NDArray[np.uint8], size: tuple[int, int], swap: bool) -> NDArray[np.uint8]:
    out = np.full((*size, 3), 77, np.uint8)
    resize_on_host(frame, size, swap, out)
    return out


def resize_plainly(frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float64]:
    """Resize bilinearly with half-pixel centers, in float64, one axis after the other."""
    result = frame.astype(np.float64)
    for axis, target in enumerate(size):
        length = frame.shape[axis]
        places = np.clip((np.arange(target) + 0.5) * length / target - 0.5, 0, length - 1)
        low = np.floor(places).astype(int)
        share = (places - low).reshape(-1, *[1] * (2 - axis))
        high = np.minimum(low + 1, length - 1)
        result = result.take(low, axis) * (1 - share) + result.take(high, axis) * share
    return result


@pytest.mark.parametrize('swap', [False, True])
@pytest.mark.parametrize(
    ('frame_size', 'size'),
    [
        ((48, 64), (48, 64)),
        ((48, 64), (24, 32)),
        ((97, 65), (64, 96)),
        ((360, 480), (64, 64)),
        ((31, 17), (64, 96)),
        ((1, 1), (64, 64)),
        ((1, 200), (64, 100)),
    ],
)
def test_host_and_device_resize_alike(
    frame_size: tuple[int, int], size: tuple[int, int], swap: bool
) -> None:
    frame = random_frame(*frame_size)
    host = on_host(frame, size, swap).astype(int)
    device = resize_on_device(torch.from_numpy(frame), size, swap)
    expected = resize_plainly(frame[..., ::-1] if swap else frame, size)
    assert device.dtype == torch.uint8
    assert device.shape == (*size, 3)
    assert np.abs(host - device.numpy()).max() <= 1
    # OpenCV computes with eleven bits of the shares, so half a level and a little more.
    assert np.abs(host - expected).max() <= 1
    assert np.abs(device.numpy() - expected).max() <= 0.501


@pytest.mark.parametrize('size', [(48, 64), (64, 96)])
def test_swapped_colors_are_those_of_the_reversed_frame(size: tuple[int, int]) -> None:
    frame = random_frame(48, 64)
    reversed_frame = np.ascontiguousarray(frame[..., ::-1])
    np.testing.assert_array_equal(on_host(frame, size, True), on_host(reversed_frame, size, False))


def test_same_size_copies_and_leaves_the_frame_alone() -> None:
    frame = random_frame(48, 64)
    frame.flags.writeable = False
    np.testing.assert_array_equal(on_host(frame, (48, 64), False), frame)
    np.testing.assert_array_equal(on_host(frame, (48, 64), True), frame[..., ::-1])


@pytest.mark.parametrize('size', [(48, 64), (64, 96)])
@pytest.mark.parametrize('swap', [False, True])
def test_padded_rows_and_reversed_channels_are_read_right(
    size: tuple[int, int], swap: bool
) -> None:
    wide = random_frame(48, 80)
    for view in (wide[:, 5:69], wide[::-1, :64], wide[:, :64, ::-1]):
        packed = np.ascontiguousarray(view)
        np.testing.assert_array_equal(on_host(view, size, swap), on_host(packed, size, swap))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_normalize(dtype: torch.dtype) -> None:
    frames = np.stack([random_frame(8, 9), random_frame(8, 9)[::-1]])
    found = normalize(torch.from_numpy(frames), MEAN, STD, dtype)
    expected = ((frames / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    assert found.shape == (2, 3, 8, 9)
    assert found.dtype == dtype
    tolerance = 2e-6 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps
    np.testing.assert_allclose(found.double().numpy(), expected, rtol=tolerance, atol=tolerance)


def test_normalize_without_statistics_scales_to_one() -> None:
    white = torch.full((1, 2, 2, 3), 255, dtype=torch.uint8)
    torch.testing.assert_close(normalize(white, (0, 0, 0), (1, 1, 1)), torch.ones(1, 3, 2, 2))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('swap', [False, True])
def test_cuda_resizes_like_the_host(swap: bool) -> None:
    frame = random_frame(360, 480)
    found = resize_on_device(torch.from_numpy(frame).cuda(), (128, 256), swap).cpu().numpy()
    assert np.abs(found.astype(int) - on_host(frame, (128, 256), swap)).max() <= 1
