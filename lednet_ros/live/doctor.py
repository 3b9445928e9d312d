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
`lednet doctor`: what helps to support a user of this machine, each with its remedy.

Neither ROS nor a library is imported at the top, so that each check runs in a fork that may lack,
hang in or be crashed by what it imports.
"""

from collections.abc import Callable, Iterator
from functools import partial
import hashlib
from importlib.metadata import version
from importlib.util import find_spec
import multiprocessing
from multiprocessing.connection import Connection
import os
from pathlib import Path
import platform
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
from typing import Any, NamedTuple

from lednet_ros import __version__, machine
from lednet_ros.files import cache_folder, make_folder, NO_CACHE, share_directory
from lednet_ros.ros.distribution import PROFILE_VARIABLES
from lednet_ros.ros.process import log_folder

GOOD, WARNING, FAILURE = 'good', 'warning', 'failure'
# Seconds; a start of PyTorch or DDS takes long on a busy machine.
CHECK_TIMEOUT = 180.0
COMMAND_TIMEOUT = 20.0
# 1080p in color.
FRAME_BYTES = 1920 * 1080 * 3
# Of config/fastdds.xml.
SEGMENT_BYTES = 32 << 20
SOCKET_BUFFER = 4 << 20
DEVICES = Path('/dev')
LARGEST_SOCKET_BUFFER = Path('/proc/sys/net/core/rmem_max')
DISCOVERY_RANGES = ('SUBNET', 'LOCALHOST', 'SYSTEM_DEFAULT')
# The ports of higher domains are those that Linux gives to any socket.
MAX_DOMAIN = 101
OPTIONAL = {
    'vision_msgs': '~/label_info',
    'bond': "Nav2's lifecycle manager",
    'cv_bridge': 'lednet benchmark transport',
}
SETUP = 'make setup, or colcon build (docs/setup.md)'
NO_ROS = 'source /opt/ros/DISTRO/setup.bash, or make setup (docs/setup.md)'


class Line(NamedTuple):
    """A finding: what it is about, `GOOD`, `WARNING` or `FAILURE`, and both in words."""

    check: str
    status: str
    finding: str
    remedy: str = ''


Lines = Iterator[Line]


class Check(NamedTuple):
    """A function that finds lines, and the status and remedy where it raises, hangs or crashes."""

    find: Callable[[], Lines]
    status: str
    remedy: str


CHECKS: dict[str, Check] = {}


def _register(name: str, status: str, remedy: str) -> Callable[..., Callable[[], Lines]]:
    def register(find: Callable[[], Lines]) -> Callable[[], Lines]:
        CHECKS[name] = Check(find, status, remedy)
        return find

    return register


def _judge(check: str, finding: str, trouble: object, remedy: str, status: str = WARNING) -> Line:
    """Return a finding of this status if there is trouble, a good one otherwise."""
    return Line(check, status, finding, remedy) if trouble else Line(check, GOOD, finding)


@_register('lednet_ros', FAILURE, SETUP)
def _check_package() -> Lines:
    yield Line('lednet_ros', GOOD, f'{__version__} in {share_directory()}')
    yield Line('Python', GOOD, f'{platform.python_version()} on {platform.platform()}')
    cores, usable, load = machine.available_cores(), machine.usable_cores(), os.getloadavg()[0]
    features = ', '.join(machine.processor_features())
    quota = f' ({usable} by quota)' if usable < cores else ''
    text = f'{machine.describe_processor()}, {cores} cores{quota}, {features}; load {load:.1f}'
    yield _judge('processor', text, load > 2 * cores, 'stop other programs; frames wait')
    versions = machine.package_versions()
    yield Line('packages', GOOD, ', '.join(f'{name} {each}' for name, each in versions.items()))


@_register('PyTorch', FAILURE, SETUP)
def _check_torch() -> Lines:
    import torch

    torch.nn.functional.conv2d(torch.ones(1, 1, 8, 8), torch.ones(1, 1, 3, 3))
    yield Line('PyTorch', GOOD, f'{torch.__version__}, {torch.get_num_threads()} threads')


@_register('OpenCV, NumPy', FAILURE, 'install two that fit together: requirements/run.lock')
def _check_opencv() -> Lines:
    import cv2
    import numpy as np

    cv2.cvtColor(np.zeros((8, 8, 3), np.uint8), cv2.COLOR_BGR2RGB)
    yield Line('OpenCV, NumPy', GOOD, f'{cv2.__version__}, {np.__version__}')


@_register('cv_bridge', WARNING, 'if it is built for NumPy 1: pip install "numpy<2"')
def _check_cv_bridge() -> Lines:
    if find_spec('cv_bridge') is not None:
        from cv_bridge import CvBridge
        from sensor_msgs.msg import Image

        # Its compiled part.
        CvBridge().imgmsg_to_cv2(
            Image(height=2, width=2, encoding='bgr8', step=6, data=bytes(12)), 'rgb8'
        )
        yield Line('cv_bridge', GOOD, 'converts images')


def _has_driver() -> bool:
    """Return whether there is a driver of NVIDIA, in whatever condition."""
    return bool(shutil.which('nvidia-smi')) or (DEVICES / 'nvidiactl').exists()


def _find_driver() -> str:
    """Return GPU and driver; empty without one of NVIDIA."""
    if program := shutil.which('nvidia-smi'):
        query = '--query-gpu=name,driver_version,memory.total'
        done = subprocess.run(
            [program, query, '--format=csv,noheader'],
            capture_output=True, text=True, timeout=COMMAND_TIMEOUT, check=False,
        )
        text = '; '.join((done.stdout + done.stderr).strip().splitlines())
        if done.returncode:
            raise RuntimeError(f'nvidia-smi: {text}')
        return text
    return 'a driver without nvidia-smi' if _has_driver() else ''


@_register('GPU', FAILURE, 'repair the driver: nvidia-smi must show the GPU; in Docker --gpus all')
def _check_gpu() -> Lines:
    from lednet_ros.inference.options import resolve_device
    import torch

    driver, built = _find_driver(), torch.version.cuda or torch.version.hip
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        names = ', '.join(torch.cuda.get_device_name(index) for index in range(count))
        capability = '.'.join(map(str, torch.cuda.get_device_capability()))
        text = f'{names} (compute capability {capability}), CUDA {built}; driver: {driver}'
        remedy = f'install a PyTorch for it; this one is for {torch.cuda.get_arch_list()}'
        yield _judge('GPU', text, resolve_device('auto') == 'cpu', remedy, FAILURE)
    elif not driver:
        yield Line('GPU', GOOD, 'none; the processor runs the networks')
    elif not built:
        text = f'{driver}; PyTorch {torch.__version__} is built without CUDA'
        yield Line('GPU', WARNING, text, 'make setup TORCH=cuda (docs/setup.md)')
    else:
        text = f'{driver}; PyTorch {torch.__version__} for CUDA {built} sees none'
        remedy = f'install a driver for CUDA {built} or newer; in Docker: --gpus all'
        yield Line('GPU', FAILURE, text, remedy)


@_register('compiler', WARNING, 'sudo apt install gcc python3-dev')
def _check_compiler() -> Lines:
    header = Path(sysconfig.get_path('include'), 'Python.h')
    compiler = shutil.which('gcc') or shutil.which('clang')
    text = f'{compiler or "no gcc"}, {header if header.is_file() else "no Python.h"}'
    missing = not compiler or not header.is_file()
    needed = find_spec('triton') is not None and _has_driver()
    text += '' if needed else '; needed only by Triton on a GPU'
    yield _judge('compiler', text, missing and needed, CHECKS['compiler'].remedy)


@_register('backends', FAILURE, SETUP)
def _check_backends() -> Lines:
    from lednet_ros.inference.options import SegmenterOptions

    if find_spec('openvino') is None:
        is_slow = platform.machine() in machine.X86
        yield _judge('OpenVINO', 'not installed', is_slow, 'pip install openvino')
    else:
        from lednet_ros.inference.backends.openvino import cpu_capabilities

        text = f'{version("openvino")}; this processor: {", ".join(cpu_capabilities())}'
        yield Line('OpenVINO', GOOD, text)
    found = SegmenterOptions().candidates()
    text = ', '.join(f'{one.backend} {one.precision}' for one in found)
    yield Line('backends', GOOD, f"{text} on {found[0].device} ('auto' measures them)")


@_register('checkpoints', FAILURE, SETUP)
def _check_checkpoints() -> Lines:
    from lednet_ros import checkpoint

    for name in checkpoint.shipped_checkpoints() or ['lednet']:
        try:
            content = checkpoint.load_checkpoint(name)
        except checkpoint.CheckpointError as error:
            yield Line(f'checkpoint {name}', FAILURE, str(error), SETUP)
            continue
        digest = hashlib.sha256(checkpoint.resolve_checkpoint(name).read_bytes()).hexdigest()
        size = 'x'.join(map(str, content.input_size))
        text = f'{content.network}, {content.label_map.num_classes} classes, {size}, '
        yield Line(f'checkpoint {name}', GOOD, f'{text}SHA-256 {digest[:16]}')


@_register('cache', WARNING, 'LEDNET_ROS_CACHE names another folder; without, starts are slow')
def _check_cache() -> Lines:
    folder = cache_folder()
    if folder == NO_CACHE:
        raise OSError('the user has no home')
    make_folder(folder)
    files = [path for path in folder.rglob('*') if path.is_file()]
    size, free = sum(path.stat().st_size for path in files), shutil.disk_usage(folder).free
    verdicts = sum(path.suffix == '.json' for path in files)
    yield Line(
        'cache', GOOD, f'{folder}: {len(files)} files, {size >> 20} MiB, {verdicts} verdicts of '
        f'tuning; {free >> 20} MiB are free',
    )


@_register('permissions', FAILURE, 'change to a folder that is there')
def _check_permissions() -> Lines:
    cameras = sorted(DEVICES.glob('video*'))
    refused = [path.name for path in cameras if not os.access(path, os.R_OK | os.W_OK)]
    text = f'{len(cameras)} video devices' + f"; no access to {', '.join(refused)}" * bool(refused)
    yield _judge('cameras', text, refused, 'sudo usermod -aG video $USER, and log in again')
    folder = Path.cwd()
    yield _judge('folder', *_describe_folder(folder), 'change to another, or name one by -o')
    logs = log_folder()
    found = _describe_folder(Path(logs)) if logs else ('no HOME', True)
    remedy = "ROS_LOG_DIR names another folder; other packages' nodes don't start without"
    yield _judge('logs of ROS', *found, remedy)


def _describe_folder(folder: Path) -> tuple[str, bool]:
    """Return whether a folder can't be written or made, in words, too."""
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    bad = not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK)
    return f"{folder} {'cannot' if bad else 'can'} be written", bad


