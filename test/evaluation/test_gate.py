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

"""Tests of limits and verdicts."""

import json
from pathlib import Path

from lednet_ros.evaluation.gate import Gate, GateError, parse_limit, read_baseline
import pytest

FIGURES = {'miou': 0.7, 'iou': {'road': 0.95, 'pole': 0.2, 'roof': None}}


def test_no_limit_is_missed() -> None:
    assert Gate().shortfalls(FIGURES) == []
    assert Gate(min_miou=0.7, min_iou={'road': 0.95}).shortfalls(FIGURES) == []


def test_missed_thresholds_are_listed() -> None:
    gate = Gate(min_miou=0.71, min_iou={'pole': 0.5, 'roof': 0.1})
    assert gate.shortfalls(FIGURES) == [
        'mIoU is 0.7000; needed: 0.7100 (the limit)',
        'IoU of pole is 0.2000; needed: 0.5000 (the limit)',
        'IoU of roof is undefined; needed: 0.1000 (the limit)',
    ]


def test_baseline_limits_each_of_its_classes() -> None:
    baseline = {'miou': 0.72, 'iou': {'road': 0.95, 'pole': 0.24, 'roof': None}}
    assert Gate(baseline=baseline, max_regression=0.05).shortfalls(FIGURES) == []
    assert Gate(baseline=baseline, max_regression=0.03).shortfalls(FIGURES) == [
        'IoU of pole is 0.2000; needed: 0.2100 (the baseline 0.2400 less 0.03)'
    ]
    assert len(Gate(baseline=baseline).shortfalls(FIGURES)) == 2


@pytest.mark.parametrize('text', ['road', '=0.5', 'road=', 'road=x', 'road=1.5', 'road=nan'])
def test_invalid_limits_are_rejected(text: str) -> None:
    with pytest.raises(GateError, match=r"min-iou is '.*CLASS=IOU"):
        parse_limit(text)


def test_limits_and_baselines_are_read(tmp_path: Path) -> None:
    assert parse_limit('road=0.9') == ('road', 0.9)
    with pytest.raises(GateError, match="'roof'; allowed: road, pole"):
        Gate(min_iou={'roof': 0.5}).check_names(('road', 'pole'))
    path = tmp_path / 'old.json'
    path.write_text(json.dumps(FIGURES))
    assert read_baseline(path) == FIGURES
    path.write_text('[1]')
    for wrong in (path, tmp_path / 'none.json'):
        with pytest.raises(GateError, match=wrong.name):
            read_baseline(wrong)
