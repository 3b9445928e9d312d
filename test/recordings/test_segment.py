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

"""Tests of `lednet segment`; its output is read by other libraries."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
import re
import shutil
from typing import Any

from bag_files import Entry, ROS2, write_bag, write_ros1_bag
import cv2
from lednet_ros.checkpoint import Checkpoint
from lednet_ros.cli.main import main
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.recordings import segment
from lednet_ros.recordings.bags import open_bag, SourceError
from lednet_ros.recordings.segment import Look, segment_recording
from lednet_ros.synthetic import StreetScene
from mcap.reader import make_reader
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

SECOND = 10**9
START = 1_600_000_000 * SECOND


@pytest.fixture
def segmenter(small_content: Checkpoint) -> Segmenter:
    return Segmenter(small_content, device='cpu', backend='torch_eager')


@pytest.fixture(scope='module')
def frames() -> list[np.ndarray]:
    scene = StreetScene(96, 64, seed=2)
    return [np.ascontiguousarray(scene.render(k / 10)[0][..., ::-1]) for k in range(4)]


def entries(frames: list[np.ndarray], encoding: str = 'bgr8') -> list[Entry]:
    return [
        Entry('/camera/image_raw', START + k * SECOND // 10, START + k * SECOND // 10 + 7, f,
              encoding)
        for k, f in enumerate(frames)
    ]


def expected(segmenter: Segmenter, frames: list[np.ndarray]) -> list[np.ndarray]:
    return [segmenter.segment([f[..., ::-1]]).labels[0].copy() for f in frames]


def read_images(folder: Path) -> list[np.ndarray]:
    return [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(folder.iterdir())]


@pytest.mark.parametrize('source', ['folder', 'bag', 'ros1'])
def test_label_images(
    segmenter: Segmenter, frames: list[np.ndarray], tmp_path: Path, source: str
) -> None:
    if source == 'folder':
        path = tmp_path / 'frames'
        path.mkdir()
        for index, frame in enumerate(frames):
            cv2.imwrite(str(path / f'street{index}.png'), frame)
        names = [f'street{index}.png' for index in range(4)]
    else:
        write = write_bag if source == 'bag' else write_ros1_bag
        path = write(tmp_path / ('drive' if source == 'bag' else 'drive.bag'), entries(frames))
        names = [f'1600000000.{index}00000000.png' for index in range(4)]
    summary = segment_recording(segmenter, path, tmp_path / 'out', 'labels')
    assert (summary.frames, summary.problems) == (4, [])
    assert sorted(file.name for file in (tmp_path / 'out').iterdir()) == names
    np.testing.assert_array_equal(
        read_images(tmp_path / 'out'), expected(segmenter, frames)
    )


def test_colors_and_overlays(
    segmenter: Segmenter, frames: list[np.ndarray], tmp_path: Path
) -> None:
    path = write_bag(tmp_path / 'bag', entries(frames))
    segment_recording(segmenter, path, tmp_path / 'color', 'color')
    labels = expected(segmenter, frames)
    for image, ids in zip(read_images(tmp_path / 'color'), labels, strict=True):
        np.testing.assert_array_equal(image[..., ::-1], segmenter.label_map.palette[ids])
    look = Look(legend=True, boundaries=True)
    segment_recording(segmenter, path, tmp_path / 'overlay', 'overlay', look=look)
    overlay = read_images(tmp_path / 'overlay')[0]
    assert overlay.shape[0] > 64
    right = labels[0][:, :-1] != labels[0][:, 1:]
    assert (overlay[:64, :-1][right] == 255).all()
    segment_recording(segmenter, path, tmp_path / 'plain', 'overlay')
    plain = read_images(tmp_path / 'plain')[0]
    assert plain.shape == (64, 96, 3)
    np.testing.assert_array_equal(plain, segmenter.segment([_bgr(frames[0])]).overlay[0])


def _bgr(pixels: np.ndarray) -> Any:
    from lednet_ros.inference.encodings import Frame

    return Frame(pixels, 'bgr')


def test_video_has_every_frame_at_the_rate_of_the_bag(
    segmenter: Segmenter, frames: list[np.ndarray], tmp_path: Path
) -> None:
    path = write_bag(tmp_path / 'bag', entries(frames))
    segment_recording(segmenter, path, tmp_path / 'v.mp4', 'video')
    capture = cv2.VideoCapture(str(tmp_path / 'v.mp4'))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 4
    # The video can be segmented again.
    segment_recording(segmenter, tmp_path / 'v.mp4', tmp_path / 'again', 'labels')
    assert sorted(file.name for file in (tmp_path / 'again').iterdir())[1] == '0.100000000.png'


def write_full_bag(path: Path, frames: list[np.ndarray]) -> Path:
    """Write frames with camera_info, and a topic of an unknown type."""
    types = ROS2.types
    with Writer(path, version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        image = writer.add_connection('/camera/image_raw', 'sensor_msgs/msg/Image',
                                      typestore=ROS2)
        info = writer.add_connection('/camera/camera_info', 'sensor_msgs/msg/CameraInfo',
                                     typestore=ROS2)
        other = writer.add_connection('/speed', 'std_msgs/msg/Float64', typestore=ROS2)
        strange = writer.add_connection('/strange', 'own_msgs/msg/Thing', msgdef='int32 x\n',
                                        rihs01='RIHS01_' + '1' * 64)
        region = types['sensor_msgs/msg/RegionOfInterest'](0, 0, 0, 0, False)
        for index, frame in enumerate(frames):
            header = types['std_msgs/msg/Header'](
                types['builtin_interfaces/msg/Time'](1600000000, index), 'cam'
            )
            camera = types['sensor_msgs/msg/CameraInfo'](
                header, 64, 96, 'plumb_bob', np.zeros(5), np.arange(9.0), np.eye(3).ravel(),
                np.arange(12.0), 0, 0, region,
            )
            message = types['sensor_msgs/msg/Image'](
                header, 64, 96, 'bgr8', 0, 288, frame.reshape(-1)
            )
            writer.write(info, index, ROS2.serialize_cdr(camera, info.msgtype))
            writer.write(image, index, ROS2.serialize_cdr(message, image.msgtype))
            speed = types['std_msgs/msg/Float64'](float(index))
            writer.write(other, index, ROS2.serialize_cdr(speed, other.msgtype))
            writer.write(strange, index, b'\x00\x01\x00\x00\x05\x00\x00\x00')
    return path


def test_topics_of_the_node_are_added_to_a_bag(
    small_content: Checkpoint, frames: list[np.ndarray], tmp_path: Path
) -> None:
    segmenter = Segmenter(
        small_content, device='cpu', backend='torch_eager', output_size=(32, 48)
    )
    path = write_full_bag(tmp_path / 'bag', frames)
    segment_recording(segmenter, path, tmp_path / 'out', 'bag')
    labels = expected(segmenter, frames)
    with open_bag(path) as bag:
        before = [(m.topic, m.time, m.data) for m in bag.messages()]
    with open_bag(tmp_path / 'out') as bag:
        messages = list(bag.messages())
        topics = {topic.name: topic for topic in bag.topics}
    node = '/segmentation_node'
    added = [f'{node}/{name}' for name in ('labels', 'confidence', 'overlay', 'camera_info')]
    assert sorted((m.topic, m.time, m.data) for m in messages if not m.topic.startswith(node)) == (
        sorted(before)
    )
    assert topics['/strange'].type == 'own_msgs/msg/Thing'
    assert {name: topics[name].count for name in added} == dict.fromkeys(added, 4)
    (info,) = [m.content for m in messages if m.topic == f'{node}/label_info']
    assert [one.class_name for one in info.class_map] == list(segmenter.label_map.names)
    found = [m for m in messages if m.topic == f'{node}/labels']
    for index, (message, ids) in enumerate(zip(found, labels, strict=True)):
        image = message.content
        # Nav2 requires mono8, step = width and the requested size.
        assert (image.encoding, image.step, image.height) == ('mono8', 48, 32)
        assert (image.header.stamp.nanosec, image.header.frame_id) == (index, 'cam')
        assert message.time == index
        np.testing.assert_array_equal(image.data.reshape(32, 48), ids)
    scaled = next(m for m in messages if m.topic == f'{node}/camera_info').content
    assert (scaled.width, scaled.height, scaled.k[0], scaled.k[2]) == (48, 32, 0.0, 1.0)
    # The mcap library's reader agrees.
    (file,) = (tmp_path / 'out').glob('*.mcap')
    with file.open('rb') as stream:
        read = [(c.topic, m.log_time) for _, c, m in make_reader(stream).iter_messages()]
    assert sorted(read) == sorted((m.topic, m.time) for m in messages)
    # A second run would mix two results.
    with pytest.raises(SourceError, match=r"has '/segmentation_node/.*' already"):
        segment_recording(segmenter, tmp_path / 'out', tmp_path / 'twice', 'bag')
    assert not (tmp_path / 'twice').exists()


def test_compressed_bag_has_the_same_content(
    segmenter: Segmenter, frames: list[np.ndarray], tmp_path: Path
) -> None:
    path = write_bag(tmp_path / 'bag', entries(frames))
    contents, sizes = [], []
    for name, compress in (('plain', False), ('small', True)):
        segment_recording(segmenter, path, tmp_path / name, 'bag', compress=compress)
        with open_bag(tmp_path / name) as bag:
            contents.append([(m.topic, m.time, m.data) for m in bag.messages()])
        (file,) = (tmp_path / name).glob('*.mcap')
        sizes.append(file.stat().st_size)
        with file.open('rb') as stream:
            assert len(list(make_reader(stream).iter_messages())) == len(contents[0])
    assert contents[0] == contents[1]
    assert sizes[1] < 0.8 * sizes[0]


def test_ros_1_bag_becomes_a_ros_2_bag(
    segmenter: Segmenter, frames: list[np.ndarray], tmp_path: Path
) -> None:
    path = write_ros1_bag(tmp_path / 'drive.bag', entries(frames, 'jpeg'))
    segment_recording(segmenter, path, tmp_path / 'out', 'bag')
    with open_bag(tmp_path / 'out') as bag:
        assert not bag.is_ros1
        counts = {topic.name: topic.count for topic in bag.topics}
    assert counts['/camera/image_raw'] == counts['/segmentation_node/labels'] == 4
    assert sorted(file.name for file in tmp_path.iterdir()) == ['drive.bag', 'out']


def test_readable_part_of_a_truncated_bag_is_segmented(
    segmenter: Segmenter, tmp_path: Path, frames: list[np.ndarray],
    capsys: pytest.CaptureFixture[str], small_checkpoint: Path,
) -> None:
    path = write_bag(tmp_path / 'bag', entries(frames * 40))
    (file,) = path.glob('*.mcap')
    data = file.read_bytes()
    file.write_bytes(data[: len(data) * 2 // 3])
    command = ['segment', str(path), '-o', str(tmp_path / 'out'), '--checkpoint',
               str(small_checkpoint), '--device', 'cpu', '--backend', 'torch_eager']
    assert main(command) == 1
    assert 'lost:' in capsys.readouterr().err
    with open_bag(tmp_path / 'out') as bag:
        counts = {topic.name: topic.count for topic in bag.topics}
        assert not bag.damage
    assert 0 < counts['/segmentation_node/labels'] < 160


def test_readable_part_of_a_truncated_video_is_segmented(
    segmenter: Segmenter, frames: list[np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / 'v.avi'
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 10.0, (96, 64))
    for frame in frames * 10:
        video.write(frame)
    video.release()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    summary = segment_recording(segmenter, path, tmp_path / 'out', 'labels')
    assert 0 < summary.frames < 40
    assert summary.problems == [f'{path} ends after {summary.frames} of 40 frames']
    assert len(list((tmp_path / 'out').iterdir())) == summary.frames


def test_undecodable_frame_is_skipped_and_named(
    segmenter: Segmenter, frames: list[np.ndarray], tmp_path: Path
) -> None:
    written = entries(frames)
    written[1] = Entry(written[1].topic, written[1].stamp, written[1].time, frames[1], '32FC1')
    path = write_bag(tmp_path / 'bag', written)
    summary = segment_recording(segmenter, path, tmp_path / 'out', 'bag')
    assert summary.frames == 3
    assert "frame at 1600000000.100000000 s was left out: encoding '32FC1'" in summary.problems[0]
    with open_bag(tmp_path / 'out') as bag:
        counts = {topic.name: topic.count for topic in bag.topics}
    assert counts['/camera/image_raw'] == 4
    assert counts['/segmentation_node/labels'] == 3


def test_message_with_truncated_header_is_skipped_and_named(
    segmenter: Segmenter, frames: list[np.ndarray], tmp_path: Path
) -> None:
    written = entries(frames)
    written[1] = replace(written[1], length=5)
    path = write_bag(tmp_path / 'bag', written)
    summary = segment_recording(segmenter, path, tmp_path / 'out', 'labels')
    assert summary.frames == 3
    assert len(summary.problems) == 1
    assert 'was left out' in summary.problems[0]


@pytest.mark.parametrize('kind', ['bag', 'video', 'labels'])
def test_interrupted_run_keeps_finished_results(
    segmenter: Segmenter, frames: list[np.ndarray], tmp_path: Path, kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(items: Iterator[Any], *_: object, **__: object) -> Iterator[Any]:
        for number, item in enumerate(items):
            if number == 3:
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr(segment, 'prefetch', interrupted)
    path = write_bag(tmp_path / 'bag', entries(frames))
    output = tmp_path / ('v.mp4' if kind == 'video' else 'out')
    with pytest.raises(KeyboardInterrupt):
        segment_recording(segmenter, path, output, kind)
    if kind == 'bag':
        with open_bag(output) as bag:
            counts = {topic.name: topic.count for topic in bag.topics}
        assert counts['/segmentation_node/labels'] == 3
    elif kind == 'video':
        assert cv2.VideoCapture(str(output)).get(cv2.CAP_PROP_FRAME_COUNT) == 3
    else:
        assert len(list(output.iterdir())) == 3
    assert not [file for file in tmp_path.iterdir() if file.name.startswith('.')]


def test_failed_run_leaves_no_output(
    segmenter: Segmenter, frames: list[np.ndarray], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError('no space left')

    path = write_bag(tmp_path / 'bag', entries(frames))
    monkeypatch.setattr(segment, 'decode_image', fail)
    for kind, name in (('bag', 'out'), ('video', 'v.mp4')):
        with pytest.raises(OSError, match='no space'):
            segment_recording(segmenter, path, tmp_path / name, kind)
    assert [file.name for file in tmp_path.iterdir()] == ['bag']


def test_unsupported_request_is_one_clear_error(
    frames: list[np.ndarray], small_checkpoint: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_bag(tmp_path / 'bag', entries(frames))
    image = tmp_path / 'a.png'
    cv2.imwrite(str(image), frames[0])
    empty = write_bag(tmp_path / 'empty', [])
    out = tmp_path / 'out'
    for arguments, complaint in (
        ([str(tmp_path / 'gone'), '-o', str(out)], 'gone does not exist'),
        ([str(image), '-o', str(out), '--as', 'bag'], 'is not a bag'),
        ([str(path), '-o', str(path)], 'is input and output'),
        ([str(path), '-o', str(out), '--image-topic', '/up'], "image topic '/up'"),
        ([str(empty), '-o', str(out)], 'a single image topic'),
        ([str(path), '-o', '/proc/none/out'], '/proc/none'),
        ([str(path), '-o', str(out), '--alpha', '2'], 'overlay_alpha is 2.0; allowed: 0 to 1'),
    ):
        command = ['segment', *arguments, '--checkpoint', str(small_checkpoint)]
        assert main([*command, '--device', 'cpu', '--backend', 'torch_eager']) == 1
        errors = capsys.readouterr().err
        assert complaint in errors, errors
        assert 'Traceback' not in errors
        shutil.rmtree(out, ignore_errors=True)


def test_written_labels_are_ground_truth_for_evaluate(
    frames: list[np.ndarray], small_checkpoint: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_bag(tmp_path / 'bag', entries(frames))
    common = ['--checkpoint', str(small_checkpoint), '--device', 'cpu', '--backend', 'torch_eager']
    out = tmp_path / 'labels'
    assert main(['segment', str(path), '-o', str(out), '--as', 'labels', *common]) == 0
    assert main(['evaluate', str(path), '--labels', str(out), '--min-miou', '1', *common]) == 0
    capsys.readouterr()


@pytest.mark.parametrize(('inputs', 'kind', 'results'), [
    (['left/1.png', 'right/1.png'], 'labels', ['left/1.png', 'right/1.png']),
    (['left/1.png', 'left/../left/1.png'], 'labels', ['1.png']),
    (['left'], 'labels', ['1.jpg.png', '1.png.png', '2.png']),
    (['left/1.png', 'left'], 'labels', ['1.png', *(f'left/{n}.png' for n in (
        '1.jpg', '1.png', '2'))]),
    (['a.avi', 'b.avi'], 'overlay', [f'{v}/{s}.png' for v in 'ab' for s in ('0.000000000',
                                                                            '0.100000000')]),
    (['left/a.avi', 'right/a.avi', 'a.avi'], 'video', ['a.mp4', 'left/a.mp4', 'right/a.mp4']),
    (['a.avi', 'a'], 'video', ['a.avi.mp4', 'a.mp4']),
    (['a', 'left/a'], 'bag', [f'{f}{g}' for f in ('a', 'left/a') for g in (
        '/a.mcap', '/metadata.yaml')]),
    (['a', 'left/a'], 'labels', [f'{f}/{s}.png' for f in ('a', 'left/a') for s in (
        '7.000000000', '7.000000000_2')]),
])
def test_as_many_results_as_frames_under_names_that_differ(
    frames: list[np.ndarray], small_checkpoint: Path, tmp_path: Path, inputs: list[str],
    kind: str, results: list[str], capsys: pytest.CaptureFixture[str],
) -> None:
    for folder in ('left', 'right'):
        (tmp_path / folder).mkdir()
        for name in ('1.png', '1.jpg', '2.png'):
            cv2.imwrite(str(tmp_path / folder / name), frames[0])
    for name in ('a.avi', 'b.avi', 'left/a.avi', 'right/a.avi'):
        codec = cv2.VideoWriter.fourcc(*'MJPG')
        video = cv2.VideoWriter(str(tmp_path / name), codec, 10, (96, 64))
        for frame in frames[:2]:
            video.write(frame)
        video.release()
    for name in ('a', 'left/a'):
        # Both frames have the same stamp.
        write_bag(tmp_path / name, [Entry('/image', 7 * SECOND, k, frames[k], 'bgr8')
                                    for k in range(2)])
    out = tmp_path / 'out'
    assert main(['segment', *(str(tmp_path / name) for name in inputs), '-o', str(out), '--as',
                 kind, '--checkpoint', str(small_checkpoint), '--device', 'cpu', '--backend',
                 'torch_eager']) == 0
    found = sorted(str(path.relative_to(out)) for path in out.rglob('*') if path.is_file())
    assert [re.sub(r'^(.*)/[^/]*\.mcap$', r'\1/a.mcap', name) for name in found] == sorted(results)
    reported = sum(int(line.split()[-2]) for line in capsys.readouterr().out.splitlines())
    assert kind in ('video', 'bag') or reported == len(results)


def test_reading_goes_on_after_a_bad_item(
    frames: list[np.ndarray], small_checkpoint: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / 'images'
    folder.mkdir()
    for index, frame in enumerate(frames):
        cv2.imwrite(str(folder / f'{index}.png'), frame)
    (folder / '1.png').write_bytes(b'')
    (folder / '._0.png').write_bytes(b'\x00\x05\x16\x07')
    (folder / 'x.jpg').mkdir()
    (folder / 'lost.png').symlink_to('nowhere')
    (tmp_path / 'words.mp4').write_text('no video')
    (tmp_path / 'empty').mkdir()
    inputs = ['words.mp4', 'missing', 'empty', 'images', 'images/2.png']
    out = tmp_path / 'out'
    assert main(['segment', *(str(tmp_path / name) for name in inputs), '-o', str(out),
                 '--checkpoint', str(small_checkpoint), '--device', 'cpu', '--backend',
                 'torch_eager']) == 1
    found = sorted(str(path.relative_to(out)) for path in out.rglob('*') if path.is_file())
    assert found == ['2.png', 'images/0.png', 'images/2.png', 'images/3.png']
    lost = [line for line in capsys.readouterr().err.splitlines() if line.startswith('lost: ')]
    assert len(lost) == 5
    for name in ('words.mp4', 'missing', 'empty', '1.png', 'lost.png'):
        assert sum(name in line for line in lost) == 1
