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


"""Encoders from ncnn's files, which the tests write by ncnn's description of its format."""

from collections.abc import Callable
import itertools
from pathlib import Path
import struct

from lednet_ros.checkpoint import CheckpointError
from lednet_ros.models import build_network
from lednet_ros.training import nanodet
from lednet_ros.training.start import start_from
import numpy as np
import pytest
import torch
from torch import nn

HALF, SINGLE = 0x01306B47, 0
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def few_streets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nanodet, 'STREETS', (2, (64, 96), 0))


@pytest.fixture
def encoder() -> nn.Module:
    """Make an encoder whose normalizations only add a bias; its weights are exact in halves."""
    torch.manual_seed(3)
    made = build_network('shufflenet_v2_dpc', 3).encoder.eval()
    for part in made.modules():
        if isinstance(part, nn.Conv2d):
            part.weight.data = part.weight.data.half().float()
        elif isinstance(part, nn.BatchNorm2d):
            part.bias.data.uniform_(-0.5, 0.5)
            part.running_var.fill_(1 - part.eps)
    return made


@pytest.fixture
def write(tmp_path: Path, encoder: nn.Module) -> Write:
    """Write the encoder as NanoDet's is: for images in BGR, with further layers behind it."""

    def make(tag: int = HALF, bias: int = 1) -> Path:
        lines, data = ['7767517', '3 3', 'Input  in  0 1 x'], b''
        parts = [part for part in encoder.modules() if not [*part.children()]]
        parts += [nn.Conv2d(464, 5, 1).half().float(), nn.Identity()]
        first = True
        for part, following in itertools.pairwise(parts):
            if not isinstance(part, nn.Conv2d):
                continue
            weight, offset = part.weight.detach(), torch.zeros(len(part.weight))
            if isinstance(following, nn.BatchNorm2d):
                offset = following.bias.detach()
            values = (weight.flip(1) if first else weight).numpy()
            kind = 'Convolution' if part.groups == 1 else 'ConvolutionDepthWise'
            size = f'0={len(weight)} 1={weight.shape[2]} 5={bias} 6={weight.numel()}'
            lines.append(f'{kind}  name  1 2 x y z {size} -23310=1,1.000000e-01')
            content = values.astype('<f2' if tag == HALF else '<f4').tobytes()
            data += struct.pack('<I', tag) + content + bytes(-len(content) % 4)
            data += offset.numpy().astype('<f4').tobytes()
            first = False
        path = tmp_path / 'nanodet-m.param'
        path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
        path.with_suffix('.bin').write_bytes(data)
        return path

    return make


@pytest.mark.parametrize('tag', [HALF, SINGLE])
def test_the_encoder_computes_what_the_file_does(
    tag: int, write: Write, encoder: nn.Module
) -> None:
    network = build_network('shufflenet_v2_dpc', 3)
    training, remaining = start_from(network, str(write(tag)))
    assert training == {'source': 'nanodet-m.param'}
    assert remaining
    assert all(key.startswith(network.HEADS) for key in remaining)
    image = torch.rand(1, 3, 64, 96)
    ours = (image - torch.tensor(network.MEAN)[:, None, None]) / network.STD[0]
    theirs = (image - MEAN[:, None, None]) / STD[:, None, None]
    with torch.no_grad():
        # Beyond the border both see zeros, which stand for different colors.
        found = network.eval().encoder.conv1(ours)[..., 1:, 1:]
        torch.testing.assert_close(found, encoder.conv1(theirs)[..., 1:, 1:])
        features = torch.rand(1, 24, 32, 48)
        for part in ('stage2', 'stage3', 'stage4'):
            expected = getattr(encoder, part)(features)
            torch.testing.assert_close(getattr(network.encoder, part)(features), expected)
            features = expected


def test_training_mode_computes_nearly_the_same(write: Write, encoder: nn.Module) -> None:
    filled = build_network('shufflenet_v2_dpc', 3).encoder
    nanodet.read_nanodet(write(), filled, MEAN.tolist(), STD.tolist())
    frames = nanodet.synthetic_frames(*nanodet.STREETS)
    pixels = torch.from_numpy(np.stack([frame.pixels for frame in frames]))
    images = nanodet.normalize(pixels, MEAN.tolist(), STD.tolist())
    with torch.no_grad():
        expected = encoder(images)
        found = filled.train()(images)
        # Without the statistics, normalization would change the scale of every channel.
        plain = encoder.train()(images)
    distance = (found - expected).abs().mean()
    assert distance < 0.01 * expected.abs().mean()
    assert (plain - expected).abs().mean() > 10 * distance


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda path: path.with_suffix('.bin').unlink(), 'No such file'),
        (lambda path: path.write_text('1\n1 1\n'), 'it does not begin with 7767517'),
        (
            lambda path: path.with_suffix('.bin').write_bytes(b''),
            'unpack_from requires a buffer',
        ),
        (
            lambda path: path.with_suffix('.bin').write_bytes(
                path.with_suffix('.bin').read_bytes() + b'rest'
            ),
            'bytes are of convolutions',
        ),
        (lambda path: path.with_suffix('.bin').write_bytes(b'abcd' * 99), '0x64636261'),
        (
            lambda path: path.write_text(path.read_text().replace('5=1', '5=0')),
            "layer 'name' has no sizes or no bias",
        ),
        (lambda path: path.write_text(path.read_text().replace('1=3', '1=2')), 'reshape|buffer'),
        (lambda path: path.write_text(path.read_text().replace(' 6=', ' 7=')), 'no sizes'),
        (lambda path: path.write_bytes(b'\xff\xfe'), 'not a readable model of ncnn'),
    ],
)
def test_what_is_wrong_with_a_file_is_named(
    damage: Callable[[Path], object], message: str, write: Write
) -> None:
    path = write()
    damage(path)
    with pytest.raises(CheckpointError, match=rf'nanodet-m\.param: .*({message})'):
        start_from(build_network('shufflenet_v2_dpc', 3), str(path))


def test_other_networks_refuse_it(write: Write) -> None:
    with pytest.raises(CheckpointError, match='are not those of ShuffleNet V2 x1'):
        start_from(build_network('lednet', 3), str(write()))
