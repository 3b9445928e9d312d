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

from collections.abc import Mapping, Sequence
import contextlib
from functools import partial
import logging
import sys
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from lednet_ros.checkpoint import CheckpointError
from lednet_ros.inference.options import ConfigurationError, OPTIONS
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.labels import LabelMapError
from lednet_ros.ros import bond
from lednet_ros.ros.camera import Camera
from lednet_ros.ros.diagnostics import describe_segmenter, make_diagnostics
from lednet_ros.ros.distribution import (
    leave_graph,
    lifecycle_state,
    parameter_overrides,
    refuse_impossible_transitions,
)
from lednet_ros.ros.health import has_namesake, judge_node, LogForwarder, ThrottledLog
from lednet_ros.ros.parameters import (
    check_camera_names,
    check_change,
    declare_parameters,
    ParameterError,
    read_parameters,
    to_options,
    unknown_parameters,
)
from lednet_ros.ros.process import run_node
from lednet_ros.ros.qos import unused_overrides
from lednet_ros.ros.slots import FrameSlots
from lednet_ros.ros.worker import (
    InferenceThread,
    InferenceWorker,
    POLL_PERIOD,
    WorkerFailure,
)
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.task import Future
from std_srvs.srv import SetBool

# The process must end within 2 s of a signal.
SHUTDOWN_TIMEOUT = 1.5
# Seconds in which the subscribers of /diagnostics find the node.
DISCOVERY_TIMEOUT = 1.0
EXIT_BACKEND_FAILED = 3

SETTING_ERRORS = (CheckpointError, ConfigurationError, LabelMapError, ParameterError)


