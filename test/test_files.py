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
