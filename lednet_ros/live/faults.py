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
Faults that are injected into a live node, which then must work as before.

A fault is one function here and one entry of `FAULTS`.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
import contextlib
from dataclasses import dataclass
import datetime
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
from lednet_ros.benchmark.measure import make_report
from lednet_ros.live.benchmarks import run_soak
from lednet_ros.live.client import (
    ANSWER_TIMEOUT,
    live_session,
    LiveError,
    NodeProcess,
    Passage,
    RATE,
)
from lednet_ros.live.probe import check, Probe, Setup
from lednet_ros.live.stand_ins import Order
from lednet_ros.ros.segmentation_node import EXIT_BACKEND_FAILED
from lifecycle_msgs.msg import Transition, TransitionEvent
import numpy as np
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from tqdm import tqdm

# A signal must end the node within 2 s; a busy machine gets more before it counts as hung.
LONGEST_END = 5.0
# Seconds of a hang: of the backend until it continues, or longer than the fault takes.
SHORT_HANG, LONG_HANG = 2.0, 20.0
# Frames and frames per second that are enough to measure the node's capacity.
PROBE_FRAMES, PROBE_RATE = 400, 400.0
# A file system that only the node sees, smaller than a compiled network.
FULL_DISK = '/mnt'
MOUNT = ('unshare', '-rm', 'sh', '-c', f'mount -t tmpfs -o size=64k none {FULL_DISK} && exec "$@"')
CAMERAS = ('front', 'rear', 'left', 'right', 'roof', 'broken')
# Allowed growth over many rounds: memory that the allocator keeps anyway.
MAX_KIB_PER_ROUND = 64
# Pools of threads and memory fill during this fraction of the rounds.
SETTLING_ROUNDS = 0.5
ROUNDS_TO_JUDGE_MEMORY = 50
SOAK_INPUT, SOAK_FRAME = (512, 1024), (1024, 2048)
SOAK_RATE = 30.0


def camera_vanishes(probe: Probe, times: int) -> None:
    """Remove the camera's publisher and create it again."""
    for _ in range(times):
        probe.remove_camera()
        probe.wait(lambda: not probe.ros_node.count_publishers(f'{probe.namespace}/image'))
        probe.add_camera()
        probe.recover()


def size_changes(probe: Probe, times: int) -> None:
    """Change the size with every frame, including odd sizes."""
    sizes = [(96, 128), (97, 131), (48, 64), (1, 1), (240, 320), (3, 500)]
    for number in range(times):
        size = sizes[number % len(sizes)]
        probe.pass_one(probe.make(np.zeros((*size, 3), np.uint8)))
        labels = probe.newest['labels']
        check((labels.height, labels.width) == size, f'labels of another size than {size}')


def encoding_changes(probe: Probe, times: int) -> None:
    """Change the encoding with every frame."""
    encodings = {
        'bgr8': 3, 'rgb8': 3, 'mono8': 1, 'bgra8': 4, 'yuv422': 2, 'bayer_rggb8': 1, 'mono16': 2,
    }

    def make(number: int) -> Image:
        encoding, channels = list(encodings.items())[number % len(encodings)]
        message = probe.make(np.zeros((96, 128, channels), np.uint8))
        message.encoding = encoding
        return message

    probe.play(RATE, times, make)


def frame_id_changes(probe: Probe, times: int) -> None:
    """Change the frame id with every frame."""
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
    check(len(arrivals) > 2, 'too few frames to measure the capacity')
    capacity = (len(arrivals) - 1) / (arrivals[-1] - arrivals[0])
    return f'capacity {capacity:.0f} frames/s; ' + _overrun(probe, times, 10 * capacity)


def _overrun(probe: Probe, count: int, rate: float) -> str:
    """Publish more than the node can process; every received frame must be accounted for."""
    before = _account(probe)
    cpu, started = probe.target.cpu_seconds(), time.perf_counter()
    passages = probe.play(rate, count, expected=False)
    seconds = time.perf_counter() - started
    cores = (probe.target.cpu_seconds() - cpu) / seconds
    new = _account(probe) - before

    def find_done() -> list[Passage]:
        return [passage for passage in passages if passage.complete]

    with contextlib.suppress(LiveError):
        # A busy machine may deliver the last results after the diagnostics that count them.
        probe.wait(lambda: len(find_done()) >= new['processed'])
    done = find_done()
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
    """Return the camera's counters when they no longer change, rejections added up."""
    counters: Counter[str] = Counter()

    def is_settled() -> bool:
        seen = counters.copy()
        counters.clear()
        for key, value in probe.counters().items():
            counters[key.partition(':')[0]] += value
        return counters == seen

    probe.wait(is_settled)
    return counters


