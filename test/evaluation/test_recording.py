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

"""Evaluation of bags: real files, a small network."""

from collections.abc import Sequence
import csv
from dataclasses import replace
import itertools
import json
from pathlib import Path
import tracemalloc

from bag_files import Entry, write_bag, write_ros1_bag
import cv2
from hypothesis import given
from hypothesis import strategies as st
from lednet_ros.checkpoint import Checkpoint, save_checkpoint
from lednet_ros.cli.main import main
from lednet_ros.datasets import FolderDataset
from lednet_ros.evaluation import recording_reader
from lednet_ros.evaluation.consistency import Flips
from lednet_ros.evaluation.dataset import evaluate
from lednet_ros.evaluation.ground_truth import match_stamps
from lednet_ros.evaluation.recording import (
    evaluate_bag,
    format_notes,
    recording_to_dict,
)
from lednet_ros.evaluation.recording_reader import TruthSource
from lednet_ros.inference.encodings import Frame
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.recordings.bags import SourceError
from lednet_ros.synthetic import StreetScene
import numpy as np
import pytest

START = 1_600_000_000 * 10**9
PERIOD = 66_666_667
IMAGES, LABELS = '/camera/image', '/truth'


@pytest.fixture
def segmenter(small_content: Checkpoint) -> Segmenter:
    return Segmenter(small_content, device='cpu', backend='torch_eager')


@pytest.fixture(scope='module')
def frames() -> list[np.ndarray]:
    """Five BGR frames of a street."""
    scene = StreetScene(96, 64, seed=2)
    return [np.ascontiguousarray(scene.render(k / 15)[0][..., ::-1]) for k in range(5)]


def stamp(index: int) -> int:
    return START + index * PERIOD


def images(frames: Sequence[np.ndarray], encoding: str = 'bgr8') -> list[Entry]:
    return [Entry(IMAGES, stamp(k), stamp(k), f, encoding) for k, f in enumerate(frames)]


def truth_of(segmenter: Segmenter, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the segmenter's labels with an unlabeled border and some errors."""
    truths = []
    for frame in frames:
        labels = segmenter.segment([np.ascontiguousarray(frame[..., ::-1])]).labels[0].copy()
        labels[:5] = 255
        labels[10:20] = (labels[10:20] + 1) % 11
        truths.append(labels)
    return truths


def labels(
    truths: Sequence[np.ndarray], delay: int = 0, late: int = 0, encoding: str = 'mono8'
) -> list[Entry]:
    return [
        Entry(LABELS, stamp(k) + delay, stamp(k) + late + 1, truth, encoding)
        for k, truth in enumerate(truths)
    ]


def in_order(*entries: Entry) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.time)


TOPIC = TruthSource(topic=LABELS)


def test_what_is_cropped_is_not_compared(
    small_content: Checkpoint, frames: list[np.ndarray], tmp_path: Path
) -> None:
    settings = {'device': 'cpu', 'backend': 'torch_eager', 'input_size': (64, 96)}
    segmenter = Segmenter(small_content, **settings, crop=(0.0, 0.25, 0.5, 0.0))
    # Twice the same frame: what is seen of it is still, and nothing flips.
    twice = [frames[0], frames[0]]
    truths = truth_of(segmenter, twice)
    path = write_bag(tmp_path / 'drive.bag', in_order(*images(twice), *labels(truths)))
    result = evaluate_bag(segmenter, path, None, TOPIC, progress=False)
    assert result.confusion.counts.sum() == 2 * (48 - 5) * 48
    assert not result.confusion.counts[:, -1].any()
    assert result.flips == Flips(48 * 48, 0)


