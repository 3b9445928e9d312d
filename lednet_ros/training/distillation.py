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
Teachers: trained networks whose probabilities supervise another network, without labels.

Hinton et al., "Distilling the Knowledge in a Neural Network", 2015.
"""

from collections.abc import Callable, Iterable, Sequence
import importlib
from pathlib import Path
from typing import Any

from lednet_ros.checkpoint import load_checkpoint
from lednet_ros.inference.preprocess import normalize
from lednet_ros.labels import LabelMap, UNLABELED
from lednet_ros.limits import MIN_SIZE
from lednet_ros.models import load_network
from lednet_ros.models.network import upsample
from lednet_ros.training.losses import Term
from lednet_ros.training.recipe import Teacher
from lednet_ros.training.start import TORCHVISION_MEAN, TORCHVISION_STD
from lednet_ros.training.teacher import TRAINABLE
import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn, Tensor
from torch.nn import functional

Network = Callable[[Tensor], Tensor]
"""Maps images to logits (N, classes of the teacher, h, w)."""


class TeacherError(ValueError):
    """A teacher that can't be used; the message names the key, its value and what is allowed."""


class TeacherNetwork:
    """
    Computes what a teacher believes about a student's classes.

    Parameters
    ----------
    options
        The teacher, as the recipe describes it.
    initials
        The recipe's weights to start from.
    label_map
        The student's classes.
    device
        Where the teacher runs.
    bf16
        Whether its activations are bfloat16.

    Attributes
    ----------
    known : Tensor
        Ids of the student's classes that the teacher knows.
    description : dict
        Its origin, for metadata.

    Raises
    ------
    TeacherError, CheckpointError
        The teacher can't be used.

    """

    def __init__(
        self,
        options: Teacher,
        initials: Sequence[str],
        label_map: LabelMap,
        device: torch.device,
        bf16: bool,
    ) -> None:
        self._options, self._device, self._bf16 = options, device, bf16
        self._module: nn.Module | None = None
        self.description: dict[str, Any] = {'source': options.source}
        source = options.source
        names: tuple[str, ...] = ()
        if source == 'initial':
            if len(initials) != 1:
                raise TeacherError(
                    f"teacher.source is 'initial', which names {len(initials)} files; the recipe "
                    'must have one'
                )
            (source,) = initials
        if source.endswith('.onnx'):
            self._network = self._load_onnx(source)
        elif ':' in source and not Path(source).exists():
            self._network = self._load_module(source)
        else:
            self._network, names = self._load_checkpoint(source)
        with torch.no_grad():
            outputs = self._network(torch.zeros(1, MIN_SIZE, MIN_SIZE, 3, dtype=torch.uint8))
        if not isinstance(outputs, Tensor) or outputs.ndim != 4:
            found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise TeacherError(
                f"teacher.source is '{options.source}', whose output is {found}; it must be "
                'logits (N, classes, h, w)'
            )
        self._matrix = self._map(names, outputs.shape[1], label_map).to(device)
        self.known = self._matrix.any(1).nonzero()[:, 0]

    @torch.no_grad()
    def adapt(self, batches: Iterable[Tensor]) -> None:
        """
        Replace the statistics of batch normalizations by those of images of another camera.

        Li et al., "Revisiting Batch Normalization for Practical Domain Adaptation", 2016.

        Parameters
        ----------
        batches
            (N, H, W, 3) uint8 RGB each, N of at least 2.

        """
        assert self._module is not None
        normalizations = [
            part for part in self._module.modules() if isinstance(part, nn.BatchNorm2d)
        ]
        for part in normalizations:
            part.reset_running_stats()
            # The mean of all batches.
            part.momentum = None
            part.train()
        for images in batches:
            self._network(images)
        for part in normalizations:
            part.eval()

    @torch.no_grad()
    def __call__(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """
        Compute the mean probabilities of all views of images.

        Parameters
        ----------
        images
            (N, H, W, 3) uint8 RGB, on the teacher's device.
        size
            Height and width of the result.

        Returns
        -------
        Tensor
            (N, classes of the student, *size) float32; the remainder to 1 is the probability of
            the teacher's classes that the student lacks.

        """
        flips = (False, True) if self._options.flip else (False,)
        total = torch.zeros((), device=self._device)
        for scale in self._options.scales:
            view = images if scale == 1 else _resize(images, scale)
            for is_flipped in flips:
                logits = self._network(view.flip(2) if is_flipped else view)
                logits = upsample((logits.flip(3) if is_flipped else logits).float(), size)
                total = total + logits.softmax(1)
        mean = total / (len(flips) * len(self._options.scales))
        return torch.einsum('st,nthw->nshw', self._matrix, mean)

    def label(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """
        Label a whole frame.

        Parameters
        ----------
        pixels
            (H, W, 3) uint8 RGB.

        Returns
        -------
        ndarray
            Labels (H, W) uint8; `UNLABELED` where the teacher is not confident enough, or where
            classes that the student lacks outweigh its best one.

        """
        images = torch.from_numpy(pixels)[None].to(self._device)
        taught = self(images, (images.shape[1], images.shape[2]))
        sure, best = _sure(taught, self._options.confidence)
        labels = torch.where(sure, best, UNLABELED)[0]
        return labels.to(torch.uint8).cpu().numpy()

    def compare(self, scores: Tensor, taught: Tensor, labels: Tensor) -> Term:
        """
        Compute the loss of a student's logits (N, C, h, w) and a result of this teacher.

        The labels are of the same size as the result.
        """
        size = (taught.shape[2], taught.shape[3])
        total, count = distill(
            upsample(scores, size),
            taught,
            labels,
            self.known,
            self._options.temperature,
            self._options.confidence,
        )
        return Term(total, count, self._options.weight)

    def _load_checkpoint(self, source: str) -> tuple[Network, tuple[str, ...]]:
        if self._options.mean or self._options.std:
            raise TeacherError(
                f"teacher.source is the checkpoint '{source}', which has mean and std itself; "
                'teacher.mean and teacher.std must be left out'
            )
        checkpoint = load_checkpoint(source)
        network = load_network(checkpoint, source, TRAINABLE)
        self.description |= {'network': checkpoint.network, 'training': checkpoint.training}
        names = checkpoint.label_map.names
        # Outputs past the last class never win a pixel.
        run = self._run(network, network.scores, checkpoint.mean, checkpoint.std)
        return lambda images: run(images)[:, :len(names)], names

    def _load_module(self, source: str) -> Network:
        module, _, name = source.partition(':')
        arguments = [self._options.file] if self._options.file else []
        try:
            network = getattr(importlib.import_module(module), name)(*arguments)
        except (ImportError, AttributeError, TypeError, ValueError, OSError) as error:
            raise TeacherError(f"teacher.source is '{source}': {error}") from error
        if not isinstance(network, nn.Module):
            raise TeacherError(
                f"teacher.source is '{source}', which returns {type(network).__name__}; it must "
                'return a torch.nn.Module'
            )
        return self._run(network, network, *self._normalization())

    def _run(self, network: nn.Module, compute: Network, mean: Any, std: Any) -> Network:
        self._module = network
        network.to(self._device).eval().requires_grad_(False)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

        def run(images: Tensor) -> Tensor:
            prepared = normalize(images.to(self._device), mean, std)
            with torch.autocast(self._device.type, torch.bfloat16, self._bf16):
                return compute(prepared)

        return run

    def _load_onnx(self, source: str) -> Network:
        if self._options.adapt:
            raise TeacherError(
                f"teacher.source is '{source}', which can't change; teacher.adapt must be false"
            )
        try:
            import onnxruntime
        except ImportError as error:
            raise TeacherError(
                f"teacher.source is '{source}', which needs onnxruntime: {error}"
            ) from error
        if not Path(source).is_file():
            raise TeacherError(f"teacher.source is '{source}', which is not a file")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            session = onnxruntime.InferenceSession(
                source, options, providers=onnxruntime.get_available_providers()
            )
        except Exception as error:  # onnxruntime's exceptions share no other base.
            raise TeacherError(f"teacher.source is '{source}': {error}") from error
        (taken,) = session.get_inputs()
        # Files of `lednet export --output scores` take bytes; channels are last at both ends.
        is_bytes = taken.type == 'tensor(uint8)'
        mean, std = self._normalization()
        batch, *sides = taken.shape
        if isinstance(batch, int) and batch != 1:
            raise TeacherError(
                f"teacher.source is '{source}', which takes batches of {batch}; it must take "
                'single images or batches of any size'
            )
        height, width = sides[:2] if is_bytes else sides[1:]

        def run(images: Tensor) -> Tensor:
            if isinstance(height, int) and isinstance(width, int):
                images = _resize_to(images, (height, width))
            prepared = images if is_bytes else normalize(images, mean, std)
            whole = prepared.cpu().numpy()
            parts = np.split(whole, len(whole)) if batch == 1 else [whole]
            results = [session.run(None, {taken.name: part})[0] for part in parts]
            logits = torch.from_numpy(np.concatenate(results)).to(self._device)
            return logits.permute(0, 3, 1, 2) if is_bytes else logits

        return run

    def _normalization(self) -> tuple[Any, Any]:
        return self._options.mean or TORCHVISION_MEAN, self._options.std or TORCHVISION_STD

    def _map(self, names: tuple[str, ...], outputs: int, label_map: LabelMap) -> Tensor:
        """Return the student's classes (rows) of the teacher's classes (columns), 0 or 1."""
        classes = self._options.classes
        if classes is None:
            if names == label_map.names or (not names and outputs == label_map.num_classes):
                return torch.eye(outputs)
            raise TeacherError(
                f'teacher.classes is missing: the teacher has {outputs} classes '
                f"({', '.join(names) or 'without names'}), the recipe those of "
                f"'{label_map.name}' ({', '.join(label_map.names)})"
            )
        matrix = torch.zeros(label_map.num_classes, outputs)
        for theirs, ours in classes.items():
            column = names.index(theirs) if theirs in names else -1
            if theirs.isdigit():
                column = int(theirs)
            if not 0 <= column < outputs:
                raise TeacherError(
                    f"teacher.classes names '{theirs}', which the teacher doesn't have; allowed: "
                    f"{', '.join([*names, f'0 to {outputs - 1}'])}"
                )
            if ours not in label_map.names:
                raise TeacherError(
                    f"teacher.classes.{theirs} is '{ours}'; allowed: {', '.join(label_map.names)}"
                )
            matrix[label_map.names.index(ours), column] = 1
        return matrix


def distill(
    scores: Tensor,
    taught: Tensor,
    labels: Tensor,
    known: Tensor,
    temperature: float,
    confidence: float,
) -> tuple[Tensor, Tensor]:
    """
    Compute the divergence of a student from its teacher, both softened.

    Pixels count where the teacher's best class has at least the probability `confidence`, no less
    than all classes together that the student lacks, and is the label where there is one.

    Parameters
    ----------
    scores
        The student's logits (N, C, H, W), float32.
    taught
        The teacher's probabilities, of the same shape.
    labels
        Class ids (N, H, W); `UNLABELED` where there are none.
    known
        Ids of the classes that the teacher knows; the others are left out on both sides.
    temperature
        Divisor of both logits; the gradient is scaled back by its square.
    confidence
        0 to 1.

    Returns
    -------
    tuple of Tensor
        Sum of the divergences KL(teacher, student), and number of the pixels that count.

    """
    used, theirs = _sure(taught, confidence)
    used &= (labels == theirs) | (labels == UNLABELED)
    if len(known) < scores.shape[1]:
        scores, taught = scores[:, known], taught[:, known]
    target = (taught.clamp(min=1e-8).log() / temperature).log_softmax(1)
    student = (scores / temperature).log_softmax(1)
    divergence = functional.kl_div(student, target, reduction='none', log_target=True).sum(1)
    return (divergence * used).sum() * temperature**2, used.sum()


def _sure(taught: Tensor, confidence: float) -> tuple[Tensor, Tensor]:
    """Return where a teacher's best class counts, and which it is: (N, H, W) each."""
    best, classes = taught.max(1)
    return (best >= confidence) & (best >= 1 - taught.sum(1)), classes


def _resize(images: Tensor, scale: float) -> Tensor:
    height, width = (max(round(side * scale), MIN_SIZE) for side in images.shape[1:3])
    return _resize_to(images, (height, width))


def _resize_to(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize images (N, H, W, 3) uint8."""
    if images.shape[1:3] == size:
        return images
    resized = functional.interpolate(
        images.permute(0, 3, 1, 2).float(), size=size, mode='bilinear', antialias=True
    )
    return resized.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
