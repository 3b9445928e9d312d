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

"""Benchmarks of live nodes, over DDS: each is a process, this one is camera and subscriber."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import time
from typing import Any

from lednet_ros.benchmark.measure import describe_machine, summarize
from lednet_ros.benchmark.workload import draw_frames, FRAMES
from lednet_ros.live.client import (
    live_session,
    LiveError,
    NodeClient,
    NodeProcess,
    Passage,
    SEGMENTATION_NODE,
)
import numpy as np
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
import torch
from tqdm import tqdm

Frames = Sequence[NDArray[np.uint8]]
Session = tuple[Node, SingleThreadedExecutor]

OUTPUTS = ('labels', 'overlay')
# Names in the table, and of `lednet_ros.live.stand_ins`; none for the package's node.
OURS, NAIVE = 'segmentation_node', 'naive node (cv_bridge, NumPy overlay)'
TRANSPORT_NODES = {OURS: 'null', NAIVE: 'naive_null'}
NODES = {OURS: '', 'naive node (cv_bridge, eager fp32, NumPy)': 'naive'}

# Of `run_transport` and `run_cameras`.
RATE = 30.0
RATES = (10.0, 30.0, 60.0)
CAMERA_COUNTS = (1, 2, 4, 6)
# A frame that takes longer is lost.
FRAME_TIMEOUT = 10.0
# The peak is the highest rate at which no more than this fraction of the frames is lost.
LOST_AT_PEAK = 0.05
# The search for it ends when the rate is known to this factor.
PEAK_FACTOR = 1.1
LOWEST_PEAK = 0.5

# A row of the soak's table for each minute, or for each tenth of a shorter run.
CHUNK_SECONDS = 60.0
FEWEST_CHUNKS = 10
# The first fifth of the chunks fills caches and the allocator's free lists.
SETTLING = 0.2


@contextlib.contextmanager
def live_node(
    session: Session,
    namespace: str,
    frames: Frames,
    parameters: Mapping[str, object],
    stand_in: str = '',
    cameras: Sequence[str] = ('',),
) -> Iterator[tuple[NodeClient, NodeProcess]]:
    """
    Start a node and make its client.

    Parameters
    ----------
    session
        See `live_session`.
    namespace, parameters
        Of the node.
    frames, cameras
        See `NodeClient`.
    stand_in
        Which of `lednet_ros.live.stand_ins`; none for the package's node.

    """
    of_module: dict[str, Any] = {'module': SEGMENTATION_NODE}
    if stand_in:
        of_module = {'module': 'lednet_ros.live.stand_ins', 'arguments': [stand_in]}
    with NodeProcess(namespace, parameters, **of_module, quiet=True) as process:
        client = NodeClient(*session, namespace, process, cameras, OUTPUTS, frames)
        try:
            yield client, process
        finally:
            client.close()


def run_transport(frame_size: tuple[int, int], rounds: int, seconds: float) -> dict[str, Any]:
    """
    Measure message in to labels and overlay out, of the package's node and the naive one.

    Neither runs a network. In the first part, interleaved, a frame is sent when the results of
    the one before have come back; in the second at 30 Hz.

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
    with live_session('benchmark_camera') as session, contextlib.ExitStack() as stack:
        clients = {}
        for name, stand_in in TRANSPORT_NODES.items():
            node = live_node(session, f'/{stand_in}', frames, {}, stand_in)
            clients[name] = stack.enter_context(node)[0]
        for client in clients.values():
            client.wait_active()
        latencies: dict[str, list[float]] = {name: [] for name in clients}
        for _ in tqdm(range(rounds), 'one at a time', leave=False, unit='round'):
            for name, client in clients.items():
                with contextlib.suppress(LiveError):
                    latencies[name].append(1e3 * client.pass_one(timeout=FRAME_TIMEOUT).latency)
        played = {}
        for name, client in clients.items():
            count = round(RATE * seconds)
            with tqdm(total=count, desc=f'30 Hz, {name}', leave=False) as bar:
                played[name] = client.play(RATE, count, progress=bar.update)
    naive = float(np.median(latencies[NAIVE]))
    rows = [
        {
            'name': name,
            **summarize(times),
            'ratio_to_naive': round(naive / float(np.median(times)), 2),
            'sent_at_30_hz': len(played[name]),
            'lost_at_30_hz': sum(not passage.complete for passage in played[name]),
        }
        for name, times in latencies.items()
    ]
    rows.sort(key=lambda row: row['median_ms'])
    return {
        'benchmark': 'transport',
        'frame_size': list(frame_size),
        'outputs': list(OUTPUTS),
        'rounds': rounds,
        'seconds': seconds,
        'machine': describe_machine(),
        'rows': rows,
    }


