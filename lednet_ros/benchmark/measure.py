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

"""Interleaved timing, and the description of the machine that goes with every result."""

from collections.abc import Callable, Hashable, Mapping, Sequence
import platform
import time
from typing import Any, TypeVar

import cv2
from lednet_ros import __version__
from lednet_ros.machine import (
    describe_processor,
    package_versions,
    processor_features,
    usable_cores,
)
import numpy as np
import torch
from tqdm import tqdm

Name = TypeVar('Name', bound=Hashable)


def time_interleaved(
    functions: Mapping[Name, Callable[[int], object]], rounds: int
) -> dict[Name, list[float]]:
    """
    Time several functions, interleaved, so that other load on the machine slows down all of them.

    Parameters
    ----------
    functions
        Functions by name; each is called with the number of the round, after two untimed calls.
    rounds
        Timed calls of each function.

    Returns
    -------
    dict of list of float
        Milliseconds of each call, by name.

    """
    for function in tqdm(functions.values(), 'warm up', leave=False, unit='function'):
        for number in range(2):
            function(number)
    times: dict[Name, list[float]] = {name: [] for name in functions}
    for number in tqdm(range(rounds), 'measure', leave=False, unit='round'):
        for name, function in functions.items():
            start = time.perf_counter()
            function(number)
            times[name].append(1e3 * (time.perf_counter() - start))
    return times


def summarize(milliseconds: Sequence[float]) -> dict[str, float]:
    """Compute median and spread of times, rounded to the microsecond."""
    p5, median, p95 = np.percentile(milliseconds, (5, 50, 95))
    return {'median_ms': round(median, 3), 'p5_ms': round(p5, 3), 'p95_ms': round(p95, 3)}


def compare(times: Mapping[str, Sequence[float]], baseline: str, key: str) -> list[dict[str, Any]]:
    """Summarize times by name, fastest first; under `key`, the speed-up over the baseline."""
    medians = {name: float(np.median(values)) for name, values in times.items()}
    return [
        {'name': name, **summarize(times[name]), key: round(medians[baseline] / median, 2)}
        for name, median in sorted(medians.items(), key=lambda item: item[1])
    ]


def make_report(benchmark: str, rows: list[dict[str, Any]], **setup: Any) -> dict[str, Any]:
    """Return the results of a benchmark: its name and setup, the machine and the rows."""
    return {'benchmark': benchmark, **setup, 'machine': describe_machine(), 'rows': rows}


def describe_machine() -> dict[str, Any]:
    """Describe hardware and versions."""
    versions = {
        'lednet_ros': __version__, 'python': platform.python_version(), **package_versions(),
        'opencv': cv2.__version__,
    }
    return {
        'processor': describe_processor(),
        'cores': usable_cores(),
        'features': processor_features(),
        'gpu': torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        'threads': torch.get_num_threads(),
        'versions': versions,
    }
