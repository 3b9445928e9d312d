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
The faults: each is injected into a live node, which then has to work as before.

A fault is one function here and one entry of `FAULTS`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
import contextlib
from dataclasses import dataclass
from functools import partial
import os
from pathlib import Path
import random
import signal
import socket
import subprocess
import sys
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from lednet_ros.live.client import LiveError, NodeProcess, Passage
from lednet_ros.live.probe import check, Probe, Setup
from lednet_ros.live.stand_ins import Order
from lednet_ros.ros.segmentation_node import EXIT_BACKEND_FAILED
from lifecycle_msgs.msg import Transition, TransitionEvent
import numpy as np
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Header

ANSWER_TIMEOUT = 30.0
# A signal must end the node within 2 s; a busy machine gets more before it counts as hung.
LONGEST_END = 5.0
# Well below what the node can do with the probe's frames.
RATE = 20.0
# Seconds that a backend hangs: until it continues, or longer than anything that is done meanwhile.
SHORT_HANG, LONG_HANG = 2.0, 20.0
# Enough to find how many frames the node can process.
PROBE_FRAMES, PROBE_RATE = 400, 400.0
# A file system of its own, which only the node sees, smaller than a compiled network.
FULL_DISK = '/mnt'
MOUNT = ('unshare', '-rm', 'sh', '-c', f'mount -t tmpfs -o size=64k none {FULL_DISK} && exec "$@"')
CAMERAS = ('front', 'rear', 'left', 'right', 'roof', 'broken')
# Growth over many rounds, of what the allocator of a process keeps anyway.
MAX_KIB_PER_ROUND = 64
# Pools of threads and of memory fill during the first half of the rounds.
SETTLING_ROUNDS = 0.5
ROUNDS_TO_JUDGE_MEMORY = 50


def camera_vanishes(probe: Probe, times: int) -> None:
    """Remove the camera's publisher, and make it again."""
    for _ in range(times):
        probe.remove_camera()
        probe.wait(lambda: not probe.ros_node.count_publishers(f'{probe.namespace}/image'))
        probe.add_camera()
        probe.recover()


def size_changes(probe: Probe, times: int) -> None:
    """Change the size of the frames from one to the next, odd ones among them."""
    sizes = [(96, 128), (97, 131), (48, 64), (1, 1), (240, 320), (3, 500)]
    for number in range(times):
        size = sizes[number % len(sizes)]
        probe.pass_one(probe.make(np.zeros((*size, 3), np.uint8)))
        labels = probe.newest['labels']
        check((labels.height, labels.width) == size, f'labels of another size than {size}')


def encoding_changes(probe: Probe, times: int) -> None:
    """Change the encoding from one frame to the next."""
    encodings = {
        'bgr8': 3, 'rgb8': 3, 'mono8': 1, 'bgra8': 4, 'yuv422': 2, 'bayer_rggb8': 1, 'mono16': 2,
    }

    def make(number: int) -> Image:
        encoding, width = list(encodings.items())[number % len(encodings)]
        message = probe.make(np.zeros((96, 128, width) if width > 1 else (96, 128), np.uint8))
        message.encoding = encoding
        return message

    probe.play(RATE, times, make)


def frame_id_changes(probe: Probe, times: int) -> None:
    """Change the frame id of every frame."""
    for number in range(times):
        message = probe.make()
        message.header = Header(frame_id=f'camera/{number}')
        probe.pass_one(message)
        check(probe.newest['labels'].header == message.header, 'labels with another header')


def flood(probe: Probe, times: int) -> str:
    """Publish at 200 Hz."""
    return _overrun(probe, times, 200.0)


def overload(probe: Probe, times: int) -> str:
    """Publish at ten times the rate that the node can process."""
    passages = probe.play(PROBE_RATE, PROBE_FRAMES, expected=False)
    arrivals = sorted(passage.received for passage in passages if passage.complete)
    check(len(arrivals) > 2, 'too few frames to find the capacity')
    capacity = (len(arrivals) - 1) / (arrivals[-1] - arrivals[0])
    return f'capacity {capacity:.0f} frames/s; ' + _overrun(probe, times, 10 * capacity)


