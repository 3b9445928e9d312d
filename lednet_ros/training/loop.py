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
The training loop: stages, epochs, steps; averaged weights; a state to resume from.

The result of a run is a function of its recipe, its data and the number of processes: the random
generators of each epoch are seeded by the recipe's seed and the epoch's number, so that a resumed
run repeats an uninterrupted one.
"""

from collections.abc import Iterator
import copy
import itertools
import math
from pathlib import Path
import pickle
import time
from typing import Any

from lednet_ros import __version__
from lednet_ros.checkpoint import CheckpointError
from lednet_ros.evaluation.report import frame_picture, write_report
from lednet_ros.files import atomic_path, claim_files
from lednet_ros.inference.preprocess import normalize
from lednet_ros.machine import describe_processor, usable_cores
from lednet_ros.training.classification import ClassificationTask
from lednet_ros.training.data import Batch, batches, Crops, epoch_order, epoch_size
from lednet_ros.training.distributed import join_processes, Processes, synchronize_batch_norm
from lednet_ros.training.precision import has_bf16
from lednet_ros.training.recipe import Optimizer, Recipe, Schedule, Stage
from lednet_ros.training.run_log import HISTORY_NAME, Row, RunLog
from lednet_ros.training.segmentation import SegmentationTask
from lednet_ros.training.start import ENCODER
from lednet_ros.training.task import Task, Validation
import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn, Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from tqdm import tqdm
import yaml

STATE_NAME = 'state.pt'
REPORT_NAME = 'report.html'
# Number of batches from which BatchNorm statistics of averaged weights are estimated.
STATISTICS_BATCHES = 40
# Options that may differ between a run and its continuation: they change the result by rounding
# at most.
FREE_OPTIONS = {'precision', 'workers'}


class TrainingError(RuntimeError):
    """Training can't continue; the message names the step and the files of its batch."""


