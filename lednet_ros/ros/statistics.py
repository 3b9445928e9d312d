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

"""Counters that the path of a frame fills and the diagnostics read."""

from collections import Counter, deque
from collections.abc import Collection
from dataclasses import dataclass, field
import math
import time
from typing import NamedTuple

import numpy as np

LATENCIES_KEPT = 512


class Summary(NamedTuple):
    """
    Rates and latencies since the previous summary.

    Attributes
    ----------
    fps_in, fps_out
        Frames received and published per second.
    latency_ms
        50th, 95th and 99th percentile from arrival to publication, milliseconds; NaN without
        frames.
    totals
        Counts since the start.

    """

    fps_in: float
    fps_out: float
    latency_ms: tuple[float, float, float]
    totals: Counter[str]


@dataclass
class FrameStatistics:
    """
    Counts the frames of one camera.

    `received` = `processed` + `dropped` (replaced by a newer frame, or left when the node was
    deactivated) + `skipped` (max_rate) + `unwanted` (no subscriber) + `failed` (the network or
    the filling of a message raised) + `rejected:REASON` + those in progress. Each counter is
    written by one thread only.
    """

    totals: Counter[str] = field(default_factory=Counter)
    _latencies: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES_KEPT))
    _last: Counter[str] = field(default_factory=Counter)
    _last_time: float = field(default_factory=time.perf_counter)

    def count(self, event: str) -> None:
        """Count one event."""
        self.totals[event] += 1

    def published(self, latency: float) -> None:
        """Count a published frame and its latency in seconds."""
        self.totals['processed'] += 1
        self._latencies.append(latency)

    def summarize(self) -> Summary:
        """Summarize rates since the last call and latencies of the newest frames."""
        now = time.perf_counter()
        seconds = max(now - self._last_time, 1e-9)
        totals = self.totals.copy()
        new = totals - self._last
        self._last, self._last_time = totals, now
        return Summary(
            new['received'] / seconds,
            new['processed'] / seconds,
            percentiles_ms(self._latencies),
            totals,
        )


def percentiles_ms(seconds: Collection[float]) -> tuple[float, float, float]:
    """Compute the 50th, 95th and 99th percentile in milliseconds (nearest rank); NaN if empty."""
    if not seconds:
        return (math.nan, math.nan, math.nan)
    values = 1e3 * np.asarray(seconds)
    p50, p95, p99 = np.percentile(values, (50, 95, 99), method='inverted_cdf').tolist()
    return p50, p95, p99
