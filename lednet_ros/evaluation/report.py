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

"""HTML report of a network's accuracy and training history."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import io
from pathlib import Path
from typing import Any

import cv2
from jinja2 import Environment, StrictUndefined
from lednet_ros.evaluation.metrics import ConfusionMatrix
from lednet_ros.files import atomic_path
from lednet_ros.labels import LabelMap, UNLABELED
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
import numpy as np
from numpy.typing import NDArray

TEMPLATE = Path(__file__).with_name('report.html.j2')
IMAGE_WIDTH = 320
ERROR_COLOR = (255, 40, 40)


@dataclass(frozen=True)
class FrameResult:
    """
    A frame with its ground truth and prediction.

    Attributes
    ----------
    name
        Short name.
    miou
        Mean IoU of the frame alone, 0 to 1, or NaN without labeled pixels.
    pixels
        (H, W, 3) uint8 RGB.
    truth, predicted
        (H, W) uint8 class ids; 255 is unlabeled.

    """

    name: str
    miou: float
    pixels: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    predicted: NDArray[np.uint8]


def frame_picture(result: FrameResult, label_map: LabelMap) -> NDArray[np.uint8]:
    """
    Draw input, ground truth, prediction and errors side by side.

    Returns
    -------
    ndarray
        (h, 4 * 320, 3) uint8 RGB. Errors: the dimmed input, wrong pixels red, unlabeled black.

    """
    errors = result.pixels // 3
    labeled = result.truth != UNLABELED
    right = result.truth == result.predicted
    for left_out in label_map.truth_ids[label_map.num_classes :]:
        right |= (result.truth == left_out) & (result.predicted == UNLABELED)
    errors[labeled & ~right] = ERROR_COLOR
    errors[~labeled] = 0
    palette = label_map.palette
    height, width = result.truth.shape
    size = (IMAGE_WIDTH, max(round(height * IMAGE_WIDTH / width), 1))
    panels = [
        cv2.resize(result.pixels, size, interpolation=cv2.INTER_AREA),
        # Averaged colors would look like other classes.
        cv2.resize(palette[result.truth], size, interpolation=cv2.INTER_NEAREST),
        cv2.resize(palette[result.predicted], size, interpolation=cv2.INTER_NEAREST),
        cv2.resize(errors, size, interpolation=cv2.INTER_NEAREST),
    ]
    return np.asarray(np.hstack(panels), np.uint8)


def write_report(
    path: Path,
    title: str,
    history: Sequence[Mapping[str, float | str | None]],
    confusions: Mapping[str, ConfusionMatrix],
    frames: Mapping[str, Sequence[FrameResult]],
    details: Mapping[str, str],
    plots: Mapping[str, str] | None = None,
) -> None:
    """
    Write a report that needs no other file and no network.

    Parameters
    ----------
    path
        The HTML file, replaced in one step.
    title
        Its headline.
    history
        Metrics by name, one row per epoch; may be empty.
    confusions
        Pixel counts by the name of the data.
    frames
        Frames to show, by the name of the data, in the order of their mean IoU.
    details
        Further details by name; multi-line texts are shown verbatim.
    plots
        More images as data URIs, see `to_svg`, by headline.

    Raises
    ------
    OSError
        The file can't be written.

    """
    sections = []
    for name in dict.fromkeys((*confusions, *frames)):
        section: dict[str, Any] = {'name': name, 'frames': []}
        if name in confusions:
            section |= _metrics(confusions[name])
        if frames.get(name):
            label_map = confusions[name].label_map
            ordered = sorted(frames[name], key=lambda result: -np.nan_to_num(result.miou))
            section['frames'] = [
                {
                    'name': result.name,
                    'miou': _percent(result.miou),
                    'image': _jpeg(frame_picture(result, label_map)),
                }
                for result in ordered
            ]
        sections.append(section)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    html = environment.from_string(TEMPLATE.read_text(encoding='utf-8')).render(
        title=title,
        curves=_curves(history) if history else None,
        sections=sections,
        plots=plots or {},
        details=details,
    )
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding='utf-8')


def _metrics(confusion: ConfusionMatrix) -> dict[str, Any]:
    rows = [
        {
            'name': label.name,
            'color': '#{:02x}{:02x}{:02x}'.format(*label.color),
            'iou': _percent(value),
            'width': float(100 * np.nan_to_num(value)),
        }
        for label, value in zip(confusion.label_map.labels, confusion.iou(), strict=True)
    ]
    return {
        'miou': _percent(confusion.miou()),
        'category_miou': _percent(confusion.category_miou()),
        'accuracy': _percent(confusion.pixel_accuracy()),
        'classes': rows,
        'matrix': _matrix(confusion),
    }


def _curves(history: Sequence[Mapping[str, float | str | None]]) -> str:
    """Plot the loss, the learning rate and the metrics of validation."""
    known = {'epoch', 'stage', 'loss', 'rate', 'images_per_s', 'seconds'}
    measured = dict.fromkeys(name for row in history for name in row if name not in known)
    figure = Figure(figsize=(12, 3.4), layout='constrained')
    panels = (('loss', ['loss']), ('learning rate', ['rate']), ('validation', list(measured)))
    for axes, (name, columns) in zip(figure.subplots(1, 3), panels, strict=True):
        for column in columns:
            points = [
                (row['epoch'], row[column]) for row in history if row.get(column) is not None
            ]
            if points:
                axes.plot(*zip(*points, strict=True), marker='.', ms=3, lw=1.2, label=column)
        axes.set_title(name)
        axes.set_xlabel('epoch')
        axes.set_xlim(0, len(history) + 1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if len(columns) > 1:
            axes.legend()
    return to_svg(figure)


def _matrix(confusion: ConfusionMatrix) -> str:
    """Plot how each true class was predicted, in percent."""
    counts = confusion.counts
    percents = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = confusion.label_map.names
    size = 2.5 + 0.42 * len(names)
    figure = Figure(figsize=(size + 0.5, size), layout='constrained')
    axes = figure.subplots()
    axes.imshow(percents, cmap='Blues', vmin=0, vmax=100)
    axes.set_xticks(range(len(names) + 1), (*names, 'unlabeled'), rotation=60, ha='right')
    axes.set_yticks(range(len(counts)), (*names, 'left out')[: len(counts)])
    axes.set_xlabel('predicted, percent of the true class')
    axes.set_ylabel('true')
    for row, column in np.argwhere(percents >= 0.5):
        value = percents[row, column]
        color = 'white' if value > 55 else 'black'
        axes.text(column, row, f'{value:.0f}', ha='center', va='center', fontsize=7, color=color)
    return to_svg(figure)


def to_svg(figure: Figure) -> str:
    """Encode a figure as a data URI."""
    text = io.StringIO()
    figure.savefig(text, format='svg', metadata={'Date': None})
    return 'data:image/svg+xml;base64,' + base64.b64encode(text.getvalue().encode()).decode()


def _jpeg(image: NDArray[np.uint8]) -> str:
    _, data = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return 'data:image/jpeg;base64,' + base64.b64encode(data.tobytes()).decode()


def _percent(value: float) -> str:
    return '-' if np.isnan(value) else f'{100 * value:.1f}'
