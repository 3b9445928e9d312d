# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`lednet evaluate`: accuracy on labeled frames."""

import argparse
from pathlib import Path

from lednet_ros.cli.parsing import add_segmenter_arguments, Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser('evaluate', help='measure accuracy on labeled frames')
    parser.add_argument('data', help='folder with SPLIT/images and SPLIT/labels')
    parser.add_argument('--split', default='val', help='subfolder (default: val)')
    parser.add_argument('--json', metavar='FILE', help='also write the figures to FILE')
    add_segmenter_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Evaluate, print the table and write the file."""
    from lednet_ros.datasets import FolderDataset
    from lednet_ros.evaluation.dataset import evaluate, format_table, write_json
    from lednet_ros.files import make_folder
    from lednet_ros.inference.segmenter import Segmenter
    from lednet_ros.labels import LabelMap

    if options.json:
        # Fails now rather than after the work.
        make_folder(Path(options.json).parent)
    segmenter = Segmenter.from_checkpoint(
        options.checkpoint,
        label_map=LabelMap.load(options.label_map) if options.label_map else None,
        device=options.device,
        precision=options.precision,
    )
    dataset = FolderDataset(options.data, options.split, segmenter.label_map)
    result = evaluate(segmenter, dataset)
    print(format_table(result))
    if options.json:
        write_json(result, options.json)
    return 0
