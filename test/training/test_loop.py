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

"""Tests of training runs, on frames so small that a step takes milliseconds."""

from collections.abc import Callable
import csv
from pathlib import Path
import resource
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

from lednet_ros.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from lednet_ros.cli.main import main
from lednet_ros.datasets import DatasetError
from lednet_ros.evaluation.report import write_report
from lednet_ros.labels import LabelMap, LabelMapError
from lednet_ros.training import loop
from lednet_ros.training.loop import train, TrainingError
from lednet_ros.training.recipe import Recipe
import numpy as np
import pytest
import tiny_network
from tiny_network import UNCHANGED
import torch
import yaml

STREETS = {'layout': 'synthetic', 'frames': 4}
STAGE: dict[str, Any] = {
    'epochs': 3,
    'batch_size': 2,
    'crop': [64, 64],
    'optimizer': {'name': 'adamw', 'rate': 1e-3},
    'validate_every': 10,
}
CONTENT: dict[str, Any] = {
    'network': 'tiny',
    'input_size': [64, 96],
    'ema': 0.5,
    'train': [STREETS],
    'validation': {'same': STREETS},
    'stages': [STAGE],
}


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the report: drawing it takes longer than the rest of such a small run."""
    monkeypatch.setattr(loop, 'write_report', lambda *_: None)


def make_recipe(stage: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    stages = [STAGE | (stage or {})]
    return Recipe.model_validate(CONTENT | {'stages': stages} | changes)


def read_history(output: Path) -> list[dict[str, str]]:
    with (output / 'history.csv').open(encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


def read_losses(output: Path) -> list[str]:
    return [row['loss'] for row in read_history(output)]


def same_weights(one: Path, two: Path) -> bool:
    first, second = (
        load_checkpoint(folder / 'checkpoint.safetensors').state_dict for folder in (one, two)
    )
    return all(torch.equal(tensor, second[key]) for key, tensor in first.items())


def command(recipe: Recipe, output: Path, *options: str) -> list[str]:
    """Write the recipe beside the output, and return the command that runs it."""
    path = output.parent / f'{output.name}.yaml'
    path.write_text(yaml.safe_dump(recipe.model_dump(mode='json')), encoding='utf-8')
    arguments = ['train', str(path), '--output', str(output), *options]
    return [sys.executable, tiny_network.__file__, *arguments]


@pytest.mark.parametrize(
    'part',
    [
        {'paste': {'classes': ['car', 'pole'], 'probability': 1, 'min_pixels': 1}},
        {'balance': {'classes': ['sky'], 'probability': 1}},
    ],
)
def test_rare_classes_are_seen_more_often(part: dict[str, Any], tmp_path: Path) -> None:
    train(make_recipe({'epochs': 1}), None, tmp_path / 'plain')
    train(make_recipe({'epochs': 1, **part}), None, tmp_path / 'often')
    assert read_losses(tmp_path / 'plain') != read_losses(tmp_path / 'often')
    ((name, options),) = part.items()
    unknown = make_recipe({name: options | {'classes': ['cow']}})
    with pytest.raises(LabelMapError, match="unknown class 'cow'"):
        train(unknown, None, tmp_path / 'unknown')


# --- results of a run -----------------------------------------------------------------------


@pytest.mark.slow
def test_training_from_nothing_fits_twenty_images(camvid: Path, tmp_path: Path) -> None:
    """Overfit 20 real frames at half size to 90 % of the pixels."""
    few = {'layout': 'folder', 'split': 'train', 'include': '0016E5_00[4-9]*', 'cache': True}
    stage = {
        'epochs': 80,
        'batch_size': 10,
        'crop': [128, 176],
        'augmentation': UNCHANGED | {'scale': [0.45, 0.55]},
        'optimizer': {'name': 'adamw', 'rate': 1e-2},
        'schedule': {'name': 'cosine', 'warm_up': 0.1},
        'validate_every': 1000,
    }
    recipe = make_recipe(
        stage,
        network='lednet',
        input_size=[180, 240],
        ema=None,
        dropout=0,
        train=[few],
        validation={'few': few},
    )
    metrics = train(recipe, camvid, tmp_path)['few']
    assert metrics['frames'] == 20
    # The most frequent class alone covers a third of the pixels.
    assert metrics['pixel_accuracy'] > 0.9


@pytest.mark.parametrize('network', ['lednet', 'shufflenet_v2_deeplab', 'shufflenet_v2_dpc'])
def test_the_loss_falls(tmp_path: Path, network: str) -> None:
    # Each step sees the same two frames, so nothing but learning changes the loss.
    stage = {
        'epochs': 12,
        'crop': [64, 96],
        'augmentation': UNCHANGED,
        'optimizer': {'name': 'adamw', 'rate': 1e-2},
    }
    recipe = make_recipe(
        stage, network=network, dropout=0, train=[STREETS | {'frames': 2}], validation={}
    )
    train(recipe, None, tmp_path)
    losses = [float(loss) for loss in read_losses(tmp_path)]
    assert len(losses) == 12
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ('stage', 'text'),
    [
        ({'loss': {'auxiliary': 0.4}}, r'stages\.0\.loss\.auxiliary is 0\.4; .* must be 0\.0'),
        ({'part': 'encoder'}, r'stages\.0\.part is encoder; .* must be all'),
    ],
)
def test_encoder_loss_without_encoder_logits_is_rejected_at_start(
    tmp_path: Path, stage: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        train(make_recipe(stage, network='shufflenet_v2_deeplab'), None, tmp_path / 'run')


def test_seed_determines_everything(tmp_path: Path) -> None:
    one = train(make_recipe(), None, tmp_path / 'one')
    two = train(make_recipe(), None, tmp_path / 'two')
    train(make_recipe(seed=1), None, tmp_path / 'other')
    assert same_weights(tmp_path / 'one', tmp_path / 'two')
    assert read_losses(tmp_path / 'one') == read_losses(tmp_path / 'two')
    assert one == two
    assert not same_weights(tmp_path / 'one', tmp_path / 'other')


def test_worker_processes_do_not_change_the_result(tmp_path: Path) -> None:
    train(make_recipe({'epochs': 1}), None, tmp_path / 'here')
    train(make_recipe({'epochs': 1}, workers=1), None, tmp_path / 'there')
    assert same_weights(tmp_path / 'here', tmp_path / 'there')


def test_stages_follow_each_other(tmp_path: Path) -> None:
    encoder = STAGE | {'epochs': 1, 'part': 'encoder'}
    whole = STAGE | {'epochs': 2, 'crop': [64, 96], 'train': [STREETS | {'per_epoch': 2}]}
    recipe = make_recipe(stages=[encoder, whole])
    train(recipe, None, tmp_path)
    history = read_history(tmp_path)
    assert [row['stage'] for row in history] == ['0', '1', '1']
    assert [row['epoch'] for row in history] == ['1', '2', '3']
    assert [row['same_miou'] == '' for row in history] == [True, True, False]


def test_encoder_stage_does_not_change_the_decoder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run = make_recipe({'epochs': 1, 'part': 'encoder'}, network='lednet', ema=None)
    train(run, None, tmp_path)
    state = torch.load(tmp_path / 'state.pt', weights_only=True)['model']
    # The same recipe draws the same weights again.
    torch.manual_seed(run.seed)
    drawn = loop.SegmentationTask(
        run, None, loop.Processes(0, 1, torch.device('cpu'))
    ).model.state_dict()
    moved = {key for key, tensor in state.items() if not torch.equal(tensor, drawn[key])}
    assert moved
    assert all(key.startswith('network.encoder.') for key in moved)


@pytest.mark.parametrize(
    'options',
    [
        {'ohem': 0.3},
        {'dice': 0.5},
        {'cross_entropy': 0, 'lovasz': 1.0},
        {'auxiliary': 0.4, 'weight_offset': 1.1, 'label_smoothing': 0.1},
    ],
)
def test_every_loss_trains(options: dict[str, float], tmp_path: Path) -> None:
    train(make_recipe({'epochs': 1, 'loss': options}), None, tmp_path)
    assert np.isfinite(float(read_losses(tmp_path)[0]))


@pytest.mark.parametrize('name', ['adam', 'adamw', 'sgd'])
def test_every_optimizer_trains(name: str, tmp_path: Path) -> None:
    stage = {'epochs': 1, 'optimizer': {'name': name, 'rate': 1e-3}}
    train(make_recipe(stage, ema=None, precision='fp32', channels_last=False), None, tmp_path)
    assert np.isfinite(float(read_losses(tmp_path)[0]))


# --- files of a run -------------------------------------------------------------------------


def test_files_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, 'write_report', write_report)
    train(make_recipe(), None, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        'checkpoint.safetensors', 'history.csv', 'recipe.yaml', 'report.html', 'state.pt',
        'tensorboard',
    }
    report = (tmp_path / 'report.html').read_text(encoding='utf-8')
    assert 'Training of tiny' in report
    assert yaml.safe_load((tmp_path / 'recipe.yaml').read_text(encoding='utf-8')) == (
        make_recipe().model_dump(mode='json')
    )


def test_checkpoint_metadata_is_complete(tmp_path: Path) -> None:
    recipe = make_recipe(network='lednet', seed=4)
    metrics = train(recipe, None, tmp_path)
    loaded = load_checkpoint(tmp_path / 'checkpoint.safetensors')
    assert loaded.network == 'lednet'
    assert loaded.label_map == LabelMap.load('camvid')
    assert loaded.input_size == (64, 96)
    assert loaded.training['data'] == '4 frames of synthetic streets'
    assert loaded.training['recipe'] == recipe.model_dump(mode='json')
    assert loaded.training['epochs'] == 3
    assert loaded.training['hardware'].startswith('1 x ')
    assert loaded.metrics == metrics
    assert metrics['same']['frames'] == 4
    kinds = {tensor.dtype for tensor in loaded.state_dict.values()}
    assert kinds == {torch.float16, torch.int64}


def test_metrics_are_those_of_the_checkpoint(
    tmp_path: Path, make_folder_dataset: Callable[..., Path]
) -> None:
    root = make_folder_dataset(tmp_path / 'data', {'train': 4, 'val': 3})
    recipe = make_recipe(
        network='lednet',
        train=[{'layout': 'folder'}],
        validation={'val': {'layout': 'folder', 'split': 'val'}},
    )
    metrics = train(recipe, root, tmp_path / 'out')['val']
    results = tmp_path / 'results.json'
    checkpoint = tmp_path / 'out' / 'checkpoint.safetensors'
    arguments = ['evaluate', root, '--checkpoint', checkpoint]
    arguments += ['--backend', 'torch_eager', '--precision', 'fp32', '--json', results]
    assert main([str(argument) for argument in arguments]) == 0
    assert yaml.safe_load(results.read_text(encoding='utf-8'))['miou'] == metrics['miou']


# --- interruptions --------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    # Enough epochs for both kills.
    recipe = make_recipe({'epochs': 100, 'loss': {'auxiliary': 0.4, 'weight_offset': 1.1}})
    train(recipe, None, tmp_path / 'unbroken')
    broken = tmp_path / 'broken'
    history = broken / 'history.csv'
    for epochs in (1, 2):
        process = subprocess.Popen(command(recipe, broken, '--resume'))
        deadline = time.monotonic() + 120
        # Killed at any point of an epoch or of writing.
        while not history.is_file() or len(read_history(broken)) < epochs:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
    assert len(read_history(broken)) < 100
    subprocess.run(command(recipe, broken, '--resume'), check=True)
    assert read_losses(broken) == read_losses(tmp_path / 'unbroken')
    assert same_weights(broken, tmp_path / 'unbroken')


def test_interrupted_epoch_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe()
    train(recipe, None, tmp_path / 'unbroken')
    steps = 0
    finite = loop._Run._finite

    def interrupt(*arguments: Any) -> float:
        nonlocal steps
        steps += 1
        if steps == 4:
            raise KeyboardInterrupt
        return finite(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, '_finite', interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, None, tmp_path / 'broken')
    assert len(read_history(tmp_path / 'broken')) == 1
    train(recipe, None, tmp_path / 'broken', resume=True)
    assert read_losses(tmp_path / 'broken') == read_losses(tmp_path / 'unbroken')
    assert same_weights(tmp_path / 'broken', tmp_path / 'unbroken')


def test_resume_between_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(stages=[STAGE | {'epochs': 1}, STAGE | {'epochs': 1, 'crop': [64, 96]}])
    train(recipe, None, tmp_path / 'unbroken')
    with monkeypatch.context() as patch:
        # The first epoch has two steps.
        patch.setattr(loop.RunLog, 'add', _interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, None, tmp_path / 'broken')
    train(recipe, None, tmp_path / 'broken', resume=True)
    assert read_losses(tmp_path / 'broken') == read_losses(tmp_path / 'unbroken')
    assert same_weights(tmp_path / 'broken', tmp_path / 'unbroken')


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def test_resume_of_a_finished_run_measures_again(tmp_path: Path) -> None:
    first = train(make_recipe(), None, tmp_path)
    assert train(make_recipe(), None, tmp_path, resume=True) == first
    assert len(read_history(tmp_path)) == 3


def test_an_earlier_run_is_replaced_only_on_request(tmp_path: Path) -> None:
    train(make_recipe({'epochs': 1}), None, tmp_path)
    first = read_losses(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    with pytest.raises(FileExistsError, match=r'recipe\.yaml: it is there'):
        train(make_recipe({'epochs': 1}), None, tmp_path)
    assert {path: path.read_bytes() for path in before} == before
    train(make_recipe({'epochs': 1}), None, tmp_path, overwrite=True)
    assert read_losses(tmp_path) == first


def test_seconds_are_those_of_all_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 100_000, 10))
    monkeypatch.setattr(loop, 'time', SimpleNamespace(monotonic=lambda: float(next(clock))))
    train(make_recipe({'epochs': 2}), None, tmp_path)
    rows = read_history(tmp_path)
    stated = load_checkpoint(tmp_path / 'checkpoint.safetensors').training['seconds']
    assert stated == sum(float(row['seconds']) for row in rows) > 0


def test_a_run_from_before_an_option_existed_is_resumed(tmp_path: Path) -> None:
    train(make_recipe({'epochs': 1}), None, tmp_path / 'whole')
    train(make_recipe({'epochs': 1}), None, tmp_path / 'older')
    path = tmp_path / 'older' / 'state.pt'
    state = torch.load(path, weights_only=True)
    del state['recipe']['teacher'], state['recipe']['stages'][0]['augmentation']['noise']
    # The default of that time.
    state['recipe']['precision'] = 'bf16'
    torch.save(state, path)
    train(make_recipe({'epochs': 1}), None, tmp_path / 'older', resume=True)
    assert same_weights(tmp_path / 'whole', tmp_path / 'older')
    noisy = make_recipe({'epochs': 1, 'augmentation': {'noise': 5}})
    with pytest.raises(CheckpointError, match=r'another recipe \(differs in: stages\)'):
        train(noisy, None, tmp_path / 'older', resume=True)


@pytest.mark.parametrize(('bf16', 'precision'), [(False, 'fp32'), (True, 'bf16')])
def test_a_run_states_the_precision_that_the_machine_gave_it(
    bf16: bool,
    precision: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr('lednet_ros.training.precision.processor_has_bf16', lambda: bf16)
    train(make_recipe({'epochs': 1}), None, tmp_path)
    training = load_checkpoint(tmp_path / 'checkpoint.safetensors').training
    assert (training['precision'], training['recipe']['precision']) == (precision, 'auto')
    assert ('no bf16 arithmetic' in capsys.readouterr().out) == (precision == 'fp32')


def test_state_of_another_recipe_is_rejected(tmp_path: Path) -> None:
    train(make_recipe({'epochs': 1}), None, tmp_path)
    with pytest.raises(CheckpointError, match=r'another recipe \(differs in: seed, stages\)'):
        train(make_recipe({'epochs': 2}, seed=3), None, tmp_path, resume=True)


def test_damaged_state_is_reported(tmp_path: Path) -> None:
    train(make_recipe({'epochs': 1}), None, tmp_path)
    state = tmp_path / 'state.pt'
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r'state\.pt'):
        train(make_recipe({'epochs': 1}), None, tmp_path, resume=True)


def test_full_disk_keeps_the_last_good_files(tmp_path: Path) -> None:
    output = tmp_path / 'out'
    # TensorBoard's file holds the images of a validation.
    recipe = make_recipe({'epochs': 2, 'validate_every': 1}, validation={})
    train(recipe, None, tmp_path / 'unbroken')
    steps = command(recipe, output)
    train(recipe, None, output)
    # Enough for a checkpoint, not for the state of a first epoch, which holds the optimizer's.
    limit = (output / 'state.pt').stat().st_size
    good = {name: (output / name).read_bytes() for name in ('state.pt', 'history.csv')}
    result = subprocess.run(
        steps,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith('lednet train: ')
    assert (output / 'state.pt').read_bytes() == good['state.pt']
    load_checkpoint(output / 'checkpoint.safetensors')
    assert not [path for path in output.iterdir() if path.name.startswith('.')]
    train(recipe, None, output, resume=True)
    assert same_weights(output, tmp_path / 'unbroken')


def test_loss_that_is_not_finite_stops_and_names_the_files(
    tmp_path: Path, make_folder_dataset: Callable[..., Path]
) -> None:
    root = make_folder_dataset(tmp_path / 'data', {'train': 4})
    stage = {'epochs': 9, 'optimizer': {'name': 'sgd', 'rate': 1e30, 'clip': None}}
    recipe = make_recipe(stage, train=[{'layout': 'folder'}], validation={})
    with pytest.raises(TrainingError) as caught:
        train(recipe, root, tmp_path / 'out')
    message = str(caught.value)
    assert 'loss is nan at step ' in message or 'loss is inf at step ' in message
    files = [line.strip() for line in message.splitlines()[1:]]
    assert len(files) == 2
    assert all(Path(file).is_file() for file in files)


# --- errors ---------------------------------------------------------------------------------


def test_too_few_frames_for_a_batch(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='batch_size is 5; an epoch of this stage has only 4'):
        train(make_recipe({'batch_size': 5}), None, tmp_path)


def test_output_below_a_file_fails_before_training(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(OSError, match='file/output'):
        train(make_recipe(), None, tmp_path / 'file' / 'output')


def test_damaged_frames_are_reported_before_training(
    tmp_path: Path, make_folder_dataset: Callable[..., Path]
) -> None:
    root = make_folder_dataset(tmp_path / 'data', {'train': 4, 'val': 2})
    images = [sorted((root / split / 'images').iterdir())[0] for split in ('train', 'val')]
    for image in images:
        image.write_bytes(image.read_bytes()[:20])
    recipe = make_recipe(
        train=[{'layout': 'folder'}], validation={'val': {'layout': 'folder', 'split': 'val'}}
    )
    with pytest.raises(DatasetError, match='2 problems') as caught:
        train(recipe, root, tmp_path / 'out')
    assert all(str(image) in str(caught.value) for image in images)
    assert not (tmp_path / 'out' / 'state.pt').exists()


@pytest.mark.parametrize(('stage', 'message'), [
    ({'train': [{'layout': 'folder', 'split': 'none'}]}, 'none/images'),
    ({'train': [{'layout': 'folder', 'split': 'damaged'}]}, '1 problem'),
    ({'train': [{'layout': 'folder', 'split': 'few'}]}, r'stages\.1\.batch_size is 2; .* only 1'),
    ({'epochs': 0, 'train': [{'layout': 'folder', 'split': 'none'}]}, None),
])
def test_what_a_later_stage_lacks_is_reported_before_training(
    stage: dict[str, Any], message: str | None, tmp_path: Path,
    make_folder_dataset: Callable[..., Path],
) -> None:
    root = make_folder_dataset(tmp_path / 'data', {'train': 4, 'damaged': 4, 'few': 1})
    labels = sorted((root / 'damaged' / 'labels').iterdir())[0]
    labels.write_bytes(labels.read_bytes()[:20])
    out = tmp_path / 'out'
    recipe = make_recipe(train=[{'layout': 'folder'}], stages=[STAGE, STAGE | stage])
    if message is None:
        train(recipe, root, out)
        return
    with pytest.raises((DatasetError, ValueError), match=message):
        train(recipe, root, out)
    # A mended recipe starts without --overwrite.
    assert not list(out.glob('*'))


def test_validation_on_frames_of_the_training_is_stated(
    tmp_path: Path, make_folder_dataset: Callable[..., Path], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = make_folder_dataset(tmp_path / 'data', {'train': 4, 'val': 3})
    val = {'layout': 'folder', 'split': 'val'}
    first = sorted((root / 'val' / 'images').iterdir())[0].stem
    monkeypatch.chdir(tmp_path)
    recipe = make_recipe(
        train=[{'layout': 'folder'}],
        validation={
            'val': val,
            'relative': val | {'root': 'data', 'include': first},
            'others': val | {'exclude': first},
            'streets': STREETS,
        },
        stages=[STAGE, STAGE | {'train': [{'layout': 'folder'}, val | {'include': first}]}],
    )
    details: dict[str, str] = {}
    monkeypatch.setattr(loop, 'write_report', lambda *parts: details.update(parts[-1]))
    metrics = train(recipe, root, tmp_path / 'out')
    assert {name: found['frames_trained_on'] for name, found in metrics.items()} == {
        'val': 1, 'relative': 1, 'others': 0, 'streets': 0,
    }
    printed = capsys.readouterr().out
    assert 'validation.val: 1 of 3 frames are trained on' in printed
    assert 'validation.relative: 1 of 1 frames are trained on' in printed
    assert printed.count('trained on') == 2
    assert details['frames of val that are trained on'] == '1'
    assert 'frames of others that are trained on' not in details
    saved = load_checkpoint(tmp_path / 'out' / 'checkpoint.safetensors').metrics
    assert saved['val']['frames_trained_on'] == 1


def test_sources_without_a_folder_are_reported(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"layout 'folder' .* give --data"):
        train(make_recipe(train=[{'layout': 'folder'}]), None, tmp_path)


def test_synthetic_streets_have_fixed_classes(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match='cityscapes'):
        train(make_recipe(label_map='cityscapes'), None, tmp_path)


# --- weights to start from ------------------------------------------------------------------


def test_other_classes_start_from_the_shipped_weights(
    tmp_path: Path,
    small_checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    make_folder_dataset: Callable[..., Path],
) -> None:
    own = tmp_path / 'own.yaml'
    classes = [
        {'id': i, 'name': f'c{i}', 'color': [i, 0, 0], 'source_ids': [2 * i, 2 * i + 1]}
        for i in range(6)
    ]
    own.write_text(yaml.safe_dump({'name': 'own', 'classes': classes}), encoding='utf-8')
    root = make_folder_dataset(tmp_path / 'data', {'train': 4})
    recipe = make_recipe(
        {'epochs': 1},
        network='lednet',
        label_map=str(own),
        initial=str(small_checkpoint),
        train=[{'layout': 'folder'}],
        validation={'same': {'layout': 'folder'}},
    )
    train(recipe, root, tmp_path / 'out')
    printed = capsys.readouterr().out
    assert 'reinitialized' in printed
    assert 'encoder.output_conv.weight' in printed
    assert 'encoder.layers.0' not in printed
    loaded = load_checkpoint(tmp_path / 'out' / 'checkpoint.safetensors')
    assert loaded.label_map.names == tuple(f'c{i}' for i in range(6))
    assert loaded.training['initial'] == {'data': 'none: weights by rule'}


def test_a_run_starts_from_the_mean_of_others(tmp_path: Path) -> None:
    paths = []
    for seed in (1, 2):
        train(make_recipe({'epochs': 1}, seed=seed), None, tmp_path / str(seed))
        paths.append(str(tmp_path / str(seed) / 'checkpoint.safetensors'))
    still = {'epochs': 1, 'optimizer': {'rate': 1e-9}}
    train(make_recipe(still, initial=paths, ema=None), None, tmp_path / 'mean')
    found, *others = (
        load_checkpoint(path)
        for path in (tmp_path / 'mean' / 'checkpoint.safetensors', *paths)
    )
    key = 'decoder.weight'
    expected = sum(one.state_dict[key].float() for one in others) / 2
    torch.testing.assert_close(found.state_dict[key].float(), expected, rtol=1e-3, atol=1e-3)
    assert found.training['initial'] == {'mean_of': [one.training for one in others]}
    # An input is never overwritten.
    sources: list[dict[str, Any]] = [{'initial': paths}, {'teacher': paths[0]}]
    for inputs in sources:
        with pytest.raises(FileExistsError, match='input and output'):
            train(make_recipe(still, **inputs), None, tmp_path / '1', overwrite=True)


def test_pretrained_weights_lower_the_first_loss(tmp_path: Path) -> None:
    train(
        make_recipe({'epochs': 8, 'optimizer': {'name': 'adamw', 'rate': 1e-2}}),
        None,
        tmp_path / 'first',
    )
    start = str(tmp_path / 'first' / 'checkpoint.safetensors')
    train(make_recipe({'epochs': 1}, initial=start), None, tmp_path / 'second')
    assert float(read_losses(tmp_path / 'second')[0]) < float(read_losses(tmp_path / 'first')[0])


def test_weights_of_another_network_are_rejected(tmp_path: Path, small_content: Any) -> None:
    tensors = dict(small_content.state_dict)
    del tensors['encoder.initial_block.conv.weight']
    path = tmp_path / 'other.safetensors'
    save_checkpoint(
        type(small_content)(**{**vars(small_content), 'state_dict': tensors}), path
    )
    with pytest.raises(CheckpointError, match=r'encoder\.initial_block\.conv\.weight'):
        train(make_recipe(network='lednet', initial=str(path)), None, tmp_path / 'out')


# --- classification -------------------------------------------------------------------------


def test_encoder_is_pretrained_and_used(
    tmp_path: Path, make_image_folder: Callable[..., Path]
) -> None:
    root = make_image_folder(tmp_path / 'images')
    recipe = make_recipe(
        {'epochs': 2, 'crop': [64, 64]},
        task='classification',
        input_size=[64, 64],
        train=[{'layout': 'image_folder'}],
        validation={'val': {'layout': 'image_folder', 'split': 'val'}},
    )
    metrics = train(recipe, root, tmp_path / 'encoder')['val']
    assert 0 <= metrics['top1'] <= metrics['top5'] <= 1
    encoder = tmp_path / 'encoder' / 'encoder.safetensors'
    train(make_recipe({'epochs': 1}, initial=str(encoder)), None, tmp_path / 'out')
    loaded = load_checkpoint(tmp_path / 'out' / 'checkpoint.safetensors')
    assert loaded.training['initial']['recipe']['task'] == 'classification'


def test_other_classes_of_a_later_stage_are_reported_before_training(
    tmp_path: Path, make_image_folder: Callable[..., Path]
) -> None:
    root = make_image_folder(tmp_path / 'images')
    other = make_image_folder(tmp_path / 'other')
    folder = sorted(path for path in (other / 'train').iterdir())[0]
    folder.rename(folder.with_name('another'))
    stage = STAGE | {'train': [{'layout': 'image_folder', 'root': str(other)}]}
    recipe = make_recipe(
        task='classification',
        input_size=[64, 64],
        train=[{'layout': 'image_folder'}],
        validation={'val': {'layout': 'image_folder', 'split': 'val'}},
        stages=[STAGE, stage],
    )
    with pytest.raises(DatasetError, match='must have the same folders'):
        train(recipe, root, tmp_path / 'out')


@pytest.mark.gpu
def test_training_runs_on_a_gpu(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip('no CUDA device')
    train(make_recipe(), None, tmp_path)
    hardware = load_checkpoint(tmp_path / 'checkpoint.safetensors').training['hardware']
    assert torch.cuda.get_device_name() in hardware


def test_missing_recipe_is_reported_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['train', 'none', '--output', str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "no recipe 'none'" in line
    assert 'camvid' in line
