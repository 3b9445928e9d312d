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

"""Tests of the segmenter's options and of what is made from them."""

import argparse
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from lednet_ros.cli.parsing import add_segmenter_options, read_segmenter_options
from lednet_ros.inference.options import (
    BACKENDS,
    ConfigurationError,
    find_region,
    OPTIONS,
    SegmenterOptions,
)
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.labels import LabelMapError
import numpy as np
import pytest


def parse(*arguments: str) -> SegmenterOptions:
    parser = argparse.ArgumentParser()
    add_segmenter_options(parser, 'results', 'drawing')
    return read_segmenter_options(parser.parse_args(arguments))


def test_every_option_is_described_and_its_default_is_allowed() -> None:
    assert list(OPTIONS) == [field.name for field in fields(SegmenterOptions)]
    for option in OPTIONS.values():
        assert option.description
        assert not option.description.endswith('.')
        assert option.clean(option.default) == option.default


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'backend': 'cuda'}, r"backend is 'cuda'; allowed: auto, openvino, torch_eager, "),
        ({'precision': 'fp8'}, r"precision is 'fp8'; allowed: auto, fp32"),
        ({'palette': 'red'}, r"palette is 'red'; allowed: label_map, color_blind"),
        ({'num_threads': -1}, 'num_threads is -1; allowed: 0 to 256'),
        ({'num_threads': 1.5}, 'num_threads is 1.5; allowed: 0 to 256'),
        ({'overlay_alpha': 1.1}, 'overlay_alpha is 1.1; allowed: 0 to 1'),
        ({'min_confidence': float('nan')}, 'min_confidence is nan; allowed: 0 to 1'),
        ({'input_size': (32, 64)}, r'input_size is 32x64 .*; both must be 64 to 8192'),
        ({'input_size': [64]}, r'input_size is \[64\]; it must be height and width, both 64 to'),
        ({'input_size': (64.5, 96)}, r'input_size is \(64.5, 96\); it must be height and width'),
        ({'output_size': '64x96'}, "output_size is '64x96'; it must be height and width"),
        ({'output_size': (0, 64)}, r'output_size is 0x64 .*; both must be 1 to 8192'),
        ({'overlay_classes': 'road'}, "overlay_classes is 'road'"),
        ({'crop': (0.5, 0.5, 0, 0)}, r'crop is \(0.5, 0.5, 0, 0\); .* must leave something'),
        ({'crop': (0, 0, 0.25, 0.75)}, 'must leave something'),
        ({'crop': (0.5,)}, r'crop is \(0.5,\); it must be the fractions at the top, bottom'),
        ({'crop': (0, 0, 0, -0.1)}, 'crop is .* 0 to 1'),
        ({'crop': 'half'}, "crop is 'half'; it must be the fractions"),
        ({'crop': (float('nan'), 0, 0, 0)}, r'crop is \(nan'),
    ],
)
def test_a_value_that_is_not_allowed_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SegmenterOptions(**change)


def test_values_get_the_type_of_the_option() -> None:
    options = SegmenterOptions(
        input_size=[np.int64(64), 96], calibration='frames', overlay_classes=['road'],
        overlay_alpha=1,
    )
    assert options.input_size == (64, 96)
    assert options.calibration == Path('frames')
    assert options.overlay_classes == ('road',)
    assert isinstance(options.overlay_alpha, float)
    assert hash(options) == hash(SegmenterOptions(
        input_size=(64, 96), calibration=Path('frames'), overlay_classes=('road',),
        overlay_alpha=1.0,
    ))


