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

"""The base of the tasks that the training loop runs."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lednet_ros.datasets import Dataset, ImageFolder
from lednet_ros.evaluation.metrics import ConfusionMatrix
from lednet_ros.evaluation.report import FrameResult
from lednet_ros.models import build_network, SegmentationNetwork
from lednet_ros.training.data import Example
from lednet_ros.training.distributed import Processes
from lednet_ros.training.losses import Term
from lednet_ros.training.precision import choose_precision
from lednet_ros.training.recipe import Recipe, Stage
from lednet_ros.training.start import start_from
from lednet_ros.training.teacher import TRAINABLE
import numpy as np
from numpy.typing import NDArray
from torch import nn, Tensor
from tqdm import tqdm


@dataclass(frozen=True)
class Validation:
    """
    Result of a validation.

    Attributes
    ----------
    metrics
        Fractions of 1 and counts, for the file's metadata.
    confusion
        Pixel counts; None for classification.
    frames
        The best and the worst frames.
    metric
        Key of the metric that the history shows.

    """

    metrics: dict[str, Any]
    confusion: ConfusionMatrix | None = None
    frames: list[FrameResult] = field(default_factory=list)
    metric: str = 'miou'


class Task(ABC):
    """
    A model, its examples, losses and validation, as a recipe describes them.

    Parameters
    ----------
    recipe
        The recipe.
    root
        Folder of sources that don't name one.
    processes
        Place of this process.

    Attributes
    ----------
    output_name
        Name of the file with the result.
    model
        The module to train; it maps images (N, 3, H, W) to a tuple of tensors.
    mean, std
        Normalization (red, green, blue) of images in 0..1.
    precision
        'fp32' or 'bf16', of the device where the recipe leaves it to that.
    started_from
        Metadata on the training of the weights to start from; None without such weights.
    reinitialized
        Names of the tensors that these weights did not fill.
    teacher
        Origin of the teacher, for metadata; None without one.

    Raises
    ------
    CheckpointError, DatasetError, LabelMapError, ValueError
        A part of the recipe can't be used.

    """

    output_name: str
    model: nn.Module
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    _training: Sequence[Dataset | ImageFolder]

    def __init__(self, recipe: Recipe, root: Path | None, processes: Processes) -> None:
        self._recipe = recipe
        self._root = root
        self._processes = processes
        self._stage = recipe.stages[0]
        self.precision = choose_precision(recipe.precision, processes.device)
        self.started_from: dict[str, Any] | None = None
        self.reinitialized: list[str] = []
        self.teacher: dict[str, Any] | None = None

    def _build_network(self, num_classes: int) -> SegmentationNetwork:
        """Build the recipe's network with the weights to start from."""
        network = build_network(self._recipe.network, num_classes, TRAINABLE)
        self.mean, self.std = network.MEAN, network.STD
        if self._recipe.initials:
            self.started_from, self.reinitialized = start_from(network, *self._recipe.initials)
        return network

    @abstractmethod
    def prepare(self, stage: Stage, counts: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """
        Open a stage's examples and set up its losses.

        Parameters
        ----------
        stage
            The stage.
        counts
            Result of an earlier call for this stage; None reads all frames to count.

        Returns
        -------
        ndarray
            (num_classes,) pixels of each class in an epoch.

        Raises
        ------
        DatasetError
            Files are missing, damaged or don't belong together; the message lists them.

        """

    def lengths(self) -> list[int]:
        """Count the examples of each of the stage's sources."""
        return [len(examples) for examples in self._training]

    def source(self, number: int, index: int) -> str:
        """Return the file, or other origin, of an example."""
        return self._training[number].source(index)

    @abstractmethod
    def read(self, number: int, index: int, rng: np.random.Generator) -> Example:
        """Read and augment an example."""

    def teach(self, images: Tensor) -> Tensor | None:
        """Return what the teacher knows about images (N, H, W, 3) uint8; None without one."""
        return None

    @abstractmethod
    def losses(
        self, outputs: Sequence[Tensor], targets: Tensor, taught: Tensor | None = None
    ) -> list[Term]:
        """
        Compare the model's outputs with the targets and with the teacher.

        Parameters
        ----------
        outputs
            Logits, (N, num_classes, h, w) or (N, num_classes).
        targets
            Labels (N, H, W) uint8, or class ids (N,) int64.
        taught
            Result of `teach` for the same images.

        Returns
        -------
        list of Term
            The losses of the stage that have a weight.

        """

    @abstractmethod
    def save(
        self, model: nn.Module, path: Path, training: dict[str, Any], metrics: dict[str, Any]
    ) -> None:
        """Write a model's weights in half precision, with metadata."""

    @abstractmethod
    def validate(self, model: nn.Module) -> dict[str, Validation]:
        """Measure a model on each validation source; return the same in all processes."""

    @abstractmethod
    def description(self) -> str:
        """Describe the examples of the stage, for metadata."""

    def _progress(self, examples: Dataset | ImageFolder, name: str) -> Iterable[int]:
        """Yield the indices of the examples that this process validates."""
        mine = range(self._processes.rank, len(examples), self._processes.count)
        hidden = not self._processes.leads
        progress: Iterable[int] = tqdm(
            mine, f'validate {name}', leave=False, disable=hidden, unit='frame'
        )
        return progress


def half_precision(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's state on the CPU, in half precision except for integer counters."""
    return {
        key: (tensor.half() if tensor.is_floating_point() else tensor).cpu()
        for key, tensor in module.state_dict().items()
    }
