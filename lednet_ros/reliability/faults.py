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
The faults: each is brought about on a live node, which then has to work as before.

A fault is one function here and one entry of `FAULTS`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
import contextlib
from dataclasses import dataclass, field
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
from lednet_ros.reliability.faulty_node import HANG_SECONDS, Order
from lednet_ros.reliability.probe import check, NotSurvived, Probe, RATE, Setup
from lednet_ros.ros.process import run_module
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
# Enough to find how many frames the node can process.
PROBE_FRAMES, PROBE_RATE = 400, 400.0
# A file system of its own, which only the node sees, smaller than a compiled network.
FULL_DISK = '/mnt'
MOUNT = ('unshare', '-rm', 'sh', '-c', f'mount -t tmpfs -o size=64k none {FULL_DISK} && exec "$@"')
CAMERAS = ('front', 'rear', 'left', 'right', 'roof', 'broken')
FAULTY = 'lednet_ros.reliability.faulty_node'
# Growth over many rounds, of what the allocator of a process keeps anyway.
MAX_KIB_PER_ROUND = 64
# Pools of threads and of memory fill during the first share of the rounds, memory later.
SETTLING_ROUNDS = 0.5
ROUNDS_TO_JUDGE_MEMORY = 50


def camera_vanishes(probe: Probe, times: int) -> None:
    """Remove the camera's publisher, and make it again."""
    for _ in range(times):
        probe.remove_camera()
        probe.wait(lambda: not probe.node.count_publishers(f'{probe.namespace}/image'))
        probe.add_camera()
        probe.recover()


def size_changes(probe: Probe, times: int) -> None:
    """Change the size of the frames from one to the next, odd ones among them."""
    sizes = [(96, 128), (97, 131), (48, 64), (1, 1), (240, 320), (3, 500)]
    for number in range(times):
        size = sizes[number % len(sizes)]
        labels = _pass(probe, probe.make(np.zeros((*size, 3), np.uint8)))
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

    probe.flow(times, make)


def frame_id_changes(probe: Probe, times: int) -> None:
    """Give every frame another frame id."""
    for number in range(times):
        message = probe.make()
        message.header = Header(frame_id=f'camera/{number}')
        labels = _pass(probe, message)
        check(labels.header == message.header, 'labels with another header')


def _pass(probe: Probe, message: Image, stamp: int | None = None) -> Image:
    """Publish a frame and wait for its labels."""
    sent = probe.publish(message, stamp)
    probe.wait(lambda: sent in probe.received)
    assert probe.last is not None
    return probe.last


def flood(probe: Probe, times: int) -> str:
    """Publish at 200 Hz."""
    return _overrun(probe, times, 200.0)


def overload(probe: Probe, times: int) -> str:
    """Publish at ten times the rate that the node can process."""
    stamps = probe.flow(PROBE_FRAMES, rate=PROBE_RATE, expected=False)
    times_of = sorted(probe.received[stamp] for stamp in stamps if stamp in probe.received)
    check(len(times_of) > 2, 'too few frames to find the capacity')
    capacity = (len(times_of) - 1) / (times_of[-1] - times_of[0])
    return f'capacity {capacity:.0f} frames/s; ' + _overrun(probe, times, 10 * capacity)


def _overrun(probe: Probe, count: int, rate: float) -> str:
    """Publish more than can be processed; what is received must be accounted for exactly."""
    before = _account(probe)
    cpu, started = probe.target.cpu_seconds(), time.perf_counter()
    stamps = probe.flow(count, rate=rate, expected=False)
    seconds = time.perf_counter() - started
    cores = (probe.target.cpu_seconds() - cpu) / seconds
    done = [stamp for stamp in stamps if stamp in probe.received]
    after = _account(probe)
    new = after - before
    check(new['processed'] == len(done), f"{len(done)} results, counted {new['processed']}")
    ways = ('processed', 'dropped', 'rejected', 'failed', 'unwanted', 'skipped', 'unpublished')
    accounted = sum(new[way] for way in ways)
    check(new['received'] == accounted, f"received {new['received']}, accounted for {accounted}")
    latencies = sorted(probe.received[stamp] - probe.sent[stamp] for stamp in done)
    return (
        f"{rate:.0f} Hz: received {new['received']} = {new['processed']} processed + "
        f"{new['dropped']} dropped; latency p50 {1e3 * latencies[len(latencies) // 2]:.0f}, "
        f'max {1e3 * latencies[-1]:.0f} ms; node {cores:.1f} cores'
    )


