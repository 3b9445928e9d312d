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

"""Tests of the benchmark in one process, at sizes that take milliseconds."""

from collections.abc import Iterator
from importlib.util import find_spec
import json
from pathlib import Path
from typing import Any

from lednet_ros.benchmark import pipeline
from lednet_ros.benchmark.baselines import EagerModule, Pixels
from lednet_ros.benchmark.pipeline import BASELINE, Configuration, run_pipeline
from lednet_ros.cli.main import main
from lednet_ros.inference.options import is_emulated
import numpy as np
import pytest

SIZES = ((64, 96), (100, 150))


@pytest.fixture(scope='module', autouse=True)
def little_calibration() -> Iterator[None]:
    """Calibrate int8 with few frames, for speed."""
    with pytest.MonkeyPatch.context() as patch:
        if find_spec('openvino') is not None:
            from lednet_ros.inference.backends import calibration

            patch.setattr(calibration, 'CALIBRATION_FRAMES', 4)
        yield


@pytest.fixture(scope='module')
def results(little_calibration: None) -> dict[str, Any]:
    return run_pipeline('lednet', 20, *SIZES, 'cpu', 2, 1)


def test_all_configurations_match_the_labels_of_eager(results: dict[str, Any]) -> None:
    rows = {row['name']: row for row in results['rows']}
    assert {BASELINE, 'torch_eager fp32'} <= set(rows)
    assert ('torch_eager bf16' in rows) != is_emulated('torch_eager', 'bf16', 'cpu')
    for name, row in rows.items():
        # At this size, and with so few frames to calibrate, int8 is less exact than it can be.
        assert row['agreement'] >= (0.97 if name == 'openvino int8' else 0.999), row
        assert row['correct'] is (row['agreement'] >= 0.999)
        assert row['median_ms'] > 0
    assert rows[BASELINE]['ratio_to_eager'] == 1


def test_optional_configurations_are_listed(results: dict[str, Any]) -> None:
    pytest.importorskip('openvino')
    pytest.importorskip('onnxruntime')
    names = {row['name'] for row in results['rows']} | set(results['not_measured'])
    assert {'openvino fp32', 'openvino bf16', 'ONNX Runtime fp32'} <= names


def test_the_fastest_comes_first(results: dict[str, Any]) -> None:
    medians = [row['median_ms'] for row in results['rows'] if row['correct']]
    assert medians == sorted(medians)
    eager = next(row for row in results['rows'] if row['name'] == BASELINE)['median_ms']
    for row in results['rows']:
        assert row['ratio_to_eager'] == pytest.approx(eager / row['median_ms'], abs=0.02)


def test_results_contain_the_setup(results: dict[str, Any]) -> None:
    assert results['classes'] == 20
    assert (results['input_size'], results['frame_size']) == ([64, 96], [100, 150])
    assert results['machine']['versions']['torch']


def test_wrong_labels_are_marked_and_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    original = pipeline.list_configurations

    def with_broken(*arguments: Any) -> list[Configuration]:
        def make() -> Any:
            def broken(frame: Pixels) -> tuple[Pixels, Pixels]:
                return np.zeros(frame.shape[:2], np.uint8), frame

            return broken

        return [*original(*arguments)[:1], Configuration('broken', make)]

    monkeypatch.setattr(pipeline, 'list_configurations', with_broken)
    rows = run_pipeline('lednet', None, *SIZES, 'cpu', 1, 1)['rows']
    assert [row['name'] for row in rows] == [BASELINE, 'broken']
    assert [row['correct'] for row in rows] == [True, False]


def keep_only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Limit the benchmark to these configurations."""
    original = pipeline.list_configurations

    def some(*arguments: Any) -> list[Configuration]:
        return [found for found in original(*arguments) if found.name in names]

    monkeypatch.setattr(pipeline, 'list_configurations', some)


def test_backend_that_cannot_be_imported_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise ImportError('No module named onnxruntime')

    keep_only(monkeypatch, BASELINE, 'ONNX Runtime fp32')
    monkeypatch.setattr(pipeline, 'OnnxRuntime', missing)
    results = run_pipeline('lednet', None, *SIZES, 'cpu', 1, 1)
    assert results['not_measured'] == {'ONNX Runtime fp32': 'No module named onnxruntime'}


def test_the_plain_module_draws_the_overlay() -> None:
    checkpoint = pipeline.make_checkpoint('lednet', None, (64, 96))
    frame = pipeline.draw_frames((100, 150), 1)[0]
    one = EagerModule(checkpoint, 'cpu')(frame)
    other = EagerModule(checkpoint, 'cpu', numpy_overlay=True)(frame)
    np.testing.assert_array_equal(one[0], other[0])
    assert np.abs(one[1].astype(int) - other[1]).max() <= 1


def test_command_prints_a_table_and_writes_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_only(monkeypatch, BASELINE, 'eager fp32, scores at frame size')
    figures, plot = tmp_path / 'out' / 'figures.json', tmp_path / 'plot.png'
    sizes = ['--input-size', '64', '96', '--frame-size', '100', '150']
    arguments = ['--rounds', '1', '--threads', '1', '--device', 'cpu', *sizes]
    written = ['--json', str(figures), '--plot', str(plot)]
    assert main(['benchmark', 'pipeline', *arguments, *written]) == 0
    rows = json.loads(figures.read_text(encoding='utf-8'))['rows']
    assert len(rows) == 2
    assert rows[0]['correct'] is True
    printed = capsys.readouterr().out
    assert all(row['name'] in printed for row in rows)
    assert plot.read_bytes().startswith(b'\x89PNG')