@_register('shared memory', WARNING, 'mount a tmpfs at /dev/shm; DDS is slow without')
def _check_shared_memory() -> Lines:
    folder = machine.SHARED_MEMORY
    space = shutil.disk_usage(folder)
    text = f'{space.free >> 20} of {space.total >> 20} MiB of {folder} are free'
    status = FAILURE if space.free < 2 * SEGMENT_BYTES else WARNING
    remedy = 'each process needs 32 MiB: remove leftovers; in Docker: --shm-size=1g'
    yield _judge('shared memory', text, space.free < 4 * SEGMENT_BYTES, remedy, status)
    left = machine.leftovers_of_fast_dds()
    text = f'{len(left)} segments of processes that have ended, {sum(left.values()) >> 20} MiB'
    remedy = "fastdds shm clean; without it, start one of this package's nodes, which removes them"
    yield _judge('leftovers', text, left, remedy)
    users = machine.other_users_of_fast_dds()
    text = f"uid {', '.join(map(str, users))}" if users else 'none'
    remedy = 'Fast DDS passes nothing between users; run all as one (docs/node.md)'
    yield _judge('other users', text, users, remedy)


@_register('UDP buffers', WARNING, f'cameras on other hosts need {SOCKET_BUFFER}')
def _check_sockets() -> Lines:
    size = int(LARGEST_SOCKET_BUFFER.read_text())
    remedy = f'for cameras on other hosts: sudo sysctl -w net.core.rmem_max={SOCKET_BUFFER}'
    yield _judge('UDP buffers', f'net.core.rmem_max is {size}', size < SOCKET_BUFFER, remedy)


