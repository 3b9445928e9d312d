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

"""
Differences between ROS distributions (Humble to Kilted), and gaps in rclpy's public API.

Importing this module imports no rclpy, so that what only sets variables needs no ROS.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any, cast, TYPE_CHECKING

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleNode
    from rclpy.service import Service

# Where Fast DDS 2 (up to Jazzy) and Fast DDS 3 (from Kilted on) look for their profile.
# launch/segment.launch.py names them too: it can't import the package.
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')


def event_callbacks(kind: str, **callbacks: Callable[[Any], None]) -> Any:
    """Return the event callbacks of a 'subscription' or a 'publisher'."""
    return getattr(_event_module(), f'{kind.title()}EventCallbacks')(**callbacks)


def unsupported_event() -> type[Exception]:
    """Return the class of the error that rclpy raises where the middleware lacks an event."""
    return cast(type[Exception], _event_module().UnsupportedEventTypeError)


def _event_module() -> ModuleType:
    try:
        return import_module('rclpy.event_handler')
    except ImportError:
        # The module's name in Humble.
        return import_module('rclpy.qos_event')


def lifecycle_state(node: LifecycleNode) -> str:
    """Return the label of a managed node's state, such as 'active'."""
    from lifecycle_msgs.srv import GetState

    return str(_ask(node, GetState).current_state.label)


def refuse_impossible_transitions(node: LifecycleNode) -> None:
    """
    Let `~/change_state` answer with a failure where the state doesn't allow the transition.

    Up to Jazzy, rclpy raises there, which would end the process.
    """
    from lifecycle_msgs.srv import ChangeState, GetAvailableTransitions

    service = _find_service(node, ChangeState)
    change_state = service.callback

    def change_if_possible(
        request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        wanted = request.transition
        transitions = _ask(node, GetAvailableTransitions).available_transitions
        allowed = {item.transition.label: item.transition.id for item in transitions}
        if (wanted.label in allowed) if wanted.label else (wanted.id in allowed.values()):
            return change_state(request, response)
        node.get_logger().warning(
            f"no transition '{wanted.label or wanted.id}' from state '{lifecycle_state(node)}'; "
            f"allowed: {', '.join(allowed)}"
        )
        response.success = False
        return response

    service.callback = change_if_possible


def leave_graph(node: LifecycleNode) -> None:
    """Remove a destroyed node from the graph, where rclpy leaves it until it is collected."""
    # Of its state machine, services stay, and they keep the node.
    node._state_machine.destroy_when_not_in_use()


def parameter_overrides(node: LifecycleNode) -> list[str]:
    """Return the names of the parameters set at startup, declared or not."""
    # rclpy has no public way to those that nobody declares.
    return list(node._parameter_overrides)


def _ask(node: LifecycleNode, kind: Any) -> Any:
    """Call one of the node's services without the middleware."""
    return _find_service(node, kind).callback(kind.Request(), kind.Response())


def _find_service(node: LifecycleNode, kind: type) -> Service:
    # Of two services of GetAvailableTransitions the first reports those of the present state.
    return next(service for service in node.services if service.srv_type is kind)
