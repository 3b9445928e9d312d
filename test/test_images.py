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

"""Images and videos at paths that OpenCV doesn't take, or takes for something else."""

import os
from pathlib import Path
import re

from lednet_ros.datasets.frames import DatasetError, read_image
from lednet_ros.images import find_images, open_video, write_png
from lednet_ros.recordings.sources import read_frames
from lednet_ros.recordings.writers import BagWriter, VideoWriter
import numpy as np
import pytest

NAMES = (
    'plain', 'rtsp:colon', 'spaces and "quotes"', '100%d', 'new\nline', '-dash', 'ümläut 図',
    os.fsdecode(b'latin1 \xe9\xff'), '#&?;*[x]', 'x' * 240,
)
PIXELS = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('is_relative', [False, True])
def test_any_name_is_written_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, is_relative: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path() if is_relative else tmp_path / 'folder' / name
    folder.mkdir(parents=True, exist_ok=True)
    image, video = folder / f'{name}.png', folder / f'{name}.mp4'
    write_png(image, PIXELS)
    np.testing.assert_array_equal(read_image(image)[..., ::-1], PIXELS)
    writer = VideoWriter(video, 10.0)
    for index in range(3):
        writer.write(index * 10**8, PIXELS)
    writer.close()
    with open_video(video) as capture:
        assert capture.isOpened()
    assert len(list(read_frames(video))) == 3
    (frame,) = read_frames(image)
    assert frame.name == name
    bag = BagWriter(folder / f'{name[:100]}_bag')
    bag.write('/a', 'std_msgs/msg/String', 0, b'\x00\x01\x00\x00\x02\x00\x00\x00x\x00')
    bag.close()


@pytest.mark.parametrize(('what', 'complaint'), [
    ('missing', 'No such file'), ('empty', 'is not a readable image'),
    ('folder', 'Is a directory'), ('text', 'is not a readable image'),
])
def test_an_image_that_can_not_be_read_is_named(
    tmp_path: Path, what: str, complaint: str
) -> None:
    path = tmp_path / 'x.png'
    if what == 'folder':
        path.mkdir()
    elif what != 'missing':
        path.write_text('' if what == 'empty' else 'words')
    with pytest.raises(DatasetError, match=r'x\.png is not a readable image.*') as caught:
        read_image(path)
    assert complaint in str(caught.value)


def test_hidden_files_and_folders_are_no_images(tmp_path: Path) -> None:
    for name in ('1.png', '._1.png', '.2.jpg', 'notes.txt', '3.TIF'):
        (tmp_path / name).touch()
    (tmp_path / 'x.jpg').mkdir()
    (tmp_path / 'broken.png').symlink_to('nowhere')
    assert [path.name for path in find_images(tmp_path)] == ['1.png', '3.TIF', 'broken.png']


def test_one_place_hands_paths_to_opencv() -> None:
    package = Path(__file__).parents[1] / 'lednet_ros'
    uses = re.compile(r'cv2\.(imread|imwrite|VideoCapture\(|VideoWriter\(|haveImage)')
    assert [p.name for p in package.rglob('*.py') if uses.search(p.read_text('utf-8'))] == [
        'images.py'
    ]
