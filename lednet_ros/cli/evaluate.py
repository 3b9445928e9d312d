# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`lednet evaluate`: accuracy on labeled frames."""

import argparse
from pathlib import Path

from lednet_ros.cli.parsing import add_segmenter_arguments, Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser('evaluate', help='measure accuracy on labeled frames')
    parser.add_argument(
        'data', type=Path, help='folder with SPLIT/images and SPLIT/labels, or Cityscapes'
    )
    parser.add_argument('--split', default='val', help='part of the data (default: val)')
    parser.add_argument(
        '--layout',
        choices=('auto', 'folder', 'cityscapes'),
        default='auto',
        help='how the data lie (default: auto, told from the folders)',
    )
    parser.add_argument(
        '--annotations',
        choices=('gtFine', 'gtCoarse'),
        default='gtFine',
        help='ground truth of Cityscapes (default: gtFine)',
    )
    parser.add_argument(
        '--scales',
        type=_scales,
        default=(1.0,),
        metavar='S,S...',
        help='average over these sizes of the input, like 0.75,1,1.25 (default: 1)',
    )
    parser.add_argument('--flip', action='store_true', help='average over mirrored frames too')
    parser.add_argument(
        '--submission',
        metavar='DIR',
        help='also write the label images that the Cityscapes benchmark takes to DIR; '
        'its frames need no labels then',
    )
    parser.add_argument('--json', metavar='FILE', help='also write the figures to FILE')
    add_segmenter_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Evaluate, print the table and write the files."""
    from lednet_ros.checkpoint import load_checkpoint
    from lednet_ros.datasets import CityscapesDataset, Dataset, FolderDataset, guess_layout
    from lednet_ros.evaluation.cityscapes import open_for_submission
    from lednet_ros.evaluation.dataset import evaluate, format_table, write_json
    from lednet_ros.evaluation.multi_scale import MultiScaleSegmenter
    from lednet_ros.files import make_folder
    from lednet_ros.inference.segmenter import Segmenter
    from lednet_ros.labels import LabelMap

    # Fails now rather than after the work.
    if options.json:
        make_folder(Path(options.json).parent)
    if options.submission:
        make_folder(Path(options.submission))
    checkpoint = load_checkpoint(
        options.checkpoint, LabelMap.load(options.label_map) if options.label_map else None
    )
    settings = {
        'source': options.checkpoint,
        'device': options.device,
        'precision': options.precision,
    }
    segmenter: Segmenter | MultiScaleSegmenter
    if options.scales == (1.0,) and not options.flip:
        segmenter = Segmenter(
            checkpoint, backend=options.backend, calibration=options.calibration, **settings
        )
    else:
        if options.backend not in ('auto', 'torch_eager'):
            raise ValueError(
                f"backend is '{options.backend}'; with --scales or --flip it must be 'torch_eager'"
            )
        segmenter = MultiScaleSegmenter(
            checkpoint, scales=options.scales, flip=options.flip, **settings
        )
    frames: Dataset
    layout = guess_layout(options.data) if options.layout == 'auto' else options.layout
    if layout != 'cityscapes':
        frames = FolderDataset(options.data, options.split, segmenter.label_map)
    else:
        open_cityscapes = open_for_submission if options.submission else CityscapesDataset
        frames = open_cityscapes(
            options.data, options.split, segmenter.label_map, options.annotations
        )
    result = evaluate(segmenter, frames, options.submission)
    print(format_table(result))
    if options.json:
        write_json(result, options.json)
    return 0


def _scales(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(scale) for scale in text.split(','))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a list of numbers like 0.75,1,1.25"
        ) from None
