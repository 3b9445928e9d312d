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

from lednet_ros.ros.statistics import FrameStatistics, LATENCIES_KEPT, percentiles_ms
import pytest

pytestmark = pytest.mark.ros


def test_percentiles_are_nearest_rank() -> None:
    assert percentiles_ms([value / 1000 for value in range(100, 0, -1)]) == (50.0, 95.0, 99.0)
    assert percentiles_ms([0.007]) == (7.0, 7.0, 7.0)
    assert all(math.isnan(value) for value in percentiles_ms([]))


def test_summary_has_rates_since_the_last_one_and_totals_since_start() -> None:
    statistics = FrameStatistics()
    for _ in range(3):
        statistics.count('received')
    statistics.published(0.01)
    first = statistics.summarize()
    assert first.totals == {'received': 3, 'processed': 1}
    assert first.fps_in == pytest.approx(3 * first.fps_out)
    second = statistics.summarize()
    assert second.fps_in == second.fps_out == 0.0
    assert second.totals == first.totals
    assert second.latency_ms == (10.0, 10.0, 10.0)


def test_only_the_newest_latencies_count() -> None:
    statistics = FrameStatistics()
    statistics.published(99.0)
    for _ in range(LATENCIES_KEPT):
        statistics.published(0.001)
    assert statistics.summarize().latency_ms == (1.0, 1.0, 1.0)
