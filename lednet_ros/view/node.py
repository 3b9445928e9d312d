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


"""The page of a running node: reports of `NodeWatch` in the page's words."""

from collections.abc import Mapping, Sequence
import re
from typing import Any

from lednet_ros.live.watch import NodeReport, NodeWatch, WatchedCamera
from lednet_ros.view.content import Content, Tile

LEVELS = {b'\x00': 'ok', b'\x01': 'warn'}
# Id, name and color.
CLASS = re.compile(r'(\d+) (.+?) (#[0-9a-f]{6})(?:, |$)')
# Counters that are shown even at 0.
LOSSES = ('dropped', 'lost')
# Counters of frames that are well.
GOOD = ('received', 'processed', 'unwanted')


class NodePage:
    """Shows a running node; see `Source`."""

    def __init__(self, watch: NodeWatch) -> None:
        self._watch = watch

    def wait(self, after: int, timeout: float) -> Content:
        """Return content with a higher version, or the newest one after a timeout in seconds."""
        report = self._watch.wait(after, timeout)
        values = _values(report.status)
        classes = CLASS.findall(values.get('classes', ''))
        level, text = 'error', report.trouble
        if report.status is not None:
            level, text = LEVELS.get(report.status.level, 'error'), report.status.message
        return Content(
            report.version,
            level,
            text,
            tiles=[_tile(camera) for camera in report.cameras],
            classes=[(name, color) for _, name, color in classes],
            fractions=_fractions(report, [int(number) for number, _, _ in classes]),
            settings=report.settings,
        )

    def change(self, changes: Mapping[str, Any]) -> None:
        """Set parameters of the node; raise ValueError with its reason if it refuses."""
        self._watch.change(changes)


def _values(status: Any) -> dict[str, str]:
    return {} if status is None else {pair.key: pair.value for pair in status.values}


def _measured(values: Mapping[str, str], name: str, digits: int, unit: str) -> str:
    # Latencies are empty before the first frame.
    return f'{float(values[name]):.{digits}f} {unit}' if values.get(name) else '-'


def _tile(camera: WatchedCamera) -> Tile:
    values = _values(camera.status)
    facts = []
    if camera.status is not None:
        facts = [
            ('in', _measured(values, 'fps in', 1, 'Hz')),
            ('out', _measured(values, 'fps out', 1, 'Hz')),
            ('latency', _measured(values, 'latency p50 [ms]', 0, 'ms')),
            ('p99', _measured(values, 'latency p99 [ms]', 0, 'ms')),
            *((name, values.get(name, '0')) for name in LOSSES),
            *(
                (name, value) for name, value in values.items()
                if value.isdecimal() and value != '0' and name not in (*GOOD, *LOSSES)
            ),
        ]
    return Tile(
        camera.name or 'camera',
        camera.version,
        camera.overlay,
        facts,
        camera.age,
        'ok' if camera.status is None else LEVELS.get(camera.status.level, 'error'),
        '' if camera.status is None else camera.status.message,
    )


def _fractions(report: NodeReport, ids: Sequence[int]) -> list[float]:
    total = int(report.pixels.sum())
    return (report.pixels[[*ids]] / total).tolist() if total and ids else []
