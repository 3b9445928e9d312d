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

from collections import deque
from collections.abc import Mapping, Set
from dataclasses import dataclass
import math
from queue import SimpleQueue
import time
from typing import Any

from lednet_ros.inference.backends.base import Outputs
from lednet_ros.inference.camera_info import camera_info_topic, scale_camera_info
from lednet_ros.inference.encodings import FrameError
from lednet_ros.inference.postprocess import mask_class
from lednet_ros.labels import LabelMap
from lednet_ros.ros.health import (
    explain_loss,
    explain_silence,
    MAX_LOST_FRACTION,
    NO_FRAMES_AFTER,
    ThrottledLog,
)
from lednet_ros.ros.inputs import Input
from lednet_ros.ros.messages import fill_compressed, fill_image
from lednet_ros.ros.parameters import mask_topics
from lednet_ros.ros.qos import latched_qos, output_qos, publisher_options
from lednet_ros.ros.slots import Arrival, FrameSlots
from lednet_ros.ros.statistics import estimate_lost, FRAMES_TO_JUDGE, FrameStatistics
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode
from rclpy.publisher import Publisher
from rclpy.timer import Timer
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

try:
    from vision_msgs.msg import LabelInfo, VisionClass
except ImportError:
    LabelInfo = None

# The messages of a frame are filled while those of the previous one are published.
OUTBOXES = 2

# Seconds between comparisons of the inputs with what their publishers offer.
WATCH_PERIOD = 1.0

# Results by topic; the overlay's encoding is that of the frame.
IMAGE_TOPICS = {'labels': 'mono8', 'confidence': 'mono8', 'overlay': '', 'color': 'rgb8'}
COMPRESSED_TOPICS = {'labels/compressed': 'png', 'overlay/compressed': 'jpeg'}
# Drawn or encoded, and published, after the other results of the frame.
LATE_TOPICS = frozenset({'overlay', 'color', *COMPRESSED_TOPICS})


@dataclass
class Outbox:
    """
    A frame under way, and the messages of its results.

    Attributes
    ----------
    messages
        By topic; reused from frame to frame, so that their buffers are allocated once.
    arrival
        The frame's message, whose header all outputs share.
    topics
        Those that had a subscriber when the worker took the frame.
    size
        Height and width of the results.
    latency
        Seconds from the arrival to the first publication; None before.
    age
        Seconds from the stamp to the first publication, by the node's clock.
    failed, unpublished
        Whether the worker or the middleware failed; either counts the frame.
    closed
        Whether the worker has finished with it.

    """

    messages: dict[str, Any]
    arrival: Arrival | None = None
    topics: Set[str] = frozenset()
    size: tuple[int, int] = (0, 0)
    latency: float | None = None
    age: float = 0.0
    failed: bool = False
    unpublished: bool = False
    closed: bool = True


