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
Tests of the Triton kernels against the code for the CPU.

Where there is no CUDA device they run in Triton's interpreter (a mock of the GPU, exact but for
rounding); `test/conftest.py` chooses it.
"""

from lednet_ros.inference.backends import cuda_kernels
from lednet_ros.inference.backends.base import Outputs, Style, Wanted
from lednet_ros.inference.postprocess import blend, classify_on_host, colorize
from lednet_ros.inference.preprocess import resize_on_host
from lednet_ros.labels import LabelMap, UNLABELED
import numpy as np
import pytest
import torch

DEVICE = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
pytestmark = [pytest.mark.gpu] if DEVICE.type == 'cuda' else []
PALETTE = LabelMap.load('camvid').palette
VISIBLE = np.where(np.arange(256) < 8, 255, 0).astype(np.uint8)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
FACTORS = [1 / (255 * s) for s in STD] + [m / s for m, s in zip(MEAN, STD, strict=True)]


def make_frame(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def on_device(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(DEVICE)


def make_settings(alpha: float, minimum: float) -> torch.Tensor:
    return torch.tensor([alpha] + [minimum] * 256, device=DEVICE)


def resize_exactly(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Interpolate bilinearly in float64, with half-pixel centers; not rounded."""
    result = frame.astype(np.float64)
    for axis, (old, new) in enumerate(zip(frame.shape[:2], size, strict=True)):
        place = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.minimum(place.astype(int), max(old - 2, 0))
        share = np.expand_dims(place - low, tuple(k for k in range(3) if k != axis))
        high = np.minimum(low + 1, old - 1)
        result = result.take(low, axis) * (1 - share) + result.take(high, axis) * share
    return result


@pytest.mark.parametrize('swap', [False, True])
@pytest.mark.parametrize(
    ('frame_size', 'size'),
    [((16, 24), (16, 24)), ((31, 17), (16, 24)), ((8, 9), (17, 23)), ((1, 1), (4, 5))],
)
def test_preparation(frame_size: tuple[int, int], size: tuple[int, int], swap: bool) -> None:
    frame = make_frame(*frame_size)
    out = torch.full((*size, 3), 77.0, device=DEVICE)
    cuda_kernels.prepare(on_device(frame), swap, torch.tensor(FACTORS, device=DEVICE), out)
    # Back to bytes.
    found = (out.cpu().numpy() * STD + MEAN) * 255
    if swap:
        found = found[..., ::-1]
    exact = resize_exactly(frame, size)
    assert np.abs(found - np.round(found)).max() < 1e-3
    assert np.abs(found - exact).max() < 0.501
    on_host = np.empty((*size, 3), np.uint8)
    resize_on_host(frame, size, False, on_host)
    assert np.abs(found - on_host).max() < 1.01


@pytest.mark.parametrize('swap', [False, True])
@pytest.mark.parametrize('minimum', [0.0, 0.6])
@pytest.mark.parametrize(
    ('shape', 'size', 'frame_size'),
    [
        ((11, 4, 6), (32, 48), (32, 48)),
        ((3, 5, 7), (33, 17), (33, 17)),
        ((20, 3, 3), (9, 31), (20, 16)),
        ((2, 2, 2), (1, 1), (1, 1)),
    ],
)
def test_results_are_those_of_the_host(
    shape: tuple[int, int, int],
    size: tuple[int, int],
    frame_size: tuple[int, int],
    minimum: float,
    swap: bool,
) -> None:
    scores = np.random.default_rng(1).normal(0, 3, shape).astype(np.float32)
    frame = make_frame(*frame_size)
    labels, levels = (np.empty(size, np.uint8) for _ in range(2))
    style = Style(min_confidences=np.full(1, minimum, np.float32))
    classify_on_host(np.ascontiguousarray(scores.transpose(1, 2, 0)), style, labels, levels)
    palette = np.ascontiguousarray(PALETTE[:, ::-1]) if swap else PALETTE
    overlay, color = (np.empty((*size, 3), np.uint8) for _ in range(2))
    out = Outputs(size, DEVICE)
    cuda_kernels.finish(
        on_device(scores), on_device(frame), swap, on_device(PALETTE), on_device(VISIBLE),
        make_settings(0.3, minimum), Wanted(True, True, True), out,
    )
    found = out.tensor('labels').cpu().numpy()
    assert (found == labels).mean() > 0.99
    assert set(np.unique(found)) <= {*range(shape[0]), UNLABELED}
    same = found == labels
    assert np.abs(out.tensor('confidence').cpu().numpy().astype(int) - levels)[same].max() <= 1
    blend(frame, found, palette, 0.3, VISIBLE, overlay)
    assert np.abs(out.tensor('overlay').cpu().numpy().astype(int) - overlay).max() <= 1
    colorize(found, PALETTE, color)
    np.testing.assert_array_equal(out.tensor('color').cpu().numpy(), color)


