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

"""The demo: starts node and camera as separate processes, observes, records and reports."""

import contextlib
import math
from pathlib import Path
import signal
import time

from lednet_ros.checkpoint import load_checkpoint
from lednet_ros.files import claim_files, claim_folder
from lednet_ros.labels import LabelMap
from lednet_ros.live.client import (
    live_session,
    LiveError,
    NodeClient,
    NodeProcess,
    START_TIMEOUT,
)
from lednet_ros.live.contact_sheet import SHEET_ROWS, write_contact_sheet
from lednet_ros.live.monitor import Monitor
from lednet_ros.recordings.writers import BagWriter, completing, VideoWriter
from lednet_ros.ros.statistics import percentiles_ms
from rich.columns import Columns
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

NAMESPACE = '/demo'
# Results may arrive this long after the last frame.
DRAIN_SECONDS = 1.0
REFRESH_PER_SECOND = 4
VIDEO_RATE = 10.0


def run_demo(
    source: Path | None,
    seconds: float,
    output: Path,
    checkpoint: str,
    topic: str | None,
    overwrite: bool = False,
) -> int:
    """
    Run the node on the synthetic street or on a recording and leave images behind.

    Parameters
    ----------
    source
        Recording to play (see `read_frames`); None takes the synthetic camera.
    seconds
        Length of the run; a recording may end earlier.
    output
        Folder for `contact_sheet.png`, `overlay.mp4` and `bag`.
    checkpoint
        Checkpoint of the node.
    topic
        Image topic of a bag that has several.
    overwrite
        Allow to replace files of `output`.

    Returns
    -------
    int
        0; 1 if the node published nothing.

    Raises
    ------
    LiveError
        The source is missing; or node or source ended early, or did not start in time.
    OSError
        The output folder can't be written.

    """
    if source is not None and not source.exists():
        raise LiveError(f'{source} does not exist')
    sheet, inputs = output / 'contact_sheet.png', [] if source is None else [source]
    claim_files([sheet, output / 'overlay.mp4'], inputs, overwrite)
    claim_folder(output / 'bag', inputs, overwrite, bag=True)
    label_map = load_checkpoint(checkpoint).label_map
    # Ctrl-C reaches the whole process group; the demo ends the processes in order.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with (
        live_session('demo_monitor') as session,
        completing(BagWriter(output / 'bag', overwrite=overwrite)) as bag,
        completing(VideoWriter(output / 'overlay.mp4', VIDEO_RATE, overwrite)) as video,
    ):
        client = NodeClient(*session, NAMESPACE, cameras=(), outputs=())
        monitor = Monitor(
            client,
            label_map,
            expects_truth=source is None,
            truth_matches=label_map.names == LabelMap.load('camvid').names,
            bag=bag,
            video=video,
        )
        with contextlib.suppress(KeyboardInterrupt):
            _watch(client, monitor, source, seconds, checkpoint, topic)
    median, _, p99 = percentiles_ms(monitor.latencies)
    title = f'{monitor.frames_out} frames, latency {median:.0f} ms (p99 {p99:.0f} ms)'
    if not math.isnan(monitor.confusion.miou()):
        title += f', mIoU {monitor.confusion.miou():.3f}'
    write_contact_sheet(
        sheet, monitor.samples.spread(SHEET_ROWS), label_map, title
    )
    print(f'{output}: contact_sheet.png, overlay.mp4, bag ({monitor.frames_out} frames)')
    return 0 if monitor.frames_out else 1


def _watch(
    client: NodeClient,
    monitor: Monitor,
    source: Path | None,
    seconds: float,
    checkpoint: str,
    topic: str | None,
) -> None:
    image = f'{NAMESPACE}/image'
    with NodeProcess(NAMESPACE, {'checkpoint': checkpoint}) as client.process:
        client.wait(
            # The monitor is one subscriber, the node the other.
            lambda: client.ros_node.count_subscribers(image) >= 2, START_TIMEOUT, 'was not active'
        )
        with (
            _start_camera(source, topic) as camera,
            Live(refresh_per_second=REFRESH_PER_SECOND) as live,
        ):
            # The time counts from the first complete frame: each topic is discovered by itself.
            client.wait(
                lambda: monitor.frames_complete or camera.exit_code is not None,
                complaint='published nothing',
            )
            end = time.perf_counter() + seconds
            next_table = 0.0
            while (now := time.perf_counter()) < end:
                client.spin(0.05)
                if now >= next_table:
                    live.update(_table(client, monitor, end - now))
                    next_table = now + 1 / REFRESH_PER_SECOND
                if camera.exit_code is not None:
                    if camera.exit_code:
                        raise LiveError(f'the source ended with {camera.exit_code}')
                    end = min(end, now + DRAIN_SECONDS)
            live.update(_table(client, monitor, 0.0))


def _start_camera(source: Path | None, topic: str | None) -> NodeProcess:
    if source is None:
        program = ['lednet_ros.ros.synthetic_camera']
        # Its log would disturb the live table.
        return NodeProcess(NAMESPACE, {}, program, ros_arguments=['--log-level', 'warn'])
    program = ['lednet_ros.live.player', str(source), '--frames', '--subscribers', '2']
    if topic:
        program += ['--image-topic', topic]
    return NodeProcess(NAMESPACE, program=program)


def _table(client: NodeClient, monitor: Monitor, seconds_left: float) -> Group:
    median, _, p99 = (
        '-' if math.isnan(value) else f'{value:.0f} ms'
        for value in percentiles_ms(monitor.latencies)
    )
    miou = monitor.confusion.miou()
    summary = Table(title=f'lednet_ros, {max(seconds_left, 0):.0f} s to go')
    values = {
        'fps in': f'{monitor.rate(monitor.recent_in):.1f}',
        'fps out': f'{monitor.rate(monitor.recent_out):.1f}',
        'latency p50': median,
        'latency p99': p99,
        'dropped': str(client.counters(new=False).get('dropped', 0)),
        'mIoU': '-' if math.isnan(miou) else f'{miou:.3f}',
    }
    for name in values:
        summary.add_column(name, justify='right')
    summary.add_row(*values.values())
    label_map = monitor.confusion.label_map
    total = max(int(monitor.pixels.sum()), 1)
    fractions = []
    for name, color, count in zip(
        label_map.names, label_map.palette, monitor.pixels, strict=False
    ):
        swatch = Text('  ', style='on rgb({},{},{})'.format(*color))
        fractions.append(swatch + Text(f' {name} {100 * count / total:.1f}%'))
    return Group(summary, Columns(fractions, equal=True), '')
