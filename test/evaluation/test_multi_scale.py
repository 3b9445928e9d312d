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

"""Tests of the average over scaled and mirrored views, against plain code."""

from collections.abc import Callable
from dataclasses import replace

from lednet_ros.checkpoint import Checkpoint
from lednet_ros.datasets import synthetic_frames
from lednet_ros.evaluation.multi_scale import MultiScaleSegmenter
from lednet_ros.inference.backends.base import ConfigurationError
from lednet_ros.inference.preprocess import normalize, resize_on_host
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.models import build_network, load_network
import numpy as np
from numpy.typing import NDArray
import pytest
import torch
from torch import nn, Tensor

EAGER = {'device': 'cpu', 'backend': 'torch_eager'}
FRAMES = [
    frame.pixels
    for size in ((64, 96), (97, 130))
    for frame in synthetic_frames(2, size, seed=3)
]


def probabilities(
    checkpoint: Checkpoint, pixels: NDArray[np.uint8], input_size: tuple[int, int]
) -> NDArray[np.float64]:
    """Return the class probabilities of one view, (C, H, W), by plain code."""
    resized = np.empty((*input_size, 3), np.uint8)
    resize_on_host(pixels, input_size, False, resized)
    network = load_network(checkpoint, 'test').eval()
    with torch.inference_mode():
        images = normalize(torch.from_numpy(resized)[None], checkpoint.mean, checkpoint.std)
        full = torch.nn.functional.interpolate(
            network.scores(images).double(), size=pixels.shape[:2], mode='bilinear',
            align_corners=True,
        )
    return full.softmax(dim=1)[0].numpy()


def fraction_of_equal(one: NDArray[np.uint8], two: NDArray[np.uint8]) -> float:
    return float((one == two).mean())


@pytest.mark.parametrize('pixels', FRAMES)
def test_one_scale_without_mirroring_is_the_segmenter(
    small_content: Checkpoint, pixels: NDArray[np.uint8]
) -> None:
    single = Segmenter(small_content, **EAGER, precision='fp32')
    labels = MultiScaleSegmenter(small_content, device='cpu', precision='fp32').segment(pixels)
    assert labels.dtype == np.uint8
    assert len(np.unique(labels)) > 3
    np.testing.assert_array_equal(labels, single.segment(pixels).labels[0])


@pytest.mark.parametrize('pixels', FRAMES[1:3])
def test_probabilities_of_all_views_are_averaged(
    small_content: Checkpoint, pixels: NDArray[np.uint8]
) -> None:
    segmenter = MultiScaleSegmenter(
        small_content, scales=(1, 1.25, 2), flip=True, device='cpu', precision='fp32'
    )
    assert segmenter.input_sizes == [(64, 96), (80, 120), (128, 192)]
    total = sum(
        probabilities(small_content, pixels, size)
        + probabilities(small_content, pixels[:, ::-1], size)[..., ::-1]
        for size in segmenter.input_sizes
    )
    labels = segmenter.segment(pixels)
    # Float32 may decide a near tie otherwise.
    assert fraction_of_equal(labels, np.argmax(total, axis=0).astype(np.uint8)) > 0.999
    single = Segmenter(small_content, **EAGER).segment(pixels).labels[0]
    assert fraction_of_equal(labels, single) < 0.99


def test_mirrored_frames_get_mirrored_labels(small_content: Checkpoint) -> None:
    """At the input's size: otherwise resizing rounds a frame and its mirror differently."""
    segmenter = MultiScaleSegmenter(small_content, flip=True, device='cpu', precision='fp32')
    mirrored = segmenter.segment(FRAMES[0][:, ::-1])[:, ::-1]
    assert fraction_of_equal(mirrored, segmenter.segment(FRAMES[0])) > 0.999


def test_outputs_past_the_last_class_never_win(
    small_content: Checkpoint, make_weights: Callable[[nn.Module, int, float], dict[str, Tensor]]
) -> None:
    weights = make_weights(build_network('lednet', 20), 0, 6.0)
    wide = replace(small_content, state_dict=weights)
    labels = MultiScaleSegmenter(wide, flip=True, device='cpu').segment(FRAMES[0])
    assert labels.max() < 11


def test_a_segmenter_knows_its_network(small_content: Checkpoint) -> None:
    segmenter = MultiScaleSegmenter(small_content, scales=(1, 2), device='cpu')
    assert segmenter.label_map == small_content.label_map
    assert segmenter.num_parameters == Segmenter(small_content, **EAGER).num_parameters


@pytest.mark.parametrize(
    ('scales', 'message'),
    [
        ((), 'scales is empty'),
        ((1, 0.9), r'scale is 0.9, which makes the input 58x86 .*; both must be 64 to 8192'),
        ((10.5,), 'scale is 10.5; it must be'),
        ((0,), 'scale is 0; it must be 0.1 to 10'),
        ((-1,), 'scale is -1; it must be'),
        ((float('nan'),), 'scale is nan; it must be'),
        ((float('inf'),), 'scale is inf; it must be'),
    ],
)
def test_invalid_scales_are_named(
    small_content: Checkpoint, scales: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        MultiScaleSegmenter(small_content, scales=scales, device='cpu')


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('precision', ['fp32', 'auto'])
def test_cuda_equals_the_segmenter(small_content: Checkpoint, precision: str) -> None:
    several = MultiScaleSegmenter(small_content, device='cuda', precision=precision)
    single = Segmenter(small_content, device='cuda', precision=precision)
    for pixels in FRAMES:
        assert fraction_of_equal(several.segment(pixels), single.segment(pixels).labels[0]) > 0.999


def test_other_backends_are_rejected_and_threads_are_set(small_content: Checkpoint) -> None:
    with pytest.raises(ConfigurationError, match="backend is 'openvino'; with several views"):
        MultiScaleSegmenter(small_content, device='cpu', backend='openvino')
    threads = torch.get_num_threads()
    try:
        MultiScaleSegmenter(small_content, device='cpu', num_threads=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
