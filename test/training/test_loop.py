# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Tests of the training run, on frames so small that a step takes milliseconds."""

from dataclasses import asdict, replace
import math
from pathlib import Path
from typing import Any

from lednet_ros.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from lednet_ros.datasets import LabeledFrame, synthetic_frames
from lednet_ros.evaluation.dataset import evaluate
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.labels import LabelMap
from lednet_ros.models import build_network
from lednet_ros.training import loop
from lednet_ros.training.loop import class_weights, train, TrainingOptions
import numpy as np
import pytest
import torch
from torch import Tensor

CAMVID = LabelMap.load('camvid')
OPTIONS = TrainingOptions(
    epochs=3, batch_size=2, crop=(64, 64), input_size=(64, 96), synthetic=0, ema_decay=0.5
)


@pytest.fixture(scope='module')
def frames() -> list[LabeledFrame]:
    return list(synthetic_frames(4, (64, 96), seed=0))


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the loss of every step."""
    found: list[float] = []
    step = loop._step

    def record(*arguments: Tensor) -> Tensor:
        loss = step(*arguments)
        found.append(loss.item())
        return loss

    monkeypatch.setattr(loop, '_step', record)
    return found


def run(
    frames: list[LabeledFrame],
    output: Path,
    options: TrainingOptions = OPTIONS,
    **more: Any,
) -> Checkpoint:
    return train(frames, {'same': frames}, CAMVID, options, output, 'four streets', **more)


def same_weights(one: Checkpoint, two: Checkpoint) -> bool:
    return all(
        torch.equal(tensor, two.state_dict[key]) for key, tensor in one.state_dict.items()
    )


@pytest.mark.slow
def test_training_lowers_the_loss(
    frames: list[LabeledFrame], losses: list[float], tmp_path: Path
) -> None:
    run(frames, tmp_path, replace(OPTIONS, epochs=15, learning_rate=1e-2))
    assert len(losses) == 30
    # Random crops make single losses differ by a tenth; the mean must fall by more.
    assert np.mean(losses[-6:]) < 0.87 * np.mean(losses[:6])


def test_the_seed_decides_everything(frames: list[LabeledFrame], tmp_path: Path) -> None:
    options = replace(OPTIONS, epochs=1, synthetic=1)
    one = run(frames, tmp_path / 'one', options)
    two = run(frames, tmp_path / 'two', options)
    other = run(frames, tmp_path / 'other', replace(options, seed=1))
    assert same_weights(one, two)
    assert one.metrics == two.metrics
    assert not same_weights(one, other)


def test_an_interrupted_run_goes_on_where_it_was(
    frames: list[LabeledFrame],
    losses: list[float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unbroken = run(frames, tmp_path / 'unbroken')
    expected = losses.copy()
    losses.clear()

    def interrupt(*arguments: Tensor) -> Tensor:
        if len(losses) == 5:
            raise KeyboardInterrupt
        return record(*arguments)

    record = loop._step
    with monkeypatch.context() as patch:
        patch.setattr(loop, '_step', interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(frames, tmp_path / 'broken')
    assert list((tmp_path / 'broken').iterdir()) == [tmp_path / 'broken' / 'state.pt']
    assert losses == expected[:5]
    losses.clear()
    resumed = run(frames, tmp_path / 'broken', resume=True)
    # The third epoch, from its start, and nothing of the first two.
    assert losses == expected[4:]
    assert same_weights(resumed, unbroken)


def test_without_resume_a_run_starts_anew(
    frames: list[LabeledFrame], losses: list[float], tmp_path: Path
) -> None:
    options = replace(OPTIONS, epochs=1)
    run(frames, tmp_path, options)
    run(frames, tmp_path, options)
    assert len(losses) == 4
    assert losses[:2] == losses[2:]


def test_resume_without_a_state_starts_anew(
    frames: list[LabeledFrame], losses: list[float], tmp_path: Path
) -> None:
    run(frames, tmp_path, replace(OPTIONS, epochs=1), resume=True)
    assert len(losses) == 2


def test_a_run_can_start_from_weights(
    frames: list[LabeledFrame], losses: list[float], tmp_path: Path
) -> None:
    first = run(frames, tmp_path / 'first')
    fresh = losses[0]
    losses.clear()
    second = run(frames, tmp_path / 'second', initial=first)
    assert losses[0] < fresh
    assert second.training['initial'] == first.training


def test_weights_of_other_classes_are_no_start(
    frames: list[LabeledFrame], tmp_path: Path
) -> None:
    other = build_network('lednet', 5).state_dict()
    start = replace(run(frames, tmp_path, replace(OPTIONS, epochs=1)), state_dict=other)
    with pytest.raises(CheckpointError, match='do not fit'):
        run(frames, tmp_path, initial=start)


def test_a_state_of_another_run_is_refused(frames: list[LabeledFrame], tmp_path: Path) -> None:
    run(frames, tmp_path, replace(OPTIONS, epochs=1))
    with pytest.raises(CheckpointError, match='other options'):
        run(frames, tmp_path, replace(OPTIONS, epochs=1, learning_rate=0.5), resume=True)


def test_a_damaged_state_is_named(frames: list[LabeledFrame], tmp_path: Path) -> None:
    run(frames, tmp_path, replace(OPTIONS, epochs=1))
    state = tmp_path / 'state.pt'
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r'state\.pt'):
        run(frames, tmp_path, replace(OPTIONS, epochs=1), resume=True)


def test_the_checkpoint_says_what_it_is(frames: list[LabeledFrame], tmp_path: Path) -> None:
    options = replace(OPTIONS, epochs=1, seed=4)
    given = run(frames, tmp_path, options)
    loaded = load_checkpoint(tmp_path / 'checkpoint.safetensors')
    assert same_weights(loaded, given)
    assert loaded.network == 'lednet'
    assert loaded.label_map == CAMVID
    assert loaded.input_size == (64, 96)
    assert (loaded.mean, loaded.std) == (loop.MEAN, loop.STD)
    assert loaded.training['data'] == 'four streets'
    assert loaded.training['device'] == ('cuda' if torch.cuda.is_available() else 'cpu')
    found = loaded.training['options']
    assert found | {'crop': tuple(found['crop']), 'input_size': tuple(found['input_size'])} == (
        asdict(options)
    )
    kinds = {tensor.dtype for tensor in loaded.state_dict.values()}
    assert kinds == {torch.float16, torch.int64}


def test_the_metrics_are_those_of_the_file(frames: list[LabeledFrame], tmp_path: Path) -> None:
    run(frames, tmp_path, replace(OPTIONS, epochs=1))
    path = tmp_path / 'checkpoint.safetensors'
    measured = load_checkpoint(path).metrics['same']
    confusion = evaluate(Segmenter.from_checkpoint(path, precision='fp32'), frames).confusion
    assert measured['miou'] == pytest.approx(confusion.miou())
    assert measured['pixel_accuracy'] == pytest.approx(confusion.pixel_accuracy())
    assert measured['frames'] == 4
    for name, value in zip(CAMVID.names, confusion.iou(), strict=True):
        assert measured['iou'][name] == (None if math.isnan(value) else pytest.approx(value))


@pytest.mark.parametrize('batch_size', [0, 1, 5])
def test_a_batch_that_cannot_work_is_named(
    frames: list[LabeledFrame], losses: list[float], tmp_path: Path, batch_size: int
) -> None:
    with pytest.raises(ValueError, match=f'batch_size is {batch_size}; it must be 2 .* 4'):
        run(frames, tmp_path, replace(OPTIONS, batch_size=batch_size))
    assert not losses


def test_an_output_below_a_file_fails_before_training(
    frames: list[LabeledFrame], losses: list[float], tmp_path: Path
) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(OSError, match='file/output'):
        run(frames, tmp_path / 'file' / 'output')
    assert not losses


def test_rare_classes_weigh_more() -> None:
    labels = np.full((10, 10), 255, np.uint8)
    labels.ravel()[:8] = 3
    labels.ravel()[8:10] = 8
    frame = LabeledFrame('a', np.zeros((10, 10, 3), np.uint8), labels)
    weights = class_weights([frame, frame], CAMVID, 1.02)
    assert weights.shape == (11,)
    assert weights.dtype == torch.float32
    assert weights[3].item() == pytest.approx(1 / math.log(1.02 + 0.8))
    assert weights[8].item() == pytest.approx(1 / math.log(1.02 + 0.2))
    assert weights[0].item() == pytest.approx(1 / math.log(1.02))
