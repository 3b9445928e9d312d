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
The task of classification: an encoder learns from images with one class each.

This is how Zhou et al., Sci China Inf Sci 2019, pretrain LEDNet's encoder on ImageNet.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lednet_ros.datasets import DatasetError, ImageFolder
from lednet_ros.inference.preprocess import normalize
from lednet_ros.models import SegmentationNetwork
from lednet_ros.training.augment import augment_image, center_crop
from lednet_ros.training.data import Example, open_images
from lednet_ros.training.distributed import Processes
from lednet_ros.training.losses import Term
from lednet_ros.training.recipe import Recipe, Stage
from lednet_ros.training.start import ENCODER, save_encoder
from lednet_ros.training.task import half_precision, Task, Validation
import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn, Tensor
from torch.nn import functional


class EncoderClassifier(nn.Module):
    """Global average pooling and a linear layer on a network's encoder."""

    def __init__(self, network: SegmentationNetwork, num_classes: int) -> None:
        super().__init__()
        self.encoder = network.encoder
        if network.encoder_classifier is not None:
            # It computes class maps for segmentation.
            network.encoder_classifier.requires_grad_(False)
        self.classifier = nn.Linear(network.encoder_channels, num_classes)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Map images (N, 3, H, W) to logits (N, num_classes)."""
        return (self.classifier(self.encoder(images).mean((2, 3))),)


class ClassificationTask(Task):
    """
    Classification; the result is for `initial` of a segmentation recipe.

    Parameters and errors are those of `Task`.
    """

    output_name = 'encoder.safetensors'
    model: EncoderClassifier
    _training: list[ImageFolder]

    def __init__(self, recipe: Recipe, root: Path | None, processes: Processes) -> None:
        super().__init__(recipe, root, processes)
        # Opened now, so that a missing folder is reported before training.
        self._opened = {source: open_images(source, root) for source in recipe.labeled_sources}
        self._validation = {
            name: open_images(source, root) for name, source in recipe.validation.items()
        }
        folders = [*self._opened.values(), *self._validation.values()]
        self.classes = folders[0].classes
        for folder in folders:
            if folder.classes != self.classes:
                raise DatasetError(
                    f'{folder.source(0)}: its data set has {len(folder.classes)} classes, the '
                    f'first one {len(self.classes)}; they must have the same folders'
                )
        # The decoder, of one class, is neither trained nor saved.
        network = self._build_network(1)
        self.reinitialized = [key for key in self.reinitialized if key.startswith(ENCODER)]
        self.model = EncoderClassifier(network, len(self.classes))

    def prepare(self, stage: Stage, counts: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """Open a stage's images; counts are zeros, because no class is weighted."""
        self._stage = stage
        self._training = [self._opened[source] for source in stage.train or self._recipe.train]
        return np.zeros(len(self.classes))

    def read(self, number: int, index: int, rng: np.random.Generator) -> Example:
        """Read and augment an image."""
        image = self._training[number][index]
        pixels = augment_image(image, self._stage.crop, self._stage.augmentation, rng)
        return Example(pixels, np.int64(image.class_id))

    def losses(
        self, outputs: Sequence[Tensor], targets: Tensor, taught: Tensor | None = None
    ) -> list[Term]:
        """Compute the cross-entropy of logits (N, num_classes) and class ids (N,) int64."""
        scores = outputs[0].float()
        total = functional.cross_entropy(
            scores, targets, reduction='sum', label_smoothing=self._stage.loss.label_smoothing
        )
        return [Term(total, scores.new_tensor(len(targets)), 1.0)]

    def save(
        self, model: nn.Module, path: Path, training: dict[str, Any], metrics: dict[str, Any]
    ) -> None:
        """Write the encoder's weights in half precision."""
        assert isinstance(model, EncoderClassifier)
        tensors = {
            f'{ENCODER}{key}': tensor
            for key, tensor in half_precision(model.encoder).items()
            if not key.startswith('output_conv.')
        }
        metadata = {'network': self._recipe.network, 'training': training, 'metrics': metrics}
        save_encoder(path, tensors, metadata)

    def validate(self, model: nn.Module) -> dict[str, Validation]:
        """Measure top-1 and top-5 accuracy on center crops."""
        model.eval()
        return {
            name: Validation(self._validate(model, folder, name), metric='top1')
            for name, folder in self._validation.items()
        }

    def description(self) -> str:
        """Describe the images of the stage, for metadata."""
        return f'{sum(self.lengths())} images of {len(self.classes)} classes'

    def _validate(self, model: nn.Module, folder: ImageFolder, name: str) -> dict[str, Any]:
        hits: NDArray[np.int64] = np.zeros(2, np.int64)
        for index in self._progress(folder, name):
            image = folder[index]
            pixels = torch.from_numpy(center_crop(image.pixels, self._recipe.input_size)[None])
            images = normalize(pixels.to(self._processes.device), self.mean, self.std)
            with torch.inference_mode():
                scores = model(images)[0][0]
            best = scores.topk(min(5, len(self.classes))).indices.tolist()
            hits += (best[0] == image.class_id, image.class_id in best)
        hits = self._processes.sum_counts(hits)
        top1, top5 = (hits / len(folder)).tolist()
        return {'top1': top1, 'top5': top5, 'images': len(folder)}
