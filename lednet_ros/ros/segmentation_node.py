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

"""The node: camera images in; label images, confidence and overlays out."""

from collections.abc import Sequence
from functools import partial
import re
import sys
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lednet_ros.checkpoint import CheckpointError
from lednet_ros.inference.backends.base import ConfigurationError
from lednet_ros.inference.options import OPTIONS
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.labels import LabelMapError
from lednet_ros.ros.camera import Camera
from lednet_ros.ros.diagnostics import make_diagnostics
from lednet_ros.ros.parameters import (
    BY_NAME,
    check_change,
    declare_parameters,
    ParameterError,
    read_parameters,
    to_options,
    unknown_parameters,
)
from lednet_ros.ros.process import run_node
from lednet_ros.ros.slots import Arrival, FrameSlots
from lednet_ros.ros.worker import BackendFailure, InferenceWorker
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool
import torch

# The process must end within 2 s of a signal.
SHUTDOWN_TIMEOUT = 1.5
WARNING_PERIOD = 5.0
NO_FRAMES_AFTER = 5.0
EXIT_BACKEND_FAILED = 3
CAMERA_NAME = re.compile(r'[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*')

SETTING_ERRORS = (CheckpointError, ConfigurationError, LabelMapError, ParameterError)


class SegmentationNode(LifecycleNode):
    """
    Managed node that segments the images of one or several cameras with one network.

    Frames are received and results published on the executor's thread; the network runs on one
    worker thread. `docs/node.md` describes topics, parameters and states.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__('segmentation_node', **options)
        self._steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._warned: dict[str, float] = {}
        self._trouble = ''
        self._segmenter: Segmenter | None = None
        self._cameras: list[Camera] = []
        self._slots: FrameSlots | None = None
        self._worker: InferenceWorker | None = None
        declare_parameters(self)
        for sentence in unknown_parameters(list(self._parameter_overrides)):
            self.get_logger().warning(sentence)
        self._values: dict[str, Any] = read_parameters(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._results_ready = self.create_guard_condition(self._publish_results)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # Steady clock: under use_sim_time, diagnostics must not stop with the bag.
        self._timer = self.create_timer(
            self._values['diagnostics_period'], self._on_timer, clock=self._steady_clock
        )
        self._enable_service = self.create_service(SetBool, '~/enable', self._on_enable)
        self._change_state = self._service_change_state.callback
        self._service_change_state.callback = self._on_change_state

    @property
    def autostart(self) -> bool:
        """Whether the node shall configure and activate itself."""
        return bool(self._values['autostart'])

    def start(self) -> bool:
        """Configure and activate; returns whether both succeeded."""
        success = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == success and self.trigger_activate() == success

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the network, create the topics and warm up; changes nothing if that fails."""
        # Of an exception that leaves a transition, rclpy says nothing at all.
        try:
            self._values = read_parameters(self)
            names = self._values['cameras']
            _check_cameras(names)
            segmenter = self.build_segmenter()
            segmenter.warm_up(segmenter.input_size, batch_size=max(len(names), 1))
            for index, name in enumerate(names or ['']):
                self._cameras.append(
                    Camera(
                        self,
                        name,
                        self._values['image_transport'],
                        segmenter.label_map,
                        partial(self._on_frame, index),
                        self._warn,
                    )
                )
        except Exception as error:
            self._release()
            text = str(error) if isinstance(error, SETTING_ERRORS) else repr(error)
            self.get_logger().error(f'not configured: {text}')
            return TransitionCallbackReturn.FAILURE
        self._trouble = ''
        self._segmenter = segmenter
        self.get_logger().info(
            f'{segmenter.network_name} with {segmenter.label_map.num_classes} classes '
            f"('{segmenter.label_map.name}') on {segmenter.device} by {segmenter.backend}, "
            f'{segmenter.precision}, input {segmenter.input_size[0]}x{segmenter.input_size[1]}'
        )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start to receive and to segment; changes nothing if that fails."""
        # Publishers first: the latched label_info is sent at once.
        result = super().on_activate(state)
        self._slots = FrameSlots(len(self._cameras))
        self._worker = InferenceWorker(
            self._segmenter,
            self._cameras,
            self._slots,
            lambda: self._values['jpeg_quality'],
            self._results_ready.trigger,
            self._warn,
            self._error,
        )
        try:
            for camera in self._cameras:
                camera.activate()
                self.get_logger().info(f"segmenting '{camera.image_topic}'")
        except Exception as error:
            self._stop(SHUTDOWN_TIMEOUT)
            super().on_deactivate(state)
            self.get_logger().error(f'not activated: {error!r}')
            return TransitionCallbackReturn.FAILURE
        self._worker.start()
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop to receive; the frame under way is still published."""
        worker = self._worker
        failed = worker is not None and worker.failure is not None
        ended = self._stop(self._values['stage_timeout'])
        result = super().on_deactivate(state)
        if worker is not None and not ended:
            self._trouble = f'deactivated without waiting on: {worker.find_overdue_stage(0.0)}'
            self.get_logger().error(self._trouble)
        return result if ended and not failed else TransitionCallbackReturn.ERROR

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release the network and the topics."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything from any state."""
        self._stop(self._values['stage_timeout'])
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything, so that the node can be configured again."""
        self._stop(self._values['stage_timeout'])
        self._release()
        return super().on_error(state)

    def destroy_node(self) -> None:
        """Stop the worker and destroy the node."""
        self._stop(SHUTDOWN_TIMEOUT)
        super().destroy_node()

    def build_segmenter(self) -> Segmenter:
        """Make the segmenter that the parameters describe."""
        values = self._values
        return Segmenter.from_checkpoint(
            values['checkpoint'], to_options(values), label_map=values['label_map'] or None
        )

    def _stop(self, timeout: float) -> bool:
        """Stop to receive and to segment; gives whether the worker has ended in time."""
        for camera in self._cameras:
            camera.deactivate()
        if self._worker is None:
            return True
        ended = self._worker.stop(timeout)
        if self.context.ok():
            self._worker.publish_finished()
        self._worker = None
        self._slots = None
        return ended

    def _release(self) -> None:
        for camera in self._cameras:
            camera.destroy()
        self._cameras = []
        self._segmenter = None

    def _on_frame(self, index: int, message: Any) -> None:
        now = time.perf_counter()
        camera = self._cameras[index]
        if not self._values['enabled'] or self._slots is None:
            return
        statistics = camera.statistics
        statistics.count('received')
        max_rate = self._values['max_rate']
        if max_rate:
            if now < camera.next_due:
                statistics.count('skipped')
                return
            # Counting from the due time keeps the average rate although frames arrive a bit late.
            due = camera.next_due + 1 / max_rate
            camera.next_due = due if due > now else now + 1 / max_rate
        if not camera.wanted():
            statistics.count('unwanted')
            return
        if self._slots.put(Arrival(index, message, now)):
            statistics.count('dropped')

    def _publish_results(self) -> None:
        if self._worker is not None:
            self._worker.publish_finished()
            if self._worker.failure is not None:
                self._give_up(self._worker.failure)

    def _give_up(self, failure: BackendFailure) -> None:
        self._trouble = f'the network failed on two backends: {failure}'
        self.get_logger().fatal(f'{self._trouble}; deactivating')
        # Ends in on_error, as unconfigured, which a lifecycle manager sees.
        self.trigger_deactivate()
        if self.autostart:
            # Nobody else would configure it again; who started the process may start it anew.
            raise SystemExit(EXIT_BACKEND_FAILED)

    def _on_enable(
        self, request: SetBool.Request, response: SetBool.Response
    ) -> SetBool.Response:
        result = self.set_parameters([Parameter('enabled', value=request.data)])[0]
        response.success = result.successful
        response.message = result.reason or ('enabled' if request.data else 'paused')
        return response

    def _on_change_state(
        self, request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        # Where the state doesn't allow the transition, rclpy raises: that would end the process.
        asked = request.transition
        transitions = self._state_machine.available_transitions
        allowed = {label: number for number, label, *_ in transitions}
        if (asked.label in allowed) if asked.label else (asked.id in allowed.values()):
            return self._change_state(request, response)
        self.get_logger().warning(
            f"no transition '{asked.label or asked.id}' from state "
            f"'{self._state_machine.current_state[1]}'; allowed: {', '.join(allowed)}"
        )
        response.success = False
        return response

    def _on_set_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        try:
            for parameter in parameters:
                check_change(parameter, configured=self._segmenter is not None)
            changes = {
                p.name: BY_NAME[p.name].clean(p.value) for p in parameters if p.name in BY_NAME
            }
            if self._segmenter is not None:
                self._segmenter.update(
                    **{name: value for name, value in changes.items() if name in OPTIONS}
                )
        except (ParameterError, LabelMapError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._values |= changes
        return SetParametersResult(successful=True)

    def _on_timer(self) -> None:
        # The state machine's service needs no lock: transitions run on this thread too.
        state = self._state_machine.current_state[1]
        if state == 'active' and not self._values['enabled']:
            state = 'paused'
        trouble = self._trouble
        properties: dict[str, object] = {}
        if self._worker is not None:
            trouble = self._worker.find_overdue_stage(self._values['stage_timeout'])
        level = DiagnosticStatus.OK if state == 'active' else DiagnosticStatus.WARN
        text = state
        if trouble:
            level, text = DiagnosticStatus.ERROR, trouble
        elif self._has_namesake():
            level = DiagnosticStatus.WARN
            text = f'{state}; another node has this name, its outputs and services mix with these'
        if text != state:
            self._warn('trouble', text)
        if self._segmenter is not None:
            device = self._segmenter.device
            properties = {
                'checkpoint': self._values['checkpoint'],
                'network': self._segmenter.network_name,
                'device': device,
                'backend': self._segmenter.backend,
                'precision': self._segmenter.precision,
                'input size': '{}x{}'.format(*self._segmenter.input_size),
            }
            if device.type == 'cuda':
                properties['GPU memory [MiB]'] = torch.cuda.memory_allocated(device) >> 20
        if self._worker is not None:
            properties['backend restarts'] = self._worker.restarts
        self._diagnostics.publish(
            make_diagnostics(
                self.get_fully_qualified_name(),
                self.get_clock().now(),
                state,
                level,
                text,
                properties,
                self._cameras,
            )
        )
        if state == 'active':
            for camera in self._cameras:
                self._warn_without_frames(camera)

    def _has_namesake(self) -> bool:
        own = (self.get_name(), self.get_namespace())
        return self.get_node_names_and_namespaces().count(own) > 1

    def _warn_without_frames(self, camera: Camera) -> None:
        waited = time.perf_counter() - camera.active_since
        if camera.statistics.totals['received'] or waited < NO_FRAMES_AFTER:
            return
        if self.count_publishers(camera.image_topic):
            self._warn(
                f'{camera.name} silent',
                f"'{camera.image_topic}' has a publisher, but no frame has arrived in "
                f'{waited:.0f} s; large frames need the Fast DDS profile config/fastdds.xml in '
                "the camera's process (docs/node.md)",
            )
            return
        kind = f"sensor_msgs/msg/{self._values['image_transport'].replace('raw', '').title()}Image"
        own = self.get_fully_qualified_name()
        others = [
            name
            for name, kinds in self.get_topic_names_and_types()
            if kind in kinds and not name.startswith(own) and self.count_publishers(name)
        ]
        self._warn(
            f'{camera.name} silent',
            f"nobody publishes '{camera.image_topic}'; image topics there are: "
            f"{', '.join(others) or 'none'} (choose with the launch argument image:=TOPIC)",
        )

    def _warn(self, key: str, text: str) -> None:
        if self._may_log(key):
            self.get_logger().warning(text)

    def _error(self, key: str, text: str) -> None:
        if self._may_log(key):
            self.get_logger().error(text)

    def _may_log(self, key: str) -> bool:
        now = time.perf_counter()
        if now - self._warned.get(key, -WARNING_PERIOD) < WARNING_PERIOD:
            return False
        self._warned[key] = now
        return True


def _check_cameras(names: Sequence[str]) -> None:
    for name in names:
        if not CAMERA_NAME.fullmatch(name):
            raise ParameterError(
                f"parameter 'cameras' has {name!r}; allowed: ROS names like 'front' or 'left/rear'"
            )
        if names.count(name) > 1:
            raise ParameterError(f"parameter 'cameras' has {name!r} twice; names must differ")


def make_node(kind: type[SegmentationNode] = SegmentationNode) -> SegmentationNode:
    """Make the node and start it if it shall start by itself; exits with 1 if it can't."""
    node = kind()
    if node.autostart and not node.start():
        node.destroy_node()
        raise SystemExit(1)
    return node


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run_node(make_node, arguments)


if __name__ == '__main__':
    sys.exit(main())
