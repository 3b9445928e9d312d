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

"""Subscriptions that request what their publishers offer."""

from collections.abc import Callable, Mapping, Set
from typing import Any

from lednet_ros.ros.distribution import event_callbacks, unsupported_event
from lednet_ros.ros.health import ThrottledLog
from lednet_ros.ros.qos import (
    follow_publishers,
    mismatch_adviser,
    override_qos,
    policy_of,
    sensor_qos,
)
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription


class Input:
    """
    A subscription to the newest messages that follows the QoS of its publishers.

    Best effort matches every publisher, but loses most large messages that the middleware splits.
    So the subscription is reliable while all publishers are. A subscription's QoS is fixed, so it
    is replaced when the offer changes.

    Parameters
    ----------
    node
        The node, where the parameters `qos_overrides` are declared.
    kind
        Type of the messages.
    topic
        Resolved name.
    receive
        Called with each message.
    follows
        Policies to take from the publishers, unless `qos_overrides` sets them.
    log
        For incompatible publishers.
    count_lost
        Called with the number of messages that the middleware reports as lost.
    renewed
        Called when the subscription was replaced.
    depth
        Messages to keep.

    Attributes
    ----------
    topic, kind
        As above.
    qos : rclpy.qos.QoSProfile
        What is requested.
    reports_lost : bool
        Whether the middleware reports lost messages.

    Raises
    ------
    ParameterError
        A value in `qos_overrides` is not allowed.

    """

    def __init__(
        self,
        node: Node,
        kind: Any,
        topic: str,
        receive: Callable[[Any], None],
        follows: Set[str],
        log: ThrottledLog,
        count_lost: Callable[[int], None] = lambda _: None,
        renewed: Callable[[], None] = lambda: None,
        depth: int = 1,
    ) -> None:
        self.topic = topic
        self.kind = kind
        self.qos: QoSProfile = sensor_qos(depth)
        self.reports_lost = True
        self._node = node
        self._receive = receive
        self._count_lost = count_lost
        self._renewed = renewed
        self._follows = override_qos(node, topic, 'subscription', self.qos, follows)
        self._advise = mismatch_adviser(node, topic, 'subscription', log.warn)
        self._subscription: Subscription | None = None

    def open(self) -> None:
        """Subscribe."""
        qos = self._wanted_qos()
        if qos != self.qos:
            policies = (
                f'{name} {getattr(qos, name).name.lower()}' for name in sorted(self._follows)
            )
            self._node.get_logger().info(
                f"'{self.topic}': {', '.join(policies)}, as its publishers offer"
            )
        self.qos = qos
        self._subscription = self._subscribe()

    def renew(self) -> None:
        """Subscribe again if the publishers offer something else than before."""
        if self._subscription is not None and not self.is_current():
            self.close()
            self.open()
            self._renewed()

    def close(self) -> None:
        """Unsubscribe."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def is_current(self) -> bool:
        """Return whether the QoS is what the publishers offer."""
        return bool(self._wanted_qos() == self.qos)

    def _wanted_qos(self) -> QoSProfile:
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        return follow_publishers(self.qos, self._follows, [p.qos_profile for p in publishers])

    def _subscribe(self) -> Subscription:
        events = {
            'incompatible_qos': self._on_mismatch,
            'message_lost': lambda event: self._count_lost(event.total_count_change),
            'matched': lambda _: self.renew(),
        }
        # Humble has no 'matched', and some middlewares report no lost messages.
        for missing in ('matched', 'message_lost'):
            try:
                return self._create(events)
            except (TypeError, unsupported_event()):
                del events[missing]
        self.reports_lost = False
        return self._create(events)

    def _create(self, events: Mapping[str, Callable[[Any], None]]) -> Subscription:
        return self._node.create_subscription(
            self.kind,
            self.topic,
            self._receive,
            self.qos,
            event_callbacks=event_callbacks('subscription', **events),
        )

    def _on_mismatch(self, event: Any) -> None:
        if policy_of(event) in self._follows:
            self.renew()
        else:
            self._advise(event)