def train(
    recipe: Recipe,
    root: Path | None,
    output: Path,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """
    Train what a recipe describes.

    Writes into `output` after each validation `checkpoint.safetensors` (or, for classification,
    `encoder.safetensors`) with its measured accuracy; after each epoch `state.pt`, `history.csv`
    and TensorBoard's files; at the start `recipe.yaml`; at the end `report.html`.

    Parameters
    ----------
    recipe
        The recipe.
    root
        Folder of sources that don't name one; None if all do.
    output
        Folder for the results.
    resume
        Continue from the state in `output` if there is one.
    overwrite
        Allow to replace an earlier run's results.

    Returns
    -------
    dict
        Metrics by the name of the validation source.

    Raises
    ------
    OSError
        The folder can't be written, or holds the results of an earlier run.
    CheckpointError
        The state to resume from is damaged or of another recipe, or the weights to start from do
        not fit.
    DatasetError
        Frames are missing, damaged or don't belong together.
    TrainingError
        The loss is not finite.
    ValueError
        Parts of the recipe contradict each other or the data.

    """
    with join_processes() as processes:
        return _Run(recipe, root, output, processes).run(resume, overwrite)


def build_optimizer(network: nn.Module, options: Optimizer) -> torch.optim.Optimizer:
    """
    Create the optimizer of the parameters that need gradients.

    Except for Adam, biases and normalizations form groups of parameters that don't decay. With
    `encoder_rate`, the encoder's parameters form groups of their own. Each group's `lr` is its
    highest learning rate.
    """
    encoder: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            is_apart = options.encoder_rate is not None and ENCODER in name
            (encoder if is_apart else others).append(parameter)
    decay = options.weight_decay
    groups: list[dict[str, Any]] = []
    for rate, parameters in ((options.encoder_rate, encoder), (options.rate, others)):
        if not parameters:
            continue
        if options.name == 'adam':
            groups.append({'params': parameters, 'weight_decay': decay, 'lr': rate})
            continue
        weights = [p for p in parameters if p.ndim > 1]
        vectors = [p for p in parameters if p.ndim <= 1]
        groups.append({'params': weights, 'weight_decay': decay, 'lr': rate})
        groups.append({'params': vectors, 'weight_decay': 0.0, 'lr': rate})
    if options.name == 'adam':
        return torch.optim.Adam(groups, options.rate)
    if options.name == 'adamw':
        return torch.optim.AdamW(groups, options.rate)
    return torch.optim.SGD(
        groups, options.rate, momentum=options.momentum, nesterov=options.momentum > 0
    )


def rate_factor(options: Schedule, step: int, steps: int) -> float:
    """Compute the learning rate of a step (0 to `steps` - 1) as a fraction of the highest one."""
    if step < options.slow_steps:
        return options.slow_factor
    rising = int(options.warm_up * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    left = 1 - (step - rising) / (steps - rising)
    if options.name == 'poly':
        return float(left**options.power)
    if options.name == 'cosine':
        return 0.5 - 0.5 * math.cos(math.pi * left)
    return 1.0


class _Run:
    """One process of a training run."""

    def __init__(
        self, recipe: Recipe, root: Path | None, output: Path, processes: Processes
    ) -> None:
        for stage in recipe.stages:
            if stage.batch_size % processes.count or stage.batch_size < 2 * processes.count:
                raise ValueError(
                    f'batch_size is {stage.batch_size}; it must be a multiple of the number of '
                    f'processes, {processes.count}, and at least twice as large'
                )
        self.recipe = recipe
        self.output = output
        self.processes = processes
        # PyTorch sees the cores of the machine, not what a container may use of them.
        torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))
        device = processes.device
        name = describe_processor() if device.type == 'cpu' else torch.cuda.get_device_name(device)
        self.hardware = f'{processes.count} x {name}'
        torch.manual_seed(recipe.seed)
        task = SegmentationTask if recipe.task == 'segmentation' else ClassificationTask
        self.task: Task = task(recipe, root, processes)
        if processes.leads and not has_bf16(device):
            print(f'precision: {self.task.precision}; {name} has no bf16 arithmetic')
        if self.task.reinitialized and processes.leads:
            sources, names = ', '.join(recipe.initials), ', '.join(self.task.reinitialized)
            print(
                f'{sources}: {len(self.task.reinitialized)} tensors are missing or have another '
                f'shape and are reinitialized: {names}'
            )
        model = self.task.model
        if processes.count > 1:
            synchronize_batch_norm(model, processes.device)
        model.to(processes.device)
        if recipe.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average: AveragedModel | None = None
        if recipe.ema is not None:
            self.average = AveragedModel(
                model,
                multi_avg_fn=get_ema_multi_avg_fn(recipe.ema),  # type: ignore[no-untyped-call]
                use_buffers=True,
            )

    def run(self, resume: bool, overwrite: bool) -> dict[str, Any]:
        """Run all stages that are left."""
        if self.processes.leads:
            names = ('recipe.yaml', STATE_NAME, HISTORY_NAME, REPORT_NAME, self.task.output_name)
            sources = list(self.recipe.initials)
            if self.recipe.teacher is not None:
                sources.append(self.recipe.teacher.source)
            inputs = [] if resume else [Path(source) for source in sources]
            claim_files([self.output / name for name in names], inputs, resume or overwrite)
        state: dict[str, Any] = {'epoch': 0, 'rows': [], 'counts': None, 'optimizer': None}
        if resume and (self.output / STATE_NAME).is_file():
            state = self._load_state()
        else:
            # What a later stage lacks is said now, not after hours.
            for stage in self.recipe.stages:
                if stage.epochs:
                    self._prepare(stage, None)
                    self._count_steps()
            if self.processes.leads:
                with atomic_path(self.output / 'recipe.yaml') as temporary:
                    text = yaml.safe_dump(self.recipe.model_dump(mode='json'), sort_keys=False)
                    temporary.write_text(text, encoding='utf-8')
        self.log = RunLog(self.output, state['rows']) if self.processes.leads else None
        found: dict[str, Validation] = {}
        self.before: dict[str, Any] = state.get('before', {})
        try:
            first = 0
            if not state['epoch'] and self.recipe.unlabeled and self.recipe.initials:
                untrained = self.task.validate(self.task.model)
                self.before = {name: found.metrics for name, found in untrained.items()}
            for number, stage in enumerate(self.recipe.stages):
                last = first + stage.epochs
                if state['epoch'] < last:
                    found = self._run_stage(number, stage, first, state)
                    state |= {'epoch': last, 'counts': None, 'optimizer': None}
                first = last
            if not found:
                self._prepare(next(s for s in reversed(self.recipe.stages) if s.epochs), None)
                found = self._validate(self.recipe.epochs - 1, 0.0)
            if self.log is not None:
                self._report(self.log.rows, found)
        finally:
            if self.log is not None:
                self.log.close()
        return self._metrics(found)

    def _metrics(self, found: dict[str, Validation]) -> dict[str, Any]:
        """Return the metrics by the name of their source, after those before the training."""
        after = {name: validation.metrics for name, validation in found.items()}
        return {f'{name} before': metrics for name, metrics in self.before.items()} | after

    def _run_stage(
        self, number: int, stage: Stage, first: int, state: dict[str, Any]
    ) -> dict[str, Validation]:
        """Run the epochs of a stage that are left; return the last validation."""
        counts = self._prepare(stage, state['counts'])
        steps = self._count_steps()
        optimizer = build_optimizer(self.task.model, stage.optimizer)
        self.rates = [group['lr'] for group in optimizer.param_groups]
        if state['optimizer'] is not None:
            optimizer.load_state_dict(state['optimizer'])
        model = self.task.model
        if self.processes.count > 1:
            model = DistributedDataParallel(model)
        if self.recipe.compile:
            model = torch.compile(model)  # type: ignore[assignment]
        found: dict[str, Validation] = {}
        for epoch in range(max(first, state['epoch']), first + stage.epochs):
            start = time.monotonic()
            loss, rate = self._run_epoch(model, optimizer, epoch, epoch - first, steps)
            seconds = time.monotonic() - start
            row: Row = {
                'epoch': epoch + 1,
                'stage': number,
                'loss': loss,
                'rate': rate,
                'images_per_s': steps * stage.batch_size / seconds,
                'seconds': seconds,
            }
            done = epoch + 1 - first
            if done % stage.validate_every == 0 or epoch + 1 == self.recipe.epochs:
                found = self._validate(epoch, seconds)
                for name, validation in found.items():
                    row[f'{name}_{validation.metric}'] = validation.metrics[validation.metric]
            if self.log is not None:
                rows = [*self.log.rows, row]
                unfinished = optimizer if done < stage.epochs else None
                self._save_state(epoch + 1, rows, unfinished, counts)
                self.log.add(row)
        return found

    def _prepare(self, stage: Stage, counts: list[float] | None) -> NDArray[np.float64]:
        self.stage = stage
        self.sources = self.recipe.sources(stage)
        return self.task.prepare(stage, None if counts is None else np.asarray(counts))

    def _count_steps(self) -> int:
        """Count the steps of an epoch of the prepared stage; raise ValueError without one."""
        frames = epoch_size(self.task.lengths(), self.sources)
        steps = frames // self.stage.batch_size
        if not steps:
            number = self.recipe.stages.index(self.stage)
            raise ValueError(
                f'stages.{number}.batch_size is {self.stage.batch_size}; an epoch of this stage '
                f'has only {frames} frames'
            )
        return steps

    def _run_epoch(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        epoch: int,
        epoch_of_stage: int,
        steps: int,
    ) -> tuple[float, float]:
        """Run an epoch; return its mean loss and last learning rate."""
        stage, processes = self.stage, self.processes
        # Dropout differs between processes, and is the same when an epoch is run again.
        torch.manual_seed((self.recipe.seed * 10007 + epoch) * 1009 + processes.rank)
        self.task.model.train()
        progress = tqdm(
            total=steps * stage.batch_size,
            desc=f'epoch {epoch + 1}/{self.recipe.epochs}',
            unit='image',
            disable=not processes.leads,
        )
        total_steps = steps * stage.epochs
        losses: list[float] = []
        waiting: tuple[Tensor, Batch] | None = None
        start = time.monotonic()
        self.teacher_seconds = 0.0
        with progress:
            for step, batch in enumerate(self._batches(epoch)):
                done = epoch_of_stage * steps + step
                factor = rate_factor(stage.schedule, done, total_steps)
                rate = stage.optimizer.rate * factor
                for group, highest in zip(optimizer.param_groups, self.rates, strict=True):
                    group['lr'] = highest * factor
                loss = self._loss(model, batch)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                if stage.optimizer.clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), stage.optimizer.clip)
                optimizer.step()
                if self.average is not None:
                    self.average.update_parameters(self.task.model)
                # Check the previous step's loss: waiting for this one would idle a GPU.
                if waiting is not None:
                    losses.append(self._finite(*waiting, epoch, step - 1))
                waiting = (loss.detach(), batch)
                progress.update(stage.batch_size)
                if losses:
                    left = (time.monotonic() - start) / (step + 1) * (total_steps - done - 1)
                    shown = {'loss': f'{losses[-1]:.3f}', 'rate': f'{rate:.2g}'}
                    if self.teacher_seconds:
                        fraction = self.teacher_seconds / (time.monotonic() - start)
                        shown['teacher'] = f'{fraction:.0%}'
                    shown['stage_left'] = tqdm.format_interval(left)
                    progress.set_postfix(shown)
        assert waiting is not None
        losses.append(self._finite(*waiting, epoch, steps - 1))
        mean = sum(losses) / len(losses)
        return float(np.mean(processes.gather(mean))), rate

    def _batches(self, epoch: int) -> Iterator[Batch]:
        seed = self.recipe.seed
        order = epoch_order(self.task.lengths(), self.sources, seed, epoch)
        return batches(
            Crops(self.task.read, seed, epoch),
            order,
            self.stage.batch_size,
            self.processes.rank,
            self.processes.count,
            self.recipe.workers,
        )

    def _images(self, images: Tensor) -> Tensor:
        normalized = normalize(images, self.task.mean, self.task.std)
        return normalized if self.recipe.channels_last else normalized.contiguous()

    def _loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Scale the loss: its gradient, averaged over processes, is that of the joint batch."""
        device = self.processes.device
        images = batch.images.to(device, non_blocking=True)
        taught = self._teach(batch.clean)
        with torch.autocast(device.type, torch.bfloat16, self.task.precision == 'bf16'):
            outputs = model(self._images(images))
        terms = self.task.losses(outputs, batch.targets.to(device, non_blocking=True), taught)
        counts = self.processes.sum(torch.stack([term.count.float() for term in terms]))
        counts = counts / self.processes.count
        parts = [
            term.factor * term.total / count.clamp(min=1e-6)
            for term, count in zip(terms, counts, strict=True)
        ]
        return torch.stack(parts).sum()

    def _teach(self, clean: Tensor | None) -> Tensor | None:
        """Ask the teacher, and time it."""
        if clean is None:
            return None
        images = clean.to(self.processes.device, non_blocking=True)

        def wait() -> None:
            # A GPU may still be busy with what came before.
            if images.is_cuda:
                torch.cuda.synchronize(images.device)

        wait()
        start = time.monotonic()
        taught = self.task.teach(images)
        wait()
        self.teacher_seconds += time.monotonic() - start
        return taught

    def _finite(self, loss: Tensor, batch: Batch, epoch: int, step: int) -> float:
        value = float(loss)
        if np.isfinite(value):
            return value
        files = '\n  '.join(self.task.source(number, index) for _, number, index in batch.picked)
        raise TrainingError(
            f'loss is {value} at step {step + 1} of epoch {epoch + 1}; the last epoch before it '
            f'is in {self.output}; lower stages.N.optimizer.rate, or look at this batch:\n'
            f'  {files}'
        )

    def _validate(self, epoch: int, seconds: float) -> dict[str, Validation]:
        """Measure and save the weights, after so many seconds that are not logged yet."""
        model = self.task.model if self.average is None else self._averaged()
        found = self.task.validate(model)
        metrics = self._metrics(found)
        if self.log is not None:
            training = {
                'data': self.task.description(),
                'recipe': self.recipe.model_dump(mode='json'),
                'epochs': epoch + 1,
                'hardware': self.hardware,
                'threads': torch.get_num_threads(),
                'precision': self.task.precision,
                'seconds': round(
                    seconds + sum(float(row['seconds'] or 0) for row in self.log.rows)
                ),
                'lednet_ros': __version__,
                'torch': torch.__version__,
                'initial': self.task.started_from,
                'teacher': self.task.teacher,
            }
            self.task.save(model, self.output / self.task.output_name, training, metrics)
            for name, validation in found.items():
                if validation.confusion is not None:
                    label_map = validation.confusion.label_map
                    images = [frame_picture(frame, label_map) for frame in validation.frames]
                    self.log.images(name, epoch + 1, images)
        return found

    def _averaged(self) -> nn.Module:
        """Return the averaged weights with BatchNorm statistics estimated for them."""
        assert self.average is not None
        model = copy.deepcopy(self.average.module)
        torch.manual_seed(self.recipe.seed)
        # Crops of the epoch after the last one, which training doesn't use.
        crops = itertools.islice(self._batches(self.recipe.epochs), STATISTICS_BATCHES)
        device = self.processes.device
        with torch.autocast(device.type, torch.bfloat16, self.task.precision == 'bf16'):
            update_bn((self._images(batch.images.to(device)) for batch in crops), model)
        return model

    def _save_state(
        self,
        epoch: int,
        rows: list[Row],
        optimizer: torch.optim.Optimizer | None,
        counts: NDArray[np.float64],
    ) -> None:
        state = {
            'recipe': _fixed_options(self.recipe),
            'epoch': epoch,
            'rows': rows,
            'counts': counts.tolist() if optimizer is not None else None,
            'optimizer': None if optimizer is None else optimizer.state_dict(),
            'model': self.task.model.state_dict(),
            'average': None if self.average is None else self.average.state_dict(),
            'before': self.before,
        }
        with atomic_path(self.output / STATE_NAME) as temporary:
            torch.save(state, temporary)

    def _load_state(self) -> dict[str, Any]:
        path = self.output / STATE_NAME
        try:
            state: dict[str, Any] = torch.load(
                path, weights_only=True, map_location=self.processes.device
            )
            now = _fixed_options(self.recipe)
            # Options added since the run began had their defaults.
            before = _fixed_options(Recipe.model_validate(state['recipe']))
            different = [key for key in before | now if before.get(key) != now.get(key)]
            if different:
                raise CheckpointError(
                    f'{path}: is of a run with another recipe '
                    f"(differs in: {', '.join(different)}); "
                    f'choose another --output, or the recipe in {self.output}/recipe.yaml'
                )
            self.task.model.load_state_dict(state['model'])
            if self.average is not None:
                self.average.load_state_dict(state['average'])
        except CheckpointError:
            raise
        except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
            raise CheckpointError(f'{path}: not a readable training state: {error}') from error
        return state

    def _report(self, rows: list[Row], found: dict[str, Validation]) -> None:
        details = {
            'data': self.task.description(),
            'recipe': yaml.safe_dump(self.recipe.model_dump(mode='json'), sort_keys=False),
            'hardware': self.hardware,
            'lednet_ros': __version__,
            'torch': torch.__version__,
        }
        if self.before:
            details['before the training'] = ', '.join(
                f'{name}: {found[name].metric} {metrics[found[name].metric]}'
                for name, metrics in self.before.items()
            )
        for name, validation in found.items():
            if count := validation.metrics.get('frames_trained_on'):
                details[f'frames of {name} that are trained on'] = str(count)
        write_report(
            self.output / REPORT_NAME,
            f'Training of {self.recipe.network}',
            rows,
            {n: v.confusion for n, v in found.items() if v.confusion is not None},
            {n: v.frames for n, v in found.items() if v.frames},
            details,
        )


def _fixed_options(recipe: Recipe) -> dict[str, Any]:
    """Return what must not change when a run is resumed."""
    return recipe.model_dump(mode='json', exclude=FREE_OPTIONS)
