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

"""Two gloo processes compute what one does: started by torchrun, as users start them."""

from collections.abc import Callable
import csv
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

import cv2
from lednet_ros.checkpoint import load_checkpoint
from lednet_ros.training import loop
from lednet_ros.training.distributed import JointBatchNorm, Processes
from lednet_ros.training.loop import train
from lednet_ros.training.recipe import Recipe
import pytest
import tiny_network
import torch
from torch import nn
import yaml

CONTENT: dict[str, Any] = {
    'input_size': [64, 96],
    'ema': None,
    'dropout': 0,
    'precision': 'fp32',
    'train': [{'layout': 'folder'}],
    'validation': {'val': {'layout': 'folder', 'split': 'val'}},
    'stages': [
        {
            'epochs': 1,
            'batch_size': 4,
            'crop': [64, 64],
            'optimizer': {'name': 'sgd', 'rate': 0.01},
            'loss': {'weight_offset': 1.1, 'auxiliary': 0.4},
        }
    ],
}

# Writes the gradient of the first batch. In double precision, since a network that is not trained
# yet amplifies rounding in single precision to percents of the gradient.
GRADIENT = """
import sys
from pathlib import Path
from lednet_ros.training.distributed import join_processes
from lednet_ros.training.loop import _Run
from lednet_ros.training.recipe import load_recipe
import torch
from torch.nn.parallel import DistributedDataParallel

recipe, root, output, result = map(Path, sys.argv[1:])
torch.set_num_threads(1)
with join_processes() as processes:
    run = _Run(load_recipe(recipe), root, output, processes)
    run._prepare(run.recipe.stages[0], None)
    model = run.task.model.double().train()
    model.register_forward_pre_hook(lambda module, given: (given[0].double(),))
    if processes.count > 1:
        model = DistributedDataParallel(model)
    run._loss(model, next(run._batches(0))).backward()
    if processes.leads:
        named = run.task.model.named_parameters()
        torch.save({name: p.grad for name, p in named if p.grad is not None}, result)
"""


def start_two(*arguments: str | Path) -> None:
    """Start two processes as users do, with any free port."""
    launcher = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2']
    environment = os.environ | {'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    subprocess.run(
        [sys.executable, *launcher, *map(str, arguments)], check=True, timeout=300, env=environment
    )


@pytest.fixture
def root(tmp_path: Path, make_folder_dataset: Callable[..., Path]) -> Path:
    """Return frames of which two have few labels, so that the processes' parts differ."""
    folder = make_folder_dataset(tmp_path / 'data', {'train': 4, 'val': 3})
    for file in sorted((folder / 'train' / 'labels').iterdir())[:2]:
        labels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        labels[30:] = 255
        cv2.imwrite(str(file), labels)
    return folder


@pytest.mark.slow
def test_two_processes_compute_the_gradient_of_one(root: Path, tmp_path: Path) -> None:
    recipe, script = tmp_path / 'recipe.yaml', tmp_path / 'gradient.py'
    recipe.write_text(yaml.safe_dump(CONTENT), encoding='utf-8')
    script.write_text(GRADIENT, encoding='utf-8')
    given = [script, recipe, root, tmp_path]
    alone = os.environ | {'CUDA_VISIBLE_DEVICES': ''}
    subprocess.run(
        [sys.executable, *map(str, [*given, tmp_path / 'one.pt'])], check=True, env=alone
    )
    start_two(*given, tmp_path / 'two.pt')
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ('one.pt', 'two.pt'))
    assert one.keys() == two.keys()
    for name, gradient in one.items():
        # Gradients of biases before normalization are rounding errors.
        torch.testing.assert_close(two[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
    assert sum(gradient.abs().max() > 1e-3 for gradient in one.values()) > 100


@pytest.mark.slow
def test_two_processes_train_and_measure_as_one(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    path, one, two = tmp_path / 'recipe.yaml', tmp_path / 'one', tmp_path / 'two'
    # The number of pixels on which a teacher is sure differs between the processes.
    content = CONTENT | {'network': 'tiny', 'teacher': {'source': 'lednet', 'confidence': 0.5}}
    path.write_text(yaml.safe_dump(content), encoding='utf-8')
    metrics = train(Recipe.model_validate(content), root, one)
    command = [tiny_network.__file__, 'train', path, '--data', root, '--output']
    start_two(*command, two)
    losses = []
    for output in (one, two):
        with (output / 'history.csv').open(encoding='utf-8', newline='') as file:
            losses += [float(row['loss']) for row in csv.DictReader(file)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert load_checkpoint(two / 'checkpoint.safetensors').training['hardware'].startswith('2 x')

    # The same weights, measured by two processes, give the same confusion matrix.
    start_two(*command, one, '--resume')
    assert load_checkpoint(one / 'checkpoint.safetensors').metrics == metrics


def test_a_batch_must_be_divisible(tmp_path: Path) -> None:
    recipe = Recipe.model_validate(CONTENT)
    with pytest.raises(ValueError, match=r'batch_size is 4; it must be a multiple of .* 3'):
        loop._Run(recipe, None, tmp_path, Processes(0, 3, torch.device('cpu')))
    with pytest.raises(ValueError, match='at least twice as large'):
        loop._Run(recipe, None, tmp_path, Processes(0, 4, torch.device('cpu')))


@pytest.fixture
def alone(tmp_path: Path) -> Any:
    """Create a process group of this process alone."""
    store = f'file://{tmp_path}/store'
    torch.distributed.init_process_group('gloo', init_method=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures('alone')
def test_joint_batch_norm_of_one_process_is_batch_norm() -> None:
    torch.manual_seed(0)
    plain = nn.BatchNorm2d(5, eps=1e-3)
    joint = JointBatchNorm(5, eps=1e-3)
    with torch.no_grad():
        plain.weight.uniform_(0.5, 2)
        plain.bias.uniform_(-1, 1)
    joint.load_state_dict(plain.state_dict())
    for momentum in (0.1, None):
        plain.momentum = joint.momentum = momentum
        x = torch.randn(3, 5, 4, 6) * 3 + 1
        inputs = [x.clone().requires_grad_() for _ in range(2)]
        outputs = [norm(y) for norm, y in zip((plain, joint), inputs, strict=True)]
        torch.testing.assert_close(outputs[1], outputs[0])
        weight = torch.randn_like(x)
        for output in outputs:
            (output * weight).sum().backward()
        torch.testing.assert_close(inputs[1].grad, inputs[0].grad)
        for key, tensor in plain.state_dict().items():
            torch.testing.assert_close(joint.state_dict()[key], tensor)
    plain.eval()
    joint.eval()
    torch.testing.assert_close(joint(x), plain(x))