def two_publishers(probe: Probe, times: int) -> None:
    """Publish on the topic from a second node, too."""
    with contextlib.ExitStack() as stack:
        node = Node('second')
        stack.callback(node.destroy_node)
        second = node.create_publisher(Image, f'{probe.namespace}/image', 1)
        probe.connect(second)
        # This frame may get lost: the node's side may connect later.
        probe.settle([probe.send(probe.make(), 0, expected=False, by=second)])
        for stamp in range(1, times + 1):
            message = probe.make()
            message.header.stamp.nanosec = stamp
            probe.settle([probe.send(message, stamp, by=second)])
            probe.pass_one()


def subscribers_come_and_go(probe: Probe, times: int) -> None:
    """Create and remove subscribers of several outputs while frames are processed."""
    topics = ('overlay', 'labels', 'color', 'confidence', 'camera_info')
    for number in range(times):
        topic = f'{probe.name}/{topics[number % len(topics)]}'
        made = probe.ros_node.create_subscription(Image, topic, lambda _: None, 1)
        if not number % 10:
            probe.play(RATE, 1)
        probe.ros_node.destroy_subscription(made)


def stuck_subscriber(probe: Probe, times: int) -> None:
    """Suspend a process that subscribes reliably to labels and overlay."""
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
    """Stamp each frame earlier than the previous one, as when a bag starts over."""
    for number in range(times):
        probe.pass_one(stamp=10**8 - number)


def clock_jumps(probe: Probe, times: int) -> None:
    """Set simulated time back to the start and far ahead, as when a bag loops."""
    clock = probe.ros_node.create_publisher(Clock, '/clock', 10)
    try:
        check(_set_parameter(probe, 'use_sim_time', True), 'no simulated time')
        probe.wait(clock.get_subscription_count)
        for number in range(times):
            message = Clock()
            message.clock.sec = (1000, 1, 2**30, 0)[number % 4]
            clock.publish(message)
            probe.play(RATE, 3)
            # Diagnostics use the steady clock.
            before = probe.diagnostics
            probe.wait(lambda before=before: probe.diagnostics > before)
    finally:
        probe.ros_node.destroy_publisher(clock)
    check(_set_parameter(probe, 'use_sim_time', False), 'simulated time stays')


def _set_parameter(probe: Probe, name: str, value: object) -> bool:
    request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
    return bool(probe.call(SetParameters, 'set_parameters', request).results[0].successful)


def parameter_storm(probe: Probe, times: int) -> str:
    """Set valid and invalid parameters as fast as the node answers, while frames are processed."""
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
            probe.wait(lambda f=futures: all(future.done() for future in f))
            refused += sum(not future.result().results[0].successful for future in futures)
    names = ['overlay_alpha', 'min_confidence', 'jpeg_quality']
    values = probe.call(GetParameters, 'get_parameters', GetParameters.Request(names=names)).values
    check(values[0].double_value in (0.2, 0.5), f'overlay_alpha is {values[0].double_value}')
    check(values[1].double_value == 0.0, f'min_confidence is {values[1].double_value}')
    check(values[2].integer_value in (50, 85), f'jpeg_quality is {values[2].integer_value}')
    return f'{refused} refused'


def transitions_in_any_order(probe: Probe, times: int) -> str:
    """Request random transitions, most of them not allowed, then shut down."""
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
    probe.restart()
    return f'{succeeded} allowed'


def lifecycle_rounds(probe: Probe, times: int) -> str:
    """Deactivate, clean up, configure and activate, repeatedly."""
    used = []
    for _ in range(times):
        for transition in (
            Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP,
            Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE,
        ):
            check(probe.change_state(transition), f'transition {transition} failed')
        probe.recover()
        used.append(probe.target.resources())
    settled = used[int(SETTLING_ROUNDS * times) :]
    grown = {name: settled[-1][name] - first for name, first in settled[0].items()}
    threads, files = grown['threads'], grown['files']
    kib = 1024 * grown['rss_mib'] / max(len(settled) - 1, 1)
    check(threads <= 0 and files <= 0, f'{threads} threads and {files} files more')
    if times >= ROUNDS_TO_JUDGE_MEMORY:
        check(kib < MAX_KIB_PER_ROUND, f'{kib:.0f} KiB more each round')
    return f'{kib:+.0f} KiB a round, {threads:+d} threads, {files:+d} files'


def backend_fails_once(probe: Probe, times: int) -> str:
    """Let the backend raise; a new one processes the same batch."""
    before = _restarts(probe)
    for number in range(times):
        probe.pass_one(probe.order_frame(Order.FAIL_ONCE, number))
    restarts = _restarts(probe) - before
    check(restarts == times, f'{restarts} restarts in the diagnostics')
    return 'the same frame was processed'


