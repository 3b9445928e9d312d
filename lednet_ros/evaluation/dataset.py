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

"""Evaluation of a segmenter on labeled frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import math
from pathlib import Path
import time
from typing import Any

from lednet_ros.datasets import CityscapesDataset, Dataset, DatasetError, LabeledFrame
from lednet_ros.evaluation.cityscapes import InstanceCounts, write_submission
from lednet_ros.evaluation.metrics import ConfusionMatrix, mean_defined
from lednet_ros.evaluation.multi_scale import MultiScaleSegmenter
from lednet_ros.inference.segmenter import Segmenter
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm


@dataclass(frozen=True)
class EvaluationResult:
    """
    What an evaluation found.

    Attributes
    ----------
    confusion
        Pixel counts at the size of the label images.
    images
        Number of frames.
    fps
        Frames per second of the segmenter alone, without reading files.
    num_parameters
        Parameters of the network.
    instances
        Pixel counts weighted by instance; None where the frames have no instances.

    """

    confusion: ConfusionMatrix
    images: int
    fps: float
    num_parameters: int
    instances: InstanceCounts | None = None


def evaluate(
    segmenter: Segmenter | MultiScaleSegmenter,
    frames: Dataset | Sequence[LabeledFrame],
    submission: str | Path | None = None,
) -> EvaluationResult:
    """
    Segment every frame and compare with its ground truth, at the size of the ground truth.

    Parameters
    ----------
    segmenter
        The segmenter; its `output_size` must be None.
    frames
        Labeled frames over the segmenter's label map. Cityscapes gives instance-weighted figures
        too, if the first frame has an instance image.
    submission
        Folder for the label images that the Cityscapes benchmark takes; None writes none.

    Raises
    ------
    DatasetError
        A file can't be read.
    OSError
        The submission can't be written.
    ValueError
        There are no frames, or their names don't allow a submission.

    """
    if not len(frames):
        raise ValueError('there are no frames to evaluate')
    confusion = ConfusionMatrix(segmenter.label_map)
    instances = InstanceCounts(segmenter.label_map) if _has_instances(frames) else None
    seconds = 0.0
    for index in tqdm(range(len(frames)), desc='evaluate', unit='frame'):
        frame = frames[index]
        if index == 0:
            segmenter.warm_up((frame.pixels.shape[0], frame.pixels.shape[1]))
        start = time.perf_counter()
        labels = _segment(segmenter, frame.pixels)
        seconds += time.perf_counter() - start
        confusion.update(frame.labels, labels)
        if isinstance(frames, CityscapesDataset) and instances is not None:
            instances.update(frames.instances(index), labels)
        if submission is not None:
            write_submission(submission, frame.name, labels, segmenter.label_map)
    return EvaluationResult(
        confusion, len(frames), len(frames) / seconds, segmenter.num_parameters, instances
    )


def to_dict(result: EvaluationResult) -> dict[str, Any]:
    """
    Give the figures of a result.

    Returns
    -------
    dict
        `miou`, `category_miou`, `pixel_accuracy`, `iou` (class name to value) and `category_iou`
        (category name to value), all fractions of 1 or None where undefined; `images`, `fps`,
        `parameters`. Where there are instances also their weighted figures: `instance_miou`,
        `category_instance_miou`, `iiou` and `category_iiou`.

    """
    confusion = result.confusion
    names, categories = confusion.label_map.names, confusion.label_map.categories
    figures = {
        **figures_of(confusion),
        'images': result.images,
        'fps': result.fps,
        'parameters': result.num_parameters,
    }
    if result.instances is not None:
        iiou = result.instances.iiou(confusion)
        category_iiou = result.instances.category_iiou(confusion)
        figures['instance_miou'] = defined(mean_defined(iiou))
        figures['category_instance_miou'] = defined(mean_defined(category_iiou))
        figures['iiou'] = by_name(names, iiou)
        figures['category_iiou'] = by_name(categories, category_iiou)
    return figures


def figures_of(confusion: ConfusionMatrix) -> dict[str, Any]:
    """
    Give the accuracies that follow from pixel counts.

    Returns
    -------
    dict
        `miou`, `category_miou`, `pixel_accuracy`, `iou` (class name to value) and `category_iou`
        (category name to value), all fractions of 1 or None where undefined.

    """
    label_map = confusion.label_map
    return {
        'miou': defined(confusion.miou()),
        'category_miou': defined(confusion.category_miou()),
        'pixel_accuracy': defined(confusion.pixel_accuracy()),
        'iou': by_name(label_map.names, confusion.iou()),
        'category_iou': by_name(label_map.categories, confusion.category_iou()),
    }


def format_table(result: EvaluationResult) -> str:
    """Format the figures of a result for a terminal."""
    figures = to_dict(result)
    classes = list(figures['iou'].items())
    mean = ('mIoU', figures['miou'])
    category_mean = ('category mIoU', figures['category_miou'])
    accuracy = ('pixel accuracy', figures['pixel_accuracy'])
    if result.instances is None:
        lines = [format_accuracies(figures)]
    else:
        iiou, category_iiou = figures['iiou'], figures['category_iiou']
        lines = [
            f"{'':<16}{'IoU':>8}{'iIoU':>8}",
            *(_row(name, value, iiou[name]) for name, value in classes),
            _row(*mean, figures['instance_miou']),
            *(
                _row(name, value, category_iiou[name])
                for name, value in figures['category_iou'].items()
            ),
            _row(*category_mean, figures['category_instance_miou']),
            _row(*accuracy),
        ]
    lines.append(f'{result.images} frames, {result.fps:.1f} frames/s')
    return '\n'.join(lines)


def format_accuracies(figures: Mapping[str, Any]) -> str:
    """Format the figures of `figures_of` for a terminal."""
    rows = [
        *figures['iou'].items(),
        ('mIoU', figures['miou']),
        ('category mIoU', figures['category_miou']),
        ('pixel accuracy', figures['pixel_accuracy']),
    ]
    return '\n'.join(_row(*row) for row in rows)


def _row(name: str, *values: float | None) -> str:
    cells = ('-' if value is None else f'{value:.4f}' for value in values)
    return f"{name:<16}{''.join(f'{cell:>8}' for cell in cells)}"


def _has_instances(frames: Dataset | Sequence[LabeledFrame]) -> bool:
    if not isinstance(frames, CityscapesDataset):
        return False
    try:
        frames.instances(0)
    except DatasetError:
        return False
    return True


def _segment(
    segmenter: Segmenter | MultiScaleSegmenter, pixels: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    if isinstance(segmenter, MultiScaleSegmenter):
        return segmenter.segment(pixels)
    return segmenter.segment([pixels], confidence=False, overlay=False).labels[0]


def by_name(names: Sequence[str], values: NDArray[np.float64]) -> dict[str, float | None]:
    """Give values by name, None where undefined."""
    return dict(zip(names, map(defined, values.tolist()), strict=True))


def defined(value: float) -> float | None:
    """Give a value, None for NaN."""
    return None if math.isnan(value) else value
