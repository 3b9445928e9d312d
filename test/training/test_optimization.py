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

"""Tests of optimizers and schedules."""

from lednet_ros.training.loop import build_optimizer, rate_factor
from lednet_ros.training.recipe import Optimizer, Schedule
import pytest
import torch
from torch import nn


def factors(steps: int = 100, **options: object) -> list[float]:
    schedule = Schedule.model_validate(options)
    return [rate_factor(schedule, step, steps) for step in range(steps)]


def make_network() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    network[2].requires_grad_(False)
    return network


def test_poly_is_that_of_the_paper() -> None:
    expected = [(1 - step / 100) ** 0.9 for step in range(100)]
    assert factors(name='poly', power=0.9) == pytest.approx(expected)


def test_cosine_falls_from_one_to_nearly_zero() -> None:
    rates = factors(name='cosine')
    assert rates[0] == 1
    assert rates[50] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.001
    assert rates == sorted(rates, reverse=True)


def test_constant() -> None:
    assert factors(name='constant') == [1] * 100


@pytest.mark.parametrize('name', ['poly', 'cosine', 'constant'])
def test_the_rate_first_rises(name: str) -> None:
    rates = factors(name=name, warm_up=0.1)
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    # The schedule covers the remaining steps.
    assert rates[10:] == pytest.approx(factors(90, name=name))
    assert max(rates) == rates[10] == 1


@pytest.mark.parametrize('name', ['adamw', 'sgd'])
def test_biases_and_normalization_do_not_decay(name: str) -> None:
    network = make_network()
    optimizer = build_optimizer(network, Optimizer(name=name, rate=0.1, weight_decay=0.01))
    decay = {
        id(parameter): group['weight_decay']
        for group in optimizer.param_groups
        for parameter in group['params']
    }
    expected = {
        id(parameter): 0.01 if parameter.ndim == 4 else 0.0
        for parameter in network.parameters()
        if parameter.requires_grad
    }
    assert decay == expected
    assert all(group['lr'] == 0.1 for group in optimizer.param_groups)


def test_adam_decays_everything_as_the_authors_do() -> None:
    optimizer = build_optimizer(make_network(), Optimizer(name='adam', rate=5e-4))
    assert isinstance(optimizer, torch.optim.Adam)
    (group,) = optimizer.param_groups
    assert group['weight_decay'] == 1e-4
    assert not group['decoupled_weight_decay']
    assert len(group['params']) == 4


@pytest.mark.parametrize(
    ('momentum', 'nesterov'), [(0.9, True), (0.0, False)]
)
def test_momentum_of_sgd(momentum: float, nesterov: bool) -> None:
    options = Optimizer(name='sgd', rate=0.1, momentum=momentum)
    group = build_optimizer(make_network(), options).param_groups[0]
    assert group['momentum'] == momentum
    assert group['nesterov'] is nesterov


def test_slow_start() -> None:
    slow = factors(10, name='poly', slow_steps=3, slow_factor=0.1)
    assert slow[:3] == [0.1] * 3
    # The schedule continues as if it had begun at once.
    assert slow[3:] == factors(10, name='poly')[3:]
