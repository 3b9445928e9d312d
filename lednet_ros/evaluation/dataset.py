# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Evaluation of a segmenter on labeled frames."""

from collections.abc import Sequence
from dataclasses import dataclass
import json
import math
from pathlib import Path
import time
from typing import Any

from lednet_ros.datasets import FolderDataset, LabeledFrame
from lednet_ros.evaluation.metrics import ConfusionMatrix
from lednet_ros.files import atomic_path
from lednet_ros.inference.segmenter import Segmenter
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
    parameters
        Parameters of the network.

    """

    confusion: ConfusionMatrix
    images: int
    fps: float
    parameters: int


def evaluate(
    segmenter: Segmenter, frames: FolderDataset | Sequence[LabeledFrame]
) -> EvaluationResult:
    """
    Segment every frame and compare with its ground truth, at the size of the ground truth.

    Parameters
    ----------
    segmenter
        The segmenter; its `output_size` must be None.
    frames
        Labeled frames over the segmenter's label map.

    Raises
    ------
    DatasetError
        A file can't be read.
    ValueError
        There are no frames.

    """
    if not len(frames):
        raise ValueError('there are no frames to evaluate')
    confusion = ConfusionMatrix(segmenter.label_map)
    seconds = 0.0
    for index, frame in enumerate(tqdm(frames, desc='evaluate', unit='frame')):
        if index == 0:
            segmenter.warm_up((frame.pixels.shape[0], frame.pixels.shape[1]))
        start = time.perf_counter()
        result = segmenter.segment([frame.pixels], confidence=False, overlay=False)
        seconds += time.perf_counter() - start
        confusion.update(frame.labels, result.labels[0])
    return EvaluationResult(
        confusion, len(frames), len(frames) / seconds, segmenter.parameters
    )


def to_dict(result: EvaluationResult) -> dict[str, Any]:
    """
    Give the figures of a result.

    Returns
    -------
    dict
        `miou`, `category_miou`, `pixel_accuracy` and `iou` (name to value), all fractions of 1
        or None where undefined; `images`, `fps`, `parameters`.

    """
    confusion = result.confusion
    names = confusion.label_map.names
    return {
        'miou': _defined(confusion.miou()),
        'category_miou': _defined(confusion.category_miou()),
        'pixel_accuracy': _defined(confusion.pixel_accuracy()),
        'iou': dict(zip(names, map(_defined, confusion.iou().tolist()), strict=True)),
        'images': result.images,
        'fps': result.fps,
        'parameters': result.parameters,
    }


def write_json(result: EvaluationResult, path: str | Path) -> None:
    """Write the figures of a result to a file."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(to_dict(result), indent=2) + '\n', encoding='utf-8')


def format_table(result: EvaluationResult) -> str:
    """Format the figures of a result for a terminal."""
    figures = to_dict(result)
    rows = [
        *figures['iou'].items(),
        ('mIoU', figures['miou']),
        ('category mIoU', figures['category_miou']),
        ('pixel accuracy', figures['pixel_accuracy']),
    ]
    lines = [
        f"{name:<16}{'-' if value is None else format(value, '.4f'):>8}" for name, value in rows
    ]
    lines.append(f'{result.images} frames, {result.fps:.1f} frames/s')
    return '\n'.join(lines)


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
