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

"""The interface of a network, and operations that networks share."""

from collections.abc import Sequence
import itertools

from lednet_ros.limits import MIN_SIZE
import torch
from torch import nn, Tensor
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval


def upsample(x: Tensor, size: tuple[int, int]) -> Tensor:
    """
    Resize feature maps bilinearly with aligned corners, as in the code of all networks' authors.

    Parameters
    ----------
    x
        Feature maps (N, C, H, W), floating point.
    size
        Target height and width.

    Returns
    -------
    Tensor
        (N, C, *size), dtype of `x`.

    """
    return functional.interpolate(x, size=size, mode='bilinear', align_corners=True)


def convolution(
    like: nn.Conv2d, weight: Tensor, bias: Tensor | None, groups: int = 1
) -> nn.Conv2d:
    """Create a convolution with the geometry of another one and a copy of the given weights."""
    conv = nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        like.kernel_size,  # type: ignore[arg-type]
        like.stride,  # type: ignore[arg-type]
        like.padding,  # type: ignore[arg-type]
        like.dilation,  # type: ignore[arg-type]
        groups=groups,
        bias=bias is not None,
    )
    conv.weight = nn.Parameter(weight.detach().clone().contiguous(), requires_grad=False)
    if bias is not None:
        conv.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return conv


def affine(normalization: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return the factor and the addend of each channel, as the normalization applies them."""
    mean, variance = normalization.running_mean, normalization.running_var
    assert mean is not None
    assert variance is not None
    factor = (normalization.weight / torch.sqrt(variance + normalization.eps)).detach()
    return factor, (normalization.bias - mean * factor).detach()


def fold_batch_norms(module: nn.Module) -> None:
    """Merge normalizations into the convolutions right before them in each `nn.Sequential`."""
    for part in list(module.modules()):
        if not isinstance(part, nn.Sequential):
            continue
        names = list(part._modules)
        for first, second in itertools.pairwise(names):
            convolution, normalization = part._modules[first], part._modules[second]
            if isinstance(convolution, nn.Conv2d) and isinstance(normalization, nn.BatchNorm2d):
                part._modules[first] = fuse_conv_bn_eval(convolution, normalization)
                part._modules[second] = nn.Identity()


class MergedOutputs(nn.Module):
    """
    Merges the logits of classes, so that softmax yields the sums of their probabilities.

    Parameters
    ----------
    groups
        The classes that each channel of the result is made of.

    """

    def __init__(self, groups: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.groups = tuple(map(tuple, groups))
        self.order: Tensor
        # Moves with the network, but is none of its weights.
        self.register_buffer('order', torch.tensor(list(itertools.chain(*groups))), False)

    def forward(self, logits: Tensor) -> Tensor:
        """Map logits (N, C, h, w) to (N, groups, h, w) of the same type."""
        ordered = logits.index_select(1, self.order).float()
        parts = torch.split(ordered, [len(group) for group in self.groups], dim=1)
        merged = [part if part.shape[1] == 1 else _log_sum_exp(part) for part in parts]
        return torch.cat(merged, dim=1).to(logits.dtype)

    def extra_repr(self) -> str:
        """Return the groups; caches of compiled networks tell networks apart by it."""
        return str(self.groups)


def _log_sum_exp(logits: Tensor) -> Tensor:
    """Compute logsumexp over the channels in operations that every converter translates alike."""
    highest = logits.amax(dim=1, keepdim=True)
    return highest + torch.exp(logits - highest).sum(dim=1, keepdim=True).log()


class SegmentationNetwork(nn.Module):
    """
    A network that computes logits at a fraction of its input's size.

    Attributes
    ----------
    num_classes : int
        Output channels.
    encoder : nn.Module
        Maps images (N, 3, H, W) to features, which can be pretrained.
    encoder_channels : int
        Channels of these features.
    merge : nn.Module
        Applied to the logits, for inference: `MergedOutputs` where classes are merged.
    HEADS : tuple of str
        Prefixes of the names of the tensors that depend on the classes.
    MEAN, STD : tuple of float
        Normalization (red, green, blue) of images in 0..1 that the network is trained with.

    """

    HEADS: tuple[str, ...]
    MEAN: tuple[float, float, float]
    STD: tuple[float, float, float]
    num_classes: int
    encoder: nn.Module
    encoder_channels: int

    def __init__(self) -> None:
        super().__init__()
        self.merge: nn.Module = nn.Identity()

    @property
    def encoder_classifier(self) -> nn.Module | None:
        """Return the layer that computes the encoder's logits, or None."""
        return None

    def decode(self, features: Tensor) -> Tensor:
        """Map the encoder's features to logits (N, num_classes, h, w)."""
        raise NotImplementedError

    def scores(self, x: Tensor) -> Tensor:
        """
        Compute logits at a fraction of the input size.

        Parameters
        ----------
        x
            Normalized RGB images (N, 3, H, W), H and W at least 64, floating point. In training
            mode, networks with global pooling need N of at least 2.

        Returns
        -------
        Tensor
            Logits (N, num_classes, h, w), dtype of the weights; fewer where classes are merged.

        Raises
        ------
        ValueError
            The input is smaller than 64x64.

        """
        height, width = x.shape[2:]
        if height < MIN_SIZE or width < MIN_SIZE:
            raise ValueError(
                f'input is {height}x{width}; it must be {MIN_SIZE}x{MIN_SIZE} or more'
            )
        logits: Tensor = self.merge(self.decode(self.encoder(x)))
        return logits

    def encoder_scores(self, x: Tensor) -> Tensor:
        """
        Compute logits of the encoder alone, for training it separately.

        Parameters and result are those of `scores`; ValueError if `encoder_classifier` is None.
        """
        return self._classify(self.encoder(x))

    def both_scores(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """
        Compute logits of the network and of its encoder in one pass of the encoder.

        Parameters, results and errors are those of `scores` and `encoder_scores`.
        """
        features = self.encoder(x)
        return self.decode(features), self._classify(features)

    def _classify(self, features: Tensor) -> Tensor:
        if self.encoder_classifier is None:
            raise ValueError(f'{type(self).__name__} has no class scores of its encoder')
        scores: Tensor = self.encoder_classifier(features)
        return scores

    def fold_batch_norm(self) -> None:
        """
        Merge normalizations into the convolutions before them, for inference, in place.

        The network must be in evaluation mode and float32; the results are the same up to
        rounding.
        """
        fold_batch_norms(self)

    def forward(self, x: Tensor) -> Tensor:
        """
        Compute logits at the input size.

        Parameters
        ----------
        x
            As in `scores`.

        Returns
        -------
        Tensor
            Logits (N, num_classes, H, W).

        """
        return upsample(self.scores(x), (x.shape[2], x.shape[3]))