@_register(
    'middleware', FAILURE,
    'use the Python that ROS is built for, and an RMW_IMPLEMENTATION that is installed',
)
def _check_middleware() -> Lines:
    if find_spec('rclpy') is None:
        yield Line('ROS', WARNING, 'rclpy is missing: files only, no node', NO_ROS)
        return
    from rclpy.utilities import get_rmw_implementation_identifier

    get = os.environ.get
    text = f"rclpy {version('rclpy')}, ROS_DISTRO {get('ROS_DISTRO', 'not set')}"
    yield Line('ROS', GOOD, text)
    middleware = get_rmw_implementation_identifier()
    domain, discovery = get('ROS_DOMAIN_ID') or '0', get('ROS_AUTOMATIC_DISCOVERY_RANGE')
    local = ', ROS_LOCALHOST_ONLY' * (get('ROS_LOCALHOST_ONLY') == '1')
    text = f'{middleware}, ROS_DOMAIN_ID {domain}, discovery range {discovery or "SUBNET"}{local}'
    bad = not domain.isdecimal() or int(domain) > MAX_DOMAIN
    bad = bad or (discovery or 'SUBNET') not in DISCOVERY_RANGES
    remedy = f'ROS_DOMAIN_ID: 0 to {MAX_DOMAIN}; ROS_AUTOMATIC_DISCOVERY_RANGE: '
    yield _judge('middleware', text, bad, remedy + ' or '.join(DISCOVERY_RANGES), FAILURE)
    if 'fastrtps' in middleware:
        yield _check_profile()