def test_classes_are_merged_in_reports_too(
    small_content: Checkpoint, frames: list[np.ndarray], merged: Path, tmp_path: Path
) -> None:
    plain = Segmenter(small_content, device='cpu', backend='torch_eager')
    truths = truth_of(plain, frames)
    path = write_bag(tmp_path / 'drive.bag', in_order(*images(frames), *labels(truths)))
    segmenter = Segmenter(small_content, device='cpu', backend='torch_eager', classes=str(merged))
    result = evaluate_bag(segmenter, path, None, TOPIC, progress=False)
    assert result.confusion.counts.shape == (4, 4)
    assert result.confusion.counts.sum() == sum((truth != 255).sum() for truth in truths)
    shares = recording_to_dict(result)['class_shares']
    pixels = [segmenter.segment([Frame(frame, 'bgr')]).labels[0].copy() for frame in frames]
    assert shares == {
        name: pytest.approx(np.mean([p == number for p in pixels]))
        for name, number in {'ground': 7, 'car': 0, 'people': 200}.items()
    }
    save_checkpoint(small_content, tmp_path / 'net.safetensors')
    report = tmp_path / 'report.html'
    arguments = [
        'evaluate', str(path), '--checkpoint', str(tmp_path / 'net.safetensors'), '--device',
        'cpu', '--backend', 'torch_eager', '--classes', str(merged), '--label-topic', LABELS,
        '--report', str(report), '--json', str(tmp_path / 'metrics.json'), '--min-iou', 'people=1',
    ]
    assert main(arguments) == 3
    assert 'people' in report.read_text(encoding='utf-8')
    metrics = json.loads((tmp_path / 'metrics.json').read_text(encoding='utf-8'))
    assert metrics['confusion_matrix'] == result.confusion.counts.tolist()


@pytest.mark.parametrize('ros1', [False, True])
@pytest.mark.parametrize('late', [0, 3 * PERIOD, -3 * PERIOD])
def test_labels_are_matched_by_stamp_whenever_they_were_recorded(
    segmenter: Segmenter, frames: list[np.ndarray], tmp_path: Path, late: int, ros1: bool
) -> None:
    truths = truth_of(segmenter, frames)
    entries = in_order(*images(frames), *labels(truths, late=late))
    write = write_ros1_bag if ros1 else write_bag
    path = write(tmp_path / 'drive.bag', entries)
    result = evaluate_bag(segmenter, path, None, TOPIC, progress=False)
    assert [frame.index for frame in result.frames] == [0, 1, 2, 3, 4]
    assert [frame.stamp for frame in result.frames] == [stamp(k) for k in range(5)]
    assert [frame.label_stamp for frame in result.frames] == [stamp(k) for k in range(5)]
    # Ten of 59 labeled rows are wrong.
    assert result.confusion.pixel_accuracy() == pytest.approx(49 / 59)
    assert not result.unmatched_images
    assert not result.unmatched_labels
    figures = recording_to_dict(result)
    assert figures['matched'] == 5
    assert figures['topics'] == [IMAGES]
    assert sum(figures['class_shares'].values()) == pytest.approx(1)
    assert np.sum(figures['confusion_matrix']) == 5 * 59 * 96
    assert figures['stages_ms']['segment']['p50'] > 0


def test_unmatched_stamps_are_named(
    segmenter: Segmenter, frames: list[np.ndarray], tmp_path: Path
) -> None:
    truths = truth_of(segmenter, frames)
    written = labels(truths)
    moved = Entry(LABELS, stamp(1) + 5_000_000, stamp(1) + 1, truths[1], 'mono8')
    path = write_bag(tmp_path / 'bag', in_order(*images(frames), written[0], moved, written[3]))
    result = evaluate_bag(segmenter, path, IMAGES, TOPIC, progress=False)
    assert len(result.frames) == 5
    assert result.unmatched_images == [stamp(1), stamp(2), stamp(4)]
    assert result.unmatched_labels == [stamp(1) + 5_000_000]
    notes = format_notes(result)
    assert '3 frames without ground truth: 1600000000.066666667' in notes
    assert '1 label images without a frame: 1600000000.071666667' in notes
    near = TruthSource(topic=LABELS, slop=6_000_000)
    result = evaluate_bag(segmenter, path, IMAGES, near, progress=False)
    assert result.unmatched_images == [stamp(2), stamp(4)]
    assert result.frames[1].label_stamp == stamp(1) + 5_000_000


def test_stamps_are_matched_nearest_first_and_once() -> None:
    assert match_stamps([0, 10, 20], [9, 21], 0) == {}
    assert match_stamps([0, 10, 20], [9, 21], 3) == {1: 0, 2: 1}
    assert match_stamps([0, 10], [6], 100) == {1: 0}
    assert match_stamps([5, 5], [5, 5, 5], 0) == {0: 0, 1: 1}