def run_node(
    checkpoint: str,
    input_size: tuple[int, int],
    frame_size: tuple[int, int],
    seconds: float,
    threads: int,
) -> dict[str, Any]:
    """
    Measure the package's node and the naive one, at several rates and at their peak.

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
    parameters = _parameters(checkpoint, input_size, threads)
    rows = []
    peaks = {}
    with live_session('benchmark_camera') as session:
        for name, stand_in in NODES.items():
            namespace = f"/{stand_in or 'ours'}"
            started = time.perf_counter()
            with live_node(session, namespace, frames, parameters, stand_in) as (client, process):
                client.wait_active()
                start = round(time.perf_counter() - started, 2)
                for rate in RATES:
                    row = measure(client, process, rate, seconds, name)
                    row['start_to_first_result_s'] = start
                    rows.append({'name': name, 'rate': rate, **row})
                peaks[name] = find_peak(client, seconds)
    return {
        'benchmark': 'node',
        'checkpoint': checkpoint,
        'input_size': list(input_size),
        'frame_size': list(frame_size),
        'outputs': list(OUTPUTS),
        'seconds': seconds,
        'machine': describe_machine(),
        'rows': rows,
        'peak_fps': peaks,
    }


def _parameters(checkpoint: str, input_size: tuple[int, int], threads: int) -> dict[str, object]:
    return {'checkpoint': checkpoint, 'input_size': input_size, 'num_threads': threads}


def measure(
    client: NodeClient, process: NodeProcess, rate: float, seconds: float, name: str
) -> dict[str, Any]:
    """Play frames at a rate; return what `judge` does, the processor's use and the memory."""
    count = round(rate * seconds)
    cpu, clock = process.cpu_seconds(), time.perf_counter()
    with tqdm(total=count, desc=f'{rate:.0f} Hz, {name}', leave=False) as bar:
        passages = client.play(rate, count, progress=bar.update)
    elapsed = time.perf_counter() - clock
    return {
        **judge(passages),
        'cpu_cores': round((process.cpu_seconds() - cpu) / elapsed, 2),
        'rss_mib': round(process.memory_mib()),
    }


def judge(passages: Sequence[Passage]) -> dict[str, Any]:
    """
    Sum up what happened to the frames.

    Returns
    -------
    dict
        `fps` of complete results, `missed` fraction of the frames, latencies in milliseconds
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


def find_peak(client: NodeClient, seconds: float) -> float:
    """Find the highest rate, in frames per second, at which at most 5 % of the frames are lost."""
    def keeps_up(rate: float) -> bool:
        passages = client.play(rate, max(round(rate * seconds), 1))
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


def run_cameras(
    checkpoint: str,
    input_size: tuple[int, int],
    frame_size: tuple[int, int],
    seconds: float,
    threads: int,
) -> dict[str, Any]:
    """
    Measure one node with one network for 1, 2, 4 and 6 cameras at 30 Hz.

    Parameters
    ----------
    checkpoint, input_size, frame_size, seconds, threads
        See `run_node`.

    Returns
    -------
    dict
        `rows`, one for each number of cameras: frames per second of all together, of the slowest
        and of the fastest camera, and the latencies of all.

    """
    frames = draw_frames(frame_size, FRAMES)
    rows = []
    with live_session('benchmark_camera') as session:
        for count in CAMERA_COUNTS:
            names = [f'camera{index}' for index in range(count)]
            parameters = {**_parameters(checkpoint, input_size, threads), 'cameras': names}
            node = live_node(session, f'/ours{count}', frames, parameters, cameras=names)
            with node as (client, _):
                client.wait_active()
                total = round(RATE * seconds)
                with tqdm(total=total, desc=f'{count} cameras', leave=False) as bar:
                    passages = client.play(RATE, total, progress=bar.update)
            single = [judge([p for p in passages if p.camera == name])['fps'] for name in names]
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


def run_soak(
    checkpoint: str,
    input_size: tuple[int, int],
    frame_size: tuple[int, int],
    threads: int,
    minutes: float,
    rate: float,
) -> dict[str, Any]:
    """
    Play frames at a fixed rate for long, to see whether memory, threads and latency stay.

    Parameters
    ----------
    checkpoint, input_size, frame_size, threads
        See `run_node`.
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
    frames = draw_frames(frame_size, FRAMES)
    parameters = _parameters(checkpoint, input_size, threads)
    rows: list[dict[str, Any]] = []
    with (
        live_session('benchmark_camera') as session,
        live_node(session, '/ours', frames, parameters) as (client, process),
    ):
        client.wait_active()
        done = 0
        chunks = max(FEWEST_CHUNKS, round(60 * minutes / CHUNK_SECONDS))
        for _ in tqdm(range(chunks), desc='soak', unit='row'):
            # The frames of all parts would grow to a measurable amount here.
            client.passages.clear()
            passages = client.play(rate, round(rate * 60 * minutes / chunks))
            done += sum(passage.complete for passage in passages)
            rows.append({'frames': done, **judge(passages), **_measure(process)})
    return {
        'benchmark': 'soak',
        'checkpoint': checkpoint,
        'input_size': list(input_size),
        'frame_size': list(frame_size),
        'rate': rate,
        'minutes': minutes,
        'machine': describe_machine(),
        'rows': rows,
        'surprises': client.surprises,
        'trend': find_trend(rows),
    }


def find_trend(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return how memory, threads and files change with the number of frames; see `run_soak`."""
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
    """Fit a straight line to a column in MiB; return KiB for each 1000 frames."""
    if len(rows) < 2:
        return 0.0
    frames = [row['frames'] / 1000 for row in rows]
    return round(1024 * float(np.polyfit(frames, [row[key] for row in rows], 1)[0]), 1)


def _measure(target: NodeProcess) -> dict[str, Any]:
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
