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

"""Diagnostics messages from the counters of the node."""

from collections.abc import Mapping, Sequence
import math

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.ros.camera import Camera
from lednet_ros.ros.health import Health, judge_camera
from rclpy.time import Time
import torch


def describe_segmenter(segmenter: Segmenter, checkpoint: str) -> dict[str, object]:
    """Return the properties of the network, loaded from `checkpoint`, for the node's status."""
    label_map = segmenter.label_map
    properties: dict[str, object] = {
        'checkpoint': checkpoint,
        'network': segmenter.network_name,
        'device': segmenter.device,
        'backend': segmenter.backend,
        'precision': segmenter.precision,
        'input size': '{}x{}'.format(*segmenter.input_size),
        'classes': ', '.join(
            f'{number} {label.name} {label.web_color}'
            for number, label in zip(label_map.ids, label_map.labels, strict=True)
        ),
    }
    if segmenter.device.type == 'cuda':
        properties['GPU memory [MiB]'] = torch.cuda.memory_allocated(segmenter.device) >> 20
    return properties


def make_diagnostics(
    node_name: str,
    stamp: Time,
    state: str,
    health: Health,
    properties: Mapping[str, object],
    cameras: Sequence[Camera],
    stage_timeout: float,
) -> DiagnosticArray:
    """
    Return one status for the node, with its health and properties, and one per camera.

    `state` is that of `judge_node`, `stage_timeout` the node's parameter.
    """
    message = DiagnosticArray()
    message.header.stamp = stamp.to_msg()
    message.status.append(_status(node_name, health, properties))
    for camera in cameras:
        summary = camera.statistics.summarize()
        latencies = {
            f'{kind} {name} [ms]': '' if math.isnan(value) else f'{value:.2f}'
            for kind, values in (('latency', summary.latency_ms), ('age', summary.age_ms))
            for name, value in zip(('p50', 'p95', 'p99'), values, strict=True)
        }
        message.status.append(
            _status(
                f'{node_name}: {camera.name or "camera"}',
                judge_camera(
                    state, camera.image_topic, bool(camera.wanted()), stage_timeout, summary
                ),
                {
                    'topic': camera.image_topic,
                    'fps in': f'{summary.fps_in:.2f}',
                    'fps out': f'{summary.fps_out:.2f}',
                    **latencies,
                    **dict(sorted(summary.totals.items())),
                },
            )
        )
    return message


def _status(name: str, health: Health, values: Mapping[str, object]) -> DiagnosticStatus:
    return DiagnosticStatus(
        name=name,
        level=health.level,
        message=health.text,
        hardware_id='lednet_ros',
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
    )
