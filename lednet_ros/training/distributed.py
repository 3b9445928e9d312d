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

"""Several training processes, started by `torchrun`; one process is the case of one rank."""

from collections.abc import Callable, Iterator
import contextlib
from dataclasses import dataclass
import os
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
import torch
from torch import distributed, nn, Tensor

T = TypeVar('T')


@dataclass(frozen=True)
class Processes:
    """
    This process among all that train together.

    Attributes
    ----------
    rank, count
        Number of this process, from 0, and number of processes.
    device
        Device of this process.

    """

    rank: int
    count: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Return whether this process writes files and shows progress."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:  # noqa: A003
        """Return the sum of a tensor over all processes."""
        total = tensor.clone()
        if self.count > 1:
            distributed.all_reduce(total)
        return total

    def sum_counts(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the sum of integer counts over all processes."""
        total: NDArray[np.int64] = self.sum(torch.from_numpy(counts).to(self.device)).cpu().numpy()
        return total

    def gather(self, value: T) -> list[T]:
        """Collect a picklable value of every process, by rank."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value)
        return values


@contextlib.contextmanager
def join_processes() -> Iterator[Processes]:
    """
    Join the other processes that `torchrun` started, if any.

    The backend is nccl with CUDA devices, gloo without.
    """
    if 'RANK' not in os.environ:
        yield Processes(0, 1, torch.device('cuda' if torch.cuda.is_available() else 'cpu'))
        return
    device = torch.device('cpu')
    if torch.cuda.is_available():
        device = torch.device('cuda', int(os.environ['LOCAL_RANK']))
        torch.cuda.set_device(device)
    distributed.init_process_group('nccl' if device.type == 'cuda' else 'gloo')
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        distributed.destroy_process_group()


class _Sum(torch.autograd.Function):
    """Sum over all processes; every process's gradient flows back to every process's input."""

    @staticmethod
    def forward(_context: Any, x: Tensor) -> Tensor:
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return _Sum.forward(context, gradients[0])


class JointBatchNorm(nn.BatchNorm2d):
    """
    Batch normalization with the statistics of the joint batch of all processes, on the CPU.

    PyTorch's `SyncBatchNorm` runs on accelerators only.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape; N, H and W may differ between processes."""
        if not self.training:
            plain: Tensor = super().forward(x)
            return plain
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        size = values.new_full((1,), values.numel() / values.shape[1])
        mean = values.sum((0, 2, 3))
        joint: Tensor = _Sum.apply(torch.cat((mean, size)))  # type: ignore[no-untyped-call]
        count = joint[-1]
        mean = joint[:-1] / count
        centered = values - mean[:, None, None]
        squares = centered.square().sum((0, 2, 3))
        variance: Tensor = _Sum.apply(squares) / count  # type: ignore[no-untyped-call]
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        rate = self.momentum
        if rate is None:
            rate = 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.detach(), rate)
        self.running_var.lerp_((variance * count / (count - 1)).detach(), rate)
        scaled = centered * (variance + self.eps).rsqrt()[:, None, None]
        shifted: Tensor = scaled * self.weight[:, None, None] + self.bias[:, None, None]
        return shifted.to(x.dtype)


def synchronize_batch_norm(module: nn.Module, device: torch.device) -> None:
    """Let all batch normalizations of a network use the joint batch of all processes."""
    if device.type != 'cpu':
        convert: Callable[[nn.Module], nn.Module] = nn.SyncBatchNorm.convert_sync_batchnorm
        convert(module)
        return
    for child in module.modules():
        if type(child) is nn.BatchNorm2d:
            # Parameters, buffers and options are the same; only the forward pass differs.
            child.__class__ = JointBatchNorm