class SegmentationNode(LifecycleNode):
    """
    Managed node that segments the images of one or several cameras with one network.

    Frames are received and results published on the executor's thread; the network runs on a
    worker thread. `docs/node.md` describes topics, parameters and states.

    Parameters
    ----------
    node_name
        Name of the node.
    options
        As for `rclpy.lifecycle.LifecycleNode`.

    Attributes
    ----------
    exit_code : rclpy.task.Future
        Done when a node that starts by itself has given up: its process should end with this
        code. Nothing ends the process of an embedded node.

    """

    def __init__(self, node_name: str = 'segmentation_node', **options: Any) -> None:
        super().__init__(node_name, **options)
        self.exit_code: Future = Future()
        self._log = ThrottledLog(self.get_logger())
        self._progress = LogForwarder(self.get_logger())
        self._diagnosed_at = 0.0
        self._trouble = ''
        self._segmenter: Segmenter | None = None
        self._cameras: list[Camera] = []
        self._thread: InferenceThread | None = None
        self._worker: InferenceWorker | None = None
        self._bond: bond.Bond | None = None
        # A node that can't be made must not stay in the graph.
        with contextlib.ExitStack() as stack:
            stack.callback(self.destroy_node)
            declare_parameters(self)
            for sentence in unknown_parameters(parameter_overrides(self)):
                self.get_logger().warning(sentence)
            self._values: dict[str, Any] = read_parameters(self)
            self.add_on_set_parameters_callback(self._on_set_parameters)
            self._results_ready = self.create_guard_condition(self._publish_results)
            self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
            # Steady clock: under use_sim_time, diagnostics must not stop with the bag.
            self._timer = self.create_timer(
                self._values['diagnostics_period'],
                self._on_timer,
                clock=Clock(clock_type=ClockType.STEADY_TIME),
            )
            self._enable_service = self.create_service(SetBool, '~/enable', self._on_enable)
            refuse_impossible_transitions(self)
            stack.pop_all()

    @property
    def cameras(self) -> Sequence[Camera]:
        """Return the cameras of the configured node, in the order of the parameter."""
        return self._cameras

    @property
    def autostart(self) -> bool:
        """Return whether the node configures and activates itself."""
        return bool(self._values['autostart'])

    def start(self) -> bool:
        """Configure and activate; return whether both succeeded."""
        success = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == success and self.trigger_activate() == success

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the network, create the topics and warm up; change nothing if that fails."""
        # rclpy doesn't report exceptions that leave a transition.
        self._trouble = ''
        try:
            self._values = read_parameters(self)
            names = self._values['cameras']
            check_camera_names(names)
            self._thread = InferenceThread()
            segmenter = self._thread.call(
                partial(self._prepare, max(len(names), 1)), self._report_progress
            )
            for name in names or ['']:
                self._cameras.append(
                    Camera(self, name, self._values, segmenter.label_map, self._log)
                )
        except Exception as error:
            self._release()
            text = str(error) if isinstance(error, SETTING_ERRORS) else repr(error)
            self._trouble = f'not configured: {text}'
            self.get_logger().error(self._trouble)
            return TransitionCallbackReturn.FAILURE
        if unused := unused_overrides(self, parameter_overrides(self)):
            self.get_logger().warning(unused)
        self._segmenter = segmenter
        self.get_logger().info(
            f'{segmenter.network_name} with {segmenter.label_map.num_classes} classes '
            f"('{segmenter.label_map.name}') on {segmenter.device} by {segmenter.backend}, "
            f'{segmenter.precision}, input {segmenter.input_size[0]}x{segmenter.input_size[1]}'
        )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start receiving and segmenting; change nothing if that fails."""
        # Publishers first: the latched label_info is sent at once.
        result = super().on_activate(state)
        assert self._segmenter is not None
        assert self._thread is not None
        slots = FrameSlots(len(self._cameras), self._values['queue_size'])
        self._worker = InferenceWorker(
            self._thread,
            self._segmenter,
            self._cameras,
            slots,
            self._results_ready.trigger,
            self._log,
        )
        try:
            for index, camera in enumerate(self._cameras):
                camera.activate(slots, index)
                self.get_logger().info(f"segmenting '{camera.image_topic}'")
        except Exception as error:
            self._stop(SHUTDOWN_TIMEOUT)
            super().on_deactivate(state)
            self._trouble = f'not activated: {error!r}'
            self.get_logger().error(self._trouble)
            return TransitionCallbackReturn.FAILURE
        self._trouble = ''
        self._worker.start()
        self._form_bond()
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop receiving; the batch in progress is still published."""
        worker = self._worker
        assert worker is not None
        failed = worker.failure is not None
        ended = self._stop(self._values['stage_timeout'])
        result = super().on_deactivate(state)
        if not ended:
            self._trouble = f'deactivated without waiting on: {worker.find_overdue_stage(0.0)}'
            self.get_logger().error(self._trouble)
        return result if ended and not failed else TransitionCallbackReturn.ERROR

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release the network and the topics."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything from any state."""
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything, so that the node can be configured again."""
        self._release()
        return super().on_error(state)

    def destroy_node(self) -> None:
        """Stop the worker and destroy the node."""
        self._stop(SHUTDOWN_TIMEOUT)
        super().destroy_node()
        leave_graph(self)

    def publish_last_diagnostics(self) -> None:
        """Publish diagnostics before the process ends; wait a moment for those who listen."""
        deadline = time.perf_counter() + DISCOVERY_TIMEOUT
        while not self._diagnostics.get_subscription_count() and time.perf_counter() < deadline:
            time.sleep(POLL_PERIOD)
        self._on_timer()
        self._diagnostics.wait_for_all_acked(Duration(seconds=DISCOVERY_TIMEOUT))

    def build_segmenter(self) -> Segmenter:
        """Build the segmenter that the parameters describe."""
        values = self._values
        return Segmenter.from_checkpoint(
            values['checkpoint'], to_options(values), label_map=values['label_map'] or None
        )

    def _prepare(self, batch_size: int) -> Segmenter:
        # The choice of a backend may take half a minute, of which the core's log tells.
        core = logging.getLogger('lednet_ros')
        self._progress.newest = ''
        core.addHandler(self._progress)
        core.setLevel(logging.INFO)
        try:
            segmenter = self.build_segmenter()
            segmenter.warm_up(segmenter.input_size, batch_size)
        finally:
            core.removeHandler(self._progress)
        return segmenter

    def _report_progress(self) -> None:
        """Publish diagnostics while the executor waits for the configuration."""
        if time.perf_counter() - self._diagnosed_at >= self._values['diagnostics_period']:
            self._on_timer()

    def _form_bond(self) -> None:
        """Let the lifecycle manager that has activated the node see that it lives."""
        period = self._values['bond_heartbeat_period']
        if self.autostart or not period:
            return
        if bond.is_available():
            self._bond = bond.Bond(self, period)
        else:
            self.get_logger().info(
                "no bond: the package 'bond' is not installed; Nav2's lifecycle manager needs "
                "'bond_timeout: 0.0' then"
            )

    def _stop(self, timeout: float) -> bool:
        """Stop receiving and segmenting; return whether the worker ended within `timeout` s."""
        if self._bond is not None:
            self._bond.break_up()
            self._bond = None
        for camera in self._cameras:
            camera.deactivate()
        if self._worker is None:
            return True
        ended = self._worker.stop(timeout)
        if self.context.ok():
            for camera in self._cameras:
                camera.publish_finished()
        self._worker = None
        return ended

    def _release(self) -> None:
        self._stop(self._values['stage_timeout'])
        for camera in self._cameras:
            camera.destroy()
        self._cameras = []
        self._segmenter = None
        if self._thread is not None:
            self._thread.close()
            self._thread = None

    def _publish_results(self) -> None:
        for camera in self._cameras:
            camera.publish_finished()
        if self._worker is not None and self._worker.failure is not None:
            self._give_up(self._worker.failure)

    def _give_up(self, failure: WorkerFailure) -> None:
        self._trouble = str(failure)
        self.get_logger().fatal(f'{self._trouble}; deactivating')
        # Ends in on_error, as unconfigured, which a lifecycle manager sees.
        self.trigger_deactivate()
        if self.autostart:
            # Nobody else would configure it again; a supervisor may restart the process.
            self.exit_code.set_result(EXIT_BACKEND_FAILED)

    def _on_enable(
        self, request: SetBool.Request, response: SetBool.Response
    ) -> SetBool.Response:
        result = self.set_parameters([Parameter('enabled', value=request.data)])[0]
        response.success = result.successful
        response.message = result.reason or ('enabled' if request.data else 'paused')
        return response

    def _on_set_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        try:
            changes: dict[str, Any] = {}
            for parameter in parameters:
                changes |= check_change(parameter, configured=self._segmenter is not None)
            if self._segmenter is not None:
                self._segmenter.update(
                    **{name: value for name, value in changes.items() if name in OPTIONS}
                )
        except (ParameterError, LabelMapError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._values |= changes
        self._apply(changes)
        return SetParametersResult(successful=True)

    def _apply(self, changes: Mapping[str, Any]) -> None:
        """Let changed parameters take effect where nothing reads them later."""
        if 'diagnostics_period' in changes:
            self._timer.timer_period_ns = int(changes['diagnostics_period'] * 1e9)
            self._timer.reset()
        if self._worker is None:
            return
        if 'min_confidence' in changes:
            for camera in self._cameras:
                camera.publish_label_info()
        if 'enabled' in changes:
            self.get_logger().info('resumed' if changes['enabled'] else 'paused')

    def _on_timer(self) -> None:
        self._diagnosed_at = time.perf_counter()
        state = lifecycle_state(self)
        if state == 'active' and not self._values['enabled']:
            state = 'paused'
        trouble = self._trouble
        properties: dict[str, object] = {}
        if self._segmenter is not None:
            properties = describe_segmenter(self._segmenter, self._values['checkpoint'])
        if self._worker is not None:
            trouble = self._worker.find_overdue_stage(self._values['stage_timeout'])
            properties['backend restarts'] = self._worker.restarts
        progress = self._progress.newest if state == 'configuring' else ''
        health = judge_node(state, trouble, progress, has_namesake(self))
        if health.text not in (state, self._trouble) and not progress:
            self._log.warn('trouble', health.text)
        name, now = self.get_fully_qualified_name(), self.get_clock().now()
        self._diagnostics.publish(
            make_diagnostics(
                name, now, state, health, properties, self._cameras, self._values['stage_timeout']
            )
        )
        if self._worker is not None:
            for camera in self._cameras:
                camera.warn_if_silent()


def make_node(kind: type[SegmentationNode] = SegmentationNode) -> SegmentationNode:
    """Make a node and, with `autostart`, start it; exit with 1 if that fails."""
    node = kind()
    if node.autostart and not node.start():
        node.publish_last_diagnostics()
        node.destroy_node()
        raise SystemExit(1)
    return node


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run_node(make_node, arguments)


if __name__ == '__main__':
    sys.exit(main())
