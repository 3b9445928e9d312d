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

"""Benchmarks of live nodes over DDS; this process is their camera and subscriber."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import time
from typing import Any

from lednet_ros.benchmark.measure import compare, make_report
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

OUTPUTS = ('labels', 'overlay')
# The stand-in (see `lednet_ros.live.stand_ins`) of each row; '' is the package's node.
OURS, NAIVE = 'segmentation_node', 'naive node (cv_bridge, NumPy overlay)'
TRANSPORT_NODES = {OURS: 'null', NAIVE: 'naive_null'}
NODES = {OURS: '', 'naive node (cv_bridge, eager fp32, NumPy)': 'naive'}

# Frames per second in `run_transport` and `run_cameras`, and in `run_node`.
RATE = 30.0
RATES = (10.0, 30.0, 60.0)
CAMERA_COUNTS = (1, 2, 4, 6)
# A frame that takes longer is lost.
FRAME_TIMEOUT = 10.0
# The peak is the highest rate at which no more than this fraction of the frames is lost.
LOST_AT_PEAK = 0.05
# The search ends when the peak is known within this factor.
PEAK_FACTOR = 1.1
LOWEST_PEAK = 0.5

# The soak's table has a row for each minute, or for each tenth of a shorter run.
FEWEST_CHUNKS = 10
# Caches and the allocator's free lists fill during this fraction of the chunks.
SETTLING = 0.2


@contextlib.contextmanager
def live_node(
    session: tuple[Node, SingleThreadedExecutor],
    namespace: str,
    frames: Sequence[NDArray[np.uint8]],
    parameters: Mapping[str, object],
    stand_in: str = '',
    cameras: Sequence[str] = ('',),
) -> Iterator[NodeClient]:
    """
    Start a node and wait until it is active; yield its client.

    Parameters
    ----------
    session
        See `live_session`.
    namespace, parameters
        See `NodeProcess`.
    frames, cameras
        See `NodeClient`.
    stand_in
        Name in `lednet_ros.live.stand_ins.NODES`; by default the package's node runs.

    """
    program = ('lednet_ros.live.stand_ins', stand_in) if stand_in else (SEGMENTATION_NODE,)
    with (
        NodeProcess(namespace, parameters, program, quiet=True) as process,
        contextlib.closing(
            NodeClient(*session, namespace, process, cameras, OUTPUTS, frames)
        ) as client,
    ):
        client.wait_active()
        yield client


def run_transport(frame_size: tuple[int, int], rounds: int, seconds: float) -> dict[str, Any]:
    """
    Measure the package's node and the naive one without a network, from image to results.

    In the first part, interleaved, a frame is sent when the results of the previous one have
    arrived; in the second part frames are sent at 30 Hz.

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
        `rows` with `name`, `median_ms` and spread, `ratio_to_naive`, and the frames sent and lost
        at 30 Hz; see `make_report`.

    """
    frames = draw_frames(frame_size, FRAMES)
    with live_session('benchmark_camera') as session, contextlib.ExitStack() as stack:
        clients = {
            name: stack.enter_context(live_node(session, f'/{stand_in}', frames, {}, stand_in))
            for name, stand_in in TRANSPORT_NODES.items()
        }
        latencies: dict[str, list[float]] = {name: [] for name in clients}
        for _ in tqdm(range(rounds), 'one at a time', leave=False, unit='round'):
            for name, client in clients.items():
                with contextlib.suppress(LiveError):
                    latencies[name].append(1e3 * client.pass_one(timeout=FRAME_TIMEOUT).latency)
        played = {
            name: client.play(RATE, round(RATE * seconds), label=f'30 Hz, {name}')
            for name, client in clients.items()
        }
    rows = compare(latencies, NAIVE, 'ratio_to_naive')
    for row in rows:
        passages = played[row['name']]
        row['sent_at_30_hz'] = len(passages)
        row['lost_at_30_hz'] = sum(not passage.complete for passage in passages)
    return make_report(
        'transport',
        rows,
        frame_size=list(frame_size),
        outputs=list(OUTPUTS),
        rounds=rounds,
        seconds=seconds,
    )


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
        Height and width of the network's input, and of frames and results.
    seconds
        Length of each measurement.
    threads
        CPU threads of the network; 0 leaves it to the backend, within the quota of a container.

    Returns
    -------
    dict
        `rows`, one for each node and rate, and `peak_fps` by node; see `make_report`.

    """
    frames = draw_frames(frame_size, FRAMES)
    parameters, setup = _describe(checkpoint, input_size, frame_size, threads)
    rows = []
    peaks = {}
    with live_session('benchmark_camera') as session:
        for name, stand_in in NODES.items():
            namespace = f"/{stand_in or 'ours'}"
            started = time.perf_counter()
            with live_node(session, namespace, frames, parameters, stand_in) as client:
                start = round(time.perf_counter() - started, 2)
                for rate in RATES:
                    row = {'name': name, 'rate': rate, **measure(client, rate, seconds, name)}
                    rows.append(row | {'start_to_first_result_s': start})
                peaks[name] = find_peak(client, seconds)
    setup |= {'outputs': list(OUTPUTS), 'seconds': seconds}
    return make_report('node', rows, **setup, peak_fps=peaks)


def _describe(
    checkpoint: str, input_size: tuple[int, int], frame_size: tuple[int, int], threads: int
) -> tuple[dict[str, object], dict[str, Any]]:
    """Return the node's parameters, and the setup for `make_report`."""
    parameters = {'checkpoint': checkpoint, 'input_size': input_size, 'num_threads': threads}
    sizes = {'input_size': list(input_size), 'frame_size': list(frame_size)}
    return parameters, {'checkpoint': checkpoint, **sizes}


