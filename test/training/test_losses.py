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

"""Tests of the losses, against plain loops over pixels."""

from typing import Any

from lednet_ros.training.losses import (
    at_boundary,
    class_weights,
    cross_entropy,
    dice,
    lovasz_softmax,
    NEGLIGIBLE_ERROR,
)
import numpy as np
import pytest
import torch
from torch import Tensor

CLASSES = 4


@pytest.fixture
def scores() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(0, 2, (2, CLASSES, 5, 6))).float()


@pytest.fixture
def labels() -> Tensor:
    labels = np.random.default_rng(1).integers(0, 3, (2, 5, 6))
    labels[0, 0, :4] = 255
    return torch.from_numpy(labels)


def pixel_losses(scores: Tensor, labels: Tensor, weights: Tensor) -> list[tuple[float, float]]:
    """Compute loss and weight of each labeled pixel."""
    found = []
    for n, y, x in np.ndindex(tuple(labels.shape)):
        label = int(labels[n, y, x])
        if label != 255:
            probability = scores[n, :, y, x].double().softmax(0)[label]
            weight = float(weights[label])
            found.append((-weight * float(probability.log()), weight))
    return found


def test_class_weights_are_those_of_enet() -> None:
    weights = class_weights(np.array([90.0, 10.0, 0.0]), 1.02)
    assert weights.tolist() == pytest.approx(
        [1 / np.log(1.92), 1 / np.log(1.12), 1 / np.log(1.02)]
    )
    # A larger offset makes them more alike.
    softer = class_weights(np.array([90.0, 10.0, 0.0]), 1.2)
    assert softer[2] / softer[0] < weights[2] / weights[0]


def test_cross_entropy(scores: Tensor, labels: Tensor) -> None:
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0])
    total, count = cross_entropy(scores, labels, weights)
    expected = pixel_losses(scores, labels, weights)
    assert total.item() == pytest.approx(sum(loss for loss, _ in expected), rel=1e-5)
    assert count.item() == pytest.approx(sum(weight for _, weight in expected))
    # The same as torch's mean.
    mean = torch.nn.functional.cross_entropy(scores, labels, weights, ignore_index=255)
    assert (total / count).item() == pytest.approx(mean.item(), rel=1e-5)


def test_without_weights_all_labeled_pixels_count_the_same(scores: Tensor, labels: Tensor) -> None:
    total, count = cross_entropy(scores, labels)
    expected = pixel_losses(scores, labels, torch.ones(CLASSES))
    assert count.item() == len(expected) == 56
    assert total.item() == pytest.approx(sum(loss for loss, _ in expected), rel=1e-5)


def test_the_hardest_pixels(scores: Tensor, labels: Tensor) -> None:
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0])
    total, count = cross_entropy(scores, labels, weights, hardest=0.25)
    hardest = sorted(pixel_losses(scores, labels, weights), reverse=True)[:14]
    assert total.item() == pytest.approx(sum(loss for loss, _ in hardest), rel=1e-5)
    assert count.item() == pytest.approx(sum(weight for _, weight in hardest))


def test_only_the_hardest_pixels_have_a_gradient(scores: Tensor, labels: Tensor) -> None:
    scores.requires_grad_()
    cross_entropy(scores, labels, hardest=0.25)[0].backward()
    assert scores.grad is not None
    assert int((scores.grad.abs().sum(1) > 0).sum()) == 14


def test_smoothing_spreads_a_fraction_of_the_target(scores: Tensor, labels: Tensor) -> None:
    total, _ = cross_entropy(scores, labels, smoothing=0.2)
    logs = scores.double().log_softmax(1)
    expected = 0.0
    for n, y, x in np.ndindex(tuple(labels.shape)):
        label = int(labels[n, y, x])
        if label != 255:
            expected -= 0.8 * float(logs[n, label, y, x]) + 0.2 * float(logs[n, :, y, x].mean())
    assert total.item() == pytest.approx(expected, rel=1e-5)


def test_loss_without_labels_is_zero(scores: Tensor) -> None:
    labels = torch.full((2, 5, 6), 255)
    scores.requires_grad_()
    for hardest in (1.0, 0.5):
        total, count = cross_entropy(scores, labels, hardest=hardest)
        assert (total.item(), count.item()) == (0, 0)
    losses = dice(scores, labels) + lovasz_softmax(scores, labels)
    losses.backward()
    assert losses.item() == 0
    assert scores.grad is not None
    assert not scores.grad.any()