def _account(probe: Probe) -> Counter[str]:
    """Give the counters of the camera when nothing is under way; rejections as one."""
    found: Counter[str] = Counter()
    for key, value in probe.counters().items():
        if value.isdigit():
            found[key.partition(':')[0]] += int(value)
    return found


def two_publishers(probe: Probe, times: int) -> None:
    """Publish on the topic from a second node, too."""
    with _other_node('second') as (node, spin):
        second = node.create_publisher(Image, f'{probe.namespace}/image', 1)
        probe.wait(second.get_subscription_count)
        for stamp in range(1, times + 1):
            message = probe.make()
            message.header.stamp.nanosec = stamp
            probe.sent[stamp] = time.perf_counter()
            probe.expected.add(stamp)
            second.publish(message)
            probe.settle([stamp])
            probe.flow(1)
            spin()


def subscribers_come_and_go(probe: Probe, times: int) -> None:
    """Make subscribers of several outputs and remove them, while frames pass."""
    topics = ('overlay', 'labels', 'color', 'confidence', 'camera_info')
    for number in range(times):
        topic = f'{probe.name}/{topics[number % len(topics)]}'
        made = probe.node.create_subscription(Image, topic, _ignore, 1)
        if not number % 10:
            probe.flow(1)
        probe.node.destroy_subscription(made)


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
            probe.wait(lambda: probe.node.count_subscribers(topic))
            probe.flow(5)
            process.send_signal(signal.SIGSTOP)
            probe.flow(times)
        finally:
            process.kill()


def stamps_go_backwards(probe: Probe, times: int) -> None:
    """Give each frame an older stamp than the one before, as when a bag starts again."""
    for number in range(times):
        _pass(probe, probe.make(), 10**8 - number)


