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

"""Label maps: the names, ids, colors and categories of the classes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
import itertools
from pathlib import Path
from typing import Any, TypeGuard

from lednet_ros.files import parse_yaml, share_directory
import numpy as np
from numpy.typing import NDArray
import yaml

UNLABELED = 255
"""The id of pixels without a class, in every label image of this package."""

# Okabe and Ito's colors and a gray; each further one is the farthest from all before it, as seen
# with normal vision, protanopia and deuteranopia.
COLOR_BLIND_COLORS = (
    (86, 180, 233), (213, 94, 0), (240, 228, 66), (100, 100, 100), (204, 121, 167),
    (0, 114, 178), (0, 158, 115), (17, 0, 51), (255, 255, 204), (0, 0, 255),
    (0, 0, 153), (85, 51, 0), (204, 204, 153), (187, 170, 51), (153, 119, 255),
    (204, 221, 255), (255, 255, 136), (68, 51, 68), (85, 85, 187), (153, 204, 204),
)


class LabelMapError(ValueError):
    """A label map that can't be used; the message names the file and the entry."""


@dataclass(frozen=True)
class Label:
    """
    One class.

    Attributes
    ----------
    name
        Unique name.
    color
        Red, green and blue, 0 to 255.
    category
        Group of classes, for category IoU.
    source_ids
        Values of the class in the data set's label files.

    """

    name: str
    color: tuple[int, int, int]
    category: str
    source_ids: tuple[int, ...]


@dataclass(frozen=True)
class LabelMap:
    """
    The classes of a network, in the order of its output channels.

    Attributes
    ----------
    name
        Name of the map.
    labels
        The classes; the id of a class is its index in this tuple.

    """

    name: str
    labels: tuple[Label, ...]

    @property
    def num_classes(self) -> int:
        """Return the number of classes."""
        return len(self.labels)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Return the class names by id."""
        return tuple(label.name for label in self.labels)

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """Return the category names in the order of their first class."""
        return tuple(dict.fromkeys(label.category for label in self.labels))

    @cached_property
    def category_of(self) -> NDArray[np.int64]:
        """Return the index into `categories` by class id, (num_classes,) int64."""
        return np.array([self.categories.index(label.category) for label in self.labels])

    @cached_property
    def palette(self) -> NDArray[np.uint8]:
        """Return the colors by id, (256, 3) uint8 RGB; ids without a class are black."""
        palette = np.zeros((256, 3), np.uint8)
        for index, label in enumerate(self.labels):
            palette[index] = label.color
        return palette

    @cached_property
    def from_source(self) -> NDArray[np.uint8]:
        """Return the class id by the value in the data set's label files, (256,) uint8."""
        table = np.full(256, UNLABELED, np.uint8)
        for index, label in enumerate(self.labels):
            table[list(label.source_ids)] = index
        return table

    def id_of(self, name: str) -> int:
        """
        Find a class by its name.

        Raises
        ------
        LabelMapError
            No class has that name.

        """
        if name not in self.names:
            raise LabelMapError(
                f"unknown class '{name}'; label map '{self.name}' has: {', '.join(self.names)}"
            )
        return self.names.index(name)

    def for_color_blind(self) -> 'LabelMap':
        """Return the same classes in colors that people with any color vision can tell apart."""
        pairs = zip(self.labels, itertools.cycle(COLOR_BLIND_COLORS), strict=False)
        return replace(self, labels=tuple(replace(label, color=color) for label, color in pairs))

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the label map's YAML file."""
        classes = [
            {
                'id': index,
                'name': label.name,
                'color': list(label.color),
                'category': label.category,
                'source_ids': list(label.source_ids),
            }
            for index, label in enumerate(self.labels)
        ]
        return {'name': self.name, 'classes': classes}

    @classmethod
    def from_dict(cls, content: Any, source: str) -> 'LabelMap':
        """
        Build a label map from the content of its YAML file.

        Parameters
        ----------
        content
            Mapping with `name` and `classes`; each class has `id` (0, 1, 2 ... in order),
            `name`, `color` and, optionally, `category` (default: its name) and `source_ids`
            (default: its id).
        source
            Origin of the content, for messages.

        Raises
        ------
        LabelMapError
            A key is missing, or its value isn't allowed.

        """
        if not isinstance(content, Mapping):
            raise LabelMapError(f"{source}: a mapping with 'name' and 'classes' is needed")
        classes = content.get('classes')
        if not isinstance(classes, list) or not 1 <= len(classes) <= UNLABELED:
            raise LabelMapError(f"{source}: 'classes' must be a list of 1 to {UNLABELED} classes")
        labels = tuple(
            _read_label(entry, index, f'{source}: class {index}')
            for index, entry in enumerate(classes)
        )
        _check_unique(source, 'name', [label.name for label in labels])
        _check_unique(source, 'source id', [i for label in labels for i in label.source_ids])
        return cls(name=str(content.get('name', source)), labels=labels)

    @classmethod
    def load(cls, name_or_path: str | Path) -> 'LabelMap':
        """
        Read a label map file.

        Parameters
        ----------
        name_or_path
            A YAML file, or the name of one in `config/labels`.

        Raises
        ------
        LabelMapError
            There is no such file, or it isn't a label map.

        """
        path = Path(name_or_path)
        if not path.suffix:
            path = share_directory() / 'config' / 'labels' / f'{name_or_path}.yaml'
        try:
            content = parse_yaml(path.read_text(encoding='utf-8'))
        except FileNotFoundError:
            known = sorted(file.stem for file in path.parent.glob('*.yaml'))
            raise LabelMapError(
                f"no label map '{name_or_path}': {path} does not exist; "
                f"{path.parent} has: {', '.join(known) or 'none'}"
            ) from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            # YAML's messages have several lines.
            raise LabelMapError(f"{path}: {' '.join(str(error).split())}") from error
        return cls.from_dict(content, str(path))


def _read_label(entry: Any, index: int, source: str) -> Label:
    if not isinstance(entry, Mapping):
        raise LabelMapError(f"{source}: a mapping with 'id', 'name' and 'color' is needed")
    unknown = set(entry) - {'id', 'name', 'color', 'category', 'source_ids'}
    if unknown:
        raise LabelMapError(f'{source}: unknown keys {sorted(map(str, unknown))}')
    if entry.get('id') != index:
        raise LabelMapError(
            f"{source}: id is {entry.get('id')!r}; ids must be 0, 1, 2 ... in order "
            '(values of label files go into source_ids)'
        )
    name = entry.get('name')
    if not isinstance(name, str) or not name:
        raise LabelMapError(f'{source}: name is {name!r}; it must be a text')
    color = entry.get('color')
    if not _is_bytes(color) or len(color) != 3:
        raise LabelMapError(
            f"{source} ('{name}'): color is {color!r}; it must be [r, g, b], 0..255"
        )
    source_ids = entry.get('source_ids', [index])
    if not _is_bytes(source_ids):
        raise LabelMapError(
            f"{source} ('{name}'): source_ids is {source_ids!r}; it must be a list of 0..255"
        )
    red, green, blue = color
    category = str(entry.get('category', name))
    return Label(name, (red, green, blue), category, tuple(source_ids))


def _is_bytes(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255
        for value in values
    )


def _check_unique(source: str, attribute: str, values: list[Any]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise LabelMapError(f'{source}: {attribute} {value!r} is given to two classes')
