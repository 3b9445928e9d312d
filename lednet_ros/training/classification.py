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

Zhou et al., Sci China Inf Sci 2019, pretrain LEDNet's encoder on ImageNet in this way.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lednet_ros.datasets import DatasetError, ImageFolder
from lednet_ros.inference.preprocess import normalize
from lednet_ros.models import build_network, SegmentationNetwork
from lednet_ros.training.augment import augment_image, center_crop
from lednet_ros.training.data import Example, open_images
from lednet_ros.training.distributed import Processes
from lednet_ros.training.losses import Term
from lednet_ros.training.recipe import Recipe, Stage
from lednet_ros.training.start import ENCODER, save_encoder, start_from
from lednet_ros.training.task import Validation
import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn, Tensor
from torch.nn import functional
from tqdm import tqdm


class EncoderClassifier(nn.Module):
    """Global average pooling and a linear layer on a network's encoder."""

    def __init__(self, network: SegmentationNetwork, num_classes: int) -> None:
        super().__init__()
        self.encoder = network.encoder
        if network.encoder_classifier is not None:
            # It makes class maps for segmentation, which nothing here uses.
            network.encoder_classifier.requires_grad_(False)
        self.classifier = nn.Linear(network.encoder_channels, num_classes)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Map images (N, 3, H, W) to logits (N, num_classes)."""
        return (self.classifier(self.encoder(images).mean((2, 3))),)


class ClassificationTask:
    """
    Classification as a recipe describes it; parameters and errors as in `SegmentationTask`.

    The result, `encoder.safetensors`, is for `initial:` of a segmentation recipe.
    """

    output_name = 'encoder.safetensors'
    figure = 'top1'

    def __init__(self, recipe: Recipe, root: Path | None, processes: Processes) -> None:
        self._recipe = recipe
        self._root = root
        self._processes = processes
        self._training = [open_images(source, root) for source in recipe.train]
        self._validation = {
            name: open_images(source, root) for name, source in recipe.validation.items()
        }
        self.classes = self._training[0].classes
        for folder in (*self._training, *self._validation.values()):
            if folder.classes != self.classes:
                raise DatasetError(
                    f'{folder.source(0)}: its data set has {len(folder.classes)} classes, the '
                    f'first one {len(self.classes)}; they must have the same folders'
                )
        # One class map: what it is for doesn't exist yet.
        network = build_network(recipe.network, 1)
        self.mean, self.std = network.MEAN, network.STD
        self.started_from: dict[str, Any] | None = None
        self.redrawn: list[str] = []
        if recipe.initial is not None:
            self.started_from, drawn = start_from(network, recipe.initial)
            self.redrawn = [key for key in drawn if key.startswith(ENCODER)]
        self.model = EncoderClassifier(network, len(self.classes))
        self._stage = recipe.stages[0]

    def prepare(self, stage: Stage, counts: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """Open a stage's images; nothing is weighted by class, so nothing is counted."""
        self._stage = stage
        self._training = [
            open_images(source, self._root) for source in stage.train or self._recipe.train
        ]
        return np.zeros(len(self.classes))

    def lengths(self) -> list[int]:
        """Count the images of the stage's sources."""
        return [len(folder) for folder in self._training]

    def read(self, number: int, index: int, rng: np.random.Generator) -> Example:
        """Read and augment an image."""
        image = self._training[number][index]
        pixels = augment_image(image, self._stage.crop, self._stage.augmentation, rng)
        return pixels, np.int64(image.class_id)

    def source(self, number: int, index: int) -> str:
        """Name an image's file."""
        return self._training[number].source(index)

    def losses(self, outputs: Sequence[Tensor], targets: Tensor) -> list[Term]:
        """
        Compare logits (N, num_classes) with class ids (N,) int64.

        Returns
        -------
        list of Term
            The cross-entropy.

        """
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
            f'{ENCODER}{key}': (tensor.half() if tensor.is_floating_point() else tensor).cpu()
            for key, tensor in model.encoder.state_dict().items()
            if not key.startswith('output_conv.')
        }
        metadata = {'network': self._recipe.network, 'training': training, 'metrics': metrics}
        save_encoder(path, tensors, metadata)

    def validate(self, model: nn.Module) -> dict[str, Validation]:
        """
        Measure top-1 and top-5 accuracy on center crops.

        Returns
        -------
        dict
            What was found, by the name of the source; the same in all processes.

        """
        model.eval()
        return {
            name: Validation(self._validate(model, folder, name))
            for name, folder in self._validation.items()
        }

    def description(self) -> str:
        """Describe the images of the stage, for metadata."""
        return f'{sum(self.lengths())} images of {len(self.classes)} classes'

    def _validate(self, model: nn.Module, folder: ImageFolder, name: str) -> dict[str, Any]:
        processes = self._processes
        hits: NDArray[np.int64] = np.zeros(2, np.int64)
        mine = range(processes.rank, len(folder), processes.count)
        for index in tqdm(mine, desc=f'validate {name}', leave=False, disable=not processes.leads):
            image = folder[index]
            pixels = center_crop(image.pixels, self._recipe.input_size)
            pixels_there = torch.from_numpy(pixels[None]).to(processes.device)
            images = normalize(pixels_there, self.mean, self.std)
            with torch.inference_mode():
                scores = model(images)[0][0]
            best = scores.topk(min(5, len(self.classes))).indices.tolist()
            hits += (best[0] == image.class_id, image.class_id in best)
        hits = processes.sum_counts(hits)
        top1, top5 = (hits / len(folder)).tolist()
        return {'top1': top1, 'top5': top5, 'images': len(folder)}
