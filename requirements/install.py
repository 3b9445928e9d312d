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
Install what a lock file says into a virtual environment, without resolving anything.

`make setup` runs it with the standard library alone. A lock file is complete: pip gets every
package by version and hash and asks no package what else it wants; `pip check` then says whether
all of them fit together. Without options, an environment that is there already keeps its Python,
its ROS and its build of PyTorch.
"""

import argparse
from collections.abc import Sequence
import hashlib
import json
import os
from pathlib import Path
import platform
import re
import shutil
import subprocess
import sys
import time
from typing import Any

FOLDER = Path(__file__).resolve().parent
STATE = 'lednet_ros.json'
PYTHONS = ((3, 10), (3, 13))
# The newest Python that has wheels of each ROS 2 distribution.
ROS_WHEELS = {'jazzy': (3, 12), 'kilted': (3, 13)}
# Imported once at the end, so that bytecode of what the node needs is there, and of nothing else.
NEEDED = (
    'import cv2, matplotlib.figure, numba, openvino, rclpy, rosbags.highlevel, torch\n'
    'import lednet_ros.inference.segmenter'
)
# What pip says about a package that it can't get, and how to say that in one line.
FAILURES = (
    (re.compile(r'No matching distribution found for (\S+)'), 'is not to be had'),
    (re.compile(r'from versions.*requirement (\S+)'), 'is not to be had'),
    (re.compile(r'DO NOT MATCH THE HASHES.*?\n\s+(\S+) from', re.DOTALL), 'has another hash'),
)
REMEDY = (
    'It may have been removed, or your package index may lack it, or a wheel of it for this '
    'machine; another index helps (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS), or other '
    'versions: change requirements/*.txt and run `make lock`.'
)
NO_CPU_BUILD = """\
No NVIDIA GPU is seen here, but pip finds no build of PyTorch for CPUs for this Python, and is
about to fetch the one for CUDA (3 GB; 6 GB on disk). To avoid that, press Ctrl-C, look up the
index of PyTorch's CPU builds in its installation guide, and run the command again with
PIP_EXTRA_INDEX_URL=<that index>."""


class SetupError(Exception):
    """Something that the user must change; the message says what."""


def install(python: Path, locks: Sequence[Path], options: Sequence[str] = ()) -> None:
    """
    Install lock files with pip.

    Parameters
    ----------
    python
        Interpreter of the environment.
    locks
        The files; each names every package with `==` and hashes.
    options
        Options for pip.

    Raises
    ------
    SetupError
        pip failed; the message names the package where pip does.

    """
    count = sum(
        len(re.findall(r'^\w', lock.read_text(encoding='utf-8'), re.MULTILINE)) for lock in locks
    )
    command = [str(python), '-m', 'pip', 'install', '--disable-pip-version-check', '--no-input']
    command += ['--no-deps', '--require-hashes', *options]
    for lock in locks:
        command += ['--requirement', str(lock)]
    lines = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace'
    ) as process:
        number = 0
        for line in process.stdout or ():
            lines.append(line)
            if line.startswith(('Collecting ', 'Requirement already satisfied')):
                number += 1
                show(f'{number} of {count} packages: {line.split("==")[0].split()[-1]}')
            elif line.startswith('Installing'):
                show('unpacking ...')
    show('')
    if process.returncode:
        output = ''.join(lines)
        for pattern, trouble in FAILURES:
            if found := pattern.search(output):
                raise SetupError(f'{found[1]}, which the lock files ask for, {trouble}. {REMEDY}')
        raise SetupError('pip failed:\n' + ''.join(lines[-20:]))


def show(text: str) -> None:
    """Replace the line of progress on a terminal."""
    if sys.stderr.isatty():
        print(f'\r\033[K{text[:79]}', end='', file=sys.stderr, flush=True)


def check(python: Path, strict: bool) -> None:
    """
    Let pip check that all packages fit together.

    Raises
    ------
    SetupError
        They don't; not raised, but printed, unless strict.

    """
    command = [str(python), '-m', 'pip', 'check', '--disable-pip-version-check']
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        text = f'packages do not fit together (pip check):\n{result.stdout.strip()}'
        if strict:
            raise SetupError(text)
        print(text, file=sys.stderr)


def sees_gpu() -> bool:
    """Say whether there is an NVIDIA GPU with a driver."""
    return any(Path(path).exists() for path in ('/dev/nvidiactl', '/dev/dxg'))


def install_torch(python: Path, build: str, options: Sequence[str]) -> str:
    """
    Install PyTorch: the build asked for, or the one that suits the machine.

    Parameters
    ----------
    python, options
        As for `install`.
    build
        'cpu', 'cuda', or '': CUDA where a GPU is seen, otherwise CPU where pip finds that build.

    Returns
    -------
    str
        What was installed: 'cpu' or 'cuda'.

    """
    if not build and not sees_gpu():
        try:
            return install_torch(python, 'cpu', options)
        except SetupError:
            print(NO_CPU_BUILD, file=sys.stderr)
    build = build or 'cuda'
    install(python, [FOLDER / f'torch-{build}.lock'], options)
    return build


def choose_ros(asked: str, before: str) -> str:
    """
    Choose where rclpy comes from.

    Parameters
    ----------
    asked
        A distribution of `ROS_WHEELS`; empty for no wish.
    before
        What the environment has already.

    Returns
    -------
    str
        A distribution of `ROS_WHEELS`, or 'system'.

    Raises
    ------
    SetupError
        There is none for this Python or machine.

    """
    if os.environ.get('ROS_DISTRO'):
        return 'system'
    if platform.system() != 'Linux' or platform.machine() != 'x86_64':
        raise SetupError(
            f'this machine is {platform.system()} on {platform.machine()}; wheels of ROS 2 are '
            'there for Linux on x86_64 only. Install ROS 2 and source it first.'
        )
    version = sys.version_info[:2]
    fitting = [name for name, newest in ROS_WHEELS.items() if version <= newest]
    chosen = asked or (before if before in fitting else fitting[0])
    if chosen not in fitting:
        raise SetupError(
            f"ROS_WHEELS is '{chosen}'; with Python {version[0]}.{version[1]}, allowed: "
            f"{', '.join(fitting)}"
        )
    return chosen


def create(venv: Path, ros: str) -> None:
    """
    Create an empty environment.

    Raises
    ------
    SetupError
        This Python can't.

    """
    shutil.rmtree(venv, ignore_errors=True)
    options = ['--system-site-packages'] if ros == 'system' else []
    base = Path(sys.base_prefix, 'bin', f'python{sys.version_info[0]}.{sys.version_info[1]}')
    command = [str(base), '-m', 'venv', *options, str(venv)]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        raise SetupError(f'{" ".join(command)} failed:\n{result.stdout.strip()}')


def read_state(venv: Path) -> dict[str, Any]:
    """Read what was installed; empty if that isn't known."""
    try:
        state: dict[str, Any] = json.loads((venv / STATE).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return state


def measure(folder: Path) -> float:
    """Return the size of the files of a folder, in GB."""
    return sum(path.lstat().st_size for path in folder.rglob('*') if not path.is_dir()) / 1e9


def digest(path: Path) -> str:
    """Return a text that changes with the content of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def set_up(venv: Path, develop: bool, torch: str, ros: str) -> None:
    """
    Make an environment what the lock files say; do nothing where it is that already.

    Parameters
    ----------
    venv
        Its folder.
    develop
        Whether to add what tests and training need.
    torch
        See `install_torch`.
    ros
        See `choose_ros`.

    Raises
    ------
    SetupError
        It can't be done.

    """
    started = time.perf_counter()
    version = platform.python_version()
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        raise SetupError(f'Python {version} is too old or too new; 3.10 to 3.13 can be used')
    state = read_state(venv)
    ros = choose_ros(ros, state.get('ros', ''))
    key = {'python': version, 'ros': ros, 'prefix': str(venv)}
    if not key.items() <= state.items():
        state = {}
    if torch and torch != state.get('torch', torch):
        state = {}
    torch = torch or state.get('torch', '')
    # PyTorch has a call of its own, as its build is chosen by trying.
    names = ['run', *([f'ros-{ros}'] if ros != 'system' else []), *(['dev'] if develop else [])]
    files = {name: FOLDER / f'{name}.lock' for name in names}
    torch_file = FOLDER / f"torch-{torch or 'cpu'}.lock"
    digests = {name: digest(path) for name, path in files.items()}
    done = state.get('locks', {})
    todo = [path for name, path in files.items() if done.get(name) != digests[name]]
    torch_is_there = bool(torch) and done.get('torch') == digest(torch_file)
    project = digest(FOLDER.parent / 'setup.py')
    if not todo and torch_is_there and state.get('setup.py') == project:
        return
    source = 'the ROS 2 that is sourced' if ros == 'system' else f'ROS 2 {ros.title()} (wheels)'
    print(f'Setting up {venv.name}: Python {version}, {source}', file=sys.stderr, flush=True)
    if not state:
        create(venv, ros)
    (venv / STATE).unlink(missing_ok=True)
    python = venv / 'bin' / 'python'
    # Bytecode of everything takes 0.2 GB; most of it is never read.
    options = [] if develop else ['--no-compile']
    if not torch_is_there:
        torch = install_torch(python, torch, options)
    if todo:
        install(python, todo, options)
    # A sourced ROS brings packages of the system's, which are not ours to judge.
    check(python, strict=ros != 'system')
    command = [str(python), '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check']
    command += ['--no-deps', '--no-build-isolation', '--editable', str(FOLDER.parent)]
    subprocess.run(command, check=True)
    environment = {k: v for k, v in os.environ.items() if k != 'PYTHONDONTWRITEBYTECODE'}
    if develop:
        command = [str(python), '-m', 'compileall', '-qq', str(venv / 'lib')]
        subprocess.run(command, env=environment)
    else:
        subprocess.run([str(python), '-c', NEEDED], env=environment, check=True)
    state = key | {
        'torch': torch,
        'locks': done | digests | {'torch': digest(FOLDER / f'torch-{torch}.lock')},
        'setup.py': project,
    }
    temporary = venv / f'{STATE}.part'
    temporary.write_text(json.dumps(state, indent=2) + '\n', encoding='utf-8')
    temporary.replace(venv / STATE)
    print(
        f'Set up in {time.perf_counter() - started:.0f} s: {venv.name} has {measure(venv):.2f} GB'
        f" (PyTorch for {'CUDA' if torch == 'cuda' else 'the CPU'})",
        file=sys.stderr,
    )


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('venv', type=Path, help='folder of the environment')
    parser.add_argument('--dev', action='store_true', help='add what tests and training need')
    parser.add_argument('--torch', choices=('', 'cpu', 'cuda'), default='')
    parser.add_argument('--ros', choices=('', *ROS_WHEELS), default='')
    arguments = parser.parse_args()
    try:
        set_up(arguments.venv.resolve(), arguments.dev, arguments.torch, arguments.ros)
    except SetupError as error:
        print(f'set-up: {error}', file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f'set-up: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
