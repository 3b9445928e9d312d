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

"""Tests of the way from logits to labels and images, against plain float64 code."""

from lednet_ros.inference.backends.base import Style
from lednet_ros.inference.postprocess import blend, classify, classify_on_host, colorize
from lednet_ros.labels import LabelMap, UNLABELED
import numpy as np
from numpy.typing import NDArray
import pytest
import torch
from torch import Tensor

PALETTE = LabelMap.load('camvid').palette
VISIBLE = np.where(np.arange(256) < 11, 255, 0).astype(np.uint8)


def random_scores(classes: int, height: int, width: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(0, 2, (classes, height, width)))


def upsample_plainly(scores: Tensor, size: tuple[int, int]) -> NDArray[np.float64]:
    """Resize bilinearly with aligned corners, in float64, one axis after the other."""
    result = scores.double().numpy()
    for axis, target in enumerate(size, 1):
        length = result.shape[axis]
        places = np.linspace(0, length - 1, target) if target > 1 else np.zeros(1)
        low = np.minimum(np.floor(places).astype(int), length - 1)
        share = (places - low).reshape(-1, *[1] * (2 - axis))
        high = np.minimum(low + 1, length - 1)
        result = result.take(low, axis) * (1 - share) + result.take(high, axis) * share
    return result


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(scores - scores.max(axis=0))
    return powers / powers.sum(axis=0)


def run(
    scores: Tensor, size: tuple[int, int], min_confidence: float = 0.0, confidence: bool = True
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    # Values that no result has show what is not written.
    labels, levels = (torch.full(size, 200, dtype=torch.uint8) for _ in range(2))
    cells = scores.permute(1, 2, 0).float().contiguous().numpy()
    style = Style(min_confidences=np.full(1, min_confidence, np.float32))
    classify_on_host(cells, style, labels.numpy(), levels.numpy() if confidence else None)
    return labels.numpy(), levels.numpy()


def test_reference_aligns_corners() -> None:
    full = upsample_plainly(torch.tensor([[[0.0, 3.0]]]), (2, 4))
    np.testing.assert_allclose(full[0], [[0, 1, 2, 3]] * 2)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('confidence', [False, True])
@pytest.mark.parametrize(
    ('classes', 'shape', 'size'),
    [
        (11, (8, 12), (64, 96)),
        (19, (9, 13), (65, 97)),
        (2, (8, 8), (61, 33)),
        (11, (45, 60), (33, 20)),
        (3, (8, 8), (1, 1)),
        (1, (8, 8), (16, 16)),
        (255, (8, 8), (64, 64)),
    ],
)
def test_labels_are_the_best_class_at_the_output_size(
    classes: int,
    shape: tuple[int, int],
    size: tuple[int, int],
    dtype: torch.dtype,
    confidence: bool,
) -> None:
    scores = random_scores(classes, *shape).to(dtype)
    full = upsample_plainly(scores, size)
    best = np.sort(full, axis=0)
    clear = best[-1] - best[-2] > 1e-4 if classes > 1 else np.ones(size, bool)
    assert clear.mean() > 0.99
    labels, _ = run(scores, size, confidence=confidence)
    np.testing.assert_array_equal(labels[clear], full.argmax(axis=0)[clear])


def test_confidence_is_the_softmax_of_the_winner() -> None:
    scores = random_scores(11, 8, 12).float()
    _, levels = run(scores, (64, 96))
    expected = softmax(upsample_plainly(scores, (64, 96))).max(axis=0) * 255
    assert np.abs(levels - expected).max() <= 0.501
    assert np.ptp(levels) > 100


def test_confidence_of_large_scores_does_not_overflow() -> None:
    scores = torch.tensor([1e4, -1e4, 0.0])[:, None, None].expand(3, 8, 8)
    labels, levels = run(scores, (16, 16))
    assert set(labels.ravel()) == {0}
    assert set(levels.ravel()) == {255}


def test_one_class_is_certain() -> None:
    _, levels = run(random_scores(1, 8, 8), (16, 16))
    assert set(levels.ravel()) == {255}


@pytest.mark.parametrize('confidence', [False, True])
@pytest.mark.parametrize('minimum', [0.3, 0.6, 0.9])
def test_uncertain_pixels_become_unlabeled(minimum: float, confidence: bool) -> None:
    scores = 3 * random_scores(11, 8, 12).float()
    full = upsample_plainly(scores, (64, 96))
    probability = softmax(full).max(axis=0)
    expected = np.where(probability < minimum, UNLABELED, full.argmax(axis=0))
    clear = np.abs(probability - minimum) > 1e-5
    assert 0.01 < (expected == UNLABELED).mean() < 0.999
    labels, levels = run(scores, (64, 96), minimum, confidence)
    np.testing.assert_array_equal(labels[clear], expected[clear])
    if confidence:
        # The confidence of unlabeled pixels still says how near they were.
        assert np.abs(levels - probability * 255).max() <= 0.501


@pytest.mark.parametrize('minimum', [0.0, 0.5])
def test_confidence_is_left_alone_when_not_asked_for(minimum: float) -> None:
    _, levels = run(random_scores(11, 8, 8), (16, 16), minimum, confidence=False)
    assert set(levels.ravel()) == {200}


def test_scores_are_not_changed() -> None:
    scores = random_scores(11, 8, 8).float()
    before = scores.clone()
    run(scores, (16, 16), 0.5)
    assert torch.equal(scores, before)


def test_colorize() -> None:
    labels = np.array([[0, 8, 10], [255, 11, 3]], np.uint8)
    out = np.full((2, 3, 3), 77, np.uint8)
    colorize(labels, PALETTE, out)
    assert out.tolist() == [
        [[128, 128, 128], [64, 0, 128], [0, 128, 192]],
        [[0, 0, 0], [0, 0, 0], [128, 64, 128]],
    ]


@pytest.mark.parametrize('alpha', [0.0, 0.3, 0.5, 1.0])
def test_blend(alpha: float) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, 30, 3), np.uint8)
    labels = rng.integers(0, 12, (20, 30)).astype(np.uint8)
    labels[labels == 11] = UNLABELED
    before = pixels.copy()
    out = np.full_like(pixels, 77)
    blend(pixels, labels, PALETTE, alpha, VISIBLE, out)
    expected = pixels * (1 - alpha) + PALETTE[labels] * alpha
    drawn = labels != UNLABELED
    assert np.abs(out[drawn] - expected[drawn]).max() <= 0.501
    np.testing.assert_array_equal(out[~drawn], pixels[~drawn])
    np.testing.assert_array_equal(pixels, before)


