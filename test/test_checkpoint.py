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

"""Tests of the checkpoints: round trips, and refusal of wrong and hostile files."""

import argparse
from collections.abc import Callable
from dataclasses import replace
import json
import os
from pathlib import Path
import pickle
import re
import shutil
from typing import Any

from lednet_ros import checkpoint as module
from lednet_ros.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    load_weights,
    resolve_checkpoint,
    save_checkpoint,
)
from lednet_ros.labels import LabelMap
from lednet_ros.models import build_network, load_network
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save_file
import torch
from torch import Tensor

KEYS = 547
CLASS_BIAS = 'encoder.output_conv.bias'

MakeWeights = Callable[..., dict[str, Tensor]]


class MakesAFolder:
    """Creates a folder when it is unpickled, which proves that code ran."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.proof),)


@pytest.fixture(scope='module', params=['lednet', 'lednet_heavy'])
def authors_weights(
    request: pytest.FixtureRequest, make_weights: MakeWeights
) -> tuple[str, dict[str, Tensor]]:
    """Weights as the authors save them: 20 outputs, no metadata."""
    return request.param, make_weights(build_network(request.param, 20), 0, 3.5)


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the metadata of a checkpoint file."""
    with safe_open(path, framework='pt') as file:
        metadata = file.metadata()
        keys = file.keys()
        tensors = {key: file.get_tensor(key) for key in keys}
    content = json.loads(metadata['lednet_ros'])
    changed = change(content)
    text = changed if isinstance(changed, str) else json.dumps(changed or content)
    save_file(tensors, path, metadata={'lednet_ros': text})