def _check_profile() -> Line:
    profiles = {name: os.environ[name] for name in PROFILE_VARIABLES if os.environ.get(name)}
    missing = [name for name, path in profiles.items() if not Path(path).is_file()]
    shown = [f'{n}={path}' + ' (no file)' * (n in missing) for n, path in profiles.items()]
    if transports := os.environ.get('FASTDDS_BUILTIN_TRANSPORTS'):
        shown.append(f'FASTDDS_BUILTIN_TRANSPORTS={transports}')
    text = ', '.join(shown) or 'not set here; launch files set it for the node alone'
    shipped = share_directory() / 'config' / 'fastdds.xml'
    remedy = f"export {' '.join(f'{name}={shipped}' for name in PROFILE_VARIABLES)} for the camera"
    status = FAILURE if missing else WARNING
    return _judge('Fast DDS profile', text, missing or not profiles, remedy, status)


@_register('optional packages', WARNING, NO_ROS)
def _check_optional() -> Lines:
    for name, use in OPTIONAL.items():
        package = f"ros-{os.environ.get('ROS_DISTRO', 'DISTRO')}-{name.replace('_', '-')}"
        text = f"{'missing' if (missing := find_spec(name) is None) else 'installed'}; for {use}"
        yield _judge(f'package {name}', text, missing, f'if needed: sudo apt install {package}')


