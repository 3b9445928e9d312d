# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Segmentation networks: torch only, one flat file per network, one builder."""

from collections.abc import Callable

from lednet_ros.models.lednet import LEDNet
from lednet_ros.models.lednet import lednet
from lednet_ros.models.lednet import lednet_heavy

NETWORKS: dict[str, Callable[[int], LEDNet]] = {
    'lednet': lednet,
    'lednet_heavy': lednet_heavy,
}


def build_network(name: str, num_classes: int) -> LEDNet:
    """
    Build a network with freshly initialized weights.

    Parameters
    ----------
    name
        One of the keys of `NETWORKS`.
    num_classes
        Number of output channels, at least 1.

    Returns
    -------
    LEDNet
        The network, in training mode, on the CPU, in float32.

    Raises
    ------
    ValueError
        Unknown name or number of classes below 1.

    """
    if name not in NETWORKS:
        raise ValueError(f"unknown network '{name}'; allowed: {', '.join(NETWORKS)}")
    if num_classes < 1:
        raise ValueError(f'num_classes is {num_classes}; it must be 1 or more')
    return NETWORKS[name](num_classes)


__all__ = ['LEDNet', 'NETWORKS', 'build_network', 'lednet', 'lednet_heavy']