def refusal(path: Path, **arguments: Any) -> str:
    """Load a file that must be refused; return the message, one line that names the file."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, **arguments)
    message = str(caught.value)
    assert path.name in message
    assert len(message.splitlines()) == 1
    return message


# --- The package's format -------------------------------------------------------------------


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_round_trip(small_content: Checkpoint, tmp_path: Path, dtype: torch.dtype) -> None:
    content = replace(
        small_content,
        input_size=(360, 480),
        metrics={'val': {'miou': 0.5, 'iou': {'car': None}}},
        training={'data': 'Straße', 'options': {'epochs': 3}},
        state_dict={
            key: tensor.to(dtype) if tensor.is_floating_point() else tensor
            for key, tensor in small_content.state_dict.items()
        },
    )
    path = tmp_path / 'folder' / 'a.safetensors'
    save_checkpoint(content, path)
    loaded = load_checkpoint(path)
    assert replace(loaded, state_dict={}) == replace(content, state_dict={})
    assert list(loaded.state_dict) == sorted(content.state_dict)
    for key, tensor in content.state_dict.items():
        assert loaded.state_dict[key].dtype == tensor.dtype
        assert torch.equal(loaded.state_dict[key], tensor)


def test_tensors_of_any_memory_layout_are_saved(
    small_content: Checkpoint, tmp_path: Path
) -> None:
    key = 'encoder.initial_block.conv.weight'
    tensor = small_content.state_dict[key].to(memory_format=torch.channels_last)
    assert not tensor.is_contiguous()
    content = replace(small_content, state_dict=small_content.state_dict | {key: tensor})
    save_checkpoint(content, tmp_path / 'a.safetensors')
    loaded = load_checkpoint(tmp_path / 'a.safetensors').state_dict[key]
    assert torch.equal(loaded, tensor)


def test_custom_label_map_is_stored_and_can_be_replaced(
    small_content: Checkpoint, tmp_path: Path
) -> None:
    camvid = small_content.label_map
    labels = tuple(replace(label, name=f'my {label.name}') for label in camvid.labels)
    own = LabelMap('mine', labels)
    path = tmp_path / 'a.safetensors'
    save_checkpoint(replace(small_content, label_map=own), path)
    assert load_checkpoint(path).label_map == own
    assert load_checkpoint(path, label_map=camvid).label_map == camvid


def test_saving_replaces_the_file_in_one_step(
    small_content: Checkpoint, small_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = small_checkpoint.read_bytes()

    def run_out_of_space(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b'half a file')
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(module, 'save_file', run_out_of_space)
    with pytest.raises(OSError, match='No space left'):
        save_checkpoint(small_content, small_checkpoint)
    assert small_checkpoint.read_bytes() == before
    assert list(small_checkpoint.parent.iterdir()) == [small_checkpoint]


def test_saving_below_a_file_names_the_path(
    small_content: Checkpoint, small_checkpoint: Path
) -> None:
    with pytest.raises(OSError, match=r'into .*small\.safetensors'):
        save_checkpoint(small_content, small_checkpoint / 'a.safetensors')


def test_metadata_that_json_cannot_hold_leaves_no_file(
    small_content: Checkpoint, tmp_path: Path
) -> None:
    with pytest.raises(TypeError):
        save_checkpoint(
            replace(small_content, training={'data': object()}), tmp_path / 'a.safetensors'
        )
    assert not list(tmp_path.iterdir())


def test_shipped_name_is_found(small_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, 'WEIGHTS_DIRECTORY', small_checkpoint.parent)
    assert resolve_checkpoint('small') == small_checkpoint
    assert load_checkpoint('small').network == 'lednet'
    with pytest.raises(CheckpointError, match=r"no checkpoint 'smal'.*shipped checkpoints: small"):
        resolve_checkpoint('smal')


def test_file_without_a_suffix_is_found(small_checkpoint: Path) -> None:
    path = small_checkpoint.rename(small_checkpoint.with_suffix(''))
    assert resolve_checkpoint(path) == path
    assert load_checkpoint(path).network == 'lednet'


@pytest.mark.parametrize('name', ['nothing.safetensors', 'nothing.pth', 'nothing'])
def test_missing_file(tmp_path: Path, name: str) -> None:
    assert 'is not a file' in refusal(tmp_path / name)


def test_folder(tmp_path: Path) -> None:
    (tmp_path / 'folder.safetensors').mkdir()
    assert 'is not a file' in refusal(tmp_path / 'folder.safetensors')


@pytest.mark.parametrize('length', [0, 4, 8, 5000, 60_000, -1])
def test_truncated_safetensors(small_checkpoint: Path, length: int) -> None:
    small_checkpoint.write_bytes(small_checkpoint.read_bytes()[:length])
    assert 'not a readable safetensors file' in refusal(small_checkpoint)


@pytest.mark.parametrize('name', ['a.safetensors', 'a.pth', 'a.pth.tar', 'a.pt'])
def test_renamed_text_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text('These are not the weights you are looking for.\n' * 50, encoding='utf-8')
    refusal(path)


@pytest.mark.parametrize('name', ['a.safetensors', 'a.pth'])
def test_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert 'not a readable' in refusal(tmp_path / name)


def test_safetensors_of_another_program(
    small_weights: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / 'a.safetensors'
    save_file(small_weights, path)
    assert "no 'lednet_ros' metadata" in refusal(path)


def set_to(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.__setitem__(key, value)


def drop(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.__delitem__(key)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda content: '{"format_version": 1, "netw', 'damaged metadata'),
        (lambda content: '', 'damaged metadata'),
        (lambda content: '[1, 2]', 'damaged metadata'),
        (lambda content: '7', 'damaged metadata'),
        (lambda content: '[' * 100_000, 'damaged metadata'),
        (drop('format_version'), 'format_version'),
        (set_to('format_version', 2), 'format version is 2; this package reads 1'),
        *((drop(key), key) for key in ('network', 'label_map', 'input_size', 'mean', 'training')),
        (set_to('input_size', [360]), 'damaged metadata'),
        (set_to('input_size', [0, 480]), 'input_size is 0x480; allowed: 1 to 8192'),
        (set_to('input_size', [360, 10**9]), 'input_size is 360x1000000000'),
        (set_to('input_size', [float('inf'), 480]), 'damaged metadata'),
        (set_to('input_size', 'big'), 'damaged metadata'),
        (set_to('mean', [0.5, 0.5]), 'damaged metadata'),
        (set_to('mean', [float('nan'), 0, 0]), 'not finite'),
        (set_to('mean', [10**400, 0, 0]), 'damaged metadata'),
        (set_to('std', [0.0, 1, 1]), 'std is (0.0, 1.0, 1.0); every value must be above 0'),
        (set_to('training', 'much'), 'damaged metadata'),
        (set_to('metrics', 5), 'damaged metadata'),
        (set_to('label_map', None), "a mapping with 'name' and 'classes'"),
        (set_to('label_map', {'classes': [{'id': 0, 'name': 'a'}]}), 'class 0'),
    ],
)
def test_damaged_metadata(
    small_checkpoint: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    rewrite(small_checkpoint, change)
    assert message in refusal(small_checkpoint)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_not_finite(
    small_content: Checkpoint, tmp_path: Path, value: float
) -> None:
    key = 'decoder.apn.mid.0.conv.1.running_var'
    bad = torch.ones(11)
    bad[3] = value
    path = tmp_path / 'a.safetensors'
    save_checkpoint(
        replace(small_content, state_dict=small_content.state_dict | {key: bad}), path
    )
    assert f'1 not finite: {key}' in refusal(path)


@pytest.mark.parametrize('label_map', ['cityscapes', 'camvid'])
def test_outputs_must_fit_the_label_map(
    make_weights: MakeWeights, small_content: Checkpoint, tmp_path: Path, label_map: str
) -> None:
    path = tmp_path / 'a.safetensors'
    weights = make_weights(build_network('lednet', 13), 0, 3.5)
    save_checkpoint(replace(small_content, state_dict=weights), path)
    message = refusal(path, label_map=LabelMap.load(label_map))
    classes = {'camvid': 11, 'cityscapes': 19}[label_map]
    assert f"13 outputs do not fit label map '{label_map}' of {classes} classes" in message


def test_one_more_output_than_classes_is_ignored(
    make_weights: MakeWeights, small_content: Checkpoint, tmp_path: Path
) -> None:
    path = tmp_path / 'a.safetensors'
    weights = make_weights(build_network('lednet', 12), 0, 3.5)
    save_checkpoint(replace(small_content, state_dict=weights), path)
    assert load_checkpoint(path).label_map.num_classes == 11


@pytest.mark.parametrize(
    ('bias', 'message'), [(None, f"no '{CLASS_BIAS}'"), (torch.tensor(1.0), 'a single number')]
)
def test_weights_without_class_outputs(
    small_content: Checkpoint, tmp_path: Path, bias: Tensor | None, message: str
) -> None:
    path = tmp_path / 'a.safetensors'
    state_dict = {k: v for k, v in small_content.state_dict.items() if k != CLASS_BIAS}
    if bias is not None:
        state_dict[CLASS_BIAS] = bias
    save_checkpoint(replace(small_content, state_dict=state_dict), path)
    assert message in refusal(path)


# --- Strict loading -------------------------------------------------------------------------


def test_weights_are_loaded_in_the_precision_of_the_network(
    small_weights: dict[str, Tensor]
) -> None:
    network = build_network('lednet', 11)
    load_weights(network, {key: value.half() for key, value in small_weights.items()}, 'a file')
    for key, value in network.state_dict().items():
        assert value.dtype == small_weights[key].dtype
        assert torch.equal(value, small_weights[key].half().to(value.dtype))


def test_every_kind_of_mismatch_is_named_at_once(small_weights: dict[str, Tensor]) -> None:
    weights = dict(small_weights)
    del weights['encoder.layers.3.bn.weight']
    weights['classifier.weight'] = torch.zeros(1)
    weights['encoder.initial_block.bn.bias'] = torch.zeros(31)
    network = build_network('lednet', 11)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_weights(network, weights, 'some/file.pth')
    assert str(caught.value) == (
        'some/file.pth: weights do not fit LEDNet: '
        '1 missing: encoder.layers.3.bn.weight; '
        '1 unexpected: classifier.weight; '
        '1 of another shape: encoder.initial_block.bn.bias (31,) instead of (32,)'
    )
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_long_lists_of_keys_are_shortened(small_weights: dict[str, Tensor]) -> None:
    count = sum(not key.endswith('num_batches_tracked') for key in small_weights)
    with pytest.raises(CheckpointError, match=rf'{count} missing: .* and {count - 5} more'):
        load_weights(build_network('lednet', 11), {}, 'a file')


def test_unknown_network_is_named(small_content: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match="a file: unknown network 'unet'; allowed: led"):
        load_network(replace(small_content, network='unet'), 'a file')


def test_weights_of_another_network_are_refused(small_content: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match=r'.*36 of another shape: decoder\.apn\.conv1'):
        load_network(replace(small_content, network='lednet_heavy'), 'a file')


# --- The authors' files ---------------------------------------------------------------------


@pytest.mark.parametrize('name', ['model_best.pth', 'checkpoint.pth.tar'])
@pytest.mark.parametrize('prefix', ['', 'module.'])
@pytest.mark.parametrize('wrapped', [False, True])
def test_authors_file(
    authors_weights: tuple[str, dict[str, Tensor]],
    tmp_path: Path,
    name: str,
    prefix: str,
    wrapped: bool,
) -> None:
    network, weights = authors_weights
    content: dict[str, Any] = {prefix + key: value for key, value in weights.items()}
    if wrapped:
        # As the authors' training script saves it.
        content = {'epoch': 299, 'arch': 'Net(...)', 'state_dict': content, 'best_acc': 0.7}
    path = tmp_path / name
    torch.save(content, path)
    loaded = load_checkpoint(path)
    assert loaded.network == network
    assert loaded.label_map == LabelMap.load('cityscapes')
    assert loaded.input_size == (512, 1024)
    assert (loaded.mean, loaded.std) == ((0, 0, 0), (1, 1, 1))
    assert len(loaded.state_dict) == KEYS
    built = load_network(loaded, path).state_dict()
    assert all(torch.equal(built[key], value) for key, value in weights.items())


def test_authors_file_in_the_older_format_of_torch(
    authors_weights: tuple[str, dict[str, Tensor]], tmp_path: Path
) -> None:
    network, weights = authors_weights
    path = tmp_path / 'old.pth'
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    assert load_checkpoint(path).network == network


def test_authors_layout_with_other_classes_needs_a_label_map(
    small_weights: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / 'mine.pth'
    torch.save(small_weights, path)
    assert 'has 11 outputs and no metadata; name its label map' in refusal(path)
    assert load_checkpoint(path, LabelMap.load('camvid')).label_map.name == 'camvid'
    assert '11 outputs do not fit' in refusal(path, label_map=LabelMap.load('cityscapes'))


@pytest.mark.parametrize('name', ['MODEL.PTH', 'pytorch_model.bin', 'last.ckpt', 'weights'])
@pytest.mark.parametrize('wrap', [
    lambda weights: {f'_orig_mod.{key}': value for key, value in weights.items()},
    lambda weights: {f'module._orig_mod.{key}': value for key, value in weights.items()},
    lambda weights: {
        key.replace('encoder.', 'encoder._orig_mod.'): value for key, value in weights.items()
    },
    lambda weights: {k: v for k, v in weights.items() if not k.endswith('num_batches_tracked')},
    lambda weights: {'model': empty(weights), 'model_ema': {
        'n_averaged': torch.tensor(5), **{f'module.{k}': v for k, v in weights.items()}
    }},
    lambda weights: {'state_dict': empty(weights), 'state_dict_ema': weights, 'epoch': 3},
    lambda weights: {
        'epoch': 3, 'pytorch-lightning_version': '2.5', 'optimizer_states': [],
        'hyper_parameters': {'lr': 0.1}, 'state_dict': {
            'criterion.weight': torch.ones(20),
            **{f'model.{key}': value for key, value in weights.items()},
        },
    },
    lambda weights: {'model': {'state_dict': weights}, 'optimizer': {'state': {}}},
])
def test_files_of_other_training_scripts(
    small_weights: dict[str, Tensor], tmp_path: Path, name: str, wrap: Callable[..., Any]
) -> None:
    path = tmp_path / name
    torch.save(wrap(small_weights), path)
    loaded = load_checkpoint(path, LabelMap.load('camvid'))
    built = load_network(loaded, path).state_dict()
    for key, value in small_weights.items():
        assert key.endswith('num_batches_tracked') or torch.equal(built[key], value), key


def empty(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: torch.zeros_like(value) for key, value in weights.items()}


@pytest.mark.parametrize('value', [argparse.Namespace(lr=0.1), np.float64(0.7), torch.nn.ReLU()])
def test_what_a_refused_file_holds_is_named(
    small_weights: dict[str, Tensor], tmp_path: Path, value: Any
) -> None:
    path = tmp_path / 'last.ckpt'
    torch.save({'state_dict': small_weights, 'extra': value}, path)
    message = refusal(path)
    assert re.search("like '(argparse.Namespace|numpy[\\w.]+|torch.nn[\\w.]+)'", message), message
    assert 'torch.save(model.state_dict())' in message


@pytest.mark.parametrize('zipped', [True, False])
def test_truncated_pth(
    small_weights: dict[str, Tensor], tmp_path: Path, zipped: bool
) -> None:
    path = tmp_path / 'whole.pth'
    torch.save(small_weights, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    # Odd places: between the records, within the pickle and within the numbers.
    for length in [*np.linspace(1, len(whole) - 1, 9, dtype=int), 300, 5000, 30_000]:
        cut = tmp_path / f'cut{length}.pth'
        cut.write_bytes(whole[:length])
        refusal(cut, label_map=LabelMap.load('camvid'))


@pytest.mark.filterwarnings('ignore')
def test_damaged_pth(small_weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / 'whole.pth'
    torch.save(
        {key: value[:1] for key, value in small_weights.items() if value.ndim}, path,
        _use_new_zipfile_serialization=False,
    )
    whole = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    refused = 0
    for number in range(60):
        # Within the pickle: damage to the numbers at the end can't be detected.
        damaged = bytearray(whole)
        for place in rng.integers(0, 20_000, 20):
            damaged[place] = rng.integers(256)
        file = tmp_path / f'damaged{number}.pth'
        file.write_bytes(damaged)
        try:
            load_checkpoint(file, LabelMap.load('camvid'))
        except CheckpointError as error:
            assert file.name in str(error)
            refused += 1
    assert refused > 50


@pytest.mark.parametrize('name', ['a.pth', 'a.pth.tar', 'a.pt'])
@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
@pytest.mark.parametrize('how', ['torch', 'old torch', 'pickle', 'within'])
def test_pickle_with_code_is_refused_and_not_run(
    small_weights: dict[str, Tensor], tmp_path: Path, name: str, how: str
) -> None:
    proof = tmp_path / 'proof'
    path = tmp_path / name
    content: Any = MakesAFolder(proof)
    if how == 'pickle':
        path.write_bytes(pickle.dumps(content))
    elif how == 'within':
        torch.save({'state_dict': small_weights, 'extra': content}, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == 'torch')
    message = refusal(path)
    assert 'holds more than tensors' in message
    assert not proof.exists()


def test_payload_of_these_tests_works(tmp_path: Path) -> None:
    path = tmp_path / 'a.pth'
    torch.save(MakesAFolder(tmp_path / 'proof'), path)
    torch.load(path, weights_only=False)
    assert (tmp_path / 'proof').is_dir()


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({'state_dict': {'a': 'text', 'b': 5}}, '2 not tensors: a, b'),
        ({'epoch': 3}, '1 not tensors: epoch'),
        ({}, 'holds dict, not a state dict'),
        ([1, 2], 'holds list, not a state dict'),
        (torch.zeros(3), 'holds Tensor, not a state dict'),
        ({'conv1.weight': torch.zeros(3)}, 'not the weights of a known network'),
        ({'decoder.apn.down1.conv.0.weight': torch.tensor(1.0)}, 'a single number'),
    ],
)
def test_pth_without_weights(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / 'a.pth'
    torch.save(content, path)
    assert message in refusal(path)


@pytest.mark.filterwarnings('ignore')
def test_torchscript_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'a.pt'
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), path)
    refusal(path)


def test_wrong_suffix(small_checkpoint: Path, tmp_path: Path) -> None:
    renamed = tmp_path / 'renamed.pth'
    shutil.copy(small_checkpoint, renamed)
    assert load_checkpoint(renamed).network == 'lednet'
    torch.save({'a': torch.zeros(1)}, tmp_path / 'b.safetensors')
    refusal(tmp_path / 'b.safetensors')
