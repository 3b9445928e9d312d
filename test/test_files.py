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

"""Tests of file locations and safe writing."""

import os
from pathlib import Path

from lednet_ros import files
from lednet_ros.files import atomic_path, share_directory
import pytest


def test_share_directory_holds_the_configuration() -> None:
    assert (share_directory() / 'config' / 'labels' / 'camvid.yaml').is_file()


def test_share_directory_of_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / 'lib' / 'python3' / 'site-packages' / 'lednet_ros' / 'files.py'
    share = tmp_path / 'share' / 'lednet_ros'
    (share / 'config').mkdir(parents=True)
    monkeypatch.setattr(files, '__file__', str(module))
    assert share_directory() == share


def test_share_directory_without_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, '__file__', str(tmp_path / 'lednet_ros' / 'files.py'))
    with pytest.raises(FileNotFoundError, match='no share/lednet_ros beside'):
        share_directory()


def test_atomic_path_makes_folders_and_leaves_only_the_file(tmp_path: Path) -> None:
    target = tmp_path / 'new' / 'folder' / 'result.json'
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == target.suffix
        temporary.write_text('new')
        assert not target.exists()
    assert target.read_text() == 'new'
    assert list(target.parent.iterdir()) == [target]


def test_atomic_path_keeps_the_old_file_when_the_block_fails(tmp_path: Path) -> None:
    target = tmp_path / 'result.json'
    target.write_text('old')
    with pytest.raises(RuntimeError, match='stop'):
        with atomic_path(str(target)) as temporary:
            temporary.write_text('half')
            raise RuntimeError('stop')
    assert target.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [target]


def test_atomic_path_replaces(tmp_path: Path) -> None:
    target = tmp_path / 'result.json'
    target.write_text('old')
    with atomic_path(target) as temporary:
        temporary.write_text('new')
        assert target.read_text() == 'old'
    assert target.read_text() == 'new'


@pytest.mark.parametrize('below', ['result.json', 'folder/result.json'])
def test_atomic_path_below_a_file_names_the_path(tmp_path: Path, below: str) -> None:
    (tmp_path / 'file').write_text('in the way')
    with pytest.raises(NotADirectoryError, match=r'into .*file.*where a folder is needed'):
        with atomic_path(tmp_path / 'file' / below):
            pytest.fail('the block must not run')


def test_atomic_path_refuses_a_folder(tmp_path: Path) -> None:
    (tmp_path / 'folder').mkdir()
    with pytest.raises(OSError, match='folder'):
        with atomic_path(tmp_path / 'folder') as temporary:
            temporary.write_text('text')
    assert list(tmp_path.iterdir()) == [tmp_path / 'folder']


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_atomic_path_in_an_unwritable_folder(tmp_path: Path) -> None:
    folder = tmp_path / 'locked'
    folder.mkdir(mode=0o500)
    with pytest.raises(PermissionError, match='locked'):
        with atomic_path(folder / 'result.json') as temporary:
            temporary.write_text('text')


def test_the_cache_keeps_the_newest_files_of_each_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, 'CACHED_FILES', 2)
    other = tmp_path / 'other.json'
    other.write_text('{}', encoding='utf-8')
    for number in range(4):
        path = tmp_path / f'{number}.openvino'
        files.keep_in_cache(path, b'model')
        os.utime(path, (number, number))
    files.keep_in_cache(tmp_path / 'last.openvino', b'model')
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        '3.openvino', 'last.openvino', 'other.json'
    ]


@pytest.mark.parametrize(('inputs', 'names'), [
    (['a.png', 'b.png'], ['a', 'b']),
    (['a.png', 'a.jpg'], ['a.png', 'a.jpg']),
    (['A.png', 'a.jpg'], ['A.png', 'a.jpg']),
    (['left/1.png', 'right/1.png'], ['left/1', 'right/1']),
    (['left/1.png', 'left/1.jpg', 'right/1.png'], ['left/1', '1.jpg', 'right/1']),
    (['a.jpg.png', 'a.png', 'a.jpg'], ['a.jpg.png', 'a.png', 'a']),
    (['x/left/1.mcap', 'y/left/1.mcap'], ['x/left/1', 'y/left/1']),
    (['a', 'a.mp4'], ['a', 'a.mp4']),
    (['1.png', 'sub/1.png', 'sub/1.jpg'], ['1', 'sub/1', '1.jpg']),
    ([], []),
])
def test_names_of_results_differ(inputs: list[str], names: list[str]) -> None:
    assert files.unique_names([Path(name) for name in inputs]) == names


def test_two_outputs_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='given for two outputs'):
        files.claim_files([tmp_path / 'a', tmp_path / 'b' / '..' / 'a'])


def test_a_bag_that_can_not_be_replaced_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ('before', 'part/after'):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / 'file').write_text(name)
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name == 'after':
            raise OSError('no space left')
        return rename(self, target)

    monkeypatch.setattr(Path, 'rename', fail)
    with pytest.raises(OSError, match='no space'):
        files.publish(tmp_path / 'part/after', tmp_path / 'before')
    assert (tmp_path / 'before' / 'file').read_text() == 'before'


def test_what_is_complete_is_said(tmp_path: Path) -> None:
    files.forget_outputs()
    assert files.describe_outputs() == ''
    files.claim_folder(tmp_path / 'images')
    files.claim_files([tmp_path / 'a.json', tmp_path / 'b.csv'])
    for name in ('a.json', 'images/0.png', 'images/1.png'):
        with atomic_path(tmp_path / name) as temporary:
            temporary.touch()
    assert files.describe_outputs() == (
        f'complete: 2 files in {tmp_path}/images, {tmp_path}/a.json; not written: {tmp_path}/b.csv'
    )


@pytest.mark.parametrize('place', ['no home', 'file', 'full'])
def test_without_a_cache_one_warning_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    for name in ('LEDNET_ROS_CACHE', 'XDG_CACHE_HOME', 'HOME'):
        monkeypatch.delenv(name, raising=False)
    if place == 'no home':
        # As in a container with `--user 1234`.
        monkeypatch.setattr(os, 'getuid', lambda: 2**31 - 2)
    elif place == 'file':
        (tmp_path / 'cache').touch()
        monkeypatch.setenv('LEDNET_ROS_CACHE', str(tmp_path / 'cache'))
    else:
        monkeypatch.setenv('XDG_CACHE_HOME', '/dev/full')
    monkeypatch.setattr(files, '_warned', set())
    for name in ('a.json', 'b.openvino'):
        path = files.cache_folder() / name
        files.keep_in_cache(path, b'content')
        with pytest.raises(OSError, match=name):
            path.read_bytes()
    (record,) = caplog.records
    assert 'nothing is kept for the next start' in record.getMessage()
    assert ('has no home' in record.getMessage()) == (place == 'no home')
