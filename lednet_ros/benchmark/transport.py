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

"""Message in to labels and overlay out, with a network that does nothing."""

import contextlib
import math
from typing import Any

from lednet_ros.benchmark.live import benchmark_session, Driver, live_node
from lednet_ros.benchmark.measure import describe_machine, summarize
from lednet_ros.benchmark.workload import draw_frames, FRAMES
import numpy as np
from tqdm import tqdm

OURS, NAIVE = 'segmentation_node', 'naive node (cv_bridge, NumPy overlay)'
RATE = 30.0


def run_transport(frame_size: tuple[int, int], rounds: int, seconds: float) -> dict[str, Any]:
    """
    Measure the package's node and the naive one, in turns.

    Each is a process; this one is the camera and the subscriber. In the first part a frame is
    sent when the results of the one before have come back; in the second at 30 Hz.

    Parameters
    ----------
    frame_size
        Height and width.
    rounds
        Frames of the first part for each node.
    seconds
        Length of the second part for each node.

    Returns
    -------
    dict
        `rows` with `name`, `median_ms` and spread, `ratio_to_naive` and what was sent and lost at
        30 Hz; and what they were measured on.

    """
    frames = draw_frames(frame_size, FRAMES)
    with benchmark_session() as (node, executor), contextlib.ExitStack() as stack:
        drivers = {}
        for name, kind in ((OURS, 'ours'), (NAIVE, 'naive')):
            target = stack.enter_context(
                live_node(kind, 'null', f'/{kind}', 'lednet', (360, 480))
            )
            drivers[name] = Driver(node, executor, target, frames)
        for driver in drivers.values():
            driver.wait()
        latencies: dict[str, list[float]] = {name: [] for name in drivers}
        for _ in tqdm(range(rounds), 'one at a time', leave=False, unit='round'):
            for name, driver in drivers.items():
                latencies[name].append(1e3 * driver.pass_one())
        played = {}
        for name, driver in drivers.items():
            with tqdm(total=round(RATE * seconds), desc=f'30 Hz, {name}', leave=False) as bar:
                played[name] = driver.play(RATE, seconds, bar.update)
    naive = float(np.nanmedian(latencies[NAIVE]))
    rows = [
        {
            'name': name,
            **summarize([value for value in times if not math.isnan(value)]),
            'ratio_to_naive': round(naive / float(np.nanmedian(times)), 2),
            'sent_at_30_hz': len(played[name]),
            'lost_at_30_hz': sum(not passage.complete for passage in played[name]),
        }
        for name, times in latencies.items()
    ]
    rows.sort(key=lambda row: row['median_ms'])
    return {
        'benchmark': 'transport',
        'frame_size': list(frame_size),
        'outputs': ['labels', 'overlay'],
        'rounds': rounds,
        'seconds': seconds,
        'machine': describe_machine(),
        'rows': rows,
    }