def test_blend_shows_the_frame_where_classes_are_hidden() -> None:
    labels = np.arange(11, dtype=np.uint8).repeat(4).reshape(4, 11)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 11, 3), np.uint8)
    pixels.flags.writeable = False
    visible = VISIBLE.copy()
    visible[[3, 8]] = 0
    out = np.empty_like(pixels)
    blend(pixels, labels, PALETTE, 1.0, visible, out)
    hidden = np.isin(labels, [3, 8])
    np.testing.assert_array_equal(out[hidden], pixels[hidden])
    np.testing.assert_array_equal(out[~hidden], PALETTE[labels][~hidden])


def test_blend_resizes_the_frame_to_the_labels() -> None:
    pixels = np.full((40, 60, 3), (10, 20, 30), np.uint8)
    labels = np.full((9, 7), 3, np.uint8)
    out = np.empty((9, 7, 3), np.uint8)
    blend(pixels, labels, PALETTE, 0.5, VISIBLE, out)
    assert np.abs(out - (np.array([10, 20, 30]) + PALETTE[3]) / 2).max() <= 0.5


@pytest.mark.parametrize(('confidence', 'lowest'), [(True, 0.5), (True, 0.0), (False, 0.0)])
def test_devices_classify_like_the_cpu(confidence: bool, lowest: float) -> None:
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    scores = random_scores(11, 8, 12).float()
    labels, levels = (
        torch.full((64, 96), 200, dtype=torch.uint8, device=device) for _ in range(2)
    )
    limits = torch.full((256,), lowest, device=device) if lowest else None
    classify(scores.to(device), (64, 96), None, limits, labels, levels if confidence else None)
    expected_labels, expected_levels = run(scores, (64, 96), lowest, confidence)
    assert (labels.cpu().numpy() == expected_labels).mean() > 0.999
    assert np.abs(levels.cpu().numpy().astype(int) - expected_levels).max() <= 1
