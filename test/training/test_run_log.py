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

"""Tests of the history of a run."""

from pathlib import Path
import time

from lednet_ros.training.run_log import Row, RunLog
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

FIRST: Row = {'epoch': 1, 'stage': 0, 'loss': 1.5, 'val_miou': None}
SECOND: Row = {'epoch': 2, 'stage': 0, 'loss': 0.1 + 0.2, 'val_miou': 0.25}


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder / 'tensorboard'))
    accumulator.Reload()
    return accumulator


def test_rows_are_written_as_they_come(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.add(FIRST)
    path = tmp_path / 'history.csv'
    assert path.read_text() == 'epoch,stage,loss,val_miou\n1,0,1.5,\n'
    log.add(SECOND)
    log.close()
    # All digits are kept.
    assert path.read_text().splitlines()[2] == '2,0,0.30000000000000004,0.25'
    assert log.rows == [FIRST, SECOND]
    scalars = events(tmp_path)
    assert set(scalars.Tags()['scalars']) == {'stage', 'loss', 'val_miou'}
    assert [(event.step, event.value) for event in scalars.Scalars('loss')] == [
        (1, 1.5), (2, np.float32(0.3))
    ]
    assert [event.step for event in scalars.Scalars('val_miou')] == [2]


def test_columns_may_come_later(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.add(FIRST)
    log.add(SECOND | {'streets_miou': 0.5})
    log.close()
    lines = (tmp_path / 'history.csv').read_text().splitlines()
    assert lines[0].endswith('val_miou,streets_miou')
    assert lines[1].endswith(',,')


def test_resumed_run_drops_results_after_its_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = RunLog(tmp_path)
    log.add(FIRST)
    log.add(SECOND)
    log.close()
    # TensorBoard reads files in the order of their names: the second, then a counter as text.
    later = time.time() + 2
    monkeypatch.setattr(time, 'time', lambda: later)
    resumed = RunLog(tmp_path, [FIRST])
    assert len((tmp_path / 'history.csv').read_text().splitlines()) == 2
    resumed.add(SECOND | {'loss': 0.75})
    resumed.close()
    assert (tmp_path / 'history.csv').read_text().splitlines()[2].startswith('2,0,0.75,')
    assert [event.value for event in events(tmp_path).Scalars('loss')] == [1.5, 0.75]


def test_images_are_logged(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    log.images('val', 3, [picture, picture])
    log.close()
    images = events(tmp_path)
    assert images.Tags()['images'] == ['val/0', 'val/1']
    (event,) = images.Images('val/1')
    assert (event.step, event.width, event.height) == (3, 30, 20)
