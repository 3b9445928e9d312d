# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node: camera images in; label images, confidence and overlays out."""

from collections.abc import Sequence
from functools import partial
import re
import sys
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from lednet_ros.checkpoint import CheckpointError
from lednet_ros.inference.backend import ConfigurationError
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.labels import LabelMap, LabelMapError
from lednet_ros.ros.camera import Camera
from lednet_ros.ros.diagnostics import make_diagnostics
from lednet_ros.ros.parameters import (
    BY_NAME,
    check_change,
    declare_parameters,
    ParameterError,
    read_parameters,
    unknown_parameters,
)
from lednet_ros.ros.process import run_node
from lednet_ros.ros.slots import Arrival, FrameSlots
from lednet_ros.ros.worker import InferenceWorker
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
        try:
            self._values = read_parameters(self)
            names = self._values['cameras']
            _check_cameras(names)
            segmenter = self.build_segmenter()
            segmenter.warm_up(segmenter.input_size, batch_size=max(len(names), 1))
        except SETTING_ERRORS as error:
            self.get_logger().error(f'not configured: {error}')
            return TransitionCallbackReturn.FAILURE
        self._segmenter = segmenter
        self._cameras = [
            Camera(
                self,
                name,
                self._values['image_transport'],
                segmenter.label_map,
                partial(self._on_frame, index),
                self._warn,
            )
            for index, name in enumerate(names or [''])
        ]
        self.get_logger().info(
            f"{segmenter.network_name} with {segmenter.label_map.num_classes} classes "
            f"('{segmenter.label_map.name}') on {segmenter.device} by {segmenter.backend}, "
            f'{segmenter.precision}, input {segmenter.input_size[0]}x{segmenter.input_size[1]}'
        )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start to receive and to segment."""
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
        for camera in self._cameras:
            camera.activate()
            self.get_logger().info(f"segmenting '{camera.image_topic}'")
        self._worker.start()
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop to receive; the frame under way is still published."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release the network and the topics."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything from any state."""
        self._stop()
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything, so that the node can be configured again."""
        self._stop()
        self._release()
        return super().on_error(state)

    def destroy_node(self) -> None:
        """Stop the worker and destroy the node."""
        self._stop(SHUTDOWN_TIMEOUT)
        super().destroy_node()

    def build_segmenter(self) -> Segmenter:
        """Make the segmenter that the parameters describe."""
        values = self._values
        if values['num_threads']:
            torch.set_num_threads(values['num_threads'])
        segmenter = Segmenter.from_checkpoint(
            values['checkpoint'],
            label_map=LabelMap.load(values['label_map']) if values['label_map'] else None,
            device=values['device'],
            backend=values['backend'],
            precision=values['precision'],
            input_size=_size(values['input_size']),
            output_size=_size(values['output_size']),
            num_threads=values['num_threads'],
            calibration=values['calibration'] or None,
            palette=values['palette'],
        )
        _apply(segmenter, values)
        return segmenter

    def _stop(self, timeout: float | None = None) -> None:
        for camera in self._cameras:
            camera.deactivate()
        if self._worker is not None:
            self._worker.stop(timeout)
            if self.context.ok():
                self._worker.publish_finished()
            self._worker = None
            self._slots = None

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

    def _on_enable(
        self, request: SetBool.Request, response: SetBool.Response
    ) -> SetBool.Response:
        result = self.set_parameters([Parameter('enabled', value=request.data)])[0]
        response.success = result.successful
        response.message = result.reason or ('enabled' if request.data else 'paused')
        return response

    def _on_set_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        try:
            for parameter in parameters:
                check_change(parameter, configured=self._segmenter is not None)
            changes = {
                p.name: BY_NAME[p.name].clean(p.value) for p in parameters if p.name in BY_NAME
            }
            if self._segmenter is not None:
                _apply(self._segmenter, self._values | changes)
        except (ParameterError, LabelMapError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._values |= changes
        return SetParametersResult(successful=True)

    def _on_timer(self) -> None:
        # The state machine's service needs no lock: transitions run on this thread too.
        state = self._state_machine.current_state[1]
        if state == 'active' and not self._values['enabled']:
            state = 'paused'
        properties: dict[str, object] = {}
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
        self._diagnostics.publish(
            make_diagnostics(
                self.get_fully_qualified_name(),
                self.get_clock().now(),
                state,
                properties,
                self._cameras,
            )
        )
        if state == 'active':
            for camera in self._cameras:
                self._warn_without_frames(camera)

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


def _apply(segmenter: Segmenter, values: dict[str, Any]) -> None:
    # The only call that can fail comes first, so that nothing is half applied.
    segmenter.show_classes(values['overlay_classes'])
    segmenter.overlay_alpha = values['overlay_alpha']
    segmenter.min_confidence = values['min_confidence']


def _check_cameras(names: Sequence[str]) -> None:
    for name in names:
        if not CAMERA_NAME.fullmatch(name):
            raise ParameterError(
                f"parameter 'cameras' has {name!r}; allowed: ROS names like 'front' or 'left/rear'"
            )
        if names.count(name) > 1:
            raise ParameterError(f"parameter 'cameras' has {name!r} twice; names must differ")


def _size(values: Sequence[int]) -> tuple[int, int] | None:
    height, width = values
    return (height, width) if height or width else None


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