@pytest.mark.parametrize('slop', [0, 10**9])
def test_matching_is_bounded_for_any_stamps(slop: int) -> None:
    tracemalloc.start()
    # All candidates would be 16 million.
    matches = match_stamps([7] * 4000, [7] * 4000, slop)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert matches == {k: k for k in range(4000)}
    assert peak < 10_000_000


@given(
    st.lists(st.integers(0, 40), unique=True), st.lists(st.integers(0, 40), unique=True),
    st.integers(0, 50),
)
def test_no_pair_is_nearer_than_the_matched_ones(
    images: list[int], labels: list[int], slop: int
) -> None:
    matches = match_stamps(images, labels, slop)
    assert len(set(matches.values())) == len(matches)
    partner = {image: abs(images[image] - labels[label]) for image, label in matches.items()}
    partner_of_label = {label: partner[image] for image, label in matches.items()}
    for image, label in itertools.product(range(len(images)), range(len(labels))):
        distance = abs(images[image] - labels[label])
        if distance <= slop:
            nearer = min(partner.get(image, 99), partner_of_label.get(label, 99))
            assert nearer <= distance
        assert matches.get(image) != label or distance <= slop


@pytest.mark.parametrize('order', ['late', 'reversed'])
def test_labels_that_wait_for_their_frames_are_bounded(
    segmenter: Segmenter, frames: list[np.ndarray], tmp_path: Path, order: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    truths = truth_of(segmenter, frames)
    monkeypatch.setattr(recording_reader, 'MAX_KEPT_BYTES', 3 * truths[0].size)
    late = 10**12
    if order == 'late':
        # As a tool writes them that labels a recording afterwards.
        entries = in_order(*images(frames), *labels(truths, late=late))
    else:
        entries = [
            *images(frames),
            *(replace(e, time=2 * START + late - e.stamp) for e in labels(truths)),
        ]
    path = write_bag(tmp_path / 'bag', sorted(entries, key=lambda entry: entry.time))
    if order == 'late':
        result = evaluate_bag(segmenter, path, IMAGES, TOPIC, progress=False)
        assert result.confusion.pixel_accuracy() == pytest.approx(49 / 59)
    else:
        with pytest.raises(SourceError, match='label images precede that of the frame'):
            evaluate_bag(segmenter, path, IMAGES, TOPIC, progress=False)


@pytest.mark.parametrize('has_files', [True, False])
def test_frames_without_stamps_are_matched(
    segmenter: Segmenter, frames: list[np.ndarray], tmp_path: Path, has_files: bool
) -> None:
    """A topic copies the missing stamps; files are named by `lednet segment`."""
    truths = truth_of(segmenter, frames)
    entries = [replace(entry, stamp=0) for entry in (*images(frames), *labels(truths))]
    source = TOPIC
    if has_files:
        source = TruthSource(folder=tmp_path / 'truth')
        (tmp_path / 'truth').mkdir()
        for index, truth in enumerate(truths):
            name = f'{stamp(index) // 10**9}.{stamp(index) % 10**9:09d}.png'
            cv2.imwrite(str(tmp_path / 'truth' / name), truth)
    path = write_bag(tmp_path / 'bag', in_order(*entries))
    result = evaluate_bag(segmenter, path, IMAGES, source, progress=False)
    assert [frame.stamp for frame in result.frames] == [stamp(k) for k in range(5)]
    assert result.confusion.pixel_accuracy() == pytest.approx(49 / 59)


def test_formats_of_compressed_images_have_the_same_confusion_matrix(
    segmenter: Segmenter, tmp_path: Path
) -> None:
    scene = StreetScene(96, 64, seed=3)
    matrices = []
    for number, (encoding, image_format) in enumerate([
        ('bayer_rggb8', ''), ('png', 'bayer_rggb8; png compressed '), ('png', 'BAYER_RGGB8; png'),
        ('rgb8', ''), ('png', 'rgb8; png compressed rgb8'), ('png', 'rgb8; png compressed bgr8'),
    ]):
        entries = []
        for k in range(3):
            pixels, truth = scene.render(k / 10)[:2]
            if 'bayer' in encoding + image_format.lower():
                mosaic = pixels[..., 1].copy()
                mosaic[::2, ::2], mosaic[1::2, 1::2] = pixels[::2, ::2, 0], pixels[1::2, 1::2, 2]
                pixels = mosaic
            elif 'compressed bgr' in image_format:
                pixels = pixels[..., ::-1]
            entries.append(Entry(IMAGES, k + 1, k, pixels, encoding, image_format=image_format))
            entries.append(Entry(LABELS, k + 1, k, truth, 'mono8'))
        path = write_bag(tmp_path / f'bag{number}', entries)
        result = evaluate_bag(segmenter, path, IMAGES, TOPIC, progress=False)
        matrices.append(result.confusion.counts)
    for matrix in matrices[1:3]:
        np.testing.assert_array_equal(matrix, matrices[0])
    for matrix in matrices[4:]:
        np.testing.assert_array_equal(matrix, matrices[3])


def test_labels_of_a_folder(
    segmenter: Segmenter, frames: list[np.ndarray], tmp_path: Path
) -> None:
    folder = tmp_path / 'truth'
    folder.mkdir()
    palette = segmenter.label_map.palette
    for index, truth in enumerate(truth_of(segmenter, frames)):
        when = stamp(index)
        # Ids and colors, as they come.
        colors = np.where((truth == 255)[..., None], 0, palette[truth])[..., ::-1]
        content = truth if index % 2 else colors.astype(np.uint8)
        cv2.imwrite(str(folder / f'{when // 10**9}.{when % 10**9:09d}.png'), content)
    (folder / 'notes.txt').write_text('no label')
    path = write_bag(tmp_path / 'bag', images(frames, 'png'))
    truth = TruthSource(folder=folder)
    result = evaluate_bag(segmenter, path, None, truth, progress=False)
    assert result.confusion.pixel_accuracy() == pytest.approx(49 / 59)


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'png'])
def test_colored_labels(
    segmenter: Segmenter, frames: list[np.ndarray], tmp_path: Path, encoding: str
) -> None:
    palette = segmenter.label_map.palette
    order = 1 if encoding == 'rgb8' else -1
    colored = [
        np.where((truth == 255)[..., None], 0, palette[truth]).astype(np.uint8)[..., ::order]
        for truth in truth_of(segmenter, frames)
    ]
    path = write_bag(
        tmp_path / 'bag', in_order(*images(frames), *labels(colored, encoding=encoding))
    )
    result = evaluate_bag(segmenter, path, IMAGES, TOPIC, progress=False)
    assert result.confusion.pixel_accuracy() == pytest.approx(49 / 59)


