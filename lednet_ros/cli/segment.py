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

"""`lednet segment`: label images, overlays, videos and bags from recordings."""

import argparse
import contextlib
from pathlib import Path

from lednet_ros.cli.parsing import (
    add_output_option,
    add_overwrite_option,
    add_segmenter_options,
    add_topic_option,
    make_segmenter,
    report_lost,
    Subparsers,
)

KINDS = ('labels', 'overlay', 'color', 'video', 'bag')


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        'segment', help='segment images, folders, videos, cameras and bags'
    )
    parser.add_argument(
        'inputs',
        nargs='+',
        type=Path,
        metavar='INPUT',
        help='image, folder of images, video, camera (/dev/video0) or bag',
    )
    add_output_option(
        parser,
        'folder or file; with several inputs, a folder with one per input',
        required=True,
        metavar='OUT',
    )
    parser.add_argument(
        '--as',
        dest='kind',
        choices=KINDS,
        help='what to write: PNG files of ids, overlays or colors, a video of overlays, or the '
        'bag with the results added (default: video if OUT ends like one, bag for a bag, '
        'otherwise labels)',
    )
    add_overwrite_option(parser)
    add_topic_option(parser)
    parser.add_argument('--legend', action='store_true', help='draw a legend below the image')
    parser.add_argument('--boundaries', action='store_true', help='draw lines where classes meet')
    parser.add_argument('--compress', action='store_true', help='write smaller bags, more slowly')
    add_segmenter_options(parser, 'results', 'drawing')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Segment all inputs; return 1 if a part of them was lost."""
    from lednet_ros.files import real_path
    from lednet_ros.recordings.bags import SourceError
    from lednet_ros.recordings.segment import (
        claim_output,
        Look,
        place_outputs,
        segment_recording,
    )

    # The same file twice is one input.
    sources = list({real_path(path): path for path in options.inputs}.values())
    kinds = [options.kind or _choose_kind(path, options.output) for path in sources]
    outputs = [options.output]
    if len(sources) > 1:
        outputs = place_outputs(sources, options.output, kinds)
    for source, output, kind in zip(sources, outputs, kinds, strict=True):
        # What is wrong with an input is said when its turn comes.
        with contextlib.suppress(SourceError):
            claim_output(source, output, kind, sources, options.overwrite)
    segmenter = make_segmenter(options)
    look = Look(options.legend, options.boundaries)
    problems = []
    for source, output, kind in zip(sources, outputs, kinds, strict=True):
        try:
            summary = segment_recording(
                segmenter, source, output, kind, options.image_topic, look, options.compress,
                options.overwrite,
            )
        except (OSError, RuntimeError, ValueError) as error:
            if len(sources) == 1:
                raise
            problems.append(str(error))
            continue
        print(f'{output}: {summary.frames} frames')
        problems += summary.problems
    return report_lost(problems)


def _choose_kind(source: Path, output: Path) -> str:
    from lednet_ros.recordings.bags import is_bag
    from lednet_ros.recordings.segment import VIDEO_SUFFIXES

    if output.suffix.lower() in VIDEO_SUFFIXES:
        return 'video'
    return 'bag' if is_bag(source) else 'labels'