def test_dice(scores: Tensor, labels: Tensor) -> None:
    probability = scores.double().softmax(1).numpy()
    labeled = labels.numpy() != 255
    expected = []
    for index in range(3):
        member = labels.numpy() == index
        p = probability[:, index]
        score = (2 * p[member].sum() + 1) / (p[labeled].sum() + member.sum() + 1)
        expected.append(1 - score)
    # Class 3 doesn't occur and isn't counted.
    assert dice(scores, labels).item() == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize('loss', [dice, lovasz_softmax])
def test_region_losses_go_from_one_to_zero(loss: type, labels: Tensor) -> None:
    known = torch.where(labels == 255, 0, labels)
    right = torch.nn.functional.one_hot(known, CLASSES).permute(0, 3, 1, 2).float()
    wrong = right.roll(1, 1)
    assert loss(100 * right, labels).item() == pytest.approx(0, abs=1e-4)
    assert loss(100 * wrong, labels).item() > 0.9
    between = loss(2 * right, labels).item()
    assert 0.05 < between < 0.9


def test_lovasz_is_the_jaccard_loss_of_certain_predictions(labels: Tensor) -> None:
    """At corners of the cube the extension is the set function (Berman et al., section 2)."""
    predicted = torch.from_numpy(np.random.default_rng(2).integers(0, CLASSES, (2, 5, 6)))
    scores = 100 * torch.nn.functional.one_hot(predicted, CLASSES).permute(0, 3, 1, 2).float()
    labeled = labels != 255
    jaccard = []
    for index in range(3):
        truth, found = (labels == index) & labeled, (predicted == index) & labeled
        jaccard.append(1 - float((truth & found).sum() / (truth | found).sum()))
    assert lovasz_softmax(scores, labels).item() == pytest.approx(np.mean(jaccard), abs=1e-5)


def test_lovasz_of_all_errors_differs_by_less_than_the_negligible_one() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, CLASSES, (2, 30, 40), generator=generator)
    target = torch.nn.functional.one_hot(labels, CLASSES).permute(0, 3, 1, 2).double()
    # Like those of a trained network: mostly certain, often right.
    scores = 10 * (target + torch.randn(target.shape, generator=generator).double())
    scores.requires_grad_()
    losses = []
    errors = (target - scores.softmax(1)).abs().transpose(0, 1).flatten(1)
    assert (errors < NEGLIGIBLE_ERROR).double().mean() > 0.3
    for error, member in zip(errors, target.transpose(0, 1).flatten(1), strict=True):
        error, order = error.sort(descending=True)
        found = member[order].cumsum(0)
        jaccard = 1 - (member.sum() - found) / (member.sum() + (1 - member[order]).cumsum(0))
        losses.append((error * torch.diff(jaccard, prepend=jaccard.new_zeros(1))).sum())
    expected = torch.stack(losses).mean()
    (gradient,) = torch.autograd.grad(expected, scores)
    loss = lovasz_softmax(scores.float(), labels)
    assert 0 < expected.item() - loss.item() < NEGLIGIBLE_ERROR
    (ours,) = torch.autograd.grad(loss, scores)
    assert (ours - gradient).norm() < 1e-3 * gradient.norm()


@pytest.mark.parametrize(
    'loss', [lambda *arguments: cross_entropy(*arguments)[0], dice, lovasz_softmax]
)
def test_a_score_that_is_not_a_number_reaches_the_loss(
    loss: Any, scores: Tensor, labels: Tensor
) -> None:
    scores[:, :, 2, 3] = torch.nan
    assert (labels[:, 2, 3] != 255).any()
    assert loss(scores, labels).isnan()


@pytest.mark.parametrize('loss', [dice, lovasz_softmax])
def test_unlabeled_pixels_have_no_gradient(loss: type, scores: Tensor, labels: Tensor) -> None:
    scores.requires_grad_()
    loss(scores, labels).backward()
    assert scores.grad is not None
    gradient = scores.grad.abs().sum(1)
    assert not gradient[labels == 255].any()
    assert gradient[labels != 255].any()


def test_pixels_at_boundaries_count_more() -> None:
    labels = torch.zeros(1, 5, 6, dtype=torch.long)
    labels[..., 3:] = 2
    # Neither unlabeled pixels nor their neighbors are a boundary.
    labels[0, 0] = 255
    expected = torch.zeros(5, 6, dtype=torch.bool)
    expected[1:, 2:4] = True
    assert torch.equal(at_boundary(labels)[0], expected)
    scores = torch.randn(1, 3, 5, 6)
    weights = torch.tensor([1.0, 2.0, 3.0])
    plain, _ = cross_entropy(scores, labels, weights)
    total, count = cross_entropy(scores, labels, weights, boundary=4.0)
    near, near_count = cross_entropy(scores, labels.where(expected, 255), weights)
    torch.testing.assert_close(total, plain + 4 * near)
    assert float(count) == 12 * 1 + 12 * 3 + 4 * float(near_count)
