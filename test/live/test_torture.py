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

"""The command that injects faults."""

import datetime
import json
from pathlib import Path

from lednet_ros.cli.main import main
from lednet_ros.live.faults import FAULTS, flood, select_faults
import pytest

pytestmark = pytest.mark.ros


def test_faults_have_names_and_are_selected() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert select_faults([]) == list(FAULTS)
    assert [fault.inject for fault in select_faults(['flood'])] == [flood]
    assert main(['torture', '--fault', 'flod']) == 1


def test_command_prints_a_table_and_writes_the_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'torture.json'
    start = datetime.datetime.now(datetime.timezone.utc).date()
    arguments = ['--fault', 'frame id changes', '--quick', '--soak-minutes', '0']
    assert main(['torture', *arguments, '--json', str(path)]) == 0
    assert 'frame id changes' in capsys.readouterr().out
    results = json.loads(path.read_text())
    assert [row['survived'] for row in results['rows']] == [True]
    assert datetime.date.fromisoformat(results['date']) >= start
