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

"""Evaluation of a bag through a live node, a separate process, over DDS, frame by frame."""

from collections.abc import Iterator
import contextlib
import os
from pathlib import Path
import time
from typing import Any

from lednet_ros.evaluation.many_bags import EvaluationSettings
from lednet_ros.evaluation.recording import RecordingResult, Scorer
from lednet_ros.evaluation.recording_reader import LoadedFrame, RecordingReader
from lednet_ros.labels import LabelMap
from lednet_ros.live.client import (
    image_message,
    live_session,
    LiveError,
    NodeClient,
    NodeProcess,
    pixels_of,
)
from lednet_ros.recordings.bags import COMPRESSED_TYPE, open_bag
from lednet_ros.recordings.threads import prefetch
from lednet_ros.ros.parameters import to_parameters
import numpy as np
from sensor_msgs.msg import Image
from tqdm import tqdm

DIAGNOSTICS_TIMEOUT = 5.0
RESULTS = ('labels', 'confidence')


def evaluate_through_ros(
    settings: EvaluationSettings, path: Path, label_map: LabelMap, parameters: int
) -> tuple[RecordingResult, dict[str, Any]]:
    """
    Send each frame of a bag to a node and wait for its results; nothing is lost.

    Parameters
    ----------
    settings
        The node's network, the topics and the ground truth.
    path
        The bag.
    label_map, parameters
        Classes and number of parameters of the network.

    Returns
    -------
    result : RecordingResult
        The same result as that of `evaluate_bag`, to the pixel.
    node : dict
        `latency_ms`, `p50`, `p95` and `p99` from publication of a frame to its labels and
        confidence; `counters` of the node's diagnostics: 'received', 'processed', 'dropped' and
        others that are not zero.

    Raises
    ------
    LiveError
        The node ended, did not start or did not respond.
    SourceError
        See `evaluate_bag`.

    """
    with open_bag(path) as bag:
        reader = RecordingReader(
            bag, settings.image_topic, settings.truth, label_map, settings.options.crop
        )
        scorer = Scorer(reader, path, label_map, parameters)
        result = scorer.result
        # ROS 1 frames are sent decoded, because their messages are serialized differently.
        is_compressed = reader.topic.type == COMPRESSED_TYPE and not bag.is_ros1
        with _live_node(settings, is_compressed) as client:
            start = time.perf_counter()
            for loaded in tqdm(
                prefetch(reader.frames()), path.name, reader.topic.count, unit='frame'
            ):
                if loaded.frame is None:
                    result.rejected[loaded.reason] += 1
                    continue
                passage = client.send(_message(loaded), loaded.message.header_stamp())
                client.wait(
                    lambda p=passage: p.complete,
                    complaint=f'returned no results for frame {loaded.index}',
                )
                labels, confidence = (pixels_of(client.newest[name]) for name in RESULTS)
                scorer.score(loaded, labels, confidence, 1e3 * passage.latency)
            scorer.end(bag.damage, time.perf_counter() - start)
            counters = _read_counters(client, len(result.frames))
    latencies = [frame.milliseconds[1] for frame in result.frames]
    p50, p95, p99 = np.percentile(latencies, (50, 95, 99)).round(3).tolist()
    return result, {'latency_ms': {'p50': p50, 'p95': p95, 'p99': p99}, 'counters': counters}


@contextlib.contextmanager
def _live_node(settings: EvaluationSettings, is_compressed: bool) -> Iterator[NodeClient]:
    """Run the node in a unique namespace."""
    namespace = f'/evaluate_{os.getpid()}'
    topic = f'{namespace}/image' + ('/compressed' if is_compressed else '')
    parameters = {
        'checkpoint': settings.checkpoint,
        'label_map': settings.label_map or '',
        **to_parameters(settings.options),
        'image_transport': 'compressed' if is_compressed else 'raw',
        # No frame may be lost.
        f'qos_overrides.{topic}.subscription.reliability': 'reliable',
    }
    with (
        live_session('evaluate') as session,
        NodeProcess(namespace, parameters, ros_arguments=['--log-level', 'warn']) as process,
    ):
        client = NodeClient(
            *session, namespace, process, outputs=RESULTS, is_compressed=is_compressed
        )
        client.wait_connected()
        yield client


def _message(loaded: LoadedFrame) -> Image | bytes:
    """Return the message to send: the recorded bytes if they are of ROS 2."""
    if not loaded.message.is_ros1:
        return loaded.message.data
    frame = loaded.frame
    assert frame is not None
    message = image_message(frame.pixels, f'{frame.color_order}8', loaded.stamp)
    message.header.frame_id = loaded.message.content.header.frame_id
    return message


def _read_counters(client: NodeClient, frames: int) -> dict[str, int]:
    """Return the counters when they include all frames, or the newest after a timeout."""
    with contextlib.suppress(LiveError):
        client.wait(
            lambda: client.counters(new=False).get('processed', -1) >= frames, DIAGNOSTICS_TIMEOUT
        )
    counters = client.counters(new=False)
    return {'dropped': 0, **counters} if counters else {}