def _check_frames(topic: str | None) -> Lines:
    """Receive frames of a topic, and send some of their size."""
    if find_spec('rclpy') is None:
        status = FAILURE if topic else WARNING
        yield Line('frames', status, 'not tried: rclpy is missing', NO_ROS)
        return
    with tempfile.TemporaryDirectory(prefix='lednet_ros_doctor_') as folder:
        # The folder of ROS's logs is a line of its own.
        os.environ['ROS_LOG_DIR'] = folder
        from lednet_ros.live.frames_check import FRAMES, send_frames, TOLERANCE, watch_topic

        profile = str(share_directory() / 'config' / 'fastdds.xml')
        senders = {'shipped profile': (profile, FAILURE, 'free the processor and /dev/shm')}
        remedy = "set the shipped profile in the camera's process (docs/node.md, Lost frames)"
        mine = next(filter(None, map(os.environ.get, PROFILE_VARIABLES)), profile)
        if Path(mine).is_file() and not Path(mine).samefile(profile):
            senders['profile of this shell'] = (mine, WARNING, remedy)
        senders['no profile'] = ('', WARNING, remedy)
        size = FRAME_BYTES
        if topic:
            seen = watch_topic(topic)
            size = seen.size or size
            yield _judge(f'topic {topic}', seen.description, seen.trouble, seen.trouble, FAILURE)
        for name, (profile, status, remedy) in senders.items():
            count = send_frames(size, profile)
            text = f'{count} of {FRAMES} best-effort frames of {size / 2**20:.1f} MiB arrive'
            lost = count < FRAMES - TOLERANCE
            yield _judge(f'frames, {name}', text, lost, remedy, status)


def diagnose(topic: str | None = None) -> dict[str, Any]:
    """
    Check this machine, which takes half a minute.

    Parameters
    ----------
    topic
        Images to receive; frames of their size, by default `FRAME_BYTES`, are sent.

    Returns
    -------
    dict
        `version`, `topic`, the numbers of `failures` and `warnings`, and `lines`: see `Line`.

    """
    frames = Check(partial(_check_frames, topic), FAILURE, 'see docs/node.md, Lost frames')
    checks = {**CHECKS, 'frames': frames}
    lines = [line for name, check in checks.items() for line in run_check(name, check)]
    return {
        'version': __version__,
        'topic': topic,
        'failures': sum(line.status == FAILURE for line in lines),
        'warnings': sum(line.status == WARNING for line in lines),
        'lines': [line._asdict() for line in lines],
    }


def run_check(name: str, check: Check, timeout: float = CHECK_TIMEOUT) -> Lines:
    """Run a check in a process of its own; if it raises, crashes or hangs, that is a line."""
    context = multiprocessing.get_context('fork')
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryFile() as output:
        process = context.Process(target=_send_lines, args=(check.find, sender, output.fileno()))
        process.start()
        sender.close()
        deadline, trouble = time.monotonic() + timeout, ''
        try:
            while receiver.poll(max(0.0, deadline - time.monotonic())):
                answer = receiver.recv()
                if isinstance(answer, Line):
                    yield answer
                else:
                    trouble = answer
            trouble = f'no answer within {timeout:.0f} s'
        except EOFError:
            process.join(COMMAND_TIMEOUT)
            if (code := process.exitcode or 0) < 0:
                trouble = f'crashed by {signal.Signals(-code).name}'
            elif code:
                trouble = f'ended with exit code {code}'
        finally:
            process.kill()
            process.join()
        if trouble:
            output.seek(0)
            said = output.read().decode(errors='replace').strip().splitlines()
            yield Line(name, check.status, ': '.join([trouble, *said[-1:]]), check.remedy)


def _send_lines(find: Callable[[], Lines], sender: Connection, output: int) -> None:
    """Send the lines of a check, and its error as a text; what it prints goes to a file."""
    for stream in (1, 2):
        os.dup2(output, stream)
    try:
        for line in find():
            sender.send(line)
    except Exception as error:
        sender.send(f'{type(error).__name__}: {error}')