def test_labels_that_do_not_fit_are_named(
    segmenter: Segmenter, frames: list[np.ndarray], tmp_path: Path
) -> None:
    truths = truth_of(segmenter, frames)
    strange = [truth.copy() for truth in truths]
    strange[2][7, 3] = 77
    painted = [np.full((64, 96, 3), (1, 2, 3), np.uint8)]
    cases = {
        'small': (labels([truths[0][:32]]), r'does not fit frame 0: truth is \(32, 96\)'),
        'id': (labels(strange), r'1600000000\.133333334 s does not fit frame 2: truth has id 77'),
        'color': (labels(painted, encoding='rgb8'), r'color \(1, 2, 3\) in row 0, column 0'),
        'jpeg': (labels(painted, encoding='jpeg'), 'is a JPEG, which changes labels'),
        'yuv': (labels([truths[0]], encoding='mono16'), "encoding 'mono16'; labels must be mono8"),
        'apart': (labels(truths, delay=10**12), 'no ground truth matches: images are from 16'),
    }
    for name, (written, complaint) in cases.items():
        path = write_bag(tmp_path / name, in_order(*images(frames), *written))
        with pytest.raises(SourceError, match=complaint):
            evaluate_bag(segmenter, path, IMAGES, TOPIC, progress=False)


