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

"""Tests of the benchmarks with live nodes: real processes and real DDS, small frames."""

from collections.abc import Sequence
from pathlib import Path

from lednet_ros.benchmark.plots import plot_results
from lednet_ros.cli.tables import print_results
from lednet_ros.live import benchmarks
from lednet_ros.live.benchmarks import (
    find_peak,
    find_trend,
    judge,
    live_node,
    NAIVE,
    NODES,
    OURS,
    run_cameras,
    run_node,
    run_soak,
    run_transport,
)
from lednet_ros.live.client import live_session, LiveError, Passage
import pytest

pytestmark = pytest.mark.ros


@pytest.mark.slow
def test_transport_through_both_nodes() -> None:
    results = run_transport((96, 128), 2, 0.5)
    rows = {row['name']: row for row in results['rows']}
    assert set(rows) == {OURS, NAIVE}
    assert rows[NAIVE]['ratio_to_naive'] == 1
    for row in rows.values():
        assert row['sent_at_30_hz'] == 15
        assert 0 <= row['lost_at_30_hz'] <= 15
        assert row['median_ms'] > 0


@pytest.mark.slow
def test_package_node_and_naive_node_with_a_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmarks, 'RATES', (5.0,))
    monkeypatch.setattr(benchmarks, 'find_peak', lambda client, seconds: 1.5)
    results = run_node('lednet', (64, 96), (96, 128), 0.6, 1)
    assert [row['rate'] for row in results['rows']] == [5.0, 5.0]
    assert results['peak_fps'] == dict.fromkeys(NODES, 1.5)
    for row in results['rows']:
        assert row['cpu_cores'] >= 0
        assert row['rss_mib'] > 50
        assert row['start_to_first_result_s'] > 0
    print_results(results)
    assert 'peak of' in capsys.readouterr().out
    plot_results(results, tmp_path / 'node.svg')
    assert (tmp_path / 'node.svg').stat().st_size > 1000


@pytest.mark.slow
def test_several_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks, 'CAMERA_COUNTS', (2,))
    (row,) = run_cameras('lednet', (64, 96), (96, 128), 0.5, 1)['rows']
    assert row['cameras'] == 2
    assert row['fps_slowest'] <= row['fps_fastest']


@pytest.mark.slow
def test_soak(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(benchmarks, 'FEWEST_CHUNKS', 3)
    results = run_soak('lednet', (64, 96), (96, 128), 1, 0.05, 20.0)
    assert len(results['rows']) == 3
    assert results['rows'][-1]['frames'] >= 30
    assert results['surprises'] == 0
    assert results['rows'][0]['threads'] > 3
    assert abs(results['trend']['files_gained']) < 5
    plot_results(results, tmp_path / 'soak.svg')
    assert (tmp_path / 'soak.svg').stat().st_size > 1000


def test_trend_shows_growth() -> None:
    rows = [
        {'frames': 100 * k, 'rss_mib': 300 + (50 if k < 2 else 2 * k), 'threads': 9, 'files': k}
        for k in range(10)
    ]
    assert find_trend(rows) == {
        'rss_kib_per_1000_frames': 20480.0,
        'rss_mib_gained': 14,
        'threads_gained': 0,
        'files_gained': 7,
    }


def test_node_that_ends_early_is_reported() -> None:
    with live_session() as session:
        with pytest.raises(LiveError, match=r'(?s)ended with exit code 1: .*nothing\.pth'):
            with live_node(session, '/gone', [], {'checkpoint': '/nothing.pth'}):
                pass


def passages(latencies: Sequence[float | None], period: float = 0.1) -> list[Passage]:
    """Make frames sent at a fixed period; None for those that are lost."""
    result = []
    for index, latency in enumerate(latencies):
        sent = 1 + index * period
        passage = Passage('', sent, {'labels', 'overlay'})
        if latency is not None:
            passage.missing.clear()
            passage.received = sent + latency
        result.append(passage)
    return result


def test_judge_summarizes_results() -> None:
    found = judge(passages([0.01, 0.02, None, 0.03, 0.02]))
    assert found['missed'] == 0.2
    assert (found['first_ms'], found['last_ms'], found['p50_ms']) == (10.0, 20.0, 20.0)
    assert found['fps'] == pytest.approx(3 / 0.41, abs=0.01)


def test_frame_without_all_results_is_lost() -> None:
    half = Passage('', 1.0, {'overlay'}, received=1.1)
    assert judge([*passages([0.01, 0.01]), half])['missed'] == round(1 / 3, 4)


def test_all_frames_lost() -> None:
    assert judge(passages([None, None])) == {'fps': 0.0, 'missed': 1.0}


@pytest.mark.parametrize('limit', [0.7, 7.0, 33.0])
def test_peak_is_found(limit: float) -> None:
    class Client:

        def play(self, rate: float, count: int) -> list[Passage]:
            passed = min(1.0, limit / rate)
            return passages([0.01 if number < passed * 100 else None for number in range(100)])

    # 5 % may be lost, so the peak lies that much above the limit.
    assert find_peak(Client(), 1.0) == pytest.approx(limit / 0.95, rel=0.11)
