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

"""
A network of three layers, for tests of the training around a network.

`conftest.py` adds it to the networks of the package for each test of this folder. Processes that
such a test starts run this file instead of `lednet`, so that they know it, too:
`python test/training/tiny_network.py train ...`.
"""

import sys
from typing import Any

from lednet_ros.cli.main import main
from lednet_ros.models import NETWORKS, SegmentationNetwork
from torch import nn, Tensor

# With this `augmentation`, crops of a frame's size are the frame.
UNCHANGED: dict[str, Any] = {
    'scale': [1, 1], 'flip': 0, 'gain': [1, 1], 'channel_gain': [1, 1], 'offset': [0, 0],
    'gamma': [1, 1], 'saturation': [1, 1],
}


class Encoder(nn.Module):
    """Two convolutions down to 16 channels at 1/8, and a classifier as in LEDNet."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=4, padding=2),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.Dropout2d(0.03),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
        )
        self.output_conv = nn.Conv2d(16, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to features (N, 16, ceil(H/8), ceil(W/8))."""
        x = self.layers(x)
        return x


class TinyNetwork(SegmentationNetwork):
    """The encoder and a convolution as decoder."""

    HEADS = ('decoder.', 'encoder.output_conv.')
    MEAN = (0.485, 0.456, 0.406)
    STD = (0.229, 0.224, 0.225)
    encoder: Encoder
    encoder_channels = 16

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.encoder = Encoder(num_classes)
        self.decoder = nn.Conv2d(16, num_classes, 3, padding=1)

    @property
    def encoder_classifier(self) -> nn.Module:
        """Return the encoder's last convolution."""
        return self.encoder.output_conv

    def decode(self, features: Tensor) -> Tensor:
        """Map the encoder's features to logits at 1/8 of the input size."""
        logits: Tensor = self.decoder(features)
        return logits


if __name__ == '__main__':
    NETWORKS['tiny'] = TinyNetwork
    sys.exit(main())
