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

"""Tests of the counters and percentiles of the diagnostics."""

import math

from lednet_ros.ros import statistics
from lednet_ros.ros.statistics import (
    FrameStatistics,
    LATENCIES_KEPT,
    Pace,
    percentiles_ms,
    SHORTEST_SILENCE,
)
import pytest
from ros_harness import FakeTime

pytestmark = pytest.mark.ros


def test_percentiles_are_nearest_rank() -> None:
    assert percentiles_ms([value / 1000 for value in range(100, 0, -1)]) == (50.0, 95.0, 99.0)
    assert percentiles_ms([0.007]) == (7.0, 7.0, 7.0)
    assert all(math.isnan(value) for value in percentiles_ms([]))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(statistics, 'time', fake)
    return fake


@pytest.mark.parametrize('interval', [0.01, 0.3, 2.0, 40.0])
def test_rate_is_steady_until_events_stop(clock: FakeTime, interval: float) -> None:
    pace = Pace()
    assert pace.stopped
    pace.note()
    assert not pace.stopped
    assert pace.rate == 0.0
    for number in range(200):
        for part in (0.4, 0.6):
            if number:
                assert pace.rate == pytest.approx(1 / interval)
            clock.now += part * interval
        pace.note()
    clock.now += 2.9 * interval
    assert not pace.stopped
    clock.now += max(interval, SHORTEST_SILENCE)
    assert pace.stopped
    assert pace.rate == 0.0
    # After an outage the usual interval is the same.
    clock.now += 100 * interval
    pace.note()
    assert not pace.stopped
    clock.now += max(4 * interval, 1.1 * SHORTEST_SILENCE)
    assert pace.stopped


def test_summary_has_totals_and_ages_of_stamps_by_the_same_clock(clock: FakeTime) -> None:
    frames = FrameStatistics()
    frames.count('received')
    frames.expect()
    clock.now += 2.0
    frames.expect()
    assert frames.summarize().waiting == 2.0
    for age in (0.02, -0.001, 86400.0, -86400.0):
        frames.published(0.01, age)
    summary = frames.summarize()
    assert summary.waiting == 0.0
    assert summary.totals == {'received': 1, 'processed': 4}
    assert summary.latency_ms == (10.0, 10.0, 10.0)
    assert summary.age_ms == (0.0, 20.0, 20.0)


def test_only_the_newest_latencies_count() -> None:
    frames = FrameStatistics()
    frames.published(99.0, 0.0)
    for _ in range(LATENCIES_KEPT):
        frames.published(0.001, 0.0)
    assert frames.summarize().latency_ms == (1.0, 1.0, 1.0)