@pytest.mark.parametrize('bad', [0, 3])
def test_unusable_labels_are_named_and_the_rest_is_compared(
    segmenter: Segmenter, frames: list[np.ndarray], tmp_path: Path, bad: int
) -> None:
    written = labels(truth_of(segmenter, frames))
    written[bad] = replace(written[bad], encoding='mono16')
    path = write_bag(tmp_path / 'bag', in_order(*images(frames), *written))
    result = evaluate_bag(segmenter, path, IMAGES, TOPIC, progress=False)
    assert [frame.label_stamp is None for frame in result.frames] == [k == bad for k in range(5)]
    (problem,) = result.problems
    assert f'{stamp(bad) / 1e9:.9f} s' in problem


def test_other_metrics_need_no_ground_truth(
    segmenter: Segmenter, frames: list[np.ndarray], tmp_path: Path
) -> None:
    path = write_bag(tmp_path / 'bag', images([frames[0]] * 3 + [frames[4]]))
    figures = recording_to_dict(evaluate_bag(segmenter, path, progress=False))
    assert figures['miou'] is None
    assert figures['calibration_error'] is None
    assert figures['images'] == 4
    # Equal frames have equal labels; the last frame has moved.
    assert figures['flipped'] < 0.2


def test_frames_that_cannot_be_decoded_are_counted(
    segmenter: Segmenter, frames: list[np.ndarray], tmp_path: Path
) -> None:
    broken = Entry(IMAGES, stamp(9), stamp(9), frames[0], '32FC1')
    path = write_bag(tmp_path / 'bag', [*images(frames), broken])
    result = evaluate_bag(segmenter, path, progress=False)
    assert dict(result.rejected) == {'encoding': 1}
    assert len(result.frames) == 5
    path = write_bag(tmp_path / 'worse', [broken])
    with pytest.raises(SourceError, match=r'no frame that can be used \(rejected: 1 encoding\)'):
        evaluate_bag(segmenter, path, progress=False)


@pytest.mark.parametrize('length', [0, 5, 11, 30])
def test_messages_without_a_whole_header_are_counted(
    segmenter: Segmenter, frames: list[np.ndarray], tmp_path: Path, length: int
) -> None:
    written = images(frames)
    written[1] = replace(written[1], length=length)
    path = write_bag(tmp_path / 'bag', in_order(*written, *labels(truth_of(segmenter, frames))))
    result = evaluate_bag(segmenter, path, None, TOPIC, progress=False)
    assert sum(result.rejected.values()) == 1
    assert [frame.index for frame in result.frames] == [0, 2, 3, 4]
    assert [frame.label_stamp for frame in result.frames] == [stamp(k) for k in (0, 2, 3, 4)]


def test_bag_of_the_validation_files_has_the_same_confusion_matrix_as_the_folder(
    camvid: Path, tmp_path: Path
) -> None:
    from bag_files import COMPRESSED, IMAGE, ROS2
    from rosbags.rosbag2 import StoragePlugin, Writer

    segmenter = Segmenter.from_checkpoint('lednet', device='cpu', input_size=(96, 128))
    folder = FolderDataset(camvid, 'val', segmenter.label_map)
    subset = [folder[index] for index in range(8)]
    types = ROS2.types
    path = tmp_path / 'bag'
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        image_topic = writer.add_connection(IMAGES, COMPRESSED, typestore=ROS2)
        label_topic = writer.add_connection(LABELS, IMAGE, typestore=ROS2)
        for index, frame in enumerate(subset):
            time = types['builtin_interfaces/msg/Time'](sec=index, nanosec=5)
            header = types['std_msgs/msg/Header'](stamp=time, frame_id='camera')
            data = np.fromfile(camvid / 'val' / 'images' / f'{frame.name}.jpg', np.uint8)
            image = types[COMPRESSED](header=header, format='jpeg', data=data)
            height, width = frame.labels.shape
            label = types[IMAGE](
                header=header, height=height, width=width, encoding='mono8', is_bigendian=0,
                step=width, data=frame.labels.ravel(),
            )
            writer.write(image_topic, index, ROS2.serialize_cdr(image, COMPRESSED))
            writer.write(label_topic, index, ROS2.serialize_cdr(label, IMAGE))
    expected = evaluate(segmenter, subset).confusion
    found = evaluate_bag(segmenter, path, IMAGES, TOPIC, progress=False).confusion
    np.testing.assert_array_equal(found.counts, expected.counts)
    assert found.counts.sum() > 8 * 300 * 400