def _overrun(probe: Probe, count: int, rate: float) -> str:
    """Publish more than can be processed; what is received must be accounted for exactly."""
    before = _account(probe)
    cpu, started = probe.target.cpu_seconds(), time.perf_counter()
    passages = probe.play(rate, count, expected=False)
    seconds = time.perf_counter() - started
    cores = (probe.target.cpu_seconds() - cpu) / seconds
    new = _account(probe) - before
    done: list[Passage] = []

    def is_processed() -> bool:
        done[:] = [passage for passage in passages if passage.complete]
        return len(done) >= new['processed']

    with contextlib.suppress(LiveError):
        # A busy machine may deliver the last results after the diagnostics that count them.
        probe.wait(is_processed, ANSWER_TIMEOUT)
    check(new['processed'] == len(done), f"{len(done)} results, counted {new['processed']}")
    ways = ('processed', 'dropped', 'rejected', 'failed', 'unwanted', 'skipped', 'unpublished')
    accounted = sum(new[way] for way in ways)
    check(new['received'] == accounted, f"received {new['received']}, accounted for {accounted}")
    latencies = sorted(passage.latency for passage in done)
    return (
        f"{rate:.0f} Hz: received {new['received']} = {new['processed']} processed + "
        f"{new['dropped']} dropped; latency p50 {1e3 * latencies[len(latencies) // 2]:.0f}, "
        f'max {1e3 * latencies[-1]:.0f} ms; node {cores:.1f} cores'
    )


def _account(probe: Probe) -> Counter[str]:
    """Count what became of the camera's frames, when all is done; rejections as one."""
    counters: Counter[str] = Counter()

    def is_settled() -> bool:
        seen = counters.copy()
        counters.clear()
        for key, value in probe.counters().items():
            counters[key.partition(':')[0]] += value
        return counters == seen

    probe.wait(is_settled, ANSWER_TIMEOUT)
    return counters


def two_publishers(probe: Probe, times: int) -> None:
    """Publish on the topic from a second node, too."""
    with _other_node('second') as (node, spin):
        second = node.create_publisher(Image, f'{probe.namespace}/image', 1)
        probe.wait(second.get_subscription_count)
        for stamp in range(1, times + 1):
            message = probe.make()
            message.header.stamp.nanosec = stamp
            probe.settle([probe.send(message, stamp, by=second)])
            probe.pass_one()
            spin()


def subscribers_come_and_go(probe: Probe, times: int) -> None:
    """Make subscribers of several outputs and remove them, while frames pass."""
    topics = ('overlay', 'labels', 'color', 'confidence', 'camera_info')
    for number in range(times):
        topic = f'{probe.name}/{topics[number % len(topics)]}'
        made = probe.ros_node.create_subscription(Image, topic, _ignore, 1)
        if not number % 10:
            probe.play(RATE, 1)
        probe.ros_node.destroy_subscription(made)


def stuck_subscriber(probe: Probe, times: int) -> None:
    """Stop a process that subscribes to labels and overlay, reliably, without ending it."""
    code = (
        'import rclpy; from sensor_msgs.msg import Image; rclpy.init(); '
        "node = rclpy.create_node('stuck')\n"
        "for topic in ('labels', 'overlay'):\n"
        f"    node.create_subscription(Image, f'{probe.name}/{{topic}}', print, 10)\n"
        'rclpy.spin(node)'
    )
    topic = f'{probe.name}/overlay'
    with subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.DEVNULL) as process:
        try:
            probe.wait(lambda: probe.ros_node.count_subscribers(topic))
            probe.play(RATE, 5)
            process.send_signal(signal.SIGSTOP)
            probe.play(RATE, times)
        finally:
            process.kill()


def stamps_go_backwards(probe: Probe, times: int) -> None:
    """Stamp each frame earlier than the one before, as when a bag starts over."""
    for number in range(times):
        probe.pass_one(stamp=10**8 - number)


def clock_jumps(probe: Probe, times: int) -> None:
    """Set simulated time back to its start and far ahead, as when a bag loops."""
    clock = probe.ros_node.create_publisher(Clock, '/clock', 10)
    try:
        check(_set_parameter(probe, 'use_sim_time', True), 'no simulated time')
        probe.wait(clock.get_subscription_count)
        for number in range(times):
            message = Clock()
            message.clock.sec = (1000, 1, 2**30, 0)[number % 4]
            clock.publish(message)
            probe.play(RATE, 3)
            # They go by the steady clock.
            before = probe.diagnostics
            probe.wait(lambda before=before: probe.diagnostics > before)
    finally:
        probe.ros_node.destroy_publisher(clock)
    check(_set_parameter(probe, 'use_sim_time', False), 'simulated time stays')


