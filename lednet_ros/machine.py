# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What this program runs on, in words, beside every figure that it measures."""

from pathlib import Path
import platform


def describe_processor() -> str:
    """Name the processor's model as well as the system tells it."""
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
