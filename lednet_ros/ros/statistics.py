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
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
import math
import time
from typing import NamedTuple

import numpy as np

LATENCIES_KEPT = 512
# The fewest frames that tell how many are lost.
FRAMES_TO_JUDGE = 20
# A longer gap between stamps is a pause of the camera; periods or, if that is more, nanoseconds.
MAX_GAP = 10
MAX_GAP_NS = 3 * 10**9
# Rates are those of the newest events: at most this many, and seconds. Two count at any age.
EVENTS_KEPT = 128
RATE_WINDOW = 5.0
# Events have stopped after this many of their usual intervals, and at least these seconds;
# `UNKNOWN_INTERVAL` seconds where none was measured yet.
MISSED_INTERVALS = 3
SHORTEST_SILENCE = 1.0
UNKNOWN_INTERVAL = 5.0
INTERVALS_KEPT = 9
# Seconds; with an older stamp, camera and node don't have the same clock.
OLDEST_FRAME = 60.0


class Pace:
    """Times of events that repeat: their rate, their usual interval, and whether they stopped."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=EVENTS_KEPT)

    def note(self) -> None:
        """Note an event that happens now."""
        self._times.append(time.perf_counter())

    def forget(self) -> None:
        """Forget all events."""
        self._times.clear()

    @property
    def age(self) -> float:
        """Return the seconds since the last event; infinite where there is none."""
        return time.perf_counter() - self._times[-1] if self._times else math.inf

    @property
    def stopped(self) -> bool:
        """Return whether there is no event, or none for longer than usual."""
        if len(self._times) < 2:
            return self.age > UNKNOWN_INTERVAL
        # The median outlives an outage, and follows another rate.
        usual = float(np.median(np.diff(list(self._times)[-INTERVALS_KEPT - 1:])))
        return self.age > max(MISSED_INTERVALS * usual, SHORTEST_SILENCE)

    @property
    def rate(self) -> float:
        """Return events per second; 0 when they have stopped."""
        if len(self._times) < 2 or self.stopped:
            return 0.0
        times = list(self._times)
        newest = [moment for moment in times if moment > times[-1] - RATE_WINDOW]
        if len(newest) < 2:
            newest = times[-2:]
        count, seconds = len(newest) - 1, newest[-1] - newest[0]
        # An event that is due, but late, counts as if it came now.
        return count / max(seconds + max(self.age - seconds / count, 0.0), 1e-9)


class Summary(NamedTuple):
    """
    Rates, latencies and totals.

    Attributes
    ----------
    fps_in, fps_out
        Frames received and published per second.
    is_silent
        Whether frames have not arrived for longer than usual.
    waiting
        Seconds since the arrival of the first frame that was to be processed after the last
        publication; 0 without one.
    lost_fraction
        Fraction of the newest frames that were lost on the way from the camera.
    latency_ms
        50th, 95th and 99th percentile from arrival to publication, milliseconds; NaN without
        frames.
    age_ms
        The same from the stamp to publication; NaN where stamps are not of the node's clock.
    totals
        Counts since the start.

    """

    fps_in: float
    fps_out: float
    is_silent: bool
    waiting: float
    lost_fraction: float
    latency_ms: tuple[float, float, float]
    age_ms: tuple[float, float, float]
    totals: Counter[str]


@dataclass
class FrameStatistics:
    """
    Counts the frames of one camera.

    `received` = `processed` + `dropped` (replaced by a newer frame, or left when the node was
    deactivated) + `skipped` (max_rate) + `unwanted` (no subscriber) + `failed` (the network or
    a stage after it raised) + `unpublished` (the middleware raised) + `rejected:REASON` + those
    in progress. `lost` ones never arrived. Each counter is written by one thread only.

    Attributes
    ----------
    totals
        By event.
    arrivals
        Of all frames, also while the node is paused.

    """

    totals: Counter[str] = field(default_factory=Counter)
    arrivals: Pace = field(default_factory=Pace)
    _publications: Pace = field(default_factory=Pace)
    _latencies: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES_KEPT))
    _ages: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES_KEPT))
    _waiting_since: float | None = None
    _losses: Pace = field(default_factory=Pace)
    _judged: Counter[str] = field(default_factory=Counter)
    _lost_fraction: float = 0.0

    def count(self, event: str) -> None:
        """Count one event."""
        self.totals[event] += 1

    def lose(self, frames: int) -> None:
        """Count frames that were lost before they arrived."""
        if frames:
            self.totals['lost'] += frames
            self._losses.note()

    def expect(self) -> None:
        """Note a frame that is to be processed."""
        if self._waiting_since is None:
            self._waiting_since = time.perf_counter()

    def expect_nothing(self) -> None:
        """Expect no results of the frames so far."""
        self._waiting_since = None

    def published(self, latency: float, age: float) -> None:
        """Count a published frame, its latency and the age of its stamp in seconds."""
        self.totals['processed'] += 1
        self._publications.note()
        self._latencies.append(latency)
        # The simulated clock advances in steps, so a stamp may be ahead of it.
        if abs(age) < OLDEST_FRAME:
            self._ages.append(max(age, 0.0))
        self._waiting_since = None

    def lost_fraction(self) -> float:
        """Return the fraction of the newest frames (20 or more) that were lost, if any are."""
        received, lost = (self.totals[k] - self._judged[k] for k in ('received', 'lost'))
        if received + lost >= FRAMES_TO_JUDGE:
            self._lost_fraction = lost / (received + lost)
            self._judged = self.totals.copy()
        return 0.0 if self._losses.stopped else self._lost_fraction

    def forget_losses(self) -> None:
        """Judge only frames from now on, after the subscription has changed."""
        self._judged = self.totals.copy()
        self._lost_fraction = 0.0

    def summarize(self) -> Summary:
        """Summarize the newest frames."""
        since = self._waiting_since
        return Summary(
            self.arrivals.rate,
            self._publications.rate,
            self.arrivals.stopped,
            0.0 if since is None else time.perf_counter() - since,
            self.lost_fraction(),
            percentiles_ms(self._latencies),
            percentiles_ms(self._ages),
            self.totals.copy(),
        )


def estimate_lost(stamps: Sequence[int]) -> int:
    """
    Estimate how many frames are missing between those with these stamps, in nanoseconds.

    The period is that of the shortest gaps, so some frames must have arrived one after the other.
    """
    gaps = np.diff(np.asarray(stamps, np.int64))
    gaps = gaps[gaps > 0]
    if not len(gaps):
        return 0
    period = np.median(gaps[gaps < 1.5 * np.percentile(gaps, 10)])
    missing = np.rint(gaps / period) - 1
    return int(missing[gaps < max(MAX_GAP * period, MAX_GAP_NS)].sum())


def percentiles_ms(seconds: Collection[float]) -> tuple[float, float, float]:
    """Compute the 50th, 95th and 99th percentile in milliseconds (nearest rank); NaN if empty."""
    if not seconds:
        return (math.nan, math.nan, math.nan)
    values = 1e3 * np.asarray(seconds)
    p50, p95, p99 = np.percentile(values, (50, 95, 99), method='inverted_cdf').tolist()
    return p50, p95, p99