def test_ids_and_their_thresholds_are_those_of_the_host() -> None:
    scores = np.random.default_rng(1).normal(0, 3, (5, 6, 7)).astype(np.float32)
    ids = np.arange(256, dtype=np.uint8)
    ids[:5] = 9, 3, 200, 0, UNLABELED
    limits = np.zeros(256, np.float32)
    limits[[9, 0]] = 0.5, 0.4
    expected, levels = (np.empty((33, 48), np.uint8) for _ in range(2))
    classify_on_host(
        np.ascontiguousarray(scores.transpose(1, 2, 0)), Style(ids, limits), expected, levels
    )
    assert set(np.unique(expected)) == {0, 3, 9, 200, UNLABELED}
    for threshold in (True, False):
        out = Outputs((33, 48), DEVICE)
        cuda_kernels.finish(
            on_device(scores), on_device(make_frame(33, 48)), False, on_device(PALETTE),
            on_device(VISIBLE), torch.cat((torch.tensor([0.5]), torch.tensor(limits))).to(DEVICE),
            Wanted(color=True), out, threshold=threshold, ids=on_device(ids),
        )
        found = out.tensor('labels').cpu().numpy()
        known = expected != UNLABELED
        assert (found == expected)[known | threshold].mean() > 0.99
        assert {9, 0} <= set(np.unique(found))
        np.testing.assert_array_equal(out.tensor('color').cpu().numpy(), PALETTE[found])


def test_scores_may_lie_channels_last_and_in_half_precision() -> None:
    scores = torch.randn(7, 4, 5, generator=torch.Generator().manual_seed(0))
    frame = make_frame(16, 20)
    results = []
    for given in (scores, scores.permute(1, 2, 0).contiguous().permute(2, 0, 1), scores.half()):
        out = Outputs((16, 20), DEVICE)
        cuda_kernels.finish(
            given.to(DEVICE), on_device(frame), False, on_device(PALETTE), on_device(VISIBLE),
            make_settings(0.5, 0.0), Wanted(False, False, False), out,
        )
        results.append(out.tensor('labels').cpu().numpy().copy())
        assert set(out._tensors) == {'labels'}
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] == results[2]).mean() > 0.98


@pytest.mark.parametrize('size', [(40, 104), (33, 31)])
def test_areas_of_one_class_need_no_interpolation(size: tuple[int, int]) -> None:
    scores = torch.randn(9, 5, 6, generator=torch.Generator().manual_seed(0))
    # The left half is class 4 but for a corner; ties go to the lower class.
    scores[4, :, :4] = 9
    scores[7, 2:, :4] = 9
    scores[2, 0, 0] = 20
    frame = make_frame(*size)
    results = []
    for threshold in (True, False):
        out = Outputs(size, DEVICE)
        cuda_kernels.finish(
            scores.to(DEVICE), on_device(frame), False, on_device(PALETTE), on_device(VISIBLE),
            make_settings(0.5, 0.0), Wanted(overlay=True), out,
            threshold=threshold,
        )
        results.append([out.tensor(name).cpu().numpy() for name in ('labels', 'overlay')])
    for found, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert {2, 4} < set(np.unique(results[0][0]))


@pytest.mark.parametrize('threshold', [False, True])
def test_kernels_stay_within_their_tensors(threshold: bool) -> None:
    margin, size, frame_size, cells = 4096, (37, 51), (41, 23), (5, 7)

    def surround(array: np.ndarray, poison: int) -> torch.Tensor:
        whole = torch.full((array.size + 2 * margin,), poison, dtype=torch.uint8, device=DEVICE)
        middle = whole[margin : margin + array.size].view(array.shape)
        middle.copy_(torch.from_numpy(array))
        return middle

    results = []
    for poison in (0, 255):
        frame = surround(make_frame(*frame_size), poison)
        scores = torch.full((11 * 35 + 2 * margin,), torch.nan, device=DEVICE)
        inside = scores[margin:-margin].view(11, *cells)
        inside.copy_(torch.randn(inside.shape, generator=torch.Generator().manual_seed(0)))
        outputs = Outputs(size, DEVICE)
        shapes = {'labels': size, 'confidence': size, 'overlay': (*size, 3), 'color': (*size, 3)}
        for name, shape in shapes.items():
            outputs._tensors[name] = surround(np.zeros(shape, np.uint8), poison)
        wanted = Wanted(confidence=threshold, overlay=True, color=True)
        settings = make_settings(0.5, 0.2 if threshold else 0.0)
        cuda_kernels.finish(
            inside, frame, False, on_device(PALETTE), on_device(VISIBLE), settings, wanted,
            outputs, threshold=threshold,
        )
        image = torch.full((30 * 40 * 3 + 2 * margin,), torch.nan, device=DEVICE)
        factors = torch.tensor(FACTORS, device=DEVICE)
        cuda_kernels.prepare(frame, True, factors, image[margin:-margin].view(30, 40, 3))
        assert image[:margin].isnan().all()
        assert image[-margin:].isnan().all()
        assert image[margin:-margin].isfinite().all()
        for name in wanted.names():
            whole = outputs._tensors[name]._base
            assert whole is not None
            assert (whole[:margin] == poison).all()
            assert (whole[-margin:] == poison).all()
        results.append(
            [image[margin:-margin].cpu()] + [outputs.tensor(name).cpu() for name in wanted.names()]
        )
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
