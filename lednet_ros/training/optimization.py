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

"""Optimizers and the learning rate's schedule."""

import math

from lednet_ros.training.recipe import Optimizer, Schedule
import torch
from torch import nn


def build_optimizer(network: nn.Module, options: Optimizer) -> torch.optim.Optimizer:
    """
    Make the optimizer of the parameters that need gradients.

    Parameters
    ----------
    network
        The network.
    options
        Which optimizer, and its settings.

    Returns
    -------
    Optimizer
        With one group of parameters that decay and one of those that don't.

    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if options.name == 'adam':
        return torch.optim.Adam(parameters, options.rate, weight_decay=options.weight_decay)
    groups = [
        {'params': [p for p in parameters if p.ndim > 1], 'weight_decay': options.weight_decay},
        {'params': [p for p in parameters if p.ndim <= 1], 'weight_decay': 0.0},
    ]
    if options.name == 'adamw':
        return torch.optim.AdamW(groups, options.rate)
    return torch.optim.SGD(
        groups, options.rate, momentum=options.momentum, nesterov=options.momentum > 0
    )


def rate_factor(options: Schedule, step: int, steps: int) -> float:
    """
    Compute the learning rate of a step as a fraction of the highest one.

    Parameters
    ----------
    options
        The schedule.
    step
        Number of the step, from 0 on.
    steps
        Steps of the whole stage.

    Returns
    -------
    float
        Above 0, at most 1.

    """
    if step < options.slow_steps:
        return options.slow_factor
    rising = int(options.warm_up * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    left = 1 - (step - rising) / (steps - rising)
    if options.name == 'poly':
        return float(left**options.power)
    if options.name == 'cosine':
        return 0.5 - 0.5 * math.cos(math.pi * left)
    return 1.0
