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
Losses of segmentation.

Every loss is a sum and a divisor. They are kept apart until the divisors of all processes are
added up, so that the gradient of several processes is that of one process on the joint batch.
"""

from dataclasses import dataclass

from lednet_ros.labels import UNLABELED
import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from torch.nn import functional

NEGLIGIBLE_ERROR = 1e-3


@dataclass(frozen=True)
class Term:
    """
    One loss of a batch: `factor * total / count`.

    Attributes
    ----------
    total
        Sum over the pixels, a scalar with gradient.
    count
        Divisor, a scalar without gradient.
    factor
        Weight among the losses.

    """

    total: Tensor
    count: Tensor
    factor: float


def class_weights(pixels: NDArray[np.float64], offset: float) -> Tensor:
    """
    Weight classes by rarity: `1 / log(offset + fraction of pixels)`.

    Paszke et al., "ENet", 2016, section 5.2 (there with 1.02); the LEDNet authors use 1.1.

    Parameters
    ----------
    pixels
        (num_classes,) labeled pixels of each class.
    offset
        Above 1; the smaller it is, the more rare classes count.

    Returns
    -------
    Tensor
        (num_classes,) float32.

    """
    return torch.from_numpy(1 / np.log(offset + pixels / pixels.sum())).float()


def cross_entropy(
    scores: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    hardest: float = 1.0,
    smoothing: float = 0.0,
    boundary: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """
    Compute the weighted cross-entropy of all labeled pixels or of the hardest ones.

    The hardest ones are a fraction of the labeled pixels, those with the largest loss: online hard
    example mining (Shrivastava et al., CVPR 2016) for segmentation.

    Parameters
    ----------
    scores
        Logits (N, C, H, W), float32.
    labels
        (N, H, W) int64; 255 is ignored.
    weights
        (C,) float32; None gives all classes the same weight.
    hardest
        Fraction of the labeled pixels to use, above 0 to 1.
    smoothing
        Fraction of the target that is spread evenly over all classes.
    boundary
        Additional weight, as a factor, of pixels with another class among their neighbors.

    Returns
    -------
    tuple of Tensor
        Sum of the losses, and sum of the weights of the pixels used.

    """
    loss = functional.cross_entropy(
        scores, labels, weights, ignore_index=UNLABELED, reduction='none',
        label_smoothing=smoothing,
    )
    labeled = labels != UNLABELED
    if weights is None:
        weight = labeled.to(loss.dtype)
    else:
        weight = weights[torch.where(labeled, labels, 0)] * labeled
    if boundary:
        factor = 1 + boundary * at_boundary(labels)
        loss, weight = loss * factor, weight * factor
    if hardest < 1:
        number = max(int(hardest * int(labeled.sum())), 1)
        loss, picked = loss.flatten().topk(min(number, loss.numel()))
        weight = weight.flatten()[picked]
    return loss.sum(), weight.sum().detach()


def at_boundary(labels: Tensor) -> Tensor:
    """Find pixels with another class among their 8 neighbors; unlabeled ones don't count."""
    values = labels[:, None].float()
    largest = functional.max_pool2d(values.where(values != UNLABELED, -1.0), 3, 1, 1)
    smallest = -functional.max_pool2d(-values, 3, 1, 1)
    return ((largest > smallest) & (values != UNLABELED))[:, 0]


def dice(scores: Tensor, labels: Tensor) -> Tensor:
    """
    Compute the soft Dice loss, the mean over the classes that occur in the batch.

    Milletari et al., "V-Net", 3DV 2016, section 3, without squares.

    Parameters
    ----------
    scores
        Logits (N, C, H, W), float32.
    labels
        (N, H, W) int64; 255 is ignored.

    Returns
    -------
    Tensor
        Scalar, 0 (perfect) to 1.

    """
    labeled = (labels != UNLABELED)[:, None]
    probability = scores.softmax(1) * labeled
    target = torch.zeros_like(probability)
    target.scatter_(1, torch.where(labeled, labels[:, None], 0), 1.0)
    target = target * labeled
    overlap = (probability * target).sum((0, 2, 3))
    size = target.sum((0, 2, 3))
    score = (2 * overlap + 1) / (probability.sum((0, 2, 3)) + size + 1)
    present = size > 0
    return ((1 - score) * present).sum() / present.sum().clamp(min=1)


def lovasz_softmax(scores: Tensor, labels: Tensor) -> Tensor:
    """
    Compute the Lovász-Softmax, a surrogate of IoU, as the mean over the classes that occur.

    Berman et al., "The Lovász-Softmax loss", CVPR 2018, equations 8, 9 and 11. Parameters and
    result are those of `dice`. Errors of at most `NEGLIGIBLE_ERROR`, most of a trained network's,
    are left out: sorting takes the time, and they change the result by less than that.
    """
    labeled = labels != UNLABELED
    probability = scores.softmax(1).permute(0, 2, 3, 1)[labeled]
    truth = labels[labeled]
    losses = []
    for index in range(scores.shape[1]):
        member = (truth == index).float()
        if not member.any():
            continue
        total = member.sum()
        errors = (member - probability[:, index]).abs()
        # Not `>`: errors that are not numbers must reach the result.
        kept = (~(errors <= NEGLIGIBLE_ERROR)).nonzero()[:, 0]
        errors, order = errors[kept].sort(descending=True)
        member = member[kept[order]]
        intersection = total - member.cumsum(0)
        union = total + (1 - member).cumsum(0)
        jaccard = 1 - intersection / union
        # The extension's gradient: the increase of the Jaccard loss by each further pixel.
        steps = torch.diff(jaccard, prepend=jaccard.new_zeros(1))
        losses.append(errors @ steps)
    return torch.stack(losses).mean() if losses else scores.sum() * 0
