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

"""Tests of `lednet evaluate`; on Cityscapes: test/evaluation/test_cityscapes.py."""

import json
from pathlib import Path

import cv2
from lednet_ros.cli.main import main
from lednet_ros.datasets import synthetic_frames
import numpy as np
import pytest


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labeled streets, in the layout of a data set."""
    folder = tmp_path_factory.mktemp('data')
    for part in ('images', 'labels'):
        (folder / 'val' / part).mkdir(parents=True)
    for frame in synthetic_frames(2, (64, 96), seed=0):
        image = str(folder / 'val' / 'images' / f'{frame.name}.png')
        cv2.imwrite(image, frame.pixels[..., ::-1])
        cv2.imwrite(str(folder / 'val' / 'labels' / f'{frame.name}.png'), frame.labels)
    return folder


def test_evaluate(
    capsys: pytest.CaptureFixture[str], small_checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    path = tmp_path / 'new' / 'figures.json'
    arguments = ['evaluate', data, '--split', 'val', '--checkpoint', small_checkpoint]
    assert main([*map(str, arguments), '--device', 'cpu', '--json', str(path)]) == 0
    figures = json.loads(path.read_text(encoding='utf-8'))
    assert set(figures) == {
        'miou', 'category_miou', 'pixel_accuracy', 'iou', 'category_iou', 'images', 'fps',
        'parameters', 'calibration_error',
    }
    assert figures['images'] == 2
    assert 900_000 < figures['parameters'] < 950_000
    assert 0 <= figures['miou'] <= 1
    seen = [value for value in figures['iou'].values() if value is not None]
    assert figures['miou'] == pytest.approx(np.mean(seen))
    assert f"{figures['miou']:.4f}" in capsys.readouterr().out


def test_evaluate_with_another_label_map(
    small_checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    custom = tmp_path / 'custom.yaml'
    classes = ''.join(
        f'  - {{id: {i}, name: c{i}, color: [{i}, 0, 0], category: all}}\n' for i in range(11)
    )
    custom.write_text(f'name: custom\nclasses:\n{classes}', encoding='utf-8')
    path = tmp_path / 'figures.json'
    arguments = [data, '--checkpoint', small_checkpoint, '--label-map', custom, '--json', path]
    assert main(['evaluate', *map(str, arguments)]) == 0
    figures = json.loads(path.read_text(encoding='utf-8'))
    assert list(figures['iou']) == [f'c{i}' for i in range(11)]
    # One category holds every class, so nothing can be confused.
    assert figures['category_miou'] == 1.0


def test_errors_of_evaluate_are_one_line(
    capsys: pytest.CaptureFixture[str], small_checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    def fail(*arguments: str | Path) -> str:
        assert main(['evaluate', *map(str, arguments)]) == 1
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith('lednet evaluate: ')
        return line

    use = ('--checkpoint', small_checkpoint)
    assert 'nothing.pth' in fail(data, '--checkpoint', tmp_path / 'nothing.pth')
    assert 'nowhere does not exist' in fail(tmp_path / 'nowhere', *use)
    assert 'test/images' in fail(data, '--split', 'test', *use)
    assert "device is 'gpu'" in fail(data, '--device', 'gpu', *use)
    eager = ('--backend', 'torch_eager')
    assert "precision is 'int8'" in fail(data, '--precision', 'int8', *eager, *use)
    assert "no label map 'none'" in fail(data, '--label-map', 'none', *use)
    assert '11 outputs do not fit' in fail(data, '--label-map', 'cityscapes', *use)
    bad = tmp_path / 'bad.yaml'
    bad.write_text('a: [')
    assert 'bad.yaml' in fail(data, '--label-map', bad, *use)
    assert 'scale is 0.5' in fail(data, '--scales', '1,0.5', *use)
    assert 'leftImg8bit/val is not a folder' in fail(data, '--layout', 'cityscapes', *use)
    (tmp_path / 'leftImg8bit').mkdir()
    assert 'leftImg8bit/val is not a folder' in fail(tmp_path, *use)
    assert 'val/images is not a folder' in fail(tmp_path, '--layout', 'folder', *use)
    assert 'gtCoarse' in fail(tmp_path, '--annotations', 'gtCoarse', *use)


def test_unwritable_output_of_evaluate_is_named(
    capsys: pytest.CaptureFixture[str], small_checkpoint: Path, data: Path
) -> None:
    # A file where a folder is needed stops root too.
    below = small_checkpoint / 'figures.json'
    arguments = ['evaluate', data, '--checkpoint', small_checkpoint, '--json', below]
    assert main(list(map(str, arguments))) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"lednet evaluate: can't write into {small_checkpoint}")


def test_scaled_and_mirrored_views_change_the_metrics(
    small_checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    def accuracy(*views: str) -> float:
        path = tmp_path / 'figures.json'
        arguments = [data, '--checkpoint', small_checkpoint, '--json', path, '--overwrite', *views]
        assert main(['evaluate', *map(str, arguments)]) == 0
        return float(json.loads(path.read_text(encoding='utf-8'))['pixel_accuracy'])

    found = {accuracy(*views) for views in ((), ('--flip',), ('--scales', '1,1.5'))}
    assert len(found) == 3
    assert accuracy('--scales', '1') in found


def test_evaluate_under_corruptions(
    capsys: pytest.CaptureFixture[str], small_checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    path = tmp_path / 'figures.json'
    arguments = ['evaluate', data, '--checkpoint', small_checkpoint, '--corruptions']
    eager = ('--device', 'cpu', '--backend', 'torch_eager', '--json', str(path))
    assert main([*map(str, arguments), *eager]) == 0
    figures = json.loads(path.read_text(encoding='utf-8'))
    assert 0 <= figures['corruptions']['blur']['miou'] <= 1
    printed = capsys.readouterr().out
    assert f"{figures['corruptions']['blur']['miou']:.4g}" in printed
    assert 'mean' in printed
    assert main([*map(str, arguments), '--flip']) == 1
    assert '--corruptions is given with --scales, --flip' in capsys.readouterr().err


@pytest.mark.parametrize('scales', ['', 'big', '1;2', '1,,2'])
def test_scales_must_be_numbers(
    scales: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(['evaluate', str(data), '--scales', scales])
    assert caught.value.code == 2
    assert f"--scales: '{scales}' is not a list of numbers" in capsys.readouterr().err


def test_submission_requires_cityscapes_names(
    small_checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / 'results'
    arguments = [data, '--checkpoint', small_checkpoint, '--submission', folder]
    assert main(['evaluate', *map(str, arguments)]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("lednet evaluate: frame is named 'street_0_0'")
    assert not list(folder.iterdir())
