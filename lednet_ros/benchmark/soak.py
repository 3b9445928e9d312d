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

"""The live node over a long time: whether memory, threads and latency stay what they were."""

from collections.abc import Sequence
from typing import Any

from lednet_ros.benchmark.live import benchmark_session, Driver, live_node, LiveNode
from lednet_ros.benchmark.measure import describe_machine
from lednet_ros.benchmark.node import judge
from lednet_ros.benchmark.workload import draw_frames, FRAMES
import numpy as np
import torch
from tqdm import tqdm

# A row of the table for each minute, or for each tenth of a shorter run.
CHUNK_SECONDS = 60.0
FEWEST_CHUNKS = 10
# The first share of the chunks fills caches and the allocator's free lists.
SETTLING = 0.2


def run_soak(
    checkpoint: str,
    input_size: tuple[int, int],
    frame_size: tuple[int, int],
    threads: int,
    minutes: float,
    rate: float,
) -> dict[str, Any]:
    """
    Play frames at a fixed rate.

    Parameters
    ----------
    checkpoint, input_size, frame_size, threads
        See `lednet_ros.benchmark.node.run_node`.
    minutes
        How long.
    rate
        Frames per second of the camera.

    Returns
    -------
    dict
        `rows`, one for each part: results so far, latencies, resident memory in MiB, GPU memory
        in MiB where there is one, threads and open files of the node; `trend`, of all parts after
        the first `SETTLING` of them: `rss_kib_per_1000_frames` (a straight line through them),
        `rss_mib_gained`, `threads_gained` and `files_gained`; and `surprises`, results whose
        stamp is of no frame that was sent, or came twice.

    """
    pictures = draw_frames(frame_size, FRAMES)
    rows: list[dict[str, Any]] = []
    with benchmark_session() as (node, executor):
        parameters = [f'num_threads:={threads}']
        with live_node('ours', 'real', '/ours', checkpoint, input_size, parameters) as target:
            driver = Driver(node, executor, target, pictures)
            driver.wait()
            done = 0
            chunks = max(FEWEST_CHUNKS, round(60 * minutes / CHUNK_SECONDS))
            for _ in tqdm(range(chunks), desc='soak', unit='row'):
                passages = driver.play(rate, 60 * minutes / chunks)
                done += sum(passage.complete for passage in passages)
                rows.append({'frames': done, **judge(passages), **_measure(target)})
            driver.close()
    return {
        'benchmark': 'soak',
        'checkpoint': checkpoint,
        'input_size': list(input_size),
        'frame_size': list(frame_size),
        'rate': rate,
        'minutes': minutes,
        'machine': describe_machine(),
        'rows': rows,
        'surprises': driver.surprises,
        'trend': find_trend(rows),
    }


def find_trend(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Give how memory, threads and files change with the number of frames; see `run_soak`."""
    first_settled = int(SETTLING * len(rows))
    settled = rows[first_settled:]
    first, last = settled[0], settled[-1]
    trend = {
        'rss_kib_per_1000_frames': _slope(settled, 'rss_mib'),
        'rss_mib_gained': round(last['rss_mib'] - first['rss_mib'], 1),
        'threads_gained': last['threads'] - first['threads'],
        'files_gained': last['files'] - first['files'],
    }
    if 'gpu_mib' in first:
        trend['gpu_kib_per_1000_frames'] = _slope(settled, 'gpu_mib')
    return trend


def _slope(rows: Sequence[dict[str, Any]], key: str) -> float:
    """Fit a straight line to a column in MiB; gives KiB for each 1000 frames."""
    if len(rows) < 2:
        return 0.0
    frames = [row['frames'] / 1000 for row in rows]
    return round(1024 * float(np.polyfit(frames, [row[key] for row in rows], 1)[0]), 1)


def _measure(target: LiveNode) -> dict[str, Any]:
    found = {
        'rss_mib': round(target.memory_mib(), 1),
        'threads': target.threads(),
        'files': target.open_files(),
    }
    if torch.cuda.is_available():
        # Of the whole device: what a process has got is not to be seen from outside.
        free, total = torch.cuda.mem_get_info()
        found['gpu_mib'] = round((total - free) / 2**20, 1)
    return found
