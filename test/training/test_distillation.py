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

"""Tests of learning from a teacher, with labels and without."""

from collections.abc import Callable
import csv
from dataclasses import replace
import math
from pathlib import Path
import re
from typing import Any

from bag_files import Entry, write_bag
import cv2
from lednet_ros.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lednet_ros.cli.main import main
from lednet_ros.datasets import DatasetError, synthetic_frames
from lednet_ros.inference.preprocess import normalize
from lednet_ros.labels import LabelMap, UNLABELED
from lednet_ros.models.network import upsample
from lednet_ros.recordings.bags import SourceError
from lednet_ros.synthetic import StreetScene
from lednet_ros.training import loop
from lednet_ros.training.data import RecordedFrames
from lednet_ros.training.distillation import distill, TeacherError, TeacherNetwork
from lednet_ros.training.loop import train
from lednet_ros.training.recipe import load_recipe, Recipe, RecipeError, Teacher, Unlabeled
import numpy as np
import pytest
from tiny_network import TinyNetwork, UNCHANGED
import torch
from torch import nn, Tensor

CAMVID = LabelMap.load('camvid')
CPU = torch.device('cpu')
ALL = torch.arange(11)
IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8))
SIZE = (32, 48)
STREETS = {'layout': 'synthetic', 'frames': 2}
CONTENT: dict[str, Any] = {
    'network': 'tiny',
    'input_size': [64, 96],
    'ema': 0.5,
    'validation': {},
    'stages': [
        {'epochs': 2, 'batch_size': 2, 'crop': [64, 64], 'optimizer': {'rate': 1e-2}},
    ],
}


