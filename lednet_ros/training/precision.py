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

"""The precision in which a device trains fastest."""

from typing import Literal

from lednet_ros.machine import processor_has_bf16
import torch


def has_bf16(device: torch.device) -> bool:
    """Return whether a device calculates in bf16, rather than emulating it."""
    if device.type == 'cuda':
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return processor_has_bf16()


def choose_precision(
    wanted: Literal['auto', 'fp32', 'bf16'], device: torch.device
) -> Literal['fp32', 'bf16']:
    """Return the precision that a recipe wants, where 'auto' is bf16 if the device has it."""
    if wanted != 'auto':
        return wanted
    return 'bf16' if has_bf16(device) else 'fp32'
