# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`lednet benchmark`: speed, beside what one would use otherwise."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lednet_ros.cli.parsing import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser('benchmark', help='measure speed')
    kinds = parser.add_subparsers(dest='kind', required=True, metavar='KIND')
    _add(kinds, 'pipeline', _run_pipeline, 'frames to results, in this process', 15)


def _add(
    kinds: Any, name: str, run: Callable[[argparse.Namespace], int], text: str, rounds: int
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = kinds.add_parser(name, help=text, description=text)
    size = {'type': int, 'nargs': 2, 'metavar': ('H', 'W')}
    parser.add_argument('--checkpoint', default='lednet', help='default: lednet')
    parser.add_argument(
        '--classes', type=int, default=20, help='outputs of the network (default: 20)'
    )
    parser.add_argument('--input-size', default=(512, 1024), **size)
    parser.add_argument('--frame-size', default=(1024, 2048), **size)
    parser.add_argument('--rounds', type=int, default=rounds, help=f'default: {rounds}')
    parser.add_argument('--device', default='auto', help='auto, cpu or cuda')
    parser.add_argument('--threads', type=int, default=0, help='CPU threads (default: all)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures to FILE')
    parser.add_argument('--plot', type=Path, metavar='FILE', help='write a plot (png, svg, pdf)')
    parser.set_defaults(run=run)
    return parser


def _run_pipeline(options: argparse.Namespace) -> int:
    from lednet_ros.benchmark.pipeline import run_pipeline
    import torch

    device = options.device
    if device == 'auto':
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    results = run_pipeline(
        options.checkpoint,
        options.classes,
        tuple(options.input_size),
        tuple(options.frame_size),
        device,
        options.rounds,
        options.threads,
    )
    return _report(results, options)


def _report(results: dict[str, Any], options: argparse.Namespace) -> int:
    from lednet_ros.benchmark.measure import write_json
    from lednet_ros.benchmark.tables import plot_results, print_results

    print_results(results)
    if options.json:
        write_json(results, options.json)
    if options.plot:
        plot_results(results, options.plot)
    return 0