@pytest.fixture(autouse=True)
def reports(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Keep what reports would show: drawing them takes longer than the rest of such runs."""
    kept: list[Any] = []
    monkeypatch.setattr(loop, 'write_report', lambda *content: kept.append(content))
    return kept


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """Write a checkpoint whose network answers with certainty."""
    torch.manual_seed(4)
    network = TinyNetwork(11)
    nn.init.normal_(network.decoder.weight, std=1.0)
    path = tmp_path / 'teacher.safetensors'
    content = Checkpoint(
        'tiny', CAMVID, (64, 96), TinyNetwork.MEAN, TinyNetwork.STD, network.state_dict(),
        {'data': 'nothing'},
    )
    save_checkpoint(content, path)
    return path


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    folder = tmp_path / 'drive'
    folder.mkdir()
    for index, frame in enumerate(synthetic_frames(5, (80, 100), seed=1)):
        cv2.imwrite(str(folder / f'{index}.png'), frame.pixels[..., ::-1])
    return folder


def make_module(kind: str = 'good') -> Any:
    """Return what a recipe's `MODULE:FUNCTION` may return."""
    if kind == 'flat':
        return nn.Flatten()
    return nn.Conv2d(3, 11, 3, padding=1) if kind == 'good' else kind


def make_teacher(label_map: LabelMap = CAMVID, **options: Any) -> TeacherNetwork:
    return TeacherNetwork(Teacher.model_validate(options), (), label_map, CPU, False)


def make_recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate(CONTENT | changes)


def read_history(output: Path) -> list[dict[str, str]]:
    with (output / 'history.csv').open(encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


def compute_scores(path: Path, images: Tensor) -> Tensor:
    checkpoint = load_checkpoint(path)
    network = TinyNetwork(11).eval()
    network.load_state_dict(checkpoint.state_dict)
    with torch.no_grad():
        return network.scores(normalize(images, checkpoint.mean, checkpoint.std))


# --- what the teacher says ------------------------------------------------------------------


def test_a_checkpoint(teacher: Path) -> None:
    found = make_teacher(source=str(teacher))
    expected = upsample(compute_scores(teacher, IMAGES), SIZE).softmax(1)
    torch.testing.assert_close(found(IMAGES, SIZE), expected)
    assert found.description['training'] == {'data': 'nothing'}


def test_the_mean_of_several_views(teacher: Path) -> None:
    found = make_teacher(source=str(teacher), scales=(1.0, 1.5), flip=True)
    larger = nn.functional.interpolate(
        IMAGES.permute(0, 3, 1, 2).float(), size=(96, 144), mode='bilinear', antialias=True
    ).round().to(torch.uint8).permute(0, 2, 3, 1)
    views = []
    for images in (IMAGES, larger):
        views.append(upsample(compute_scores(teacher, images), SIZE))
        views.append(upsample(compute_scores(teacher, images.flip(2)).flip(3), SIZE))
    expected = torch.stack([view.softmax(1) for view in views]).mean(0)
    torch.testing.assert_close(found(IMAGES, SIZE), expected)


def test_normalizations_adapt_to_another_camera(teacher: Path) -> None:
    dark = IMAGES // 4
    plain, adapted = (make_teacher(source=str(teacher)) for _ in range(2))
    adapted.adapt([dark, dark])
    # On these images, statistics of the batch are those of the adapted normalizations.
    network = TinyNetwork(11)
    network.load_state_dict(load_checkpoint(teacher).state_dict)
    for part in network.modules():
        part.train(isinstance(part, nn.BatchNorm2d))
    with torch.no_grad():
        scores = network.scores(normalize(dark, TinyNetwork.MEAN, TinyNetwork.STD))
    expected = upsample(scores, SIZE).softmax(1)
    torch.testing.assert_close(adapted(dark, SIZE), expected, rtol=1e-2, atol=1e-2)
    assert (plain(dark, SIZE) - expected).abs().max() > 0.1


def test_a_module_by_its_import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    source = f'{Path(__file__).stem}:make_module'
    taught = make_teacher(source=source)(IMAGES, SIZE)
    torch.testing.assert_close(taught.sum(1), torch.ones(2, *SIZE))
    for options, message in (
        ({'file': 'bad'}, 'returns str; it must return a torch.nn.Module'),
        ({'file': 'flat'}, r'output is \(1, 12288\); it must be logits \(N, classes, h, w\)'),
        ({'source': f'{source}s'}, "has no attribute 'make_modules'"),
        ({'source': 'no_such_package:load'}, "No module named 'no_such_package'"),
    ):
        with pytest.raises(TeacherError, match=message):
            make_teacher(**({'source': source} | options))


@pytest.mark.parametrize('output', ['float', 'bytes'])
def test_an_onnx_file(tmp_path: Path, teacher: Path, output: str) -> None:
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    from lednet_ros.inference.export import export_network
    from lednet_ros.inference.onnx_export import export_onnx

    path = tmp_path / 'teacher.onnx'
    if output == 'float':
        network = TinyNetwork(11).eval()
        network.load_state_dict(load_checkpoint(teacher).state_dict)
        path.write_bytes(export_onnx(network, torch.zeros(1, 3, 64, 96), 'image', 'logits'))
    else:
        export_network(load_checkpoint(teacher), teacher, path, 'onnx', output='scores')
    # The files take one image of this size.
    taught = make_teacher(source=str(path))(IMAGES, SIZE)
    scores = compute_scores(teacher, IMAGES)
    if output == 'float':
        scores = upsample(scores, (64, 96))
    expected = upsample(scores, SIZE).softmax(1)
    torch.testing.assert_close(taught, expected, rtol=1e-3, atol=1e-4)
    if output == 'bytes':
        export_network(load_checkpoint(teacher), teacher, path, 'onnx', None, 'scores', 3)
        with pytest.raises(TeacherError, match='takes batches of 3; it must take single images'):
            make_teacher(source=str(path))


def test_classes_of_the_teacher_are_mapped(teacher: Path) -> None:
    few = replace(CAMVID, name='few', labels=(CAMVID.labels[0], CAMVID.labels[8]))
    classes = {'sky': 'sky', 'car': 'car', 10: 'car'}
    found = make_teacher(few, source=str(teacher), classes=classes)(IMAGES, SIZE)
    theirs = make_teacher(source=str(teacher))(IMAGES, SIZE)
    torch.testing.assert_close(found[:, 0], theirs[:, 0])
    torch.testing.assert_close(found[:, 1], theirs[:, 8] + theirs[:, 10])
    for options, message in (
        ({}, r'teacher.classes is missing: .*11 classes \(sky, .*few.* \(sky, car\)'),
        ({'classes': {'cow': 'car'}}, "names 'cow', .*allowed: sky, .*, 0 to 10"),
        ({'classes': {11: 'car'}}, "names '11'"),
        ({'classes': {'sky': 'cow'}}, r"teacher.classes.sky is 'cow'; allowed: sky, car"),
        ({'mean': (0, 0, 0)}, 'teacher.mean and teacher.std must be left out'),
        ({'source': 'initial'}, 'which names 0 files; the recipe must have one'),
        ({'source': 'missing.onnx'}, 'missing.onnx'),
    ):
        with pytest.raises(TeacherError, match=message):
            make_teacher(few, **({'source': str(teacher)} | options))


# --- the loss -------------------------------------------------------------------------------


def test_the_loss_is_the_softened_divergence() -> None:
    logits = torch.randn(2, 11, 3, 4)
    theirs = torch.randn(2, 11, 3, 4)
    unlabeled = torch.full((2, 3, 4), UNLABELED)
    total, count = distill(logits, theirs.softmax(1), unlabeled, ALL, 2.0, 0.0)
    one, two = (logits / 2).log_softmax(1), (theirs / 2).log_softmax(1)
    assert float(total) == pytest.approx(4 * float((two.exp() * (two - one)).sum()), rel=1e-4)
    assert count == 2 * 3 * 4
    total, _ = distill(theirs, theirs.softmax(1), unlabeled, ALL, 2.0, 0.0)
    assert float(total) == pytest.approx(0, abs=1e-5)


def test_only_pixels_where_the_teacher_is_sure_count() -> None:
    # Sure; unsure; sure that it is none of the student's classes; half of it is not.
    pixels = [[0.9, 0.05, 0.05], [0.4, 0.3, 0.3], [0, 0, 0.1], [0.5, 0, 0]]
    taught = torch.tensor(pixels).T.reshape(1, 3, 1, 4)
    scores = torch.zeros(1, 3, 1, 4, requires_grad=True)
    unlabeled = torch.full((1, 1, 4), UNLABELED)
    total, count = distill(scores, taught, unlabeled, torch.arange(3), 1.0, 0.5)
    assert count == 2
    total.backward()
    assert scores.grad is not None
    assert scores.grad[0].abs().sum((0, 1)).gt(0).tolist() == [True, False, False, True]


def test_labels_outrank_the_teacher() -> None:
    taught = torch.tensor([0.2, 0.8]).reshape(1, 2, 1, 1).expand(1, 2, 1, 3)
    scores = torch.zeros(1, 2, 1, 3, requires_grad=True)
    # Wrong; right; nobody knows.
    labels = torch.tensor([0, 1, UNLABELED]).reshape(1, 1, 3)
    total, count = distill(scores, taught, labels, torch.arange(2), 1.0, 0.0)
    assert count == 2
    total.backward()
    assert scores.grad is not None
    assert scores.grad[0, 0, 0].ne(0).tolist() == [False, True, True]


def test_classes_that_the_teacher_does_not_know_are_left_alone() -> None:
    taught = torch.tensor([0.7, 0.0, 0.3]).reshape(1, 3, 1, 1)
    scores = torch.zeros(1, 3, 1, 1, requires_grad=True)
    unlabeled = torch.full((1, 1, 1), UNLABELED)
    distill(scores, taught, unlabeled, torch.tensor([0, 2]), 1.0, 0.0)[0].backward()
    assert scores.grad is not None
    assert scores.grad[0, 1] == 0
    assert scores.grad[0, 0] < 0


def test_hard_labels(teacher: Path) -> None:
    probabilities = compute_scores(teacher, IMAGES)
    best, labels = upsample(probabilities, (64, 96)).softmax(1).max(1)
    # Some pixels are sure enough and some are not.
    confidence = float(best.median())
    expected = torch.where(best >= confidence, labels, UNLABELED)
    found = make_teacher(source=str(teacher), confidence=confidence)
    for image, mine in zip(IMAGES.numpy(), expected, strict=True):
        assert np.mean(found.label(image) != mine.numpy()) < 0.01
    # Where a class that the student lacks is the most likely one, there is no label.
    few = replace(CAMVID, name='few', labels=CAMVID.labels[:5])
    lacking = make_teacher(few, source=str(teacher), classes={name: name for name in few.names})
    found_few = lacking.label(IMAGES[0].numpy())
    assert (found_few[labels[0].numpy() >= 5] == UNLABELED).all()
    assert (found_few != UNLABELED).any()


# --- frames without labels ------------------------------------------------------------------


@pytest.mark.parametrize(('most', 'kept'), [(9, [0, 1, 2, 3, 4]), (2, [0, 2]), (1, [0])])
def test_frames_of_a_recording_are_spread_and_resized(
    recording: Path, most: int, kept: list[int]
) -> None:
    frames = RecordedFrames(Unlabeled(frames=most), recording, CAMVID, (64, 96))
    assert [frames.source(index) for index in range(len(frames))] == [
        f'{recording}, frame {number}' for number in kept
    ]
    first = cv2.imread(str(recording / '0.png'))[..., ::-1]
    assert np.array_equal(frames[0].pixels, cv2.resize(first, (96, 64)))
    assert (frames[0].labels == 255).all()
    wider = RecordedFrames(Unlabeled(size=(64, 128)), recording, CAMVID, (64, 96))[0]
    assert np.array_equal(wider.pixels, cv2.resize(first, (128, 64)))
    assert wider.labels.shape == (64, 128)


def test_frames_of_a_bag(tmp_path: Path) -> None:
    frames = [frame.pixels for frame in synthetic_frames(2, (64, 96), seed=1)]
    entries = [
        Entry(topic, index, index, pixels[..., ::-1])
        for index, pixels in enumerate(frames)
        for topic in ('/front', '/rear')
    ]
    bag = write_bag(tmp_path / 'bag', entries)
    found = RecordedFrames(Unlabeled(path=str(bag), topic='/rear'), None, CAMVID, (64, 96))
    assert len(found) == 2
    for index, pixels in enumerate(frames):
        assert np.array_equal(found[index].pixels, pixels)
    with pytest.raises(SourceError, match='a single image topic'):
        RecordedFrames(Unlabeled(), bag, CAMVID, (64, 96))


def test_what_can_not_be_read_is_left_out(
    tmp_path: Path, recording: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (recording / '2.png').write_bytes(b'no image')
    (recording / '3.png').write_bytes((recording / '3.png').read_bytes()[:200])
    recipe = make_recipe(
        teacher=str(teacher), unlabeled=[{}], initial=str(teacher),
        stages=[CONTENT['stages'][0] | {'epochs': 1}],
    )
    train(recipe, recording, tmp_path / 'run')
    assert f'{recording}: 2 parts that cannot be read are left out, first: ' in (
        capsys.readouterr().out
    )
    for path in recording.iterdir():
        path.write_bytes(b'no image')
    with pytest.raises(DatasetError, match=r'no images that can be read: .*0\.png is not'):
        train(recipe, recording, tmp_path / 'other')


def test_recordings_that_can_not_be_read(tmp_path: Path) -> None:
    for source, root, kind, message in (
        (Unlabeled(), None, DatasetError, 'give --data'),
        (Unlabeled(path=str(tmp_path / 'x.mcap')), None, SourceError, 'x.mcap does not exist'),
        (Unlabeled(), tmp_path, SourceError, 'has no images'),
    ):
        with pytest.raises(kind, match=message):
            RecordedFrames(source, root, CAMVID, (64, 96))


# --- training -------------------------------------------------------------------------------


def test_a_student_without_labels_learns_what_the_teacher_says(
    tmp_path: Path, teacher: Path, recording: Path
) -> None:
    stage = CONTENT['stages'][0] | {
        'epochs': 20, 'loss': {'cross_entropy': 0}, 'validate_every': 20, 'crop': [64, 96],
        'augmentation': UNCHANGED,
    }
    recipe = make_recipe(teacher=str(teacher), unlabeled=[{}], dropout=0, stages=[stage])
    metrics = train(recipe, recording, tmp_path / 'out')
    losses = [float(row['loss']) for row in read_history(tmp_path / 'out')]
    assert max(losses[-4:]) < losses[0] / 2
    assert metrics['drive']['frames'] == 5
    checkpoint = load_checkpoint(tmp_path / 'out' / 'checkpoint.safetensors')
    assert checkpoint.training['data'] == '5 unlabeled frames of drive'
    assert checkpoint.training['teacher']['training'] == {'data': 'nothing'}


def test_hard_labels_are_made_once_and_trained_on(
    tmp_path: Path, teacher: Path, recording: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[tuple[int, ...]] = []
    ask = TeacherNetwork.__call__

    def note(network: TeacherNetwork, images: Tensor, size: tuple[int, int]) -> Tensor:
        asked.append(tuple(images.shape))
        return ask(network, images, size)

    monkeypatch.setattr(TeacherNetwork, '__call__', note)
    (recording / '9.png').write_bytes(b'no image')
    stage = CONTENT['stages'][0] | {
        'epochs': 20, 'validate_every': 20, 'crop': [64, 64], 'augmentation': UNCHANGED,
        # The classes of the pseudo-labels are weighted, too.
        'loss': {'weight_offset': 1.1},
    }
    recipe = make_recipe(
        teacher={'source': str(teacher), 'hard': True}, unlabeled=[{}], dropout=0,
        stages=[stage, stage | {'epochs': 1}],
    )
    train(recipe, recording, tmp_path / 'out')
    assert asked == [(1, 64, 96, 3)] * 5
    assert 'teacher=' not in capsys.readouterr().err
    losses = [float(row['loss']) for row in read_history(tmp_path / 'out')]
    assert max(losses[-4:]) < losses[0] * 2 / 3


def test_the_teacher_sees_frames_before_noise_blur_and_compression(
    tmp_path: Path, teacher: Path, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    augmentation = UNCHANGED | {'blur': 2, 'noise': 20, 'jpeg_quality': 15}
    stage = CONTENT['stages'][0] | {
        'epochs': 1, 'loss': {'cross_entropy': 0}, 'crop': [64, 96], 'augmentation': augmentation,
    }
    recipe = make_recipe(teacher=str(teacher), unlabeled=[{}], stages=[stage])
    seen = {'student': list[Tensor](), 'teacher': list[Tensor]()}
    ask, convert = TeacherNetwork.__call__, loop._Run._images

    def note_teacher(network: TeacherNetwork, images: Tensor, size: tuple[int, int]) -> Tensor:
        seen['teacher'] += list(images)
        return ask(network, images, size)

    def note_student(run: Any, images: Tensor) -> Tensor:
        seen['student'] += list(images)
        return convert(run, images)

    monkeypatch.setattr(TeacherNetwork, '__call__', note_teacher)
    monkeypatch.setattr(loop._Run, '_images', note_student)
    train(recipe, recording, tmp_path / 'out')
    frames = RecordedFrames(Unlabeled(), recording, CAMVID, (64, 96))
    originals = [torch.from_numpy(frames[i].pixels) for i in range(len(frames))]
    assert len(seen['teacher']) == 4
    for image in seen['teacher']:
        assert any(torch.equal(image, original) for original in originals)
    for image in seen['student']:
        assert not any(torch.equal(image, original) for original in originals)


@pytest.mark.parametrize('options', [{'temperature': 2}, {'hard': True}])
def test_resuming_is_exact_and_the_teacher_is_timed(
    tmp_path: Path, teacher: Path, recording: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], options: dict[str, Any],
) -> None:
    recipe = make_recipe(
        teacher={'source': 'initial', 'adapt': True, 'flip': True} | options,
        initial=str(teacher),
        train=[STREETS],
        unlabeled=[{'per_epoch': 2}],
        validation={'same': STREETS},
    )
    whole = train(recipe, recording, tmp_path / 'whole')
    is_asked = re.search(r'teacher=\d+%', capsys.readouterr().err) is not None
    assert is_asked == ('hard' not in options)
    # What was measured before the training comes first, and again after a resume.
    assert list(whole) == ['same before', 'drive before', 'same', 'drive']
    save = loop._Run._save_state

    def stop(run: Any, epoch: int, *rest: Any) -> None:
        save(run, epoch, *rest)
        if epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop._Run, '_save_state', stop)
        train(recipe, recording, tmp_path / 'parts')
    assert train(recipe, recording, tmp_path / 'parts', resume=True) == whole
    one, two = (
        load_checkpoint(tmp_path / name / 'checkpoint.safetensors').state_dict
        for name in ('whole', 'parts')
    )
    assert all(torch.equal(tensor, two[key]) for key, tensor in one.items())


def test_adapt(
    tmp_path: Path, recording: Path, capsys: pytest.CaptureFixture[str],
    make_folder_dataset: Callable[..., Path], reports: list[Any],
) -> None:
    """Run the shipped recipe as a user does, with a labeled folder to compare on."""
    scene = StreetScene(100, 80, seed=1)
    for path in recording.iterdir():
        # Unlike those of the fixture, consecutive ones.
        frame = scene.render(int(path.stem) / 30)[0]
        cv2.imwrite(str(path), frame[..., ::-1])
    labeled = make_folder_dataset(tmp_path / 'labeled', {'val': 1})
    settings = [
        'input_size=[64, 96]', 'stages.0.crop=[64, 64]', 'stages.0.batch_size=2',
        'stages.0.epochs=1', 'unlabeled.0.per_epoch=2', 'teacher.scales=[1.0]',
        f'validation.mine={{layout: folder, root: {labeled}, split: val}}',
    ]
    arguments = ['train', 'adapt', '--data', str(recording), '--output', str(tmp_path / 'out')]
    assert main([*arguments, *(part for s in settings for part in ('--set', s))]) == 0
    printed = capsys.readouterr().out
    for name in ('mine before', 'drive before', 'mine', 'drive'):
        assert re.search(rf'^\W*{name}\W', printed, re.MULTILINE)
    metrics = load_checkpoint(tmp_path / 'out' / 'checkpoint.safetensors').metrics
    shipped = metrics['mine before']['miou']
    assert math.isfinite(shipped)
    assert f'mine: miou {shipped}, drive: ' in reports[0][5]['before the training']
    assert 0 <= metrics['drive before']['flipped'] <= 1


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (['teacher=null'], 'teacher is None; unlabeled frames need one'),
        (['unlabeled=[]'], r'train is \[\] and unlabeled is \[\]; one'),
        (['unlabeled=[]', 'train=[{layout: folder}]'], 'teacher.adapt is True; it needs'),
        (
            ['unlabeled=[]', 'train=[{layout: folder}]', 'teacher={source: initial, hard: true}'],
            'teacher.hard is True; it needs',
        ),
        (['teacher.hard=true', 'teacher.weight=4'], 'teacher.weight is 4.0; with teacher.hard'),
        (['teacher.temperature=0'], 'teacher.temperature is 0'),
        (['teacher.confidence=70'], 'teacher.confidence is 70'),
        (['teacher.scales=[]'], r'teacher.scales is \[\]'),
        (['unlabeled.0.rate=3'], 'unlabeled.0.rate is 3'),
        (['task=classification'], "are for task 'segmentation' alone"),
    ],
)
def test_mistakes_in_a_recipe(settings: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe('adapt', settings)


def test_class_weights_need_labels(tmp_path: Path, teacher: Path, recording: Path) -> None:
    stage = CONTENT['stages'][0] | {'loss': {'weight_offset': 1.1}}
    recipe = make_recipe(teacher=str(teacher), unlabeled=[{}], stages=[stage])
    with pytest.raises(ValueError, match='without labeled frames it must be null'):
        train(recipe, recording, tmp_path / 'out')
