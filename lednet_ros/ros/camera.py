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

"""One camera's topics: its subscriptions, its publishers and the messages that they reuse."""

from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
import time
from typing import Any

from lednet_ros.inference.camera_info import scale_camera_info
from lednet_ros.inference.encodings import FrameError
from lednet_ros.labels import LabelMap
from lednet_ros.ros.codec import fill_compressed, fill_image
from lednet_ros.ros.statistics import FrameStatistics
import numpy as np
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:
    # The module's name in Humble.
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

try:
    from vision_msgs.msg import LabelInfo, VisionClass
except ImportError:
    LabelInfo = None

# A batch is filled while the one before it is being published.
OUTBOXES = 2

IMAGE_TOPICS = ('labels', 'confidence', 'overlay', 'color')
COMPRESSED_TOPICS = ('labels/compressed', 'overlay/compressed')


def sensor_qos() -> QoSProfile:
    """Newest frame only, from reliable and best-effort cameras alike."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT
    )


def output_qos() -> QoSProfile:
    """Reliable, for best-effort and reliable subscribers alike."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=5, reliability=ReliabilityPolicy.RELIABLE
    )


def latched_qos() -> QoSProfile:
    """Keep the last message for late subscribers."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL
    )


@dataclass
class Outbox:
    """
    Messages of one frame, filled by the worker and published by the executor's thread.

    Attributes
    ----------
    messages
        By topic; reused from frame to frame, so that their buffers are allocated once.
    ready
        Topics that hold this frame.
    arrival_time
        When the frame arrived, seconds of `time.perf_counter`.

    """

    messages: dict[str, Any]
    ready: list[str] = field(default_factory=list)
    arrival_time: float = 0.0
    size: tuple[int, int] = (0, 0)
    header: Header | None = None


class Camera:
    """
    Topics of one camera.

    Parameters
    ----------
    node
        The node.
    name
        Namespace of the camera; empty for the only camera.
    transport
        'raw' or 'compressed'.
    label_map
        The classes, for `~/label_info`.
    on_frame
        Called with every image message.
    warn
        Called with a key, by which repetitions are throttled, and a warning.

    """

    def __init__(
        self,
        node: LifecycleNode,
        name: str,
        transport: str,
        label_map: LabelMap,
        on_frame: Callable[[Any], None],
        warn: Callable[[str, str], None],
    ) -> None:
        self.name = name
        self.statistics = FrameStatistics()
        self.image_topic = _input_topic(node, f'{name}/image' if name else 'image', transport)
        self.next_due = 0.0
        self.active_since = 0.0
        self._info_topic = f'{name}/camera_info' if name else 'camera_info'
        self._message_type = Image if transport == 'raw' else CompressedImage
        self._node = node
        self._on_frame = on_frame
        self._warn = warn
        self._label_map = label_map
        self._camera_info: CameraInfo | None = None
        self._subscriptions: list[Subscription] = []
        prefix = f'~/{name}' if name else '~'
        types = {
            **dict.fromkeys(IMAGE_TOPICS, Image),
            **dict.fromkeys(COMPRESSED_TOPICS, CompressedImage),
            'camera_info': CameraInfo,
        }
        self._publishers: dict[str, Publisher] = {}
        try:
            for topic, kind in types.items():
                self._publishers[topic] = self._create_publisher(
                    kind, f'{prefix}/{topic}', output_qos()
                )
            if LabelInfo is not None:
                self._publishers['label_info'] = self._create_publisher(
                    LabelInfo, f'{prefix}/label_info', latched_qos()
                )
        except Exception:
            # Security may forbid one of them.
            self.destroy()
            raise
        image_types = {topic: types[topic] for topic in (*IMAGE_TOPICS, *COMPRESSED_TOPICS)}
        self._outboxes = [
            Outbox({topic: kind() for topic, kind in image_types.items()})
            for _ in range(OUTBOXES)
        ]
        self.free_outboxes: SimpleQueue[Outbox | None] = SimpleQueue()

    def activate(self) -> None:
        """Start to receive."""
        self.active_since = time.perf_counter()
        self.next_due = 0.0
        self.free_outboxes = SimpleQueue()
        for outbox in self._outboxes:
            self.free_outboxes.put(outbox)
        for kind, topic, callback in (
            (self._message_type, self.image_topic, self._on_frame),
            (CameraInfo, self._info_topic, self._on_camera_info),
        ):
            self._subscriptions.append(
                self._node.create_subscription(
                    kind,
                    topic,
                    callback,
                    sensor_qos(),
                    event_callbacks=SubscriptionEventCallbacks(
                        incompatible_qos=self._on_incompatible(topic, 'subscription')
                    ),
                    qos_overriding_options=QoSOverridingOptions.with_default_policies(),
                )
            )
        if LabelInfo is not None:
            self._publishers['label_info'].publish(_label_info(self._label_map, self._node))

    def deactivate(self) -> None:
        """Stop to receive."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def destroy(self) -> None:
        """Remove all topics."""
        self.deactivate()
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()

    def wanted(self) -> set[str]:
        """Topics with a frame's content that somebody subscribes to."""
        return {
            topic
            for topic, publisher in self._publishers.items()
            if topic != 'label_info' and publisher.get_subscription_count()
        }

    def fill(
        self,
        outbox: Outbox,
        wanted: set[str],
        results: dict[str, NDArray[np.uint8]],
        overlay_encoding: str,
        jpeg_quality: int,
        header: Header,
        arrival_time: float,
    ) -> None:
        """
        Copy results into messages.

        Parameters
        ----------
        outbox
            Where to put them.
        wanted
            Topics to fill.
        results
            Labels and, where wanted, confidence, overlay and color.
        overlay_encoding
            'rgb8' or 'bgr8'.
        jpeg_quality
            1 to 100.
        header
            The input's, shared by all outputs.
        arrival_time
            See `Outbox`.

        """
        encodings = {
            'labels': 'mono8',
            'confidence': 'mono8',
            'overlay': overlay_encoding,
            'color': 'rgb8',
        }
        for topic in wanted:
            content, _, compressed = topic.partition('/')
            if compressed:
                fill_compressed(
                    outbox.messages[topic],
                    results[content],
                    image_format='png' if content == 'labels' else 'jpeg',
                    encoding=encodings[content],
                    quality=jpeg_quality,
                    header=header,
                )
            elif topic in IMAGE_TOPICS:
                fill_image(outbox.messages[topic], results[topic], encodings[topic], header)
        outbox.ready = sorted(wanted)
        outbox.arrival_time = arrival_time
        outbox.header = header
        height, width = results['labels'].shape
        outbox.size = height, width

    def publish(self, outbox: Outbox) -> None:
        """Publish the messages of a frame and count it."""
        for topic in outbox.ready:
            if topic == 'camera_info':
                self._publish_camera_info(outbox)
            else:
                self._publishers[topic].publish(outbox.messages[topic])
        self.statistics.published(time.perf_counter() - outbox.arrival_time)
        self.free_outboxes.put(outbox)

    def _publish_camera_info(self, outbox: Outbox) -> None:
        if self._camera_info is None:
            return
        height, width = outbox.size
        try:
            info = scale_camera_info(self._camera_info, width, height, outbox.header)
        except FrameError as error:
            self._warn(f'{self.name} camera_info', f"'{self._info_topic}': {error}")
            return
        self._publishers['camera_info'].publish(info)

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._camera_info = message

    def _create_publisher(self, kind: Any, topic: str, qos: QoSProfile) -> Publisher:
        return self._node.create_lifecycle_publisher(
            kind,
            topic,
            qos,
            event_callbacks=PublisherEventCallbacks(
                incompatible_qos=self._on_incompatible(topic, 'publisher')
            ),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def _on_incompatible(self, topic: str, kind: str) -> Callable[[Any], None]:
        other = 'publisher' if kind == 'subscription' else 'subscriber'

        def warn(event: Any) -> None:
            resolved = self._node.resolve_topic_name(topic)
            policy = _policy_name(event)
            self._warn(
                f'qos {topic}',
                f"a {other} of '{resolved}' has an incompatible QoS ({policy}), so nothing "
                f"passes between it and this node; set 'qos_overrides.{resolved}.{kind}.{policy}' "
                'to what it uses (see ros2 topic info --verbose)',
            )

        return warn


def _input_topic(node: LifecycleNode, topic: str, transport: str) -> str:
    """Resolve the image topic; remapping the base topic also moves its compressed form."""
    if transport == 'raw':
        return node.resolve_topic_name(topic)
    compressed = f'{topic}/compressed'
    resolved = node.resolve_topic_name(compressed)
    if resolved != node.resolve_topic_name(compressed, only_expand=True):
        return resolved
    return f'{node.resolve_topic_name(topic)}/compressed'


def _policy_name(event: Any) -> str:
    name = str(event.last_policy_kind).rpartition('.')[2].lower()
    return name.removeprefix('rmw_qos_policy_')


def _label_info(label_map: LabelMap, node: LifecycleNode) -> Any:
    info = LabelInfo()
    info.header.stamp = node.get_clock().now().to_msg()
    info.class_map = [
        VisionClass(class_id=index, class_name=name)
        for index, name in enumerate(label_map.names)
    ]
    return info
