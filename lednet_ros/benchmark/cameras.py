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

"""One node and one network for 1, 2, 4 and 6 cameras at 30 Hz."""

from typing import Any

from lednet_ros.benchmark.live import benchmark_session, Driver, live_node
from lednet_ros.benchmark.measure import describe_machine
from lednet_ros.benchmark.node import judge
from lednet_ros.benchmark.workload import draw_frames, FRAMES
from tqdm import tqdm

COUNTS = (1, 2, 4, 6)
RATE = 30.0


def run_cameras(
    checkpoint: str,
    input_size: tuple[int, int],
    frame_size: tuple[int, int],
    seconds: float,
    threads: int,
) -> dict[str, Any]:
    """
    Measure the node with several cameras.

    Parameters
    ----------
    checkpoint, input_size, frame_size, seconds, threads
        See `lednet_ros.benchmark.node.run_node`.

    Returns
    -------
    dict
        `rows`, one for each number of cameras: frames per second of all together, of the slowest
        and of the fastest camera, and the latencies of all.

    """
    frames = draw_frames(frame_size, FRAMES)
    rows = []
    with benchmark_session() as (node, executor):
        for count in COUNTS:
            names = [f'camera{index}' for index in range(count)]
            parameters = [f'num_threads:={threads}', f"cameras:=[{','.join(names)}]"]
            with live_node(
                'ours', 'real', f'/ours{count}', checkpoint, input_size, parameters
            ) as target:
                driver = Driver(node, executor, target, frames, names)
                driver.wait()
                total = round(RATE * seconds)
                with tqdm(total=total, desc=f'{count} cameras', leave=False) as bar:
                    passages = driver.play(RATE, seconds, bar.update)
                driver.close()
            single = [
                judge([passage for passage in passages if passage.camera == index])['fps']
                for index in range(count)
            ]
            whole = judge(passages)
            rows.append(
                {
                    'cameras': count,
                    'fps_all': whole['fps'],
                    'fps_slowest': min(single),
                    'fps_fastest': max(single),
                    **{key: whole.get(key) for key in ('p50_ms', 'p95_ms', 'p99_ms')},
                }
            )
    return {
        'benchmark': 'cameras',
        'checkpoint': checkpoint,
        'input_size': list(input_size),
        'frame_size': list(frame_size),
        'rate': RATE,
        'seconds': seconds,
        'machine': describe_machine(),
        'rows': rows,
    }