def test_the_command_line_has_every_option_with_the_same_default() -> None:
    assert parse() == SegmenterOptions()
    given = parse(
        '--device', 'cpu', '--backend', 'torch_eager', '--precision', 'fp32', '--calibration',
        'frames', '--classes', 'mine', '--input-size', '64', '96', '--crop', '0.25', '0', '0.5',
        '0', '--threads', '2', '--output-size', '10', '20', '--min-confidence', '0.25',
        '--palette', 'color_blind', '--alpha', '0.75', '--overlay-classes', 'road,car',
    )
    assert given == SegmenterOptions(
        'cpu', 'torch_eager', 'fp32', Path('frames'), 'mine', (64, 96), (0.25, 0.0, 0.5, 0.0), 2,
        (10, 20), 0.25, 'color_blind', 0.75, ('road', 'car'),
    )
    assert all(getattr(given, name) != option.default for name, option in OPTIONS.items())


def test_the_input_is_cropped_like_the_frames() -> None:
    cropped = SegmenterOptions(crop=(0.25, 0.25, 0, 0.1))
    assert cropped.for_input((360, 480)).input_size == (180, 432)
    assert replace(cropped, input_size=(96, 128)).for_input((360, 480)).input_size == (96, 128)
    assert SegmenterOptions().for_input((360, 480)).input_size == (360, 480)
    with pytest.raises(ConfigurationError, match=r'crop is .*, which leaves 48x115 of .* 96x128'):
        cropped.for_input((96, 128))


@pytest.mark.parametrize(
    ('crop', 'size', 'region'),
    [
        (None, (3, 5), (0, 3, 0, 5)),
        ((0.3, 0.2, 0.1, 0), (480, 640), (144, 384, 64, 640)),
        ((0.4, 0.4, 0, 0), (2, 9), (1, 2, 0, 9)),
        ((0.99, 0, 0.99, 0), (1, 1), (0, 1, 0, 1)),
        ((0, 0.99, 0, 0.99), (1, 3), (0, 1, 0, 1)),
    ],
)
def test_regions_have_a_pixel_at_least(
    crop: Any, size: tuple[int, int], region: tuple[int, int, int, int]
) -> None:
    rows, columns = find_region(crop, size)
    assert (rows.start, rows.stop, columns.start, columns.stop) == region


def test_nothing_is_left_to_choose_after_resolving() -> None:
    options = SegmenterOptions(device='cpu').resolve()
    assert options.backend in BACKENDS
    assert options.precision in BACKENDS[options.backend].precisions
    assert options.resolve() == options


@pytest.mark.parametrize('has_bf16', [False, True])
def test_bf16_is_tried_where_the_processor_has_it(
    has_bf16: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip('openvino')
    for module in ('options.processor_has_bf16', 'backends.openvino.cpu_has_bf16'):
        monkeypatch.setattr(f'lednet_ros.inference.{module}', lambda: has_bf16)
    options = SegmenterOptions(device='cpu')
    found = {(each.backend, each.precision) for each in options.candidates()}
    others = {('openvino', 'fp32'), ('openvino', 'int8'), ('torch_eager', 'fp32')}
    low = {('openvino', 'bf16'), ('torch_eager', 'bf16')}
    assert found == (others | low if has_bf16 else others)
    assert not caplog.text
    # What is set by hand is taken, with a word.
    for backend in ('openvino', 'torch_eager'):
        caplog.clear()
        chosen = replace(options, backend=backend, precision='bf16').resolve()
        assert chosen.precision == 'bf16'
        assert ("'fp32' is faster" in caplog.text) != has_bf16


def test_options_of_run_time_change_together_or_not_at_all(small_checkpoint: Path) -> None:
    segmenter = Segmenter.from_checkpoint(
        small_checkpoint, SegmenterOptions(device='cpu'), backend='torch_eager'
    )
    assert segmenter.options.backend == 'torch_eager'
    segmenter.update(overlay_alpha=0.25, overlay_classes=('road',))
    before = segmenter.options
    with pytest.raises(LabelMapError, match='street'):
        segmenter.update(overlay_alpha=0.75, overlay_classes=('street',))
    with pytest.raises(ConfigurationError, match='palette cannot change any more; what can: '):
        segmenter.update(overlay_alpha=0.75, palette='color_blind')
    assert segmenter.options is before
    assert segmenter.overlay_alpha == 0.25