def test_the_command_writes_everything_and_judges(
    segmenter: Segmenter,
    frames: list[np.ndarray],
    small_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    entries = in_order(*images(frames), *labels(truth_of(segmenter, frames)))
    path = write_bag(tmp_path / 'bag', entries)
    out = tmp_path / 'new'
    command = [
        'evaluate', str(tmp_path / 'ba?'), '--checkpoint', str(small_checkpoint),
        '--device', 'cpu', '--backend', 'torch_eager', '--image-topic', IMAGES,
        '--label-topic', LABELS,
    ]
    written = ['--json', f'{out}/f.json', '--csv', f'{out}/f.csv', '--report', f'{out}/f.html']
    assert main([*command, *written, '--min-miou', '0.2']) == 0
    assert 'mIoU' in capsys.readouterr().out
    figures = json.loads((out / 'f.json').read_text())
    assert figures['bags'] == [str(path)]
    rows = list(csv.DictReader((out / 'f.csv').open()))
    assert [row['stamp'] for row in rows[:2]] == ['1600000000.000000000', '1600000000.066666667']
    assert float(rows[0]['pixel_accuracy']) == pytest.approx(49 / 59, abs=1e-6)
    html = (out / 'f.html').read_text()
    assert 'bag: passed' in html
    assert 'http://' not in html.replace('http://www.w3.org', '')
    assert html.count('<figure>') == 5
    # The limits: of this run, of a class, of an earlier run.
    class_name = max(
        (name for name, value in figures['iou'].items() if value is not None),
        key=lambda name: figures['iou'][name],
    )
    limits = ['--min-miou', '0.99', '--min-iou', f'{class_name}=0.999']
    assert main([*command, *limits]) == 3
    errors = capsys.readouterr().err
    assert 'fell short: mIoU is' in errors
    assert f'fell short: IoU of {class_name} is' in errors
    better = {**figures, 'miou': figures['miou'] + 0.05}
    (tmp_path / 'better.json').write_text(json.dumps(better))
    against = ['--baseline', str(tmp_path / 'better.json'), '--max-regression']
    assert main([*command, *against, '0.06']) == 0
    assert main([*command, *against, '0.04']) == 3


def test_unsupported_options_are_one_clear_error(
    frames: list[np.ndarray],
    small_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_bag(tmp_path / 'bag', images(frames))
    words = tmp_path / 'words.txt'
    words.write_text('nothing')
    empty = write_bag(tmp_path / 'empty', [])
    command = ['evaluate', '--checkpoint', str(small_checkpoint), '--device', 'cpu']
    report = tmp_path / 'report.html'
    for arguments, complaint in (
        ([str(words)], 'words.txt is not a bag'),
        ([str(tmp_path / 'gone.mcap')], 'gone.mcap does not exist'),
        ([str(empty)], 'a single image topic'),
        ([str(path), '--image-topic', '/up'], "image topic '/up'"),
        ([str(path), '--label-topic', '/up'], "label topic '/up'"),
        ([str(path), '--labels', str(tmp_path / 'none')], 'is not a folder'),
        ([str(path), '--labels', str(tmp_path)], 'no file named by its stamp'),
        ([str(path), '--labels', '.', '--label-topic', '/up'], 'only one may be'),
        ([str(path), '--flip'], '--flip is given, which is for folders only'),
        ([str(tmp_path), '--label-topic', '/up'], 'is given, which is for bags only'),
        ([str(path), '--min-iou', 'roof=0.5'], "names the class 'roof'; allowed: sky"),
        ([str(path), '--min-iou', 'road'], 'must be CLASS=IOU'),
        ([str(path), '--baseline', str(words)], 'baseline'),
        ([str(path), '--report', '/proc/none/r.html'], '/proc/none'),
    ):
        assert main([*command, '--report', str(report), *arguments]) != 0
        errors = capsys.readouterr().err
        assert complaint in errors, errors
        assert 'Traceback' not in errors
    assert not report.exists()
