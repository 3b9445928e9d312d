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

"""The task of segmentation: network, frames, losses and validation of a recipe."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
import heapq
import itertools
import os
from pathlib import Path
from typing import Any

from lednet_ros.checkpoint import Checkpoint, save_checkpoint
from lednet_ros.datasets import (
    Dataset,
    DatasetError,
    LabeledFrame,
    list_problems,
    Survey,
    survey,
)
from lednet_ros.evaluation.consistency import Calibration, FlipCounter, Flips
from lednet_ros.evaluation.metrics import ConfusionMatrix
from lednet_ros.evaluation.report import FrameResult
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.labels import LabelMap
from lednet_ros.models import SegmentationNetwork
from lednet_ros.recordings.sources import read_frames
from lednet_ros.training.augment import augment, paste_objects
from lednet_ros.training.data import (
    CachedDataset,
    Example,
    open_frames,
    RecordedFrames,
    recording_path,
)
from lednet_ros.training.distillation import TeacherNetwork
from lednet_ros.training.distributed import Processes
from lednet_ros.training.losses import class_weights, cross_entropy, dice, lovasz_softmax, Term
from lednet_ros.training.recipe import Balance, Paste, Recipe, Source, Stage, Unlabeled
from lednet_ros.training.task import half_precision, Task, Validation
from lednet_ros.training.teacher import TRAINABLE
import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn, Tensor
from torch.nn import functional

FRAMES_SHOWN = 3
# The Lovász loss sorts pixels, which costs as much as the network; logits are at 1/8 anyway.
LOVASZ_STRIDE = 2
# The teacher's probabilities are compared at half size: logits are at 1/4 or 1/8.
TEACHER_STRIDE = 2
# Frames from which the statistics of a teacher's normalizations are estimated, and their batches.
ADAPTATION_FRAMES = 128
ADAPTATION_BATCH = 8
# Frames of a recording on which temporal consistency is measured.
CONSISTENCY_FRAMES = 300


class SegmentationModel(nn.Module):
    """
    A network with the outputs that the losses of a stage need.

    Attributes
    ----------
    network
        The whole network.
    part
        `all` or `encoder`.
    auxiliary
        Whether to compute the encoder's logits in addition to the network's.

    """

    def __init__(self, network: SegmentationNetwork) -> None:
        super().__init__()
        self.network = network
        self.part = 'all'
        self.auxiliary = False

    def choose(self, part: str, auxiliary: bool) -> None:
        """Choose the outputs; parameters that don't contribute to them get no gradient."""
        self.part = part
        self.auxiliary = auxiliary and part == 'all'
        unused: list[nn.Parameter] = []
        if part == 'encoder':
            used = {id(parameter) for parameter in self.network.encoder.parameters()}
            unused = [p for p in self.network.parameters() if id(p) not in used]
        elif not self.auxiliary and self.network.encoder_classifier is not None:
            unused = list(self.network.encoder_classifier.parameters())
        self.network.requires_grad_(True)
        for parameter in unused:
            parameter.requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map images (N, 3, H, W) to logits: those of the trained part, and the auxiliary ones."""
        if self.part == 'encoder':
            return (self.network.encoder_scores(images),)
        if self.auxiliary:
            return self.network.both_scores(images)
        return (self.network.scores(images),)


def _refuse_encoder_losses(recipe: Recipe) -> None:
    """Raise ValueError if a stage needs logits of the encoder."""
    for number, stage in enumerate(recipe.stages):
        for key, value, allowed in (
            ('part', stage.part, 'all'), ('loss.auxiliary', stage.loss.auxiliary, 0.0)
        ):
            if value != allowed:
                raise ValueError(
                    f'stages.{number}.{key} is {value}; the encoder of {recipe.network} has no '
                    f'class scores of its own, so it must be {allowed}'
                )


class SegmentationTask(Task):
    """Segmentation; parameters and errors are those of `Task`."""

    output_name = 'checkpoint.safetensors'
    model: SegmentationModel
    _training: list[Dataset]

    def __init__(self, recipe: Recipe, root: Path | None, processes: Processes) -> None:
        super().__init__(recipe, root, processes)
        self.label_map = LabelMap.load(recipe.label_map)
        network = self._build_network(self.label_map.num_classes)
        for module in network.modules():
            if isinstance(module, nn.Dropout2d):
                module.p *= recipe.dropout
        for stage in recipe.stages:
            for part in (stage.paste, stage.balance):
                # Unknown ones are named now rather than in the middle of a stage.
                self._ids(part)
        if network.encoder_classifier is None:
            _refuse_encoder_losses(recipe)
        self.model = SegmentationModel(network)
        # Hard labels are all that a teacher gives; any other is asked about every crop.
        self._asks = recipe.teacher is not None and not recipe.teacher.hard
        self._teacher: TeacherNetwork | None = None
        self._teacher_is_ready = False
        if recipe.teacher is not None:
            self._teacher = TeacherNetwork(
                recipe.teacher,
                recipe.initials,
                self.label_map,
                processes.device,
                self.precision == 'bf16',
            )
            self.teacher = self._teacher.description
        self._opened: dict[Source | Unlabeled, Dataset] = {}
        self._surveys: dict[Source | Unlabeled, Survey] = {}
        self._weights: Tensor | None = None
        # Opened now, so that a missing folder is reported before training.
        self._validation = {name: self._open(s) for name, s in recipe.validation.items()}
        trained_on: set[tuple[str, str]] = set()
        for source in recipe.labeled_sources:
            trained_on |= _origins(self._open(source))
        self._trained_on = {
            name: len(trained_on & _origins(dataset)) for name, dataset in self._validation.items()
        }
        for name, count in self._trained_on.items():
            if count and processes.leads:
                print(
                    f'validation.{name}: {count} of {len(self._validation[name])} frames are '
                    'trained on; their accuracy is not that on other frames'
                )

    def prepare(self, stage: Stage, counts: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """Open a stage's frames, count their pixels and set up the losses."""
        sources = self._recipe.sources(stage)
        self._stage = stage
        self._training = [self._open(source) for source in sources]
        # Those without labels come last.
        self._labeled = len(sources) - len(self._recipe.unlabeled)
        self._prepare_teacher()
        if counts is None:
            counts = self._count(sources)
        self._weights = None
        if stage.loss.weight_offset is not None:
            if not counts.any():
                raise ValueError(
                    f'loss.weight_offset is {stage.loss.weight_offset}; without labeled frames it '
                    'must be null'
                )
            weights = class_weights(counts, stage.loss.weight_offset)
            self._weights = weights.to(self._processes.device)
        self.model.choose(stage.part, stage.loss.auxiliary > 0)
        return counts

    def read(self, number: int, index: int, rng: np.random.Generator) -> Example:
        """Read and augment a frame."""
        frame, favored = self._training[number][index], list[int]()
        if number < self._labeled:
            frame, favored = self._favor(frame, rng)
        pixels, labels, clean = augment(
            frame, self._stage.crop, self._stage.augmentation, rng, favored
        )
        return Example(pixels, labels, clean if self._asks else None)

    def _prepare_teacher(self) -> None:
        """Adapt the teacher to the unlabeled frames or have it label them, once."""
        options = self._recipe.teacher
        if options is None or self._teacher_is_ready:
            return
        assert self._teacher is not None
        unlabeled = self._training[self._labeled:]
        if options.adapt:
            self._teacher.adapt(_batches(unlabeled))
        if options.hard:
            for frames in unlabeled:
                assert isinstance(frames, RecordedFrames)
                frames.label(self._teacher.label, not self._processes.leads)
        self._teacher_is_ready = True

    def _favor(
        self, frame: LabeledFrame, rng: np.random.Generator
    ) -> tuple[LabeledFrame, list[int]]:
        """Paste rare objects at random; choose the classes of which the crop must have a pixel."""
        paste, balance = self._stage.paste, self._stage.balance
        if paste is not None and rng.random() < paste.probability:
            lengths = np.array(self.lengths()[:self._labeled])
            donors = int(rng.choice(self._labeled, p=lengths / lengths.sum()))
            donor = self._training[donors][int(rng.integers(lengths[donors]))]
            frame = paste_objects(frame, donor, self._ids(paste), paste, rng)
        is_favored = balance is not None and rng.random() < balance.probability
        return frame, self._ids(balance) if is_favored else []

    def _ids(self, part: Paste | Balance | None) -> list[int]:
        return [self.label_map.id_of(name) for name in part.classes] if part is not None else []

    def teach(self, images: Tensor) -> Tensor | None:
        """Compute the teacher's probabilities at half the size of the images."""
        if self._teacher is None:
            return None
        height, width = (-(-side // TEACHER_STRIDE) for side in images.shape[1:3])
        return self._teacher(images, (height, width))

    def losses(
        self, outputs: Sequence[Tensor], targets: Tensor, taught: Tensor | None = None
    ) -> list[Term]:
        """Compute the losses of logits (N, num_classes, h, w) and labels (N, H, W) uint8."""
        options = self._stage.loss
        labels = targets.long()
        scores = outputs[0].float()
        terms = []
        if taught is not None:
            assert self._teacher is not None
            every = slice(None, None, TEACHER_STRIDE)
            terms.append(self._teacher.compare(scores, taught, labels[:, every, every]))
        if self._stage.part == 'encoder':
            # The encoder learns at the resolution of its logits, as the authors train it.
            labels = _at_stride(labels, scores)
        else:
            size = labels.shape[1:]
            scores = functional.interpolate(
                scores, size=size, mode='bilinear', align_corners=True
            )
        one = scores.new_ones(())
        if options.cross_entropy:
            total, count = cross_entropy(
                scores,
                labels,
                self._weights,
                options.ohem,
                options.label_smoothing,
                options.boundary,
            )
            terms.append(Term(total, count, options.cross_entropy))
        if options.dice:
            terms.append(Term(dice(scores, labels), one, options.dice))
        if options.lovasz:
            few = slice(None, None, LOVASZ_STRIDE)
            total = lovasz_softmax(scores[:, :, few, few], labels[:, few, few])
            terms.append(Term(total, one, options.lovasz))
        if len(outputs) > 1:
            auxiliary = outputs[1].float()
            total, count = cross_entropy(
                auxiliary, _at_stride(labels, auxiliary), self._weights
            )
            terms.append(Term(total, count, options.auxiliary))
        return terms

    def save(
        self, model: nn.Module, path: Path, training: dict[str, Any], metrics: dict[str, Any]
    ) -> None:
        """Write a checkpoint in half precision."""
        save_checkpoint(self._checkpoint(model, training, metrics), path)

    def validate(self, model: nn.Module) -> dict[str, Validation]:
        """
        Measure a model as it would be saved, with the code that users run.

        While the encoder is trained alone, the untrained decoder is measured, so the last stage of
        a recipe should train `all`.
        """
        checkpoint = self._checkpoint(model, {}, {})
        segmenter = Segmenter(
            checkpoint,
            device=str(self._processes.device),
            backend='torch_eager',
            precision='fp32',
            networks=TRAINABLE,
        )
        found = {
            name: self._validate(segmenter, dataset, name)
            for name, dataset in self._validation.items()
        }
        for source in self._recipe.unlabeled:
            path = recording_path(source, self._root)
            found[path.name] = self._measure_consistency(segmenter, path, source.topic)
        return found

    def description(self) -> str:
        """Describe the frames of the stage, for metadata."""
        parts = []
        for source, dataset in zip(
            self._recipe.sources(self._stage), self._training, strict=True
        ):
            number = f'{source.per_epoch} an epoch of ' if source.per_epoch else ''
            if isinstance(source, Unlabeled):
                name = recording_path(source, self._root).name
                parts.append(f'{number}{len(dataset)} unlabeled frames of {name}')
                continue
            origin = f'{source.layout if self._root is None else self._root.name} {source.split}'
            if source.layout == 'synthetic':
                origin = 'synthetic streets'
            without = f' without {source.exclude}' if source.exclude else ''
            parts.append(f'{number}{len(dataset)} frames of {origin}{without}')
        return ', '.join(parts)

    def _open(self, source: Source | Unlabeled) -> Dataset:
        if source not in self._opened:
            size = self._recipe.input_size
            if isinstance(source, Unlabeled):
                frames = RecordedFrames(source, self._root, self.label_map, size)
                if frames.problems and self._processes.leads:
                    print(
                        f'{frames.path}: {len(frames.problems)} parts that cannot be read are '
                        f'left out, first: {frames.problems[0]}'
                    )
                self._opened[source] = frames
                return frames
            dataset = open_frames(source, self._root, self.label_map, size)
            self._opened[source] = CachedDataset(dataset) if source.cache else dataset
        return self._opened[source]

    def _count(self, sources: Sequence[Source | Unlabeled]) -> NDArray[np.float64]:
        counts = np.zeros(self.label_map.num_classes)
        problems = []
        for source in sources:
            if isinstance(source, Unlabeled) and self._asks:
                continue
            found = self._survey(source)
            # Parts of a recording that can't be read are left out, which has been said.
            if not isinstance(source, Unlabeled):
                problems += found.problems
            counts += found.pixels * ((source.per_epoch or found.frames) / found.frames)
        # Damaged files are reported before training, too.
        for source in self._recipe.validation.values():
            problems += self._survey(source).problems
        if problems:
            raise DatasetError(list_problems(problems))
        return counts

    def _survey(self, source: Source | Unlabeled) -> Survey:
        """Read all frames of a source, once."""
        if source not in self._surveys:
            self._surveys[source] = survey(self._open(source))
        return self._surveys[source]

    def _checkpoint(
        self, model: nn.Module, training: dict[str, Any], metrics: dict[str, Any]
    ) -> Checkpoint:
        assert isinstance(model, SegmentationModel)
        return Checkpoint(
            network=self._recipe.network,
            label_map=self.label_map,
            input_size=self._recipe.input_size,
            mean=model.network.MEAN,
            std=model.network.STD,
            state_dict=half_precision(model.network),
            training=training,
            metrics=metrics,
        )

    def _measure_consistency(
        self, segmenter: Segmenter, path: Path, topic: str | None
    ) -> Validation:
        """Count labels that flip from one frame of a recording to the next."""
        counter, flips, frames = FlipCounter(), Flips(), 0
        recording = itertools.islice(read_frames(path, topic, []), CONSISTENCY_FRAMES)
        for recorded in recording:
            result = segmenter.segment([recorded.frame], confidence=False, overlay=False)
            flips += counter.compare(recorded.frame, result.labels[0])
            frames += 1
        flipped = None if np.isnan(flips.share) else flips.share
        return Validation({'flipped': flipped, 'frames': frames}, metric='flipped')

    def _validate(self, segmenter: Segmenter, dataset: Dataset, name: str) -> Validation:
        processes = self._processes
        confusion, calibration = ConfusionMatrix(self.label_map), Calibration()
        results: list[FrameResult] = []
        for index in self._progress(dataset, name):
            frame = dataset[index]
            found = segmenter.segment([frame.pixels], confidence=True, overlay=False)
            assert found.confidence is not None
            labels = found.labels[0]
            calibration.update(frame.labels, labels, found.confidence[0])
            one = ConfusionMatrix(self.label_map)
            one.update(frame.labels, labels)
            confusion += one
            results.append(
                FrameResult(frame.name, one.miou(), frame.pixels, frame.labels, labels.copy())
            )
            if len(results) > 4 * FRAMES_SHOWN:
                results = _extremes(results)
        confusion.counts = processes.sum_counts(confusion.counts)
        counts = processes.sum_counts(np.stack([calibration.right, calibration.total]))
        calibration = Calibration(*counts)
        results = _extremes([r for part in processes.gather(_extremes(results)) for r in part])
        iou = [None if np.isnan(value) else float(value) for value in confusion.iou()]
        metrics = {
            'miou': confusion.miou(),
            'category_miou': confusion.category_miou(),
            'pixel_accuracy': confusion.pixel_accuracy(),
            'calibration_error': calibration.error(),
            'iou': dict(zip(self.label_map.names, iou, strict=True)),
            'frames': len(dataset),
            'frames_trained_on': self._trained_on[name],
        }
        return Validation(metrics, confusion, results)


def _batches(datasets: Sequence[Dataset]) -> Iterator[Tensor]:
    """Yield batches of frames, evenly spaced in all data sets of one frame size."""
    places = [(dataset, index) for dataset in datasets for index in range(len(dataset))]
    count = min(len(places), ADAPTATION_FRAMES)
    chosen = [places[len(places) * i // count] for i in range(count)]
    # The last batch is filled up.
    for start in range(0, count, ADAPTATION_BATCH):
        batch = [chosen[(start + i) % count] for i in range(ADAPTATION_BATCH)]
        yield torch.from_numpy(np.stack([dataset[index].pixels for dataset, index in batch]))


def _origins(dataset: Dataset) -> set[tuple[str, str]]:
    """Return folder and name of each frame, the same ones for all ways to write a path."""
    folder = lru_cache(os.path.realpath)
    sources = (os.path.split(dataset.source(index)) for index in range(len(dataset)))
    return {(folder(head), name) for head, name in sources}


def _at_stride(labels: Tensor, scores: Tensor) -> Tensor:
    """Take the label in the middle of each logit's cell."""
    height, width = scores.shape[2:]
    rows = torch.arange(height, device=labels.device) * 2 + 1
    columns = torch.arange(width, device=labels.device) * 2 + 1
    rows = rows * labels.shape[1] // (2 * height)
    columns = columns * labels.shape[2] // (2 * width)
    return labels[:, rows][:, :, columns]


def _extremes(results: list[FrameResult]) -> list[FrameResult]:
    """Keep the best and the worst frames."""
    if len(results) <= 2 * FRAMES_SHOWN:
        return results
    defined = [result for result in results if not np.isnan(result.miou)]
    best = heapq.nlargest(FRAMES_SHOWN, defined, key=lambda result: result.miou)
    worst = heapq.nsmallest(FRAMES_SHOWN, defined, key=lambda result: result.miou)
    return best + worst
