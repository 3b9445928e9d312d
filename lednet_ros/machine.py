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

"""Description of the machine: what measurements record, and what the middleware shares."""

import contextlib
from importlib.metadata import PackageNotFoundError, version
import math
import os
from pathlib import Path, PurePosixPath
import platform
import re

SHARED_MEMORY = Path('/dev/shm')  # noqa: S108
# Of a segment of Fast DDS, locked by its process as long as that lives.
SEGMENT_LOCK = re.compile(r'(fast(?:rtps|dds)_[0-9a-z]{16})_el')
CPU_INFO = Path('/proc/cpuinfo')
OWN_CGROUPS = Path('/proc/self/cgroup')
CGROUPS = Path('/sys/fs/cgroup')
X86 = ('x86_64', 'AMD64')
FEATURES = (
    'avx2', 'avx_vnni', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'amx_bf16', 'amx_int8', 'bf16',
    'i8mm',
)
INT8_FEATURES = {'avx_vnni', 'avx512_vnni', 'amx_int8'}
BF16_FEATURES = {'avx512_bf16', 'amx_bf16', 'bf16'}
PACKAGES = ('torch', 'numpy', 'numba', 'openvino', 'onnxruntime', 'tensorrt', 'triton')


def describe_processor() -> str:
    """Return the processor's model, as well as the system reports it."""
    for line in _cpu_info().splitlines():
        if line.startswith('model name'):
            return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()


def processor_features() -> list[str]:
    """List the vector and matrix extensions of the processor that networks use."""
    flags = _cpu_info().split()
    return [name for name in FEATURES if name in flags]


def available_cores() -> int:
    """Return the number of cores on which this process may run."""
    return len(os.sched_getaffinity(0))


def usable_cores() -> int:
    """
    Return the number of cores that this process can keep busy.

    A quota on CPU time, as of `docker run --cpus`, is rounded down. Libraries see all cores in
    spite of it; the kernel then stops their threads for most of each period.
    """
    return max(math.floor(min(_cpu_quota(), available_cores())), 1)


def threads_of_quota() -> int:
    """Return `usable_cores` where a quota makes them fewer than the available ones; else 0."""
    cores = usable_cores()
    return cores if cores < available_cores() else 0


def processor_has_bf16() -> bool:
    """Return whether the processor calculates in bf16; PyTorch emulates it, slowly, on others."""
    return not BF16_FEATURES.isdisjoint(processor_features())


def int8_sums_saturate() -> bool:
    """Return whether the processor adds int8 products in 16 bits, which two of them exceed."""
    return platform.machine() in X86 and INT8_FEATURES.isdisjoint(processor_features())


def package_versions() -> dict[str, str]:
    """Return the versions of the installed packages that a network's speed depends on."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def other_users_of_fast_dds() -> list[int]:
    """Return the other users whose processes share memory by Fast DDS on this machine."""
    users = set()
    for path in SHARED_MEMORY.glob('fast*_port*'):
        with contextlib.suppress(OSError):
            users.add(path.stat().st_uid)
    return sorted(users - {os.geteuid()})


def leftovers_of_fast_dds(remove: bool = False) -> dict[Path, int]:
    """
    List shared memory of processes that were killed: 32 MiB each with the shipped profile.

    Fast DDS itself removes only what another process has received from. Repeated restarts after
    kills would fill the memory.

    Parameters
    ----------
    remove
        Remove it, too; list only what could be removed.

    Returns
    -------
    dict
        Bytes of each segment.

    """
    # Not on Windows.
    import fcntl

    found = {}
    for lock in SHARED_MEMORY.glob('fast*_el'):
        if not (name := SEGMENT_LOCK.fullmatch(lock.name)):
            continue
        segment = lock.with_name(name[1])
        # Locked, of another user, or gone meanwhile.
        with contextlib.suppress(OSError), lock.open('rb') as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            size = segment.stat().st_size if segment.is_file() else 0
            if remove:
                segment.unlink(missing_ok=True)
                lock.unlink()
            found[segment] = size
    return found


def _cpu_quota() -> float:
    """Return the cores that the strictest of the process's control groups allows, or infinity."""
    quotas = [math.inf]
    text = OWN_CGROUPS.read_text(encoding='utf-8') if OWN_CGROUPS.is_file() else ''
    for line in text.splitlines():
        _, controllers, path = line.split(':', 2)
        if not controllers:  # version 2
            root = CGROUPS
        elif 'cpu' in controllers.split(','):
            root = CGROUPS / 'cpu'
        else:
            continue
        # In a container, the path may be the host's, and the root what the container was given.
        group = PurePosixPath(path.lstrip('/'))
        quotas += [_quota_of(root / one) for one in (group, *group.parents)]
    return min(quotas)


def _quota_of(group: Path) -> float:
    for names in (('cpu.max',), ('cpu.cfs_quota_us', 'cpu.cfs_period_us')):
        with contextlib.suppress(OSError, ValueError):
            text = ' '.join((group / name).read_text(encoding='utf-8') for name in names)
            quota, period = text.split()
            return math.inf if quota in ('max', '-1') else int(quota) / int(period)
    return math.inf


def _cpu_info() -> str:
    return CPU_INFO.read_text(encoding='utf-8') if CPU_INFO.is_file() else ''
