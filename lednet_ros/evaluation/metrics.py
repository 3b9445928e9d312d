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

"""Confusion matrix and the accuracy metrics computed from it."""

from lednet_ros.labels import LabelMap, UNLABELED
import numpy as np
from numpy.typing import NDArray


class ConfusionMatrix:
    """
    Pixel counts by true and predicted class.

    Pixels without ground truth (255) are ignored. Pixels that are predicted as unlabeled count
    against the true class, in a separate column. Where classes are merged and some are left out,
    these have a row of their own: to predict one of them as unlabeled is right.

    Parameters
    ----------
    label_map
        The classes.

    Attributes
    ----------
    counts : ndarray
        (num_classes, num_classes + 1) int64; row: true class, column: predicted class, the last
        column: predicted as unlabeled. One more row where classes are left out.

    """

    def __init__(self, label_map: LabelMap) -> None:
        self.label_map = label_map
        classes = label_map.num_classes
        rows = len(label_map.truth_ids)
        self.counts: NDArray[np.int64] = np.zeros((rows, classes + 1), np.int64)

    def update(self, truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> None:
        """
        Add the pixels of a label image.

        Parameters
        ----------
        truth, predicted
            (H, W) uint8 class ids; 255 is unlabeled. The truth as from `LabelMap.from_network`.

        Raises
        ------
        ValueError
            The sizes differ or an id is neither a class nor 255.

        """
        if truth.shape != predicted.shape:
            raise ValueError(f'truth is {truth.shape}, prediction {predicted.shape}')
        pairs = np.bincount(
            truth.ravel().astype(np.uint16) * 256 + predicted.ravel(), minlength=1 << 16
        ).reshape(256, 256)
        rows, columns = [*self.label_map.truth_ids], [*self.label_map.ids, UNLABELED]
        for what, sums, known in (
            ('truth', pairs.sum(axis=1), [*rows, UNLABELED]),
            ('prediction', pairs.sum(axis=0), columns),
        ):
            unknown = np.setdiff1d(np.flatnonzero(sums), known)
            if unknown.size:
                raise ValueError(
                    f"{what} has id {unknown[0]}; label map '{self.label_map.name}' has "
                    f'{min(columns)} to {max(columns[:-1])} and {UNLABELED}'
                )
        self.counts += pairs[np.ix_(rows, columns)]

    def iou(self) -> NDArray[np.float64]:
        """Compute the intersection over union by class, (num_classes,); NaN if never seen."""
        return _iou(self.counts)

    def miou(self) -> float:
        """Compute the mean of `iou` over the classes that occur in truth or prediction."""
        return mean_defined(self.iou())

    def category_counts(self) -> NDArray[np.int64]:
        """Return `counts` by category, in the order of the label map."""
        count = len(self.label_map.categories)
        columns = np.append(self.label_map.category_of, count)
        rows = columns[: len(self.counts)]
        counts = np.zeros((rows.max() + 1, count + 1), np.int64)
        np.add.at(counts, (rows[:, None], columns[None, :]), self.counts)
        return counts

    def category_iou(self) -> NDArray[np.float64]:
        """Compute the intersection over union by category, in the order of the label map."""
        return _iou(self.category_counts())

    def category_miou(self) -> float:
        """Compute the mean of `category_iou` over the categories that occur."""
        return mean_defined(self.category_iou())

    def pixel_accuracy(self) -> float:
        """Compute the fraction of labeled pixels that are predicted correctly; NaN without any."""
        total = int(self.counts.sum())
        return float(np.trace(self.counts) / total) if total else float('nan')

    def __add__(self, other: 'ConfusionMatrix') -> 'ConfusionMatrix':
        """Sum the counts of two matrices over the same label map."""
        total = ConfusionMatrix(self.label_map)
        total.counts = self.counts + other.counts
        return total


def mean_defined(values: NDArray[np.float64]) -> float:
    """Average the values that are defined, (N,) with NaN where undefined; NaN without any."""
    defined = values[~np.isnan(values)]
    # Summed in order, as benchmarks' scripts do, to agree to the last bit.
    return float(defined.cumsum()[-1] / defined.size) if defined.size else float('nan')


def _iou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    classes = counts.shape[1] - 1
    hit = np.diagonal(counts)[:classes].astype(np.float64)
    union = counts.sum(axis=1)[:classes] + counts[:, :classes].sum(axis=0) - hit
    with np.errstate(invalid='ignore'):
        iou: NDArray[np.float64] = hit / union
    return iou
