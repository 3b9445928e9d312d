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

"""What this program runs on, in words, beside every figure that it measures."""

from pathlib import Path
import platform


def describe_processor() -> str:
    """Name the processor's model as well as the system reports it."""
    try:
        for line in Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def processor_features() -> list[str]:
    """Name the vector and matrix extensions of the processor that networks use."""
    known = ('avx2', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'amx_bf16', 'amx_int8')
    try:
        flags = set(Path('/proc/cpuinfo').read_text(encoding='utf-8').split())
    except OSError:
        return []
    return [name for name in known if name in flags]
