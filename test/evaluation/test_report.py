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

"""Tests of the report's images, metrics and self-containment."""

import base64
from html.parser import HTMLParser
from pathlib import Path
import re

import cv2
from lednet_ros.evaluation.metrics import ConfusionMatrix
from lednet_ros.evaluation.report import frame_picture, FrameResult, write_report
from lednet_ros.labels import LabelMap
import numpy as np
import pytest

CAMVID = LabelMap.load('camvid')


@pytest.fixture
def frame() -> FrameResult:
    """Sky over road; the left half of the road is predicted as pavement; a strip is unlabeled."""
    truth = np.zeros((60, 80), np.uint8)
    truth[30:] = 3
    predicted = truth.copy()
    predicted[30:, :40] = 4
    truth[50:] = 255
    return FrameResult('street', 0.5, np.full((60, 80, 3), 90, np.uint8), truth, predicted)


def confusion_of(frame: FrameResult) -> ConfusionMatrix:
    confusion = ConfusionMatrix(CAMVID)
    confusion.update(frame.truth, frame.predicted)
    return confusion


def write(path: Path, frame: FrameResult, **changes: object) -> str:
    content: dict[str, object] = {
        'title': 'Training of lednet',
        'history': [
            {'epoch': 1, 'stage': 0, 'loss': 2.0, 'rate': 0.1, 'val_miou': None},
            {'epoch': 2, 'stage': 0, 'loss': 1.0, 'rate': 0.1, 'val_miou': 0.4},
        ],
        'confusions': {'val': confusion_of(frame)},
        'frames': {'val': [frame]},
        'details': {'recipe': 'seed: 0'},
    }
    write_report(path, **(content | changes))  # type: ignore[arg-type]
    return path.read_text(encoding='utf-8')


def test_frame_is_shown_with_truth_prediction_and_errors(frame: FrameResult) -> None:
    image = frame_picture(frame, CAMVID)
    assert image.shape == (240, 1280, 3)
    sky, road, pavement = (CAMVID.palette[index].tolist() for index in (0, 3, 4))
    # Points in the sky, on the left and right of the road, and in the unlabeled strip.
    points = [(60, 160), (160, 80), (160, 240), (220, 160)]
    panels = [[image[y, 320 * n + x].tolist() for y, x in points] for n in range(4)]
    assert panels[0] == [[90, 90, 90]] * 4
    assert panels[1][:3] == [sky, road, road]
    assert panels[2][:3] == [sky, pavement, road]
    assert panels[3] == [[30, 30, 30], [255, 40, 40], [30, 30, 30], [0, 0, 0]]


def test_report_contains_all_metrics(tmp_path: Path, frame: FrameResult) -> None:
    text = write(tmp_path / 'report.html', frame)
    confusion = confusion_of(frame)
    assert 'Training of lednet' in text
    assert f'{100 * confusion.miou():.1f}' in text
    assert f'{100 * confusion.pixel_accuracy():.1f}' in text
    for label, value in zip(CAMVID.labels, confusion.iou(), strict=True):
        shown = '-' if np.isnan(value) else f'{100 * value:.1f}'
        row = re.search(rf'{label.name}(.*?)</tr>', text, re.DOTALL)
        assert row is not None
        assert shown in row[1]
    assert 'seed: 0' in text


def test_report_needs_no_other_file(tmp_path: Path, frame: FrameResult) -> None:
    text = write(tmp_path / 'report.html', frame)
    sources: list[str] = []

    class Collector(HTMLParser):

        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            sources.extend(
                value or '' for name, value in attributes if name in ('src', 'href', 'data')
            )

    Collector().feed(text)
    # Curves, confusion matrix, frame.
    assert len(sources) == 3
    assert all(source.startswith('data:image/') for source in sources)
    jpeg = next(source for source in sources if source.startswith('data:image/jpeg'))
    data = base64.b64decode(jpeg.partition(',')[2])
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (240, 1280, 3)
    assert [path.name for path in tmp_path.iterdir()] == ['report.html']


def test_without_history_there_are_no_curves(tmp_path: Path, frame: FrameResult) -> None:
    assert write(tmp_path / 'report.html', frame, history=[]).count('data:image/svg') == 1


def test_classification_has_curves_only(tmp_path: Path, frame: FrameResult) -> None:
    text = write(tmp_path / 'report.html', frame, confusions={}, frames={})
    assert text.count('data:image/') == 1


def test_names_are_escaped(tmp_path: Path, frame: FrameResult) -> None:
    hostile = '<script>alert(1)</script>'
    text = write(
        tmp_path / 'report.html',
        FrameResult(hostile, 0.5, frame.pixels, frame.truth, frame.predicted),
        title=hostile,
        details={hostile: hostile},
    )
    assert '<script>alert' not in text
    assert text.count('&lt;script&gt;alert') >= 3


def write_frames(path: Path, frame: FrameResult, values: list[float]) -> list[str]:
    frames = [
        FrameResult(f'frame_{index}', value, frame.pixels, frame.truth, frame.predicted)
        for index, value in enumerate(values)
    ]
    return re.findall(r'frame_\d', write(path, frame, frames={'val': frames}))


def test_frames_are_ordered_from_best_to_worst(tmp_path: Path, frame: FrameResult) -> None:
    shown = write_frames(tmp_path / 'report.html', frame, [0.5, 0.9, float('nan'), 0.7])
    assert list(dict.fromkeys(shown)) == ['frame_1', 'frame_3', 'frame_0', 'frame_2']
