# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A plain training run: frames in memory, AdamW, one cycle, weighted loss, averaged weights."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
import pickle
from typing import Any

from lednet_ros import __version__
from lednet_ros.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_weights,
    save_checkpoint,
)
from lednet_ros.datasets import LabeledFrame, synthetic_frames
from lednet_ros.evaluation.metrics import ConfusionMatrix
from lednet_ros.files import atomic_path, make_folder
from lednet_ros.inference.preprocess import normalize
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.labels import LabelMap, UNLABELED
from lednet_ros.models import build_network, LEDNet
from lednet_ros.training.augment import augment
import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from tqdm import tqdm

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# Seeds of validation streets start here; training streets stay below.
VALIDATION_SEED = 1 << 20
FRAMES_PER_STREET = 4


@dataclass(frozen=True)
class TrainingOptions:
    """
    What to train and how long.

    Attributes
    ----------
    network
        A key of `lednet_ros.models.NETWORKS`.
    epochs, batch_size, learning_rate, weight_decay
        As usual; the rate rises and falls in one cycle over all epochs.
    crop
        Height and width of the training crops.
    input_size
        Height and width that the checkpoint is for; synthetic frames are drawn at it.
    synthetic
        New synthetic frames for each epoch.
    weight_offset
        Softness of the class weights, see `class_weights`: the nearer to 1, the more rare classes
        count (1.02 in the ENet paper).
    ema_decay
        Decay of the averaged weights, which are the ones that are saved.
    seed
        Seed of weights, order, augmentation and synthetic streets.

    """

    network: str = 'lednet'
    epochs: int = 60
    batch_size: int = 8
    learning_rate: float = 4e-3
    weight_decay: float = 1e-4
    crop: tuple[int, int] = (256, 352)
    input_size: tuple[int, int] = (360, 480)
    synthetic: int = 160
    weight_offset: float = 1.1
    ema_decay: float = 0.995
    seed: int = 0


def train(
    frames: Sequence[LabeledFrame],
    validation: Mapping[str, Sequence[LabeledFrame]],
    label_map: LabelMap,
    options: TrainingOptions,
    output: Path,
    description: str,
    initial: Checkpoint | None = None,
    resume: bool = False,
) -> Checkpoint:
    """
    Train a network and write `OUTPUT/checkpoint.safetensors` with its measured accuracy.

    Parameters
    ----------
    frames
        Training frames.
    validation
        Frames to measure the result on, by the name that the metrics get.
    label_map
        The classes.
    options
        What to train and how long.
    output
        Folder for the checkpoint and the state to resume from, written after each epoch.
    description
        What the data are, for the checkpoint's metadata.
    initial
        Weights to start from, of the same network and number of classes; None draws them.
    resume
        Go on from the state in `output` if there is one.

    Returns
    -------
    Checkpoint
        The averaged weights, in half precision, with metrics.

    Raises
    ------
    OSError
        The folder can't be written.
    ValueError
        There are fewer frames than one batch needs, or a batch of one.
    CheckpointError
        The state to resume from is damaged or of a run with other options, or the weights to
        start from do not fit.

    """
    pool_size = len(frames) + options.synthetic
    if not 2 <= options.batch_size <= pool_size:
        raise ValueError(
            f'batch_size is {options.batch_size}; it must be 2 (for BatchNorm) to the number of '
            f'frames an epoch, {pool_size}'
        )
    steps_per_epoch = pool_size // options.batch_size
    # Fails now rather than after the first epoch.
    make_folder(output)
    torch.manual_seed(options.seed)
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    network = build_network(options.network, label_map.num_classes)
    if initial is not None:
        load_weights(network, initial.state_dict, 'weights to start from')
    network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = AveragedModel(
        network,
        multi_avg_fn=get_ema_multi_avg_fn(options.ema_decay),  # type: ignore[no-untyped-call]
        use_buffers=True,
    )
    optimizer = torch.optim.AdamW(
        network.parameters(), options.learning_rate, weight_decay=options.weight_decay
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, total_steps=options.epochs * steps_per_epoch
    )
    sample = [*frames, *_streets(options, options.epochs)]
    weights = class_weights(sample, label_map, options.weight_offset).to(device)
    state_file = output / 'state.pt'
    parts: dict[str, Any] = {
        'network': network,
        'average': average,
        'optimizer': optimizer,
        'scheduler': scheduler,
    }
    first = _load_state(state_file, parts, options) if resume and state_file.is_file() else 0

    for epoch in range(first, options.epochs):
        # Seeded anew, dropout included: a resumed run repeats what an unbroken one does.
        rng = np.random.default_rng((options.seed, epoch))
        torch.manual_seed(options.seed * 1000 + epoch)
        pool = [*frames, *_streets(options, epoch)]
        order = rng.permutation(len(pool))
        progress = tqdm(range(steps_per_epoch), desc=f'epoch {epoch + 1}/{options.epochs}')
        network.train()
        for step in progress:
            start = step * options.batch_size
            picked = order[start:start + options.batch_size]
            images, labels = _batch([pool[i] for i in picked], options.crop, rng, device)
            loss = _step(network, images, labels, weights)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            scheduler.step()
            average.update_parameters(network)
            progress.set_postfix(loss=f'{loss.item():.3f}')
        state = {name: part.state_dict() for name, part in parts.items()}
        with atomic_path(state_file) as temporary:
            torch.save(state | {'epoch': epoch + 1, 'options': asdict(options)}, temporary)

    # Statistics of averaged weights are not the average of the statistics.
    torch.manual_seed(options.seed)
    crops = _crops([*frames, *_streets(options, options.epochs)], options, device)
    update_bn(tqdm(crops, desc='batch norm', total=steps_per_epoch), average)
    checkpoint = Checkpoint(
        network=options.network,
        label_map=label_map,
        input_size=options.input_size,
        mean=MEAN,
        std=STD,
        state_dict={
            # Counters of BatchNorm stay integers.
            key: tensor.half() if tensor.is_floating_point() else tensor
            for key, tensor in average.module.cpu().state_dict().items()
        },
        training={
            'data': description,
            'options': asdict(options),
            'lednet_ros': __version__,
            'torch': torch.__version__,
            'device': device.type,
            'initial': None if initial is None else initial.training,
        },
    )
    for name, validation_frames in validation.items():
        checkpoint.metrics[name] = _measure(checkpoint, validation_frames)
    save_checkpoint(checkpoint, output / 'checkpoint.safetensors')
    return checkpoint


