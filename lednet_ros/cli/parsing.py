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

"""Pieces that several commands' parsers share."""

import argparse
from collections.abc import Sequence
from typing import Any, TYPE_CHECKING

if TYPE_CHECKING:
    from lednet_ros.inference.segmenter import Segmenter

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Subparsers = argparse.Action


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    """Add `--json` that switches the printed form."""
    parser.add_argument('--json', action='store_true', help='print JSON')


def add_layout_arguments(parser: Any, *, labeled: bool) -> None:
    """Add the layout of a data set: any of the package's, or those of labeled frames alone."""

    # Not `choices`, which argparse takes for help: that stays fast if it imports no data sets.
    def layout(name: str) -> str:
        from lednet_ros.datasets import LABELED, LAYOUTS

        return _one_of(name, ('auto', *(LABELED if labeled else LAYOUTS)))

    def annotations(name: str) -> str:
        from lednet_ros.datasets import ANNOTATIONS

        return _one_of(name, ANNOTATIONS)

    parser.add_argument(
        '--layout',
        type=layout,
        default='auto',
        help='how the data lie, like cityscapes (default: auto, told from the folders)',
    )
    parser.add_argument(
        '--annotations',
        type=annotations,
        default='gtFine',
        help='ground truth of Cityscapes, gtFine or gtCoarse (default: gtFine)',
    )


def _one_of(name: str, allowed: Sequence[str]) -> str:
    if name not in allowed:
        raise argparse.ArgumentTypeError(f"'{name}'; allowed: {', '.join(allowed)}")
    return name


def add_palette_argument(parser: argparse.ArgumentParser) -> None:
    """Add the choice of colors."""
    parser.add_argument(
        '--palette',
        choices=('label_map', 'color_blind'),
        default='label_map',
        help="colors: the label map's, or some that stay apart for the color-blind",
    )


def add_segmenter_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the choice of checkpoint, device, backend and precision."""
    parser.add_argument(
        '--checkpoint',
        default='lednet',
        help='file or name of a shipped checkpoint (default: lednet)',
    )
    parser.add_argument('--label-map', help="file or name; default: the checkpoint's own")
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument(
        '--backend',
        default='auto',
        help='auto, torch_eager, openvino, cuda_graph or tensorrt',
    )
    parser.add_argument('--precision', default='auto', help='auto, fp32, fp16, bf16 or int8')
    parser.add_argument(
        '--calibration', metavar='DIR', help='images for int8; default: synthetic streets'
    )


def make_segmenter(options: argparse.Namespace, **more: Any) -> 'Segmenter':
    """Build the segmenter that the options of `add_segmenter_arguments` describe."""
    from lednet_ros.inference.segmenter import Segmenter
    from lednet_ros.labels import LabelMap

    return Segmenter.from_checkpoint(
        options.checkpoint,
        label_map=LabelMap.load(options.label_map) if options.label_map else None,
        device=options.device,
        backend=options.backend,
        precision=options.precision,
        calibration=options.calibration,
        **more,
    )
