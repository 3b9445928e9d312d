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

"""Where backends keep compiled networks on disk, and what such a file depends on."""

from collections.abc import Mapping
import hashlib
from pathlib import Path

from lednet_ros.files import cache_folder
import torch
from torch import Tensor


def compiled_path(fingerprint: str, suffix: str) -> Path:
    """
    Return the file that keeps a compiled network.

    Parameters
    ----------
    fingerprint
        Text that changes with everything that the compiled network depends on.
    suffix
        Of the file, without a dot.

    """
    digest = hashlib.sha256(fingerprint.encode()).hexdigest()[:32]
    return cache_folder() / f'{digest}.{suffix}'


def digest_weights(tensors: Mapping[str, Tensor]) -> str:
    """Return a text that changes with the names, shapes and values of tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f'{name} {tuple(tensor.shape)} {tensor.dtype}'.encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
