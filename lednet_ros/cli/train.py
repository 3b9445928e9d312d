# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`lednet train`: train a network on a folder of labeled frames and synthetic streets."""

import argparse
from pathlib import Path

from lednet_ros.cli.parsing import Subparsers

VALIDATION_STREETS = 100


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser('train', help='train a network')
    parser.add_argument('--data', help='folder with train/ and val/, images/ and labels/ in each')
    parser.add_argument('--output', required=True, metavar='DIR', help='folder for the results')
    parser.add_argument('--label-map', default='camvid', help='file or name (default: camvid)')
    parser.add_argument('--network', default='lednet')
    parser.add_argument('--epochs', type=int, default=60)
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--learning-rate', type=float, default=4e-3)
    parser.add_argument(
        '--synthetic', type=int, default=160, metavar='N', help='synthetic frames an epoch'
    )
    parser.add_argument(
        '--weight-offset',
        type=float,
        default=1.1,
        help='softness of the class weights, above 1: smaller weighs rare classes more (1.1)',
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--initial', metavar='CHECKPOINT', help='weights to start from')
    parser.add_argument('--resume', action='store_true', help='go on from the last epoch')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train and print the measured accuracy."""
    from lednet_ros.checkpoint import load_checkpoint
    from lednet_ros.datasets import FolderDataset, synthetic_frames
    from lednet_ros.labels import LabelMap
    from lednet_ros.synthetic import CLASS_NAMES
    from lednet_ros.training.loop import train, TrainingOptions, VALIDATION_SEED

    label_map = LabelMap.load(options.label_map)
    if options.synthetic and label_map.names != CLASS_NAMES:
        raise ValueError(
            f"synthetic frames have the classes of 'camvid', not of '{label_map.name}'; "
            'use --synthetic 0'
        )
    settings = TrainingOptions(
        network=options.network,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        synthetic=options.synthetic,
        weight_offset=options.weight_offset,
        seed=options.seed,
    )
    frames = []
    validation = {}
    sources = []
    if options.data:
        frames = list(FolderDataset(options.data, 'train', label_map))
        validation['val'] = list(FolderDataset(options.data, 'val', label_map))
        sources.append(f'{len(frames)} frames of {Path(options.data).name}/train')
    if options.synthetic:
        streets = synthetic_frames(VALIDATION_STREETS, settings.input_size, VALIDATION_SEED)
        validation['synthetic'] = list(streets)
        sources.append(f'{settings.synthetic} new synthetic streets an epoch')
    checkpoint = train(
        frames,
        validation,
        label_map,
        settings,
        Path(options.output),
        ' and '.join(sources),
        initial=load_checkpoint(options.initial) if options.initial else None,
        resume=options.resume,
    )
    for name, metrics in checkpoint.metrics.items():
        print(f"{name}: mIoU {metrics['miou']:.4f}")
    return 0
