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

"""Options and outputs that several commands share."""

import argparse
from collections.abc import Callable, Sequence
import json
from pathlib import Path
import sys
from typing import Any, TYPE_CHECKING

from lednet_ros.inference.options import Crop, Names, Option, OPTIONS, SegmenterOptions, Size

if TYPE_CHECKING:
    from lednet_ros.inference.segmenter import Segmenter

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Subparsers = argparse.Action


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add `--json [FILE]`."""
    parser.add_argument(
        '--json',
        nargs='?',
        const='-',
        metavar='FILE',
        help='write the results as JSON; without FILE, or with -, to stdout in place of tables',
    )
    add_overwrite_option(parser)


def add_overwrite_option(parser: argparse.ArgumentParser) -> None:
    """Add `--overwrite`, which every command that writes files has."""
    parser.add_argument(
        '--overwrite', action='store_true', help='replace files that are there (never an input)'
    )


class Renamed(argparse.Action):
    """An option's former name, which warns and works for one more minor version."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Warn, and store the value under the present name."""
        present = f"--{self.dest.replace('_', '-')}"
        print(f'{option_string} is now {present} and will be removed', file=sys.stderr)
        setattr(namespace, self.dest, values)


def add_output_option(parser: argparse.ArgumentParser, what: str, **details: Any) -> None:
    """Add `-o`, `--output`."""
    parser.add_argument('-o', '--output', type=Path, help=what, **details)


def add_topic_option(parser: Any) -> None:
    """Add `--image-topic`."""
    parser.add_argument(
        '--image-topic', metavar='TOPIC', help='images of a bag (default: its only image topic)'
    )


def add_truth_options(parser: Any) -> None:
    """Add `--label-topic`, `--labels` and `--slop`: where the ground truth is."""
    parser.add_argument('--label-topic', metavar='TOPIC', help='ground truth: ids or colors')
    parser.add_argument(
        '--labels', type=Path, metavar='DIR', help='ground truth: files SEC.NANOSEC.png'
    )
    parser.add_argument(
        '--slop',
        type=float,
        default=0.0,
        metavar='SECONDS',
        help='largest difference of the stamps of image and label (default: 0)',
    )


def write_results(
    options: argparse.Namespace, results: Any, print_tables: Callable[[], object]
) -> None:
    """Write JSON as `--json` says, and print tables unless it goes to stdout."""
    if options.json == '-':
        print(json.dumps(results, indent=2))
        return
    print_tables()
    if options.json:
        from lednet_ros.files import write_json

        write_json(results, Path(options.json))


def report_lost(problems: Sequence[str]) -> int:
    """Name what could not be read on stderr; return the exit code, 1 if there is anything."""
    for problem in problems:
        print(f'lost: {problem}', file=sys.stderr)
    return 1 if problems else 0


def claim_outputs(
    options: argparse.Namespace,
    *paths: Path | str | None,
    inputs: Sequence[Path | str | None] = (),
) -> None:
    """Check that the files that a command writes can be written; see `claim_files`."""
    from lednet_ros.files import claim_files

    claim_files(
        [path for path in paths if path is not None and str(path) != '-'],
        [Path(path) for path in inputs if path is not None],
        options.overwrite,
    )


def add_layout_arguments(parser: Any, *, labeled: bool) -> None:
    """Add the layout of a data set: any of the package's, or only those of labeled frames."""

    # Not `choices`, which would import the data sets for `--help`.
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
        help='layout of the data, like cityscapes (default: auto, detected from the folders)',
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


def add_segmenter_options(parser: argparse.ArgumentParser, *groups: str) -> None:
    """Add checkpoint, label map and the options of a segmenter: 'network' and these groups."""
    parser.add_argument(
        '--checkpoint',
        default='lednet',
        help='file or name of a shipped checkpoint (default: lednet)',
    )
    parser.add_argument('--label-map', help="file or name (default: the checkpoint's)")
    for option in OPTIONS.values():
        if option.group == 'network' or option.group in groups:
            _add_option(parser, option)


def _add_option(parser: argparse.ArgumentParser, option: Option) -> None:
    details: dict[str, Any] = {'type': option.type}
    if option.type == Size:
        details = {'type': int, 'nargs': 2, 'metavar': ('H', 'W')}
    elif option.type == Crop:
        details = {'type': float, 'nargs': 4, 'metavar': ('TOP', 'BOTTOM', 'LEFT', 'RIGHT')}
    elif option.type == Names:
        details = {'type': lambda text: tuple(text.split(',')), 'metavar': 'NAME,NAME'}
    elif option.type is Path:
        details['metavar'] = 'DIR'
    elif option.choices:
        details['choices'] = option.choices
    default = option.without or option.default
    parser.add_argument(
        option.flag or f"--{option.name.replace('_', '-')}",
        dest=option.name,
        default=argparse.SUPPRESS,
        help=option.description + (f' (default: {default})' if default else ''),
        **details,
    )


def read_segmenter_options(options: argparse.Namespace) -> SegmenterOptions:
    """Return the options of a segmenter; raises ConfigurationError if one is not allowed."""
    return SegmenterOptions(
        **{name: value for name, value in vars(options).items() if name in OPTIONS}
    )


def make_segmenter(options: argparse.Namespace) -> 'Segmenter':
    """Build the segmenter that the options of `add_segmenter_options` describe."""
    from lednet_ros.inference.segmenter import Segmenter

    return Segmenter.from_checkpoint(
        options.checkpoint, read_segmenter_options(options), label_map=options.label_map
    )
