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

"""Tests of requirements/install.py, with wheels that they write and a real virtual environment."""

from collections.abc import Callable
import hashlib
import importlib.util
import json
from pathlib import Path
import subprocess
import sys
from types import ModuleType, SimpleNamespace
import zipfile

import pytest

REQUIREMENTS = Path(__file__).resolve().parents[1] / 'requirements'
LOCKS = sorted(REQUIREMENTS.glob('*.lock'))

Release = Callable[..., str]


@pytest.fixture(scope='module')
def setup() -> ModuleType:
    """Load install.py."""
    spec = importlib.util.spec_from_file_location('install', REQUIREMENTS / 'install.py')
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create an empty virtual environment."""
    folder = tmp_path_factory.mktemp('venv')
    subprocess.run([sys.executable, '-m', 'venv', str(folder)], check=True)
    return folder / 'bin' / 'python'


@pytest.fixture
def release(tmp_path: Path) -> Release:
    """Write a wheel into tmp_path / 'index' and return its entry in a lock file."""

    def write(name: str, version: str, requires: str = '', extra: str = '') -> str:
        information = f'{name}-{version}.dist-info'
        metadata = f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'
        metadata += f'Requires-Dist: {requires}\n' if requires else ''
        metadata += f'Provides-Extra: {extra}\n' if extra else ''
        files = {
            f'{name}.py': f'version = {version!r}\n',
            f'{information}/METADATA': metadata,
            f'{information}/WHEEL': (
                'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n'
            ),
        }
        record = f'{information}/RECORD'
        files[record] = ''.join(f'{path},,\n' for path in [*files, record])
        wheel = tmp_path / 'index' / f'{name}-{version}-py3-none-any.whl'
        wheel.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(wheel, 'w') as archive:
            for path, text in files.items():
                archive.writestr(path, text)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        return f'{name}=={version} \\\n    --hash=sha256:{digest}\n'

    return write


def install(setup: ModuleType, python: Path, folder: Path, *entries: str) -> None:
    lock = folder / 'test.lock'
    lock.write_text(''.join(entries), encoding='utf-8')
    setup.install(python, [lock], ['--no-index', '--find-links', str(folder / 'index')])


def installed(python: Path, name: str) -> str:
    command = [str(python), '-c', f'import {name}; print({name}.version)']
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_newer_release_of_a_package_with_an_extra_changes_nothing(
    setup: ModuleType, python: Path, release: Release, tmp_path: Path
) -> None:
    user = release('lednet_user', '1.0', requires='lednet_extra[toml]>=1.0')
    locked = release('lednet_extra', '1.0', extra='toml')
    release('lednet_extra', '1.1', extra='toml')

    install(setup, python, tmp_path, user, locked)

    assert installed(python, 'lednet_extra') == '1.0'
    setup.check(python, strict=True)


def test_a_vanished_package_is_named_in_one_line(
    setup: ModuleType, python: Path, release: Release, tmp_path: Path
) -> None:
    here = release('lednet_here', '1.0')
    gone = release('lednet_gone', '2.0')
    (tmp_path / 'index' / 'lednet_gone-2.0-py3-none-any.whl').unlink()

    with pytest.raises(setup.SetupError) as caught:
        install(setup, python, tmp_path, here, gone)

    text = str(caught.value)
    assert text.startswith('lednet_gone==2.0, which the lock files ask for, is not to be had. ')
    assert 'PIP_INDEX_URL' in text
    assert 'make lock' in text
    assert '\n' not in text


def test_another_file_under_the_same_name_is_refused(
    setup: ModuleType, python: Path, release: Release, tmp_path: Path
) -> None:
    entry = release('lednet_changed', '1.0')
    release('lednet_changed', '1.0', requires='lednet_more')

    with pytest.raises(setup.SetupError, match=r'^lednet_changed==1.0.* has another hash'):
        install(setup, python, tmp_path, entry)


def test_packages_that_do_not_fit_are_an_error_unless_a_ros_brings_its_own(
    setup: ModuleType,
    python: Path,
    release: Release,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install(setup, python, tmp_path, release('lednet_alone', '1.0', requires='lednet_absent'))
    try:
        with pytest.raises(setup.SetupError, match='absent'):
            setup.check(python, strict=True)
        setup.check(python, strict=False)
    finally:
        command = [str(python), '-m', 'pip', 'uninstall', '--yes', '--quiet', 'lednet_alone']
        subprocess.run(command, check=True)
    assert 'pip check' in capsys.readouterr().err


@pytest.mark.parametrize('path', LOCKS, ids=lambda path: path.stem)
def test_every_entry_of_a_lock_has_a_version_and_hashes(path: Path) -> None:
    text = path.read_text(encoding='utf-8').replace(' \\\n', ' ')
    entries = [line for line in text.splitlines() if not line.startswith('#')]

    assert entries
    assert [line for line in entries if '==' not in line or '--hash=sha256:' not in line] == []


def test_development_packages_are_not_installed_for_the_demo() -> None:
    names = {
        path.stem: {
            line.partition('==')[0]
            for line in path.read_text(encoding='utf-8').splitlines()
            if '==' in line
        }
        for path in LOCKS
    }

    assert {'pytest', 'ray', 'triton', 'selenium'} <= names['dev']
    assert not names['run'] & names['dev']
    assert not names['run'] & {'torch', 'triton', 'pytest', 'ray'}
    assert 'triton' in names['torch-cuda']


@pytest.mark.parametrize(
    ('version', 'asked', 'before', 'chosen'),
    [
        ((3, 10), '', '', 'jazzy'),
        ((3, 12), '', '', 'jazzy'),
        ((3, 12), 'kilted', '', 'kilted'),
        ((3, 12), '', 'kilted', 'kilted'),
        ((3, 12), 'jazzy', 'kilted', 'jazzy'),
        ((3, 13), '', '', 'kilted'),
        ((3, 13), '', 'jazzy', 'kilted'),
    ],
)
def test_wheels_of_ros_follow_python_and_wish(
    setup: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    version: tuple[int, int],
    asked: str,
    before: str,
    chosen: str,
) -> None:
    monkeypatch.delenv('ROS_DISTRO', raising=False)
    monkeypatch.setattr(setup.sys, 'version_info', (*version, 0))
    assert setup.choose_ros(asked, before) == chosen


def test_ros_that_is_sourced_wins(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('ROS_DISTRO', 'jazzy')
    assert setup.choose_ros('', 'kilted') == 'system'


def test_ros_that_has_no_wheels_is_refused(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv('ROS_DISTRO', raising=False)
    monkeypatch.setattr(setup.sys, 'version_info', (3, 13, 0))
    with pytest.raises(setup.SetupError, match=r"ROS_WHEELS is 'jazzy'.*3\.13, allowed: kilted"):
        setup.choose_ros('jazzy', '')
    monkeypatch.setattr(setup.platform, 'machine', lambda: 'aarch64')
    with pytest.raises(setup.SetupError, match='Linux on aarch64; wheels'):
        setup.choose_ros('', '')


@pytest.mark.parametrize('gpu', [False, True])
@pytest.mark.parametrize('cpu_build', [False, True])
def test_the_build_of_torch_suits_the_machine(
    setup: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    gpu: bool,
    cpu_build: bool,
) -> None:
    # A stand-in for pip: both builds together are 4 GB.
    asked = []

    def take(python: Path, locks: list[Path], options: list[str]) -> None:
        asked.append(locks[0].stem)
        if locks[0].stem == 'torch-cpu' and not cpu_build:
            raise setup.SetupError('torch==2.13.0+cpu is not to be had')

    monkeypatch.setattr(setup, 'install', take)
    monkeypatch.setattr(setup, 'sees_gpu', lambda: gpu)

    build = setup.install_torch(Path('python'), '', [])

    assert build == ('cpu' if cpu_build and not gpu else 'cuda')
    assert asked[-1] == f'torch-{build}'
    hint = 'No NVIDIA GPU is seen here' in capsys.readouterr().err
    assert hint == (not gpu and not cpu_build)


def test_installed_locks_are_not_installed_again(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A stand-in for pip and venv, which takes notes.
    calls: list[str] = []

    def create(venv: Path, ros: str) -> None:
        venv.mkdir(exist_ok=True)
        calls.append(f'venv {ros}')

    def install(python: Path, locks: list[Path], options: list[str]) -> None:
        calls.append('pip ' + ' '.join(lock.stem for lock in locks))

    monkeypatch.delenv('ROS_DISTRO', raising=False)
    monkeypatch.setattr(setup, 'create', create)
    monkeypatch.setattr(setup, 'install', install)
    monkeypatch.setattr(setup, 'check', lambda python, strict: calls.append('check'))
    monkeypatch.setattr(setup, 'sees_gpu', lambda: False)
    monkeypatch.setattr(
        setup.subprocess, 'run', lambda *args, **kwargs: SimpleNamespace(returncode=0)
    )
    monkeypatch.setattr(setup.sys, 'version_info', (3, 12, 0))
    venv = tmp_path / '.venv'

    def set_up(**wishes: object) -> list[str]:
        calls.clear()
        setup.set_up(venv, **{'develop': False, 'torch': '', 'ros': ''} | wishes)
        return list(calls)

    first = ['venv jazzy', 'pip torch-cpu', 'pip run ros-jazzy', 'check']
    assert set_up() == first
    assert set_up() == []
    assert set_up(develop=True) == ['pip dev', 'check']
    assert set_up() == set_up(develop=True) == []
    # A Python, a ROS or a torch of another kind is another environment.
    assert set_up(ros='kilted') == ['venv kilted', 'pip torch-cpu', 'pip run ros-kilted', 'check']
    assert set_up() == []
    assert set_up(torch='cuda')[:2] == ['venv kilted', 'pip torch-cuda']
    assert set_up() == []
    # A changed lock is installed alone.
    state = json.loads((venv / setup.STATE).read_text(encoding='utf-8'))
    state['locks']['run'] = 'of yesterday'
    (venv / setup.STATE).write_text(json.dumps(state), encoding='utf-8')
    assert set_up() == ['pip run', 'check']


def test_failed_set_up_is_not_recorded_as_done(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    venv = tmp_path / '.venv'

    def fail(*arguments: object) -> None:
        raise setup.SetupError('pip failed')

    monkeypatch.delenv('ROS_DISTRO', raising=False)
    monkeypatch.setattr(setup, 'create', lambda venv, ros: venv.mkdir())
    monkeypatch.setattr(setup, 'install', fail)
    with pytest.raises(setup.SetupError):
        setup.set_up(venv, develop=False, torch='cpu', ros='')
    assert not (venv / setup.STATE).exists()


def test_the_makefile_takes_a_python_that_works(tmp_path: Path) -> None:
    # A shim of a version manager that has nothing behind it, and a Python that is too old.
    for name, code in (('python3', 'exit 127'), ('python3.12', 'exit 1')):
        (tmp_path / name).write_text(f'#!/bin/sh\n{code}\n', encoding='utf-8')
        (tmp_path / name).chmod(0o755)
    (tmp_path / 'python3.11').write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', 'utf-8')
    (tmp_path / 'python3.11').chmod(0o755)
    variables = ['--eval=print:;@echo $(PYTHON)', 'VENV=none', 'print']
    command = ['make', '--silent', f'--file={REQUIREMENTS.parent / "Makefile"}', *variables]
    environment = {'PATH': f'{tmp_path}:/usr/bin:/bin'}

    result = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert result.stdout.strip() == 'python3.11'
