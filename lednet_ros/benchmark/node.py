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

"""The live node with its network, over DDS, at several rates and at its peak."""

from collections.abc import Sequence
import time
from typing import Any

from lednet_ros.benchmark.live import benchmark_session, Driver, live_node, LiveNode, Passage
from lednet_ros.benchmark.measure import describe_machine
from lednet_ros.benchmark.workload import draw_frames, FRAMES
import numpy as np
from tqdm import tqdm

RATES = (10.0, 30.0, 60.0)
NODES = {'segmentation_node': 'ours', 'naive node (cv_bridge, eager fp32, NumPy)': 'naive'}
# The peak is the highest rate at which no more than this share of the frames is lost.
LOST_AT_PEAK = 0.05
# The search for it ends when the rate is known to this factor.
PEAK_FACTOR = 1.1
LOWEST_PEAK = 0.5


def run_node(
    checkpoint: str,
    input_size: tuple[int, int],
    frame_size: tuple[int, int],
    seconds: float,
    threads: int,
) -> dict[str, Any]:
    """
    Measure the package's node and the naive one, one after the other.

    Parameters
    ----------
    checkpoint
        Checkpoint file or name of a shipped one.
    input_size, frame_size
        Height and width of the network's input and of frames and results.
    seconds
        Length of each measurement.
    threads
        CPU threads of the network; 0 leaves it to the backend.

    Returns
    -------
    dict
        `rows`, one for each node and rate, and `peak_fps` by node.

    """
    frames = draw_frames(frame_size, FRAMES)
    rows = []
    peaks = {}
    with benchmark_session() as (node, executor):
        for name, kind in NODES.items():
            parameters = [f'num_threads:={threads}'] if kind == 'ours' else []
            started = time.perf_counter()
            with live_node(
                kind, 'real', f'/{kind}', checkpoint, input_size, parameters
            ) as target:
                driver = Driver(node, executor, target, frames)
                driver.wait()
                start = round(time.perf_counter() - started, 2)
                for rate in RATES:
                    row = measure(driver, target, rate, seconds, name)
                    row['start_to_first_result_s'] = start
                    rows.append({'name': name, 'rate': rate, **row})
                peaks[name] = find_peak(driver, seconds)
                driver.close()
    return {
        'benchmark': 'node',
        'checkpoint': checkpoint,
        'input_size': list(input_size),
        'frame_size': list(frame_size),
        'outputs': ['labels', 'overlay'],
        'seconds': seconds,
        'machine': describe_machine(),
        'rows': rows,
        'peak_fps': peaks,
    }


def measure(
    driver: Driver, target: LiveNode, rate: float, seconds: float, name: str
) -> dict[str, Any]:
    """Play frames at a rate; give what `judge` gives, and the processor's share and memory."""
    cpu, clock = target.cpu_seconds(), time.perf_counter()
    with tqdm(total=round(rate * seconds), desc=f'{rate:.0f} Hz, {name}', leave=False) as bar:
        passages = driver.play(rate, seconds, bar.update)
    elapsed = time.perf_counter() - clock
    return {
        **judge(passages),
        'cpu_cores': round((target.cpu_seconds() - cpu) / elapsed, 2),
        'rss_mib': round(target.memory_mib()),
    }


def judge(passages: Sequence[Passage]) -> dict[str, Any]:
    """
    Sum up what happened to the frames.

    Returns
    -------
    dict
        `fps` of complete results, `missed` share of the frames, latencies in milliseconds
        (`first_ms`, `last_ms`, `p50_ms`, `p95_ms`, `p99_ms`) and `jitter_ms`, the standard
        deviation of the time between results.

    """
    complete = [passage for passage in passages if passage.complete]
    missed = 1 - len(complete) / len(passages)
    if len(complete) < 2:
        return {'fps': 0.0, 'missed': round(missed, 4)}
    latencies = 1e3 * np.array([passage.latency for passage in complete])
    arrivals = np.sort([passage.sent + passage.latency for passage in complete])
    p50, p95, p99 = np.percentile(latencies, (50, 95, 99))
    return {
        'fps': round((len(arrivals) - 1) / float(arrivals[-1] - arrivals[0]), 2),
        'missed': round(missed, 4),
        'first_ms': round(float(latencies[0]), 1),
        'last_ms': round(float(latencies[-1]), 1),
        'p50_ms': round(float(p50), 1),
        'p95_ms': round(float(p95), 1),
        'p99_ms': round(float(p99), 1),
        'jitter_ms': round(float(np.std(1e3 * np.diff(arrivals))), 1),
    }


def find_peak(driver: Driver, seconds: float) -> float:
    """Find the highest rate, in frames per second, at which at most 5 % of the frames are lost."""
    def keeps_up(rate: float) -> bool:
        passages = driver.play(rate, seconds)
        return float(judge(passages)['missed']) <= LOST_AT_PEAK

    low, high = LOWEST_PEAK, LOWEST_PEAK
    with tqdm(desc='search for the peak', leave=False, unit='rate') as bar:
        while keeps_up(high):
            low, high = high, 2 * high
            bar.update()
        while high / low > PEAK_FACTOR:
            middle = (low * high) ** 0.5
            low, high = (middle, high) if keeps_up(middle) else (low, middle)
            bar.update()
    return round(low, 2)