def clock_jumps(probe: Probe, times: int) -> None:
    """Set simulated time back to its start and far ahead, as when a bag loops."""
    clock = probe.node.create_publisher(Clock, '/clock', 10)
    try:
        probe.wait(clock.get_subscription_count)
        for number in range(times):
            message = Clock()
            message.clock.sec = (1000, 1, 2**30, 0)[number % 4]
            clock.publish(message)
            probe.flow(3)
            # They go by the steady clock.
            before = probe.diagnostics
            probe.wait(lambda before=before: probe.diagnostics > before)
    finally:
        probe.node.destroy_publisher(clock)


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
    with probe.client(SetParameters, 'set_parameters') as client:
        for _ in range(-(-times // 10)):
            futures = []
            for name, value in rng.choices(candidates, k=10):
                parameter = Parameter(name, value=value).to_parameter_msg()
                futures.append(client.call_async(SetParameters.Request(parameters=[parameter])))
            probe.flow(1)
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
    _activate(probe)
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
        probe.flow(1)
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


def _activate(probe: Probe) -> None:
    """Make the node active, from whatever state."""
    state = probe.state()
    if state == 'unconfigured':
        check(probe.change_state(Transition.TRANSITION_CONFIGURE), 'configure failed')
        state = 'inactive'
    if state == 'inactive':
        check(probe.change_state(Transition.TRANSITION_ACTIVATE), 'activate failed')


def order_frame(probe: Probe, order: Order) -> Image:
    """Give a frame that asks the faulty backend for something."""
    pixels = np.zeros_like(probe.frame)
    pixels[0, 0, 0] = order
    return probe.make(pixels)


def backend_fails_once(probe: Probe, times: int) -> str:
    """Let the backend raise; a fresh one takes the same batch."""
    for number in range(times):
        if number:
            # A new process has its first backend again.
            probe.stop()
            probe.start()
        _pass(probe, order_frame(probe, Order.FAIL_ONCE))
        restarts = probe.count('backend restarts', None)
        check(restarts == 1, f'{restarts} restarts in the diagnostics')
    return 'the same frame came through'


def backend_fails_for_good(probe: Probe, times: int) -> str:
    """Let fresh backends raise too: the process ends for its supervisor to start it again."""
    for _ in range(times):
        probe.publish(order_frame(probe, Order.FAIL_ALWAYS), expected=False)
        code = probe.wait_end(ANSWER_TIMEOUT)
        check(code == EXIT_BACKEND_FAILED, f'exit code {code}')
        probe.start()
    return f'exit code {EXIT_BACKEND_FAILED}; recovery is the start of a process'


def backend_fails_under_a_manager(probe: Probe, times: int) -> str:
    """Let the backend fail for good where a lifecycle manager would configure the node again."""
    events: list[str] = []
    probe.stop()
    probe.start(configure=False)
    probe.subscribe(
        TransitionEvent,
        f'{probe.name}/transition_event',
        lambda event: events.append(event.goal_state.label),
    )
    probe.wait(lambda: probe.node.count_subscribers(f'{probe.name}/transition_event'))
    for _ in range(times):
        _activate(probe)
        probe.recover()
        events.clear()
        probe.publish(order_frame(probe, Order.FAIL_ALWAYS), expected=False)
        probe.wait(lambda: events and events[-1] == 'unconfigured', ANSWER_TIMEOUT)
        check('errorprocessing' in events, f'transitions: {events}')
        status = probe.status()
        check(
            status.level == DiagnosticStatus.ERROR and 'out of memory' in status.message,
            f'diagnostics: {status.message}',
        )
        _activate(probe)
    return 'errorprocessing, then unconfigured'


def backend_hangs(probe: Probe, times: int) -> str:
    """Let the backend take longer than it may; the watchdog must say so."""
    seen = ''
    for _ in range(times):
        probe.flow(2)
        probe.publish(order_frame(probe, Order.HANG), expected=False)
        status = probe.wait(partial(_overdue, probe), HANG_SECONDS)
        seen = status.message
        probe.recover()
    return seen


def deactivated_while_hanging(probe: Probe, times: int) -> str:
    """Deactivate while the backend hangs: the node goes on without that thread."""
    for _ in range(times):
        probe.publish(order_frame(probe, Order.HANG), expected=False)
        probe.wait(partial(_overdue, probe), HANG_SECONDS)
        started = time.perf_counter()
        check(not probe.change_state(Transition.TRANSITION_DEACTIVATE), 'reported as a success')
        waited = time.perf_counter() - started
        check(waited < HANG_SECONDS, f'it waited {waited:.1f} s')
        check(probe.state() == 'unconfigured', f'state {probe.state()}')
        _activate(probe)
        probe.recover()
    return 'unconfigured, then activated anew'


def signal_in_a_batch(probe: Probe, times: int) -> str:
    """Send SIGTERM while the network is at work."""
    longest = 0.0
    for _ in range(times):
        probe.publish(order_frame(probe, Order.HANG), expected=False)
        probe.wait(partial(_overdue, probe), HANG_SECONDS)
        longest = max(longest, probe.stop(signal.SIGTERM))
        check(longest < LONGEST_END, f'it took {longest:.1f} s to end')
        probe.start()
    return f'exit code 0 after {longest:.1f} s at most; recovery is the start of a process'


def _overdue(probe: Probe) -> DiagnosticStatus | None:
    status = probe.status()
    good = status.level == DiagnosticStatus.ERROR and "stage 'network'" in status.message
    return status if good else None


def cache_cannot_be_written(probe: Probe, times: int) -> str:
    """Start with a folder for compiled networks that can't be made."""
    for _ in range(times):
        probe.stop()
        probe.start()
    return 'compiled at each start instead'


def cache_on_a_full_disk(probe: Probe, times: int) -> str:
    """Start with a folder for compiled networks on a disk that is full."""
    for _ in range(times):
        probe.stop()
        probe.start()
        left = list(Path(f'/proc/{probe.target.pid}/root{FULL_DISK}').iterdir())
        check(not left, f'left on the disk: {left}')
    return 'compiled at each start instead'


def namesake(probe: Probe, times: int) -> str:
    """Start a second node of the same name."""
    seen = ''
    for _ in range(times):
        arguments = ['--log-level', 'fatal', '-p', 'autostart:=false']
        with run_module(probe.setup.module, probe.namespace, arguments):
            probe.wait(lambda: 'another node has this name' in probe.status().message)
            seen = probe.status().message
            probe.flow(3)
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
        before = probe.count(f'rejected:{reason}')
        message = probe.make()
        for name, value in change.items():
            setattr(message, name, value)
        probe.publish(message, expected=False)
        probe.wait(lambda r=reason, b=before: probe.count(f'rejected:{r}') == b + 1)
        probe.recover()
    return 'each counted by its reason'


def one_camera_of_six_broken(probe: Probe, times: int) -> str:
    """Let one of six cameras send frames that can't be used; the others must lose none."""
    broken = CAMERAS[-1]
    good = CAMERAS[:-1]
    stamps = []
    for _ in range(times):
        started = time.perf_counter()
        message = probe.make()
        message.encoding = 'nonsense'
        probe.publish(message, camera=broken, expected=False)
        round_of = [probe.publish(camera=camera) for camera in good]
        probe.wait(lambda r=round_of: all(s in probe.received for s in r), ANSWER_TIMEOUT)
        stamps += round_of
        probe.spin(max(1 / RATE - (time.perf_counter() - started), 0))
    rejected = probe.count('rejected:encoding', broken)
    check(0 < rejected <= times, f'{rejected} of {times} frames counted as rejected')
    return f'{len(stamps)} good frames came back, {rejected} bad ones counted'


@contextlib.contextmanager
def _other_node(name: str) -> Any:
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
        Brings it about on a running node, so many times; gives what is worth noting. Raises
        `NotSurvived`.
    times
        How many times `lednet torture` does it.
    quick
        How many times the tests do it.
    setup
        How the node is started.

    """

    inject: Callable[[Probe, int], str | None]
    times: int
    quick: int
    setup: Setup = field(default_factory=Setup)

    @property
    def name(self) -> str:
        """Say what is done, in words."""
        return self.inject.__name__.replace('_', ' ')

    @property
    def possible(self) -> bool:
        """Whether it can be brought about on this machine."""
        wrapper = self.setup.wrapper
        try:
            return not wrapper or not subprocess.run([*wrapper, 'true'], check=False).returncode
        except FileNotFoundError:
            return False


FAULTS: Sequence[Fault] = (
    Fault(bad_frames, 200, 8),
    Fault(camera_vanishes, 20, 2),
    Fault(size_changes, 120, 6),
    Fault(encoding_changes, 140, 7),
    Fault(frame_id_changes, 100, 5),
    Fault(two_publishers, 100, 5),
    Fault(flood, 2000, 100),
    Fault(overload, 5000, 300, Setup(values={'input_size': '[256,512]'})),
    Fault(subscribers_come_and_go, 1000, 50),
    Fault(stuck_subscriber, 300, 20),
    Fault(stamps_go_backwards, 100, 5),
    Fault(clock_jumps, 40, 4, Setup(values={'use_sim_time': 'true'})),
    Fault(parameter_storm, 2000, 60),
    Fault(transitions_in_any_order, 200, 25),
    Fault(lifecycle_rounds, 100, 12),
    Fault(namesake, 3, 1),
    Fault(busy_domain, 25, 5),
    Fault(
        one_camera_of_six_broken,
        100,
        5,
        Setup(values={'backend': 'torch_eager'}, cameras=CAMERAS),
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
    Fault(backend_fails_once, 5, 1, Setup(FAULTY)),
    Fault(backend_fails_for_good, 5, 1, Setup(FAULTY)),
    Fault(backend_fails_under_a_manager, 10, 1, Setup(FAULTY)),
    Fault(backend_hangs, 10, 1, Setup(FAULTY, {'stage_timeout': '0.3'})),
    Fault(deactivated_while_hanging, 5, 1, Setup(FAULTY, {'stage_timeout': '0.3'})),
    Fault(signal_in_a_batch, 5, 1, Setup(FAULTY, {'stage_timeout': '0.3'})),
)


@dataclass(frozen=True)
class Outcome:
    """
    What became of a fault.

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


def inject_fault(
    fault: Fault, times: int, node: Node, executor: SingleThreadedExecutor, namespace: str
) -> Outcome:
    """
    Start a node, bring a fault about, and see whether the node works afterwards.

    Parameters
    ----------
    fault, times
        What to do, and how many times.
    node, executor
        Of this process.
    namespace
        Where the node shall be.

    """
    probe = Probe(node, executor, namespace, fault.setup)
    try:
        probe.start()
        probe.longest_recovery = 0.0
        try:
            note = fault.inject(probe, times) or ''
            probe.recover()
            lost = len(probe.expected - probe.received.keys())
            check(not probe.surprises, f'{probe.surprises} labels without or of the same frame')
            probe.stop()
        except NotSurvived as reason:
            return Outcome(fault.name, times, False, float('nan'), 0, str(reason))
        return Outcome(fault.name, times, True, round(probe.longest_recovery, 3), lost, note)
    finally:
        probe.close()
