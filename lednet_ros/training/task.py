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

"""What the training loop needs of a task, and what tasks share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lednet_ros.evaluation.metrics import ConfusionMatrix
from lednet_ros.evaluation.report import FrameResult
from lednet_ros.training.data import Example
from lednet_ros.training.losses import Term
from lednet_ros.training.recipe import Stage
import numpy as np
from numpy.typing import NDArray
from torch import nn, Tensor


@dataclass(frozen=True)
class Validation:
    """
    Result of a validation.

    Attributes
    ----------
    metrics
        Figures, fractions of 1, for the file's metadata.
    confusion
        Pixel counts; None for classification.
    frames
        The best and the worst frames.

    """

    metrics: dict[str, Any]
    confusion: ConfusionMatrix | None = None
    frames: list[FrameResult] = field(default_factory=list)


class Task(Protocol):
    """
    A task of the training loop.

    Attributes
    ----------
    output_name
        Name of the file with the result.
    figure
        Key of the figure in metrics that the history shows.
    mean, std
        Normalization (red, green, blue) of images in 0..1.
    started_from, redrawn
        What the weights to start from say of themselves; tensors that they did not fill.

    """

    output_name: str
    figure: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    started_from: dict[str, Any] | None
    redrawn: list[str]

    @property
    def model(self) -> nn.Module:
        """Return the module to train; it maps images (N, 3, H, W) to a tuple of tensors."""

    def prepare(self, stage: Stage, counts: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """Open a stage's examples and set up its losses; returns the pixels of each class."""

    def lengths(self) -> list[int]:
        """Count the examples of the stage's sources."""

    def read(self, number: int, index: int, rng: np.random.Generator) -> Example:
        """Read and augment an example."""

    def source(self, number: int, index: int) -> str:
        """Name an example's origin."""

    def losses(self, outputs: Sequence[Tensor], targets: Tensor) -> list[Term]:
        """Compare the model's output with what was wanted."""

    def save(
        self, model: nn.Module, path: Path, training: dict[str, Any], metrics: dict[str, Any]
    ) -> None:
        """Write a model's weights."""

    def validate(self, model: nn.Module) -> dict[str, Validation]:
        """Measure a model on the recipe's validation sources."""

    def description(self) -> str:
        """Describe the examples of the stage."""
