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

from collections.abc import Iterable, Mapping, Sequence
import contextlib
from dataclasses import dataclass
import math
from pathlib import Path
import time
from typing import Any

from lednet_ros.datasets import CityscapesDataset, Dataset, DatasetError, LabeledFrame
from lednet_ros.evaluation.cityscapes import InstanceCounts, write_submission
from lednet_ros.evaluation.consistency import Calibration
from lednet_ros.evaluation.ground_truth import prepare_truth
from lednet_ros.evaluation.metrics import ConfusionMatrix, mean_defined
from lednet_ros.evaluation.multi_scale import MultiScaleSegmenter
from lednet_ros.inference.segmenter import Segmenter
from tqdm import tqdm


@dataclass(frozen=True)
class EvaluationResult:
    """
    Result of an evaluation.

    Attributes
    ----------
    confusion
        Pixel counts at the size of the label images.
    images
        Number of frames that could be read.
    fps
        Frames per second of the segmenter alone, without reading files.
    num_parameters
        Parameters of the network.
    calibration
        Correct pixels by confidence; empty if several views were averaged.
    instances
        Pixel counts weighted by instance; None if the frames have no instances.
    problems
        Descriptions of frames that could not be read.

    """

    confusion: ConfusionMatrix
    images: int
    fps: float
    num_parameters: int
    calibration: Calibration
    instances: InstanceCounts | None = None
    problems: Sequence[str] = ()


def evaluate(
    segmenter: Segmenter | MultiScaleSegmenter,
    frames: Dataset | Sequence[LabeledFrame],
    submission: str | Path | None = None,
    title: str = 'evaluate',
) -> EvaluationResult:
    """
    Segment every frame and compare it with its ground truth, at the size of the ground truth.

    Parameters
    ----------
    segmenter
        The segmenter; its `output_size` must be None.
    frames
        Labeled frames over the network's label map. Cityscapes yields instance-weighted metrics
        too, if the first frame has an instance image, unless classes are merged or frames cropped.
    submission
        Folder for the label images of a Cityscapes submission, which can't have merged classes;
        None writes none.
    title
        Of the progress bar.

    Raises
    ------
    DatasetError
        No frame can be read.
    OSError
        The submission can't be written.
    ValueError
        There are no frames, or their names don't allow a submission.

    """
    if not len(frames):
        raise ValueError('there are no frames to evaluate')
    confusion, calibration = ConfusionMatrix(segmenter.label_map), Calibration()
    instances = None
    whole = segmenter.crop is None and segmenter.label_map is segmenter.label_map.network
    if isinstance(frames, CityscapesDataset) and whole:
        with contextlib.suppress(DatasetError):
            frames.instances(0)
            instances = InstanceCounts(segmenter.label_map)
    seconds, problems = 0.0, list[str]()
    for index in tqdm(range(len(frames)), desc=title, unit='frame'):
        try:
            frame = frames[index]
            ids = None
            if isinstance(frames, CityscapesDataset) and instances is not None:
                ids = frames.instances(index)
        except DatasetError as error:
            problems.append(str(error))
            continue
        if len(problems) == index:
            segmenter.warm_up((frame.pixels.shape[0], frame.pixels.shape[1]))
        start = time.perf_counter()
        confidence = None
        if isinstance(segmenter, MultiScaleSegmenter):
            labels = segmenter.segment(frame.pixels)
        else:
            found = segmenter.segment([frame.pixels], confidence=True, overlay=False)
            assert found.confidence is not None
            labels, confidence = found.labels[0], found.confidence[0]
        seconds += time.perf_counter() - start
        truth = prepare_truth(frame.labels, segmenter.label_map, segmenter.crop)
        confusion.update(truth, labels)
        if confidence is not None:
            calibration.update(truth, labels, confidence)
        if instances is not None and ids is not None:
            instances.update(ids, labels)
        if submission is not None:
            write_submission(submission, frame.name, labels, segmenter.label_map)
    count = len(frames) - len(problems)
    if not count:
        raise DatasetError('; '.join(problems))
    return EvaluationResult(
        confusion, count, count / seconds, segmenter.num_parameters, calibration, instances,
        problems,
    )


def to_dict(result: EvaluationResult) -> dict[str, Any]:
    """
    Return the metrics of a result.

    Returns
    -------
    dict
        The metrics of `accuracy_metrics`, `calibration_error` (None if several views were
        averaged), `images`, `fps` and `parameters`. With instances also
        `instance_miou`, `category_instance_miou`, `iiou` and `category_iiou`. If frames could not
        be read, `problems` says why.

    """
    confusion = result.confusion
    metrics = {
        **accuracy_metrics(confusion),
        'calibration_error': defined(result.calibration.error()),
        'images': result.images,
        'fps': result.fps,
        'parameters': result.num_parameters,
    }
    if result.problems:
        metrics['problems'] = list(result.problems)
    if result.instances is not None:
        iiou = result.instances.iiou(confusion)
        category_iiou = result.instances.category_iiou(confusion)
        metrics['instance_miou'] = defined(mean_defined(iiou))
        metrics['category_instance_miou'] = defined(mean_defined(category_iiou))
        metrics['iiou'] = by_name(confusion.label_map.names, iiou)
        metrics['category_iiou'] = by_name(confusion.label_map.categories, category_iiou)
    return metrics


def accuracy_metrics(confusion: ConfusionMatrix) -> dict[str, Any]:
    """
    Compute the accuracy metrics from pixel counts.

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


def accuracy_rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """
    Return the accuracies among the metrics of an evaluation as rows of a table.

    Returns
    -------
    list of dict
        'class' (or what the value is a mean of), 'IoU' and, if there are instances, 'iIoU';
        '-' where a value is undefined.

    """
    instances = metrics.get('iiou')
    rows = [(name, value, (instances or {}).get(name)) for name, value in metrics['iou'].items()]
    rows.append(('mIoU', metrics['miou'], metrics.get('instance_miou')))
    if instances:
        iiou = metrics['category_iiou']
        rows += [(name, value, iiou[name]) for name, value in metrics['category_iou'].items()]
    rows += [
        ('category mIoU', metrics['category_miou'], metrics.get('category_instance_miou')),
        ('pixel accuracy', metrics['pixel_accuracy'], None),
    ]
    names = ('class', 'IoU', 'iIoU') if instances else ('class', 'IoU')
    return [
        {name: '-' if value is None else value for name, value in zip(names, row, strict=False)}
        for row in rows
    ]


def by_name(names: Sequence[str], values: Iterable[float]) -> dict[str, float | None]:
    """Return values by name, None where undefined."""
    return {name: defined(float(value)) for name, value in zip(names, values, strict=True)}


def defined(value: float) -> float | None:
    """Return a value, None for NaN."""
    return None if math.isnan(value) else value