def measure(client: NodeClient, rate: float, seconds: float, name: str) -> dict[str, Any]:
    """Play frames at a rate; return the result of `judge`, processor use and memory."""
    process = client.target
    cpu, clock = process.cpu_seconds(), time.perf_counter()
    passages = client.play(rate, round(rate * seconds), label=f'{rate:.0f} Hz, {name}')
    elapsed = time.perf_counter() - clock
    return {
        **judge(passages),
        'cpu_cores': round((process.cpu_seconds() - cpu) / elapsed, 2),
        'rss_mib': round(process.resources()['rss_mib']),
    }


def judge(passages: Sequence[Passage]) -> dict[str, Any]:
    """
    Summarize the results of frames.

    Returns
    -------
    dict
        `fps` of complete results, `missed` fraction of the frames, latencies in milliseconds
        (`first_ms`, `last_ms`, `p50_ms`, `p95_ms`, `p99_ms`) and `jitter_ms`, the standard
        deviation of the time between results.

    """
    complete = [passage for passage in passages if passage.complete]
    missed = round(1 - len(complete) / len(passages), 4)
    if len(complete) < 2:
        return {'fps': 0.0, 'missed': missed}
    latencies = 1e3 * np.array([passage.latency for passage in complete])
    arrivals = np.sort([passage.sent + passage.latency for passage in complete])
    p50, p95, p99 = np.percentile(latencies, (50, 95, 99))
    milliseconds = {
        'first_ms': latencies[0],
        'last_ms': latencies[-1],
        'p50_ms': p50,
        'p95_ms': p95,
        'p99_ms': p99,
        'jitter_ms': np.std(1e3 * np.diff(arrivals)),
    }
    return {
        'fps': round((len(arrivals) - 1) / float(arrivals[-1] - arrivals[0]), 2),
        'missed': missed,
        **{key: round(float(value), 1) for key, value in milliseconds.items()},
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
    Measure one node with one network for 1, 2, 4 and 6 cameras at 30 Hz; see `run_node`.

    Returns
    -------
    dict
        `rows`, one for each number of cameras: frames per second of all cameras together, of the
        slowest and of the fastest one, and the latencies of all; see `make_report`.

    """
    frames = draw_frames(frame_size, FRAMES)
    parameters, setup = _describe(checkpoint, input_size, frame_size, threads)
    rows = []
    with live_session('benchmark_camera') as session:
        for count in CAMERA_COUNTS:
            names = [f'camera{index}' for index in range(count)]
            parameters['cameras'] = names
            node = live_node(session, f'/ours{count}', frames, parameters, cameras=names)
            with node as client:
                passages = client.play(RATE, round(RATE * seconds), label=f'{count} cameras')
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
    return make_report('cameras', rows, **setup, rate=RATE, seconds=seconds)


def run_soak(
    checkpoint: str,
    input_size: tuple[int, int],
    frame_size: tuple[int, int],
    threads: int,
    minutes: float,
    rate: float,
) -> dict[str, Any]:
    """
    Play frames at a fixed rate for a long time; measure memory, threads and latency.

    Parameters
    ----------
    checkpoint, input_size, frame_size, threads
        See `run_node`.
    minutes
        Length of the run.
    rate
        Frames per second of the camera.

    Returns
    -------
    dict
        `rows`, one for each part: results so far, latencies, resident memory in MiB, GPU memory
        in MiB if there is a GPU, threads and open files of the node; `trend` over the parts after
        the first `SETTLING` of them: `rss_kib_per_1000_frames` (slope of a fitted line),
        `rss_mib_gained`, `threads_gained` and `files_gained`; and `surprises`, results that match
        no sent frame, or came twice.

    """
    frames = draw_frames(frame_size, FRAMES)
    parameters, setup = _describe(checkpoint, input_size, frame_size, threads)
    rows: list[dict[str, Any]] = []
    with (
        live_session('benchmark_camera') as session,
        live_node(session, '/ours', frames, parameters) as client,
    ):
        done = 0
        chunks = max(FEWEST_CHUNKS, round(minutes))
        for _ in tqdm(range(chunks), desc='soak', unit='row'):
            # The client's record of all parts would grow to a measurable size.
            client.passages.clear()
            passages = client.play(rate, round(rate * 60 * minutes / chunks))
            done += sum(passage.complete for passage in passages)
            used = client.target.resources()
            used['rss_mib'] = round(used['rss_mib'], 1)
            if torch.cuda.is_available():
                # Of the whole device: other processes can't be told apart.
                free, total = torch.cuda.mem_get_info()
                used['gpu_mib'] = round((total - free) / 2**20, 1)
            rows.append({'frames': done, **judge(passages), **used})
    setup |= {'rate': rate, 'minutes': minutes}
    return make_report(
        'soak', rows, **setup, surprises=client.surprises, trend=find_trend(rows)
    )


def find_trend(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the growth of memory, threads and files; see `run_soak`."""
    settled = rows[int(SETTLING * len(rows)) :]
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
    """Fit a straight line to a column in MiB; return its slope in KiB per 1000 frames."""
    if len(rows) < 2:
        return 0.0
    frames = [row['frames'] / 1000 for row in rows]
    return round(1024 * float(np.polyfit(frames, [row[key] for row in rows], 1)[0]), 1)
