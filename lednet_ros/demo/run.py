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

"""Runs the demo: starts node and camera as processes of their own, watches, records, reports."""

import contextlib
import math
from pathlib import Path
import signal
import subprocess
import time

from lednet_ros.checkpoint import load_checkpoint
from lednet_ros.demo.monitor import Monitor
from lednet_ros.demo.recorder import SHEET_ROWS, write_contact_sheet
from lednet_ros.files import make_folder
from lednet_ros.labels import LabelMap
from lednet_ros.recordings.writers import BagWriter, VideoWriter
from lednet_ros.ros.process import keep_large_buffers, run_module, use_shipped_profile
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rich.columns import Columns
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

NAMESPACE = '/demo'
START_TIMEOUT = 60.0
# After the last frame, results may still be under way.
DRAIN_SECONDS = 1.0
REFRESH_PER_SECOND = 4
VIDEO_RATE = 10.0


class DemoError(RuntimeError):
    """The demo can't run; the message says why."""


def run_demo(
    source: Path | None, seconds: float, output: Path, checkpoint: str, topic: str | None
) -> int:
    """
    Run the node on the synthetic street or on a recording and leave pictures behind.

    Parameters
    ----------
    source
        Recording to play (see `read_frames`); None takes the synthetic camera.
    seconds
        How long to run; a recording may end earlier.
    output
        Folder for `contact_sheet.png`, `overlay.mp4` and `bag`.
    checkpoint
        What the node loads.
    topic
        Image topic of a bag that has several.

    Returns
    -------
    int
        0; 1 when the node put out nothing.

    Raises
    ------
    DemoError
        The node or the source ended early, or did not start in time.
    OSError
        The output folder can't be written.

    """
    if source is not None and not source.exists():
        raise DemoError(f'{source} does not exist')
    make_folder(output)
    label_map = load_checkpoint(checkpoint).label_map
    use_shipped_profile()
    # Ctrl-C reaches the whole process group; the demo itself ends the processes in order.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    keep_large_buffers()
    rclpy.init(signal_handler_options=rclpy.SignalHandlerOptions.NO)
    bag = BagWriter(output / 'bag')
    video = VideoWriter(output / 'overlay.mp4', VIDEO_RATE)
    monitor = Monitor(
        NAMESPACE,
        label_map,
        expects_truth=source is None,
        truth_matches=label_map.names == LabelMap.load('camvid').names,
        bag=bag,
        video=video,
    )
    try:
        _watch(monitor, source, seconds, checkpoint, topic)
    finally:
        monitor.destroy_node()
        rclpy.try_shutdown()
        bag.close()
        video.close()
    figures = monitor.figures
    median, _, p99 = figures.latency_ms()
    title = f'{figures.frames_out} frames, latency {median:.0f} ms (p99 {p99:.0f} ms)'
    if not math.isnan(monitor.confusion.miou()):
        title += f', mIoU {monitor.confusion.miou():.3f}'
    write_contact_sheet(
        output / 'contact_sheet.png', monitor.samples.spread(SHEET_ROWS), label_map, title
    )
    print(f'{output}: contact_sheet.png, overlay.mp4, bag ({figures.frames_out} frames)')
    return 0 if figures.frames_out else 1


def _watch(
    monitor: Monitor, source: Path | None, seconds: float, checkpoint: str, topic: str | None
) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(monitor)
    with contextlib.ExitStack() as stack, contextlib.suppress(KeyboardInterrupt):
        node = stack.enter_context(
            run_module(
                'lednet_ros.ros.segmentation_node', NAMESPACE, ['-p', f'checkpoint:={checkpoint}']
            )
        )
        _spin_until_ready(executor, monitor, node)
        if source is None:
            # Its log would break into the live table.
            camera = run_module(
                'lednet_ros.ros.synthetic_camera', NAMESPACE, ['--log-level', 'warn']
            )
        else:
            arguments = [str(source), '--subscribers', '2']
            arguments += ['--topic', topic] if topic else []
            camera = run_module('lednet_ros.demo.player', NAMESPACE, [], arguments)
        camera_process = stack.enter_context(camera)
        live = stack.enter_context(Live(refresh_per_second=REFRESH_PER_SECOND))
        start = time.perf_counter()
        end = start + seconds
        next_table = start
        while (now := time.perf_counter()) < end:
            executor.spin_once(timeout_sec=0.05)
            if now >= next_table:
                live.update(_table(monitor, end - now))
                next_table = now + 1 / REFRESH_PER_SECOND
            if node.poll() is not None:
                raise DemoError(f'the node ended with exit code {node.returncode}')
            if camera_process.poll() is not None:
                if camera_process.returncode:
                    raise DemoError(f'the source ended with {camera_process.returncode}')
                end = min(end, now + DRAIN_SECONDS)
        live.update(_table(monitor, 0.0))


def _spin_until_ready(
    executor: SingleThreadedExecutor, monitor: Monitor, node: 'subprocess.Popen[bytes]'
) -> None:
    deadline = time.perf_counter() + START_TIMEOUT
    while not monitor.node_is_ready():
        if node.poll() is not None:
            raise DemoError(f'the node ended with exit code {node.returncode}')
        if time.perf_counter() > deadline:
            raise DemoError(f'the node was not active within {START_TIMEOUT:.0f} s')
        executor.spin_once(timeout_sec=0.1)


def _table(monitor: Monitor, seconds_left: float) -> Group:
    figures = monitor.figures
    median, _, p99 = figures.latency_ms()
    miou = monitor.confusion.miou()
    summary = Table(title=f'lednet_ros, {max(seconds_left, 0):.0f} s to go')
    values = {
        'fps in': f'{figures.rate(figures.recent_in):.1f}',
        'fps out': f'{figures.rate(figures.recent_out):.1f}',
        'latency p50': _milliseconds(median),
        'latency p99': _milliseconds(p99),
        'dropped': figures.diagnostics.get('dropped', '0'),
        'mIoU': '-' if math.isnan(miou) else f'{miou:.3f}',
    }
    for name in values:
        summary.add_column(name, justify='right')
    summary.add_row(*values.values())
    label_map = monitor.confusion.label_map
    total = max(int(figures.pixels.sum()), 1)
    shares = []
    for name, color, count in zip(
        label_map.names, label_map.palette, figures.pixels, strict=False
    ):
        red, green, blue = (int(value) for value in color)
        swatch = Text('  ', style=f'on rgb({red},{green},{blue})')
        shares.append(swatch + Text(f' {name} {100 * count / total:.1f}%'))
    return Group(summary, Columns(shares, equal=True), '')


def _milliseconds(value: float) -> str:
    return '-' if math.isnan(value) else f'{value:.0f} ms'