def _restarts(probe: Probe) -> int:
    return int({pair.key: pair.value for pair in probe.status().values}['backend restarts'])


def backend_fails_for_good(probe: Probe, times: int) -> str:
    """Let new backends raise, too: the process ends, so that its supervisor restarts it."""
    for _ in range(times):
        probe.publish(probe.order_frame(Order.FAIL_ALWAYS), expected=False)
        code = probe.target.wait(ANSWER_TIMEOUT)
        check(code == EXIT_BACKEND_FAILED, f'exit code {code}')
        probe.start()
    return f'exit code {EXIT_BACKEND_FAILED}; recovery includes the start of a process'


def backend_fails_under_a_manager(probe: Probe, times: int) -> str:
    """Let the backend fail for good under a lifecycle manager, which configures the node again."""
    events = probe.collect(TransitionEvent, f'{probe.name}/transition_event')
    probe.wait(lambda: probe.ros_node.count_publishers(f'{probe.name}/transition_event'))
    for _ in range(times):
        # The first event may get lost while its subscriber connects.
        probe.recover()
        events.clear()
        probe.publish(probe.order_frame(Order.FAIL_ALWAYS), expected=False)
        probe.wait(lambda: events and events[-1].goal_state.label == 'unconfigured')
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
    """Let the backend exceed its time limit; the watchdog must report it."""
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
    return 'unconfigured, then activated again'


def signal_in_a_batch(probe: Probe, times: int) -> str:
    """Send SIGTERM while the network is running."""
    longest = 0.0
    for _ in range(times):
        _hang(probe, LONG_HANG)
        longest = max(longest, probe.stop(signal.SIGTERM))
        check(longest < LONGEST_END, f'it took {longest:.1f} s to end')
        probe.start()
    return f'exit code 0 after {longest:.1f} s at most; recovery includes the start of a process'


def _hang(probe: Probe, seconds: float) -> DiagnosticStatus:
    """Let the backend hang; return the status in which the watchdog reports it."""
    def find_report() -> DiagnosticStatus | None:
        status = probe.status()
        found = status.level == DiagnosticStatus.ERROR and "stage 'network'" in status.message
        return status if found else None

    probe.publish(probe.order_frame(Order.HANG, round(10 * seconds)), expected=False)
    return probe.wait(find_report, seconds)


def cache_cannot_be_written(probe: Probe, times: int) -> str:
    """Start with a cache folder for compiled networks that can't be created."""
    for _ in range(1, times):
        probe.restart()
    return 'compiled at each start instead'


def cache_on_a_full_disk(probe: Probe, times: int) -> str:
    """Start with a cache folder for compiled networks on a full disk."""
    for number in range(times):
        if number:
            probe.restart()
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
    """Occupy the first UDP ports of the domain, and fill its graph with other nodes."""
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
            node = Node(f'neighbor_{number}')
            stack.callback(node.destroy_node)
            node.create_publisher(Image, f'/neighbor_{number}/image', 1)
        probe.start()
    return f'{taken} ports taken, {times} neighbors'


def bad_frames(probe: Probe, times: int) -> str:
    """Send unusable frames and good ones, interleaved; each rejection must be counted."""
    kinds: list[tuple[str, str, Any]] = [
        ('encoding', 'encoding', '32FC7'),
        ('size', 'width', 0),
        ('step', 'step', 5),
        ('truncated', 'height', 2000),
    ]
    for number in range(times):
        reason, field, value = kinds[number % len(kinds)]
        before = probe.counters().get(f'rejected:{reason}', 0)
        message = probe.make()
        setattr(message, field, value)
        probe.publish(message, expected=False)
        probe.wait(lambda r=reason, b=before: probe.counters().get(f'rejected:{r}') == b + 1)
        probe.recover()
    return 'each counted by its reason'


def one_camera_of_six_broken(probe: Probe, times: int) -> str:
    """Let one of six cameras send unusable frames; the others must lose none."""
    broken = CAMERAS[-1]
    good = CAMERAS[:-1]
    for _ in range(times):
        started = time.perf_counter()
        message = probe.make()
        message.encoding = 'nonsense'
        probe.publish(message, camera=broken, expected=False)
        stamps = [probe.publish(camera=camera) for camera in good]
        passages = [probe.passages[stamp] for stamp in stamps]
        probe.wait(lambda p=passages: all(passage.complete for passage in p))
        probe.spin(max(1 / RATE - (time.perf_counter() - started), 0))
    rejected = probe.counters(broken).get('rejected:encoding', 0)
    check(0 < rejected <= times, f'{rejected} of {times} frames counted as rejected')
    return f'{times * len(good)} good frames processed, {rejected} bad ones counted'


