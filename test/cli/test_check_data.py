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

"""Tests of `lednet check-data`."""

from collections.abc import Callable
import json
from pathlib import Path
import shutil
from typing import Any

from lednet_ros.cli.main import main
import pytest

MakeDataset = Callable[..., Path]


def check(
    capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0
) -> dict[str, Any]:
    """Run the command; return its report."""
    assert main(['check-data', *map(str, arguments), '--json']) == code
    return dict(json.loads(capsys.readouterr().out))


def test_a_good_folder(
    tmp_path: Path, make_folder_dataset: MakeDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder_dataset(tmp_path, {'train': 3, 'val': 1})
    reports = check(capsys, root)
    assert list(reports) == ['train', 'val']
    train = reports['train']
    assert train['frames'] == 3
    assert train['sizes'] == {'96x64': 3}
    assert train['classes']['road']['frames'] == 3
    shares = [entry['share'] for entry in train['classes'].values()]
    assert sum(shares) + train['unlabeled'] == pytest.approx(1)
    assert list(check(capsys, root, '--split', 'val')) == ['val']
    assert main(['check-data', str(root)]) == 0
    text = capsys.readouterr().out
    assert 'train: 3 frames (3 of 96x64)' in text
    road = next(line for line in text.splitlines() if line.split()[:1] == ['road'])
    assert road.split() == ['road', f"{100 * train['classes']['road']['share']:.2f}", '3']
    assert text.count('no problems') == 2


def test_problems_are_printed_and_exit_with_1(
    tmp_path: Path, make_folder_dataset: MakeDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder_dataset(tmp_path, {'train': 2, 'val': 1})
    missing, damaged = sorted((root / 'train' / 'labels').iterdir())
    missing.unlink()
    damaged.write_bytes(b'no png')
    problems = check(capsys, root, code=1)['train']['problems']
    for file, problem in zip((missing, damaged), problems, strict=True):
        assert str(file) in problem
    assert main(['check-data', str(root)]) == 1
    text = capsys.readouterr().out
    assert '2 problems:' in text
    assert str(missing) in text
    assert str(damaged) in text
    assert 'none is readable' in text


@pytest.mark.parametrize('layout', ['folder', 'image_folder'])
def test_images_in_several_splits_are_counted(
    layout: str, tmp_path: Path, make_folder_dataset: MakeDataset, make_image_folder: MakeDataset,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if layout == 'folder':
        root = make_folder_dataset(tmp_path, {'train': 3, 'val': 2})
        images, labels = (sorted((root / 'train' / kind).iterdir()) for kind in (
            'images', 'labels'))
        # Under another name, as from another download.
        shutil.copy(images[0], root / 'val' / 'images' / 'copy.png')
        shutil.copy(labels[0], root / 'val' / 'labels' / 'copy.png')
    else:
        root = make_image_folder(tmp_path)
        image = next((root / 'train' / 'n01').iterdir())
        shutil.copy(image, root / 'val' / 'n01' / 'copy.JPEG')
    reports = check(capsys, root)
    assert reports['train']['also_in'] == {'val': 1}
    assert reports['val']['also_in'] == {'train': 1}
    assert main(['check-data', str(root)]) == 0
    assert 'images that are also in train: 1' in capsys.readouterr().out


def test_cityscapes_with_its_label_map(
    tmp_path: Path, make_cityscapes: MakeDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = {'train': {'aachen': 2, 'bochum': 1}, 'train_extra': {'erlangen': 1}}
    root = make_cityscapes(tmp_path, counts)
    fine = check(capsys, root)
    assert list(fine) == ['train']
    assert fine['train']['frames'] == 3
    assert fine['train']['classes']['road']['frames'] == 3
    assert list(check(capsys, root, '--annotations', 'gtCoarse')) == ['train', 'train_extra']


def test_classified_images(
    tmp_path: Path, make_image_folder: MakeDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_image_folder(tmp_path)
    (root / 'train' / 'n02' / 'n02_0.JPEG').unlink()
    reports = check(capsys, root)
    assert reports['train'] == {
        'images': 11, 'classes': {'n01': 4, 'n02': 3, 'n03': 4}, 'problems': [], 'also_in': {}
    }
    assert main(['check-data', str(root), '--split', 'train']) == 0
    text = capsys.readouterr().out
    assert 'train: 11 images of 3 classes' in text
    assert 'fewest n02 3' in ' '.join(text.split())


def test_folder_without_a_data_set_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['check-data', str(tmp_path)]) == 1
    assert 'has no splits' in capsys.readouterr().err
    assert main(['check-data', str(tmp_path), '--split', 'val']) == 1
    assert 'val/images is not a folder' in capsys.readouterr().err


def test_camvid_is_clean(camvid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports = check(capsys, camvid)
    assert {split: report['frames'] for split, report in reports.items()} == {
        'train': 367, 'val': 101
    }
    assert all(report['sizes'] == {'480x360': report['frames']} for report in reports.values())