def class_weights(
    frames: Sequence[LabeledFrame], label_map: LabelMap, offset: float
) -> Tensor:
    """
    Weight classes by rarity: `1 / log(offset + share of pixels)` (ENet paper, section 5.2).

    Parameters
    ----------
    frames
        The frames to count.
    label_map
        The classes.
    offset
        Above 1; the smaller, the more rare classes count.

    Returns
    -------
    Tensor
        (num_classes,) float32.

    """
    counts = sum(np.bincount(frame.labels.ravel(), minlength=256) for frame in frames)
    classes: NDArray[np.float64] = np.asarray(counts, np.float64)[: label_map.num_classes]
    share = classes / classes.sum()
    return torch.from_numpy(1 / np.log(offset + share)).float()


def _streets(options: TrainingOptions, epoch: int) -> list[LabeledFrame]:
    seed = options.seed * 1000 + epoch
    return list(
        synthetic_frames(options.synthetic, options.input_size, seed, FRAMES_PER_STREET)
    )


def _batch(
    frames: Sequence[LabeledFrame],
    crop: tuple[int, int],
    rng: np.random.Generator,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    crops = [augment(frame, crop, rng) for frame in frames]
    images = torch.from_numpy(np.stack([pixels for pixels, _ in crops])).to(device)
    labels = torch.from_numpy(np.stack([labels for _, labels in crops])).to(device)
    return normalize(images, MEAN, STD), labels.long()


def _load_state(path: Path, parts: Mapping[str, Any], options: TrainingOptions) -> int:
    """Restore all parts and give the number of epochs that are done."""
    try:
        state = torch.load(path, weights_only=True)
        if state['options'] != asdict(options):
            raise CheckpointError(
                f"{path}: is of a run with other options, {state['options']}; "
                f'now: {asdict(options)}'
            )
        for name, part in parts.items():
            part.load_state_dict(state[name])
        return int(state['epoch'])
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f'{path}: not a readable training state: {error}') from error


def _crops(
    pool: Sequence[LabeledFrame], options: TrainingOptions, device: torch.device
) -> Iterator[Tensor]:
    rng = np.random.default_rng(options.seed)
    order = rng.permutation(len(pool))
    size = options.batch_size
    for start in range(0, len(pool) - size + 1, size):
        frames = [pool[i] for i in order[start:start + size]]
        yield _batch(frames, options.crop, rng, device)[0]


def _step(network: LEDNet, images: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    with torch.autocast(images.device.type, torch.bfloat16):
        scores = network.scores(images)
    full = functional.interpolate(
        scores.float(), size=labels.shape[1:], mode='bilinear', align_corners=True
    )
    return functional.cross_entropy(full, labels, weights, ignore_index=UNLABELED)


def _measure(checkpoint: Checkpoint, frames: Sequence[LabeledFrame]) -> dict[str, object]:
    segmenter = Segmenter(checkpoint, precision='fp32')
    confusion = ConfusionMatrix(checkpoint.label_map)
    for frame in tqdm(frames, desc='measure'):
        result = segmenter.segment([frame.pixels], confidence=False, overlay=False)
        confusion.update(frame.labels, result.labels[0])
    iou = confusion.iou()
    return {
        'miou': confusion.miou(),
        'pixel_accuracy': confusion.pixel_accuracy(),
        'iou': {
            name: None if np.isnan(value) else float(value)
            for name, value in zip(checkpoint.label_map.names, iou, strict=True)
        },
        'frames': len(frames),
    }