def _set_parameter(probe: Probe, name: str, value: object) -> bool:
    request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
    return bool(probe.call(SetParameters, 'set_parameters', request).results[0].successful)


def parameter_storm(probe: Probe, times: int) -> str:
    """Set parameters as fast as the node answers, allowed and forbidden values, as frames pass."""
    rng = random.Random(0)
    candidates: list[tuple[str, Any]] = [
        ('overlay_alpha', 0.2), ('overlay_alpha', 7.0), ('overlay_alpha', float('nan')),
        ('min_confidence', 0.0), ('min_confidence', -1.0), ('max_rate', 0.0),
        ('jpeg_quality', 50), ('jpeg_quality', 1000), ('jpeg_quality', 'high'),
        ('overlay_classes', ['road']), ('overlay_classes', ['moon']), ('overlay_classes', ['']),
        ('checkpoint', '/etc/passwd'), ('input_size', [64, 64]), ('no_such_parameter', 1),
    ]
    refused = 0
    with probe.service(SetParameters, 'set_parameters') as client:
        for _ in range(-(-times // 10)):
            futures = []
            for name, value in rng.choices(candidates, k=10):
                parameter = Parameter(name, value=value).to_parameter_msg()
                futures.append(client.call_async(SetParameters.Request(parameters=[parameter])))
            probe.pass_one()
            probe.wait(lambda f=futures: all(future.done() for future in f), ANSWER_TIMEOUT)
            refused += sum(not future.result().results[0].successful for future in futures)
    names = ['overlay_alpha', 'min_confidence', 'jpeg_quality']
    values = probe.call(GetParameters, 'get_parameters', GetParameters.Request(names=names)).values
    check(values[0].double_value in (0.2, 0.5), f'overlay_alpha is {values[0].double_value}')
    check(values[1].double_value == 0.0, f'min_confidence is {values[1].double_value}')
    check(values[2].integer_value in (50, 85), f'jpeg_quality is {values[2].integer_value}')
    return f'{refused} refused'


def transitions_in_any_order(probe: Probe, times: int) -> str:
    """Ask for transitions at random, most of them not allowed; shut down at last."""
    rng = random.Random(0)
    wanted = [
        Transition.TRANSITION_CREATE, Transition.TRANSITION_CONFIGURE,
        Transition.TRANSITION_CLEANUP, Transition.TRANSITION_ACTIVATE,
        Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_DESTROY, 60, 99, 200,
    ]
    succeeded = sum(probe.change_state(rng.choice(wanted)) for _ in range(times))
    probe.activate()
    probe.recover()
    check(probe.change_state(Transition.TRANSITION_ACTIVE_SHUTDOWN), 'no shutdown when active')
    check(probe.state() == 'finalized', f'state {probe.state()} after the shutdown')
    for transition in wanted:
        check(not probe.change_state(transition), f'transition {transition} after the shutdown')
    probe.stop()
    probe.start()
    return f'{succeeded} allowed'


def lifecycle_rounds(probe: Probe, times: int) -> str:
    """Deactivate, clean up, configure and activate again and again."""
    sizes = []
    for _ in range(times):
        _cycle(probe)
        probe.recover()
        target = probe.target
        sizes.append((target.memory_mib(), target.threads(), target.open_files()))
    first_settled = int(SETTLING_ROUNDS * times)
    settled = sizes[first_settled:]
    kib = 1024 * (settled[-1][0] - settled[0][0]) / max(len(settled) - 1, 1)
    threads, files = (settled[-1][place] - settled[0][place] for place in (1, 2))
    check(threads <= 0 and files <= 0, f'{threads} threads and {files} files more')
    if times >= ROUNDS_TO_JUDGE_MEMORY:
        check(kib < MAX_KIB_PER_ROUND, f'{kib:.0f} KiB more each round')
    return f'{kib:+.0f} KiB a round, {threads:+d} threads, {files:+d} files'


def _cycle(probe: Probe) -> None:
    for transition in (
        Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP,
        Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE,
    ):
        check(probe.change_state(transition), f'transition {transition} failed')


def backend_fails_once(probe: Probe, times: int) -> str:
    """Let the backend raise; a fresh one takes the same batch."""
    before = _restarts(probe)
    for number in range(times):
        probe.pass_one(probe.order_frame(Order.FAIL_ONCE, number))
    restarts = _restarts(probe) - before
    check(restarts == times, f'{restarts} restarts in the diagnostics')
    return 'the same frame came through'


def _restarts(probe: Probe) -> int:
    return int({pair.key: pair.value for pair in probe.status().values}['backend restarts'])


def backend_fails_for_good(probe: Probe, times: int) -> str:
    """Let fresh backends raise too: the process ends for its supervisor to start it again."""
    for _ in range(times):
        probe.publish(probe.order_frame(Order.FAIL_ALWAYS), expected=False)
        code = probe.target.wait(ANSWER_TIMEOUT)
        check(code == EXIT_BACKEND_FAILED, f'exit code {code}')
        probe.start()
    return f'exit code {EXIT_BACKEND_FAILED}; recovery is the start of a process'


def backend_fails_under_a_manager(probe: Probe, times: int) -> str:
    """Let the backend fail for good where a lifecycle manager would configure the node again."""
    events = probe.collect(TransitionEvent, f'{probe.name}/transition_event')
    probe.wait(lambda: probe.ros_node.count_publishers(f'{probe.name}/transition_event'))
    for _ in range(times):
        # The first event may get lost while the far side connects.
        probe.recover()
        events.clear()
        probe.publish(probe.order_frame(Order.FAIL_ALWAYS), expected=False)
        probe.wait(
            lambda: events and events[-1].goal_state.label == 'unconfigured', ANSWER_TIMEOUT
        )
        labels = [event.goal_state.label for event in events]
        check('errorprocessing' in labels, f'transitions: {labels}')
        status = probe.status()
        check(
            status.level == DiagnosticStatus.ERROR and 'out of memory' in status.message,
            f'diagnostics: {status.message}',
        )
        probe.activate()
    return 'errorprocessing, then unconfigured'


def backend_hangs(probe: Probe, times: int) -> str:
    """Let the backend take longer than it may; the watchdog must say so."""
    seen = ''
    for _ in range(times):
        probe.pass_one()
        seen = _hang(probe, SHORT_HANG).message
        probe.recover()
    return seen


def deactivated_while_hanging(probe: Probe, times: int) -> str:
    """Deactivate while the backend hangs: the node continues without that thread."""
    for _ in range(times):
        _hang(probe, LONG_HANG)
        started = time.perf_counter()
        check(not probe.change_state(Transition.TRANSITION_DEACTIVATE), 'reported as a success')
        waited = time.perf_counter() - started
        check(waited < LONG_HANG, f'it waited {waited:.1f} s')
        check(probe.state() == 'unconfigured', f'state {probe.state()}')
        probe.activate()
        probe.recover()
    return 'unconfigured, then activated anew'


def signal_in_a_batch(probe: Probe, times: int) -> str:
    """Send SIGTERM while the network is at work."""
    longest = 0.0
    for _ in range(times):
        _hang(probe, LONG_HANG)
        longest = max(longest, probe.stop(signal.SIGTERM))
        check(longest < LONGEST_END, f'it took {longest:.1f} s to end')
        probe.start()
    return f'exit code 0 after {longest:.1f} s at most; recovery is the start of a process'


def _hang(probe: Probe, seconds: float) -> DiagnosticStatus:
    """Let the backend hang; return the status in which the watchdog says so."""
    probe.publish(probe.order_frame(Order.HANG, round(10 * seconds)), expected=False)
    return probe.wait(partial(_overdue, probe), seconds)


def _overdue(probe: Probe) -> DiagnosticStatus | None:
    status = probe.status()
    good = status.level == DiagnosticStatus.ERROR and "stage 'network'" in status.message
    return status if good else None


def cache_cannot_be_written(probe: Probe, times: int) -> str:
    """Start with a folder for compiled networks that can't be made."""
    for _ in range(1, times):
        probe.stop()
        probe.start()
    return 'compiled at each start instead'


def cache_on_a_full_disk(probe: Probe, times: int) -> str:
    """Start with a folder for compiled networks on a disk that is full."""
    for number in range(times):
        if number:
            probe.stop()
            probe.start()
        left = list(Path(f'/proc/{probe.target.pid}/root{FULL_DISK}').iterdir())
        check(not left, f'left on the disk: {left}')
    return 'compiled at each start instead'


def namesake(probe: Probe, times: int) -> str:
    """Start a second node of the same name."""
    seen = ''
    for _ in range(times):
        log = ['--log-level', 'fatal']
        with NodeProcess(probe.namespace, {'autostart': False}, ros_arguments=log):
            probe.wait(lambda: 'another node has this name' in probe.status().message)
            seen = probe.status().message
            probe.play(RATE, 3)
        probe.wait(lambda: probe.status().message == 'active')
    return seen


def busy_domain(probe: Probe, times: int) -> str:
    """Take the first UDP ports of the domain, and fill its graph with other nodes."""
    domain = int(os.environ.get('ROS_DOMAIN_ID', '0'))
    probe.stop()
    with contextlib.ExitStack() as stack:
        taken = 0
        for participant in range(2 * times):
            for offset in (10, 11):
                # The port mapping of DDSI-RTPS.
                port = 7400 + 250 * domain + offset + 2 * participant
                taker = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                with contextlib.suppress(OSError):
                    taker.bind(('', port))
                    taken += 1
        for number in range(times):
            node, _ = stack.enter_context(_other_node(f'neighbor_{number}'))
            node.create_publisher(Image, f'/neighbor_{number}/image', 1)
        probe.start()
    return f'{taken} ports taken, {times} neighbors'


def bad_frames(probe: Probe, times: int) -> str:
    """Send frames that can't be used, and good ones between them; each must be counted."""
    kinds: dict[str, dict[str, Any]] = {
        'encoding': {'encoding': '32FC7'},
        'size': {'width': 0},
        'step': {'step': 5},
        'truncated': {'height': 2000},
    }
    for number in range(times):
        reason, change = list(kinds.items())[number % len(kinds)]
        before = probe.counters().get(f'rejected:{reason}', 0)
        message = probe.make()
        for name, value in change.items():
            setattr(message, name, value)
        probe.publish(message, expected=False)
        probe.wait(lambda r=reason, b=before: probe.counters().get(f'rejected:{r}') == b + 1)
        probe.recover()
    return 'each counted by its reason'


def one_camera_of_six_broken(probe: Probe, times: int) -> str:
    """Let one of six cameras send frames that can't be used; the others must lose none."""
    broken = CAMERAS[-1]
    good = CAMERAS[:-1]
    for _ in range(times):
        started = time.perf_counter()
        message = probe.make()
        message.encoding = 'nonsense'
        probe.publish(message, camera=broken, expected=False)
        stamps = [probe.publish(camera=camera) for camera in good]
        passages = [probe.passages[stamp] for stamp in stamps]
        probe.wait(lambda p=passages: all(passage.complete for passage in p), ANSWER_TIMEOUT)
        probe.spin(max(1 / RATE - (time.perf_counter() - started), 0))
    rejected = probe.counters(broken).get('rejected:encoding', 0)
    check(0 < rejected <= times, f'{rejected} of {times} frames counted as rejected')
    return f'{times * len(good)} good frames came back, {rejected} bad ones counted'


@contextlib.contextmanager
def _other_node(name: str) -> Iterator[tuple[Node, Callable[[], None]]]:
    node = Node(name)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        yield node, lambda: executor.spin_once(timeout_sec=0)
    finally:
        executor.shutdown()
        node.destroy_node()


def _ignore(_: object) -> None:
    """Take a message and do nothing."""


@dataclass(frozen=True)
class Fault:
    """
    A fault.

    Attributes
    ----------
    inject
        Injects it into a running node, so many times; returns what is worth noting. Raises
        `LiveError`. Leaves a node that is set up as before, if perhaps in another process.
    times
        How many times `lednet torture` does it.
    quick
        How many times the tests do it.
    setup
        Setup of the node.

    """

    inject: Callable[[Probe, int], str | None]
    times: int
    quick: int
    setup: Setup

    @property
    def name(self) -> str:
        """Return the name of the fault in words."""
        return self.inject.__name__.replace('_', ' ')

    @property
    def possible(self) -> bool:
        """Return whether the fault can be injected on this machine."""
        wrapper = self.setup.wrapper
        try:
            return not wrapper or not subprocess.run([*wrapper, 'true'], check=False).returncode
        except FileNotFoundError:
            return False


STAND_INS = 'lednet_ros.live.stand_ins'
PLAIN = Setup()
FAULTY = Setup({'stage_timeout': 0.3}, STAND_INS, ['faulty'])
# Faults of the same setup can share a node; the tests do that.
FAULTS: Sequence[Fault] = (
    Fault(bad_frames, 200, 8, PLAIN),
    Fault(camera_vanishes, 20, 2, PLAIN),
    Fault(size_changes, 120, 6, PLAIN),
    Fault(encoding_changes, 140, 7, PLAIN),
    Fault(frame_id_changes, 100, 5, PLAIN),
    Fault(two_publishers, 100, 5, PLAIN),
    Fault(flood, 2000, 100, PLAIN),
    Fault(subscribers_come_and_go, 1000, 50, PLAIN),
    Fault(stuck_subscriber, 300, 20, PLAIN),
    Fault(stamps_go_backwards, 100, 5, PLAIN),
    Fault(clock_jumps, 40, 4, PLAIN),
    Fault(parameter_storm, 2000, 60, PLAIN),
    Fault(transitions_in_any_order, 200, 25, PLAIN),
    Fault(lifecycle_rounds, 100, 12, PLAIN),
    Fault(namesake, 3, 1, PLAIN),
    Fault(busy_domain, 25, 5, PLAIN),
    Fault(overload, 5000, 300, Setup({'input_size': (256, 512)})),
    Fault(
        one_camera_of_six_broken, 100, 5, Setup({'backend': 'torch_eager'}, cameras=CAMERAS)
    ),
    Fault(
        cache_cannot_be_written, 3, 1, Setup(environment={'LEDNET_ROS_CACHE': '/proc/nowhere'})
    ),
    Fault(
        cache_on_a_full_disk,
        3,
        1,
        Setup(environment={'LEDNET_ROS_CACHE': FULL_DISK}, wrapper=(*MOUNT, 'sh')),
    ),
    Fault(backend_fails_once, 5, 1, FAULTY),
    Fault(backend_hangs, 10, 1, FAULTY),
    Fault(deactivated_while_hanging, 5, 1, FAULTY),
    Fault(backend_fails_for_good, 5, 1, FAULTY),
    Fault(signal_in_a_batch, 5, 1, FAULTY),
    Fault(
        backend_fails_under_a_manager, 10, 1, Setup({'autostart': False}, STAND_INS, ['faulty'])
    ),
)


@dataclass(frozen=True)
class Outcome:
    """
    Outcome of a fault.

    Attributes
    ----------
    fault
        Its name.
    injected
        How many times.
    survived
        Whether the node did what it must, and processed frames afterwards.
    recovery_s
        Most seconds from the end of the fault to the next labels of every camera.
    frames_lost
        Good frames, sent at a rate that the node can process, without labels.
    note
        What is worth noting, or what was seen instead.

    """

    fault: str
    injected: int
    survived: bool
    recovery_s: float
    frames_lost: int
    note: str


def inject_fault(fault: Fault, times: int, probe: Probe, stop: bool = True) -> Outcome:
    """
    Inject a fault, and see whether the node works afterwards.

    Parameters
    ----------
    fault, times
        What to do, and how many times.
    probe
        Of a node of the fault's setup, which is started if it doesn't run.
    stop
        Whether the node is stopped at the end, and must end cleanly; other faults may follow
        otherwise.

    """
    try:
        if not probe.is_running:
            probe.start()
        # A fault before this one must have left nothing.
        probe.recover()
        lost = probe.lost()
        probe.longest_recovery = 0.0
        note = fault.inject(probe, times) or ''
        probe.recover()
        check(not probe.surprises, f'{probe.surprises} labels without or of the same frame')
        recovery, lost = round(probe.longest_recovery, 3), probe.lost() - lost
        if stop:
            probe.stop()
    except LiveError as reason:
        return Outcome(fault.name, times, False, float('nan'), 0, str(reason))
    return Outcome(fault.name, times, True, recovery, lost, note)
