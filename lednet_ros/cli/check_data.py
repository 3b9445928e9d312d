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

"""`lednet check-data`: read a whole data set, count it, and name what is wrong with it."""

import argparse
import json
from pathlib import Path
from typing import Any, TYPE_CHECKING

from lednet_ros.cli.parsing import add_json_flag, add_layout_arguments, Subparsers

if TYPE_CHECKING:
    from lednet_ros.datasets import ImageSurvey, Survey
    from lednet_ros.labels import LabelMap


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        'check-data', help='count a data set and name what is wrong with it'
    )
    parser.add_argument('data', type=Path, help='folder of the data set')
    parser.add_argument(
        '--split', action='append', help='part of the data (repeatable; default: all)'
    )
    add_layout_arguments(parser, labeled=False)
    parser.add_argument(
        '--label-map',
        help='file or name of the classes (default: the one of the layout, camvid for folders)',
    )
    add_json_flag(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check all splits and print what is in them; 1 if anything is wrong."""
    from lednet_ros.datasets import (
        find_splits,
        guess_layout,
        ImageFolder,
        LABELED,
        open_labeled,
        survey,
        survey_images,
    )
    from lednet_ros.labels import LabelMap

    layout = guess_layout(options.data) if options.layout == 'auto' else options.layout
    splits = options.split or find_splits(options.data, layout, options.annotations)
    reports: dict[str, dict[str, Any]] = {}
    for split in splits:
        if layout == 'image_folder':
            reports[split] = _describe_images(survey_images(ImageFolder(options.data, split)))
            continue
        label_map = LabelMap.load(options.label_map or LABELED[layout])
        frames = open_labeled(
            layout, options.data, split, label_map, options.annotations, partial=True
        )
        reports[split] = _describe_frames(survey(frames), label_map)
    if options.json:
        print(json.dumps(reports, indent=2))
    else:
        print('\n\n'.join(_format(split, report) for split, report in reports.items()))
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


def _describe_images(found: 'ImageSurvey') -> dict[str, Any]:
    return {
        'images': found.images,
        'classes': dict(sorted(found.per_class.items())),
        'problems': found.problems,
    }


def _format(split: str, report: dict[str, Any]) -> str:
    from lednet_ros.datasets import list_problems

    classes = report['classes']
    if 'images' in report:
        smallest, largest = min(classes, key=classes.get), max(classes, key=classes.get)
        lines = [
            f"{split}: {report['images']} images of {len(classes)} classes",
            f'  fewest: {classes[smallest]} of {smallest}',
            f'  most: {classes[largest]} of {largest}',
        ]
    else:
        sizes = ', '.join(f'{count} of {size}' for size, count in report['sizes'].items())
        lines = [f"{split}: {report['frames']} frames ({sizes or 'none is readable'})"]
        width = max(len(name) for name in (*classes, 'unlabeled'))
        lines.append(f"  {'class':<{width}}  pixels %  in frames")
        lines += [
            f"  {name:<{width}}  {100 * entry['share']:8.2f}  {entry['frames']:9}"
            for name, entry in classes.items()
        ]
        lines.append(f"  {'unlabeled':<{width}}  {100 * report['unlabeled']:8.2f}")
    lines.append(f"  {list_problems(report['problems'])}")
    return '\n'.join(lines)
