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

"""Tests of the comparison of all networks, at a small size."""

from collections.abc import Callable
from pathlib import Path

from lednet_ros.benchmark.models import find_ratios, run_models
from lednet_ros.benchmark.plots import plot_results
from lednet_ros.checkpoint import shipped_checkpoints
from lednet_ros.cli.tables import print_results
from lednet_ros.inference.backends.base import ConfigurationError
from lednet_ros.models import NETWORKS
import pytest


@pytest.mark.slow
def test_all_networks_are_measured(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    make_folder_dataset: Callable[..., Path],
) -> None:
    data = make_folder_dataset(tmp_path / 'data', {'val': 2})
    results = run_models((96, 128), (100, 140), 2, 1, data, ['torch_eager'])
    assert [row['name'] for row in results['rows']] == list(NETWORKS)
    for row in results['rows']:
        assert row['parameters'] > 900_000
        assert row['torch_eager fp32 ms'] > 0
        assert (row.get('val mIoU', -1) >= 0) == (row['name'] in shipped_checkpoints())
    assert set(results['ratios'][0].values()) == {'lednet', 1.0}
    assert 'val mIoU of lednet_heavy' in results['not_measured']
    print_results(results)
    text = capsys.readouterr().out
    assert all(name in text for name in (*NETWORKS, 'GFLOPs 224x224', 'torch eager fp32 ms'))
    plot_results(results, tmp_path / 'plot.png')
    assert (tmp_path / 'plot.png').stat().st_size > 10_000


def test_unknown_backend_is_named_in_the_error() -> None:
    with pytest.raises(ConfigurationError, match='backends are coreml; allowed: openvino, '):
        run_models((96, 128), (96, 128), 1, 1, None, ['torch_eager', 'coreml'])


def test_ratios() -> None:
    rows = [
        {'name': 'lednet', 'parameters': 100, 'GFLOPs': 2.0, 'val mIoU': ''},
        {'name': 'other', 'parameters': 150, 'GFLOPs': 1.0, 'val mIoU': 0.7},
    ]
    assert find_ratios(rows)[1] == {'name': 'other', 'parameters': 1.5, 'GFLOPs': 0.5}
