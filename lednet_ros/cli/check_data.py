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

"""`lednet check-data`: read a whole data set, count its contents, and list its problems."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TYPE_CHECKING

from lednet_ros.cli.parsing import (
    add_json_option,
    add_layout_arguments,
    claim_outputs,
    Subparsers,
    write_results,
)

if TYPE_CHECKING:
    from lednet_ros.datasets import Survey
    from lednet_ros.labels import LabelMap


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        'check-data', help='count the contents of a data set and list its problems'
    )
    parser.add_argument('data', type=Path, help='folder of the data set')
    parser.add_argument(
        '--split', action='append', help='part of the data (repeatable; default: all)'
    )
    add_layout_arguments(parser, labeled=False)
    parser.add_argument(
        '--label-map',
        help="file or name of the classes (default: the layout's, camvid for folders)",
    )
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check all splits and print their contents; return 1 if there are problems."""
    from lednet_ros import datasets
    from lednet_ros.labels import LabelMap

    claim_outputs(options, options.json, inputs=[options.data])
    layout, annotations = options.layout, options.annotations
    if layout == 'auto':
        layout = datasets.guess_layout(options.data)
    reports: dict[str, dict[str, Any]] = {}
    digests: dict[str, set[bytes]] = {}
    for split in options.split or datasets.find_splits(options.data, layout, annotations):
        if layout == 'image_folder':
            images = datasets.survey_images(datasets.ImageFolder(options.data, split))
            digests[split] = images.digests
            reports[split] = {
                'images': images.images,
                'classes': dict(sorted(images.per_class.items())),
                'problems': images.problems,
            }
            continue
        label_map = LabelMap.load(options.label_map or datasets.LABELED[layout])
        frames = datasets.open_labeled(
            layout, options.data, split, label_map, annotations, partial=True
        )
        found = datasets.survey(frames)
        digests[split] = found.digests
        reports[split] = _describe_frames(found, label_map)
    for split, report in reports.items():
        shared = {other: len(digests[split] & digests[other]) for other in reports}
        report['also_in'] = {other: n for other, n in shared.items() if n and other != split}
    write_results(options, reports, lambda: _print(reports))
    return int(any(report['problems'] for report in reports.values()))


def _describe_frames(found: 'Survey', label_map: 'LabelMap') -> dict[str, Any]:
    total = max(int(found.pixels.sum()) + found.unlabeled, 1)
    return {
        'frames': found.frames,
        'sizes': {f'{width}x{height}': n for (height, width), n in found.sizes.most_common()},
        'classes': {
            name: {'share': pixels / total, 'frames': present}
            for name, pixels, present in zip(
                label_map.names, found.pixels.tolist(), found.present.tolist(), strict=True
            )
        },
        'unlabeled': found.unlabeled / total,
        'problems': found.problems,
    }


def _print(reports: Mapping[str, dict[str, Any]]) -> None:
    from lednet_ros.cli.tables import make_console, print_rows
    from lednet_ros.datasets import list_problems

    console = make_console()
    for split, report in reports.items():
        classes = report['classes']
        if 'images' in report:
            title = f"{split}: {report['images']} images of {len(classes)} classes"
            smallest, largest = min(classes, key=classes.get), max(classes, key=classes.get)
            rows = [
                {'': 'fewest', 'class': smallest, 'images': classes[smallest]},
                {'': 'most', 'class': largest, 'images': classes[largest]},
            ]
        else:
            sizes = ', '.join(f'{count} of {size}' for size, count in report['sizes'].items())
            title = f"{split}: {report['frames']} frames ({sizes or 'none is readable'})"
            rows = [
                {'class': name, 'pixels %': 100 * found['share'], 'in frames': found['frames']}
                for name, found in classes.items()
            ]
            rows.append({'class': 'unlabeled', 'pixels %': 100 * report['unlabeled']})
        notes = [f'images that are also in {o}: {n}' for o, n in report['also_in'].items()]
        notes.append(list_problems(report['problems']))
        print_rows(console, rows, title, '\n'.join(notes))