class Camera:
    """
    Topics of one camera.

    The worker's thread calls `begin`, `fill`, `fail` and `wanted`; everything else runs on the
    executor's thread.

    Parameters
    ----------
    node
        The node.
    name
        Namespace of the camera; empty for the only camera.
    values
        The node's parameters, as they change.
    label_map
        The classes, for `~/label_info`.
    log
        For problems with frames and topics.

    """

    def __init__(
        self,
        node: LifecycleNode,
        name: str,
        values: Mapping[str, Any],
        label_map: LabelMap,
        log: ThrottledLog,
    ) -> None:
        transport = values['image_transport']
        self.name = name
        self.statistics = FrameStatistics()
        self.image_topic = _image_topic(node, self._topic_name('image'), transport)
        self._slots: FrameSlots
        self._index = 0
        self._active_since = 0.0
        self._is_silent = False
        self._next_due = 0.0
        self._node = node
        self._values = values
        self._log = log
        self._label_map = label_map
        self._camera_info: CameraInfo | None = None
        self._watch: Timer | None = None
        # Of the frames since the losses were last estimated, where the middleware reports none.
        self._stamps: list[int] = []
        self._frame_bytes = 0
        self._publishers: dict[str, Publisher] = {}
        frame_types: dict[str, Any] = {
            **dict.fromkeys(IMAGE_TOPICS, Image),
            **dict.fromkeys(COMPRESSED_TOPICS, CompressedImage),
        }
        self._masks = mask_topics(values['masks'], label_map)
        frame_types |= dict.fromkeys(self._masks, Image)
        types = frame_types | {'camera_info': CameraInfo}
        if LabelInfo is not None:
            types['label_info'] = LabelInfo
        # At configure, so that a wrong qos_overrides stops there.
        self._image = Input(
            node,
            Image if transport == 'raw' else CompressedImage,
            self.image_topic,
            self._on_image,
            {'reliability'},
            log,
            self._count_lost,
            self._forget_losses,
            values['queue_size'],
        )
        self._info = Input(
            node,
            CameraInfo,
            _info_topic(node, self._topic_name('camera_info'), self.image_topic),
            self._on_camera_info,
            {'reliability', 'durability'},
            log,
        )
        try:
            for topic, kind in types.items():
                full_topic = f'~/{name}/{topic}' if name else f'~/{topic}'
                self._publishers[topic] = node.create_lifecycle_publisher(
                    kind,
                    full_topic,
                    **publisher_options(
                        node,
                        full_topic,
                        latched_qos() if topic == 'label_info' else output_qos(),
                        log.warn,
                    ),
                )
        except Exception:
            # Security may forbid one of them.
            self.destroy()
            raise
        self._outboxes = [
            Outbox({topic: kind() for topic, kind in frame_types.items()})
            for _ in range(OUTBOXES)
        ]
        self._free: SimpleQueue[Outbox | None] = SimpleQueue()
        # Each with the topics to publish, and whether they are its last.
        self._finished: deque[tuple[Outbox, Set[str], bool]] = deque()

    def activate(self, slots: FrameSlots, index: int) -> None:
        """Start receiving; frames to be processed go into the slot with this index."""
        self._slots, self._index = slots, index
        self._active_since = time.perf_counter()
        self._is_silent = False
        self._next_due = 0.0
        self.statistics.expect_nothing()
        self.statistics.arrivals.forget()
        self._free = SimpleQueue()
        for outbox in self._outboxes:
            self._free.put(outbox)
        self._finished.clear()
        self._forget_losses()
        self._image.open()
        self._info.open()
        self._watch = self._node.create_timer(
            WATCH_PERIOD, self._watch_inputs, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self.publish_label_info()

    def publish_label_info(self) -> None:
        """Publish the classes and the threshold, where vision_msgs is installed."""
        if LabelInfo is None:
            return
        info = LabelInfo()
        info.header.stamp = self._node.get_clock().now().to_msg()
        info.threshold = self._values['min_confidence']
        info.class_map = [
            VisionClass(class_id=class_id, class_name=name)
            for class_id, name in zip(self._label_map.ids, self._label_map.names, strict=True)
        ]
        self._publishers['label_info'].publish(info)

    def deactivate(self) -> None:
        """Stop receiving."""
        if self._watch is not None:
            self._node.destroy_timer(self._watch)
            self._watch = None
        self._image.close()
        self._info.close()

    def destroy(self) -> None:
        """Remove all topics."""
        self.deactivate()
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()

    def wanted(self) -> set[str]:
        """Return the topics with a frame's results that have a subscriber."""
        return {
            topic
            for topic, publisher in self._publishers.items()
            if topic != 'label_info' and publisher.get_subscription_count()
        }

    def warn_if_silent(self) -> None:
        """
        Log if no frame has arrived in the first seconds after the activation.

        Later, log when frames stop to arrive and when they arrive again.
        """
        arrivals = self.statistics.arrivals
        waited = time.perf_counter() - self._active_since
        if math.isinf(arrivals.age):
            if waited >= NO_FRAMES_AFTER:
                self._warn_of_silence(self._image, 'image', waited, self.statistics.totals['lost'])
            return
        # A camera whose frames get lost has not stopped.
        stopped = arrivals.stopped and not self.statistics.lost_fraction()
        if stopped != self._is_silent:
            self._is_silent = stopped
            if stopped:
                self._node.get_logger().warning(
                    f"frames have stopped on '{self.image_topic}': none for {arrivals.age:.1f} s; "
                    f'publishers: {self._node.count_publishers(self.image_topic)}'
                )
            else:
                self._node.get_logger().info(f"frames arrive again on '{self.image_topic}'")

    def begin(self, arrival: Arrival) -> Outbox | None:
        """
        Wait for a free outbox for a frame, and look which topics have subscribers.

        Returns None, and the frame is dropped, after `stop_waiting`.
        """
        topics = self.wanted()
        outbox = self._free.get()
        if outbox is None:
            self.statistics.count('dropped')
            return None
        outbox.arrival, outbox.topics, outbox.latency = arrival, topics, None
        outbox.failed = outbox.unpublished = outbox.closed = False
        return outbox

    def fill(
        self, outbox: Outbox, topics: Set[str], outputs: Outputs, color_order: str, is_last: bool
    ) -> None:
        """
        Copy results of a frame into messages, for `publish_finished`.

        Parameters
        ----------
        outbox
            From `begin`.
        topics
            Topics to fill.
        outputs
            Results of the frame.
        color_order
            Of the frame, 'rgb' or 'bgr'.
        is_last
            Whether this completes the frame.

        """
        assert outbox.arrival is not None
        header = outbox.arrival.message.header
        for topic in topics - {'camera_info'}:
            if topic in self._masks:
                mask = mask_class(outputs.array('labels'), self._masks[topic])
                fill_image(outbox.messages[topic], mask, 'mono8', header)
                continue
            content, _, _ = topic.partition('/')
            encoding = IMAGE_TOPICS[content] or f'{color_order}8'
            if topic in COMPRESSED_TOPICS:
                fill_compressed(
                    outbox.messages[topic],
                    outputs.array(content),
                    image_format=COMPRESSED_TOPICS[topic],
                    encoding=encoding,
                    quality=self._values['jpeg_quality'],
                    header=header,
                )
            else:
                fill_image(outbox.messages[topic], outputs.array(content), encoding, header)
        outbox.size = outputs.size
        outbox.closed = is_last
        self._finished.append((outbox, topics, is_last))

    def fail(self, outbox: Outbox, error: Exception) -> None:
        """Count and log a frame whose results can't be completed, and free its outbox."""
        if outbox.closed:
            return
        outbox.failed = outbox.closed = True
        self.statistics.count('failed')
        self._log.error('messages', f"frame of '{self.image_topic}' failed: {error!r}")
        self._finished.append((outbox, frozenset(), True))

    def stop_waiting(self) -> None:
        """Let `begin` continue when it waits for an outbox that will not become free."""
        self._free.put(None)

    def publish_finished(self) -> None:
        """Publish the messages that are filled; count the frames that are complete."""
        while self._finished:
            outbox, topics, is_last = self._finished.popleft()
            assert outbox.arrival is not None
            try:
                for topic, publisher in self._publishers.items():
                    if topic not in topics:
                        continue
                    if topic == 'camera_info':
                        self._publish_camera_info(outbox)
                    else:
                        publisher.publish(outbox.messages[topic])
            except Exception as error:
                outbox.unpublished = True
                self._log.error('publish', f"results of '{self.image_topic}' are lost: {error!r}")
            if outbox.latency is None:
                outbox.latency = time.perf_counter() - outbox.arrival.time
                outbox.age = self._age(outbox.arrival.message.header.stamp)
            if not is_last:
                continue
            if outbox.unpublished and not outbox.failed:
                self.statistics.count('unpublished')
            elif not outbox.failed:
                self.statistics.published(outbox.latency, outbox.age)
            outbox.arrival = None
            self._free.put(outbox)

    def _publish_camera_info(self, outbox: Outbox) -> None:
        if self._camera_info is None:
            return
        assert outbox.arrival is not None
        height, width = outbox.size
        try:
            info = scale_camera_info(
                self._camera_info, width, height, outbox.arrival.message.header
            )
        except FrameError as error:
            self._log.warn(f'{self.name} camera_info', f"'{self._info.topic}': {error}")
            return
        self._publishers['camera_info'].publish(info)

    def _on_image(self, message: Any) -> None:
        now = time.perf_counter()
        self.statistics.arrivals.note()
        if not self._values['enabled']:
            self.statistics.expect_nothing()
            self._stamps.clear()
            return
        self.statistics.count('received')
        self._frame_bytes = len(message.data)
        if not self._image.reports_lost:
            self._stamps.append(_nanoseconds(message.header.stamp))
        max_rate = self._values['max_rate']
        if max_rate:
            if now < self._next_due:
                self.statistics.count('skipped')
                return
            # Counting from the due time keeps the average rate although frames arrive a bit late.
            due = self._next_due + 1 / max_rate
            self._next_due = due if due > now else now + 1 / max_rate
        if not self.wanted():
            self.statistics.count('unwanted')
            self.statistics.expect_nothing()
            return
        self.statistics.expect()
        if self._slots.put(Arrival(self._index, message, now)):
            self.statistics.count('dropped')

    def _age(self, stamp: Any) -> float:
        # Not by rclpy's Time, which raises an error for negative seconds.
        return (self._node.get_clock().now().nanoseconds - _nanoseconds(stamp)) / 1e9

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._camera_info = message

    def _count_lost(self, frames: int) -> None:
        if self._values['enabled']:
            self.statistics.lose(frames)

    def _forget_losses(self) -> None:
        self.statistics.forget_losses()
        self._stamps.clear()

    def _watch_inputs(self) -> None:
        """Follow the publishers, and warn of lost frames and of a missing camera_info."""
        self._image.renew()
        self._info.renew()
        if len(self._stamps) > FRAMES_TO_JUDGE:
            self._count_lost(estimate_lost(self._stamps))
            del self._stamps[:-1]
        lost = self.statistics.lost_fraction()
        if lost > MAX_LOST_FRACTION:
            text = explain_loss(self.image_topic, lost, self._frame_bytes, self._image.qos)
            self._log.warn(f'{self.name} lost', text)
        waited = time.perf_counter() - self._active_since
        if (
            waited >= NO_FRAMES_AFTER
            and self._camera_info is None
            and self.statistics.totals['received']
            and self._publishers['camera_info'].get_subscription_count()
        ):
            self._warn_of_silence(self._info, 'camera_info', waited)

    def _warn_of_silence(self, source: Input, name: str, waited: float, lost: int = 0) -> None:
        text = explain_silence(
            self._node, source.topic, source.kind, self._topic_name(name), waited, source.qos, lost
        )
        self._log.warn(f'{self.name} {name} silent', text)

    def _topic_name(self, name: str) -> str:
        return f'{self.name}/{name}' if self.name else name


def _nanoseconds(stamp: Any) -> int:
    return int(stamp.sec * 10**9 + stamp.nanosec)


def _image_topic(node: LifecycleNode, topic: str, transport: str) -> str:
    """Resolve the image topic; remapping the base topic also moves its compressed form."""
    if transport == 'raw':
        return str(node.resolve_topic_name(topic))
    return (
        _remapped(node, f'{topic}/compressed') or f'{node.resolve_topic_name(topic)}/compressed'
    )


def _info_topic(node: LifecycleNode, topic: str, image_topic: str) -> str:
    """Resolve the camera_info topic: beside the image unless it is remapped by itself."""
    return _remapped(node, topic) or str(node.resolve_topic_name(camera_info_topic(image_topic)))


def _remapped(node: LifecycleNode, topic: str) -> str:
    """Return where a topic is remapped to; empty if it isn't."""
    resolved = str(node.resolve_topic_name(topic))
    return '' if resolved == node.resolve_topic_name(topic, only_expand=True) else resolved