@dataclass(frozen=True)
class Fault:
    """
    A fault.

    Attributes
    ----------
    inject
        Injects it into a running node the given number of times; returns a note, raises
        `LiveError`. Leaves a node of the same setup, perhaps in another process.
    times, quick
        Number of injections by `lednet torture` and by the tests.
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


PLAIN = Setup()
NO_CACHE = Setup(environment={'LEDNET_ROS_CACHE': '/proc/nowhere'})
FULL_CACHE = Setup(environment={'LEDNET_ROS_CACHE': FULL_DISK}, wrapper=(*MOUNT, 'sh'))
SIX_CAMERAS = Setup({'backend': 'torch_eager'}, cameras=CAMERAS)
STAND_IN = ('lednet_ros.live.stand_ins', 'faulty')
FAULTY = Setup({'stage_timeout': 0.3}, STAND_IN)
# Faults of the same setup can share a node, as in the tests.
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
    Fault(one_camera_of_six_broken, 100, 5, SIX_CAMERAS),
    Fault(cache_cannot_be_written, 3, 1, NO_CACHE),
    Fault(cache_on_a_full_disk, 3, 1, FULL_CACHE),
    Fault(backend_fails_once, 5, 1, FAULTY),
    Fault(backend_hangs, 10, 1, FAULTY),
    Fault(deactivated_while_hanging, 5, 1, FAULTY),
    Fault(backend_fails_for_good, 5, 1, FAULTY),
    Fault(signal_in_a_batch, 5, 1, FAULTY),
    Fault(backend_fails_under_a_manager, 10, 1, Setup({'autostart': False}, STAND_IN)),
)


def inject_fault(fault: Fault, times: int, probe: Probe, stop: bool = True) -> dict[str, Any]:
    """
    Inject a fault, and check that the node works afterwards.

    Parameters
    ----------
    fault, times
        The fault and the number of injections.
    probe
        Client of a node of the fault's setup, which is started unless it runs.
    stop
        Stop the node at the end and check that it ends cleanly; otherwise other faults may follow.

    Returns
    -------
    dict
        Name of the `fault`; `injected` times; `survived`, whether the node behaved as required and
        processed frames afterwards; `recovery_s`, longest time from the end of the fault to the
        next labels of every camera; `frames_lost`, good frames without labels, sent at a rate that
        the node can process; `note` of the fault, or the failure that was observed.

    """
    survived = True
    try:
        if not probe.is_running:
            probe.start()
        # An earlier fault must not affect this one.
        probe.recover()
        lost = probe.lost()
        probe.longest_recovery = 0.0
        note = fault.inject(probe, times) or ''
        probe.recover()
        check(not probe.surprises, f'{probe.surprises} labels without a frame, or duplicates')
        lost = probe.lost() - lost
        recovery = round(probe.longest_recovery, 3)
        if stop:
            probe.stop()
    except LiveError as reason:
        survived, recovery, lost, note = False, float('nan'), 0, str(reason)
    return {
        'fault': fault.name,
        'injected': times,
        'survived': survived,
        'recovery_s': recovery,
        'frames_lost': lost,
        'note': note,
    }


def select_faults(names: Collection[str]) -> list[Fault]:
    """
    Return the named faults; all faults if no names are given.

    Raises
    ------
    ValueError
        A name is unknown.

    """
    known = {fault.name: fault for fault in FAULTS}
    for name in names:
        if name not in known:
            raise ValueError(f"no fault '{name}'; there are: {', '.join(known)}")
    return [known[name] for name in names or known]


def run_torture(
    names: Collection[str] = (), quick: bool = False, soak_minutes: float = 2.0
) -> dict[str, Any]:
    """
    Inject faults into live nodes, then run a node for a while.

    Parameters
    ----------
    names
        See `select_faults`.
    quick
        Inject each fault as few times as the tests do.
    soak_minutes
        Length of the soak; 0 skips it.

    Returns
    -------
    dict
        `rows`, see `inject_fault`; `not_measured`, reasons by fault; `soak`, see `run_soak`.

    """
    rows: list[dict[str, Any]] = []
    impossible = {}
    with live_session('torture') as session:
        bar = tqdm(select_faults(names), unit='fault')
        for number, fault in enumerate(bar):
            bar.set_description(fault.name)
            if not fault.possible:
                impossible[fault.name] = f"'{fault.setup.wrapper[0]}' is not allowed here"
                continue
            times = fault.quick if quick else fault.times
            with contextlib.closing(Probe(*session, f'/torture_{number}', fault.setup)) as probe:
                rows.append(inject_fault(fault, times, probe))
    date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    results = make_report('torture', rows, date=date, not_measured=impossible)
    if soak_minutes:
        results['soak'] = run_soak('lednet', SOAK_INPUT, SOAK_FRAME, 0, soak_minutes, SOAK_RATE)
    return results
