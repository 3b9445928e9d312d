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
from dataclasses import dataclass, field, replace
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
LEFT_OUT = 254
"""In ground truth, the id of pixels whose class a `MergedLabelMap` leaves out."""

Color = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

BLACK = (0, 0, 0)

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
    source_colors
        Its colors in label files that have colors instead.

    """

    name: str
    color: Color
    category: str
    source_ids: tuple[int, ...]
    source_colors: tuple[Color, ...] = ()

    @property
    def web_color(self) -> str:
        """Return the color as in CSS, like '#804080'."""
        return '#{:02x}{:02x}{:02x}'.format(*self.color)


@dataclass(frozen=True)
class LabelMap:
    """
    The classes of a network, in the order of its output channels.

    Attributes
    ----------
    name
        Name of the map.
    labels
        The classes. The id of a class is its index in this tuple, except in a `MergedLabelMap`.
    unlabeled_ids, unlabeled_colors
        Values, besides 255, and colors in label files of pixels that are ignored.

    """

    name: str
    labels: tuple[Label, ...]
    unlabeled_ids: tuple[int, ...] = field(default=(), kw_only=True)
    unlabeled_colors: tuple[Color, ...] = field(default=(BLACK,), kw_only=True)

    @property
    def num_classes(self) -> int:
        """Return the number of classes."""
        return len(self.labels)

    @property
    def network(self) -> 'LabelMap':
        """Return the label map of the network; this one, unless classes are merged."""
        return self

    @property
    def ids(self) -> tuple[int, ...]:
        """Return the id of each class in label images."""
        return tuple(range(self.num_classes))

    @property
    def truth_ids(self) -> tuple[int, ...]:
        """Return `ids` and, where classes are left out, `LEFT_OUT`: the ids in ground truth."""
        return (*self.ids, LEFT_OUT) if len(self.groups) > self.num_classes else self.ids

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Return the network's classes that each channel of the logits stands for."""
        return tuple((index,) for index in self.ids)

    @property
    def limits(self) -> tuple[float | None, ...]:
        """Return the lowest confidence of each class; None where it has none of its own."""
        return (None,) * self.num_classes

    def from_network(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Convert ground truth, (H, W) uint8, from the ids of the network to those of this map."""
        return labels

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Return the class names in the order of the classes."""
        return tuple(label.name for label in self.labels)

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """Return the category names in the order of their first class."""
        return tuple(dict.fromkeys(label.category for label in self.labels))

    @cached_property
    def category_of(self) -> NDArray[np.int64]:
        """Return the index into `categories` of each class, (num_classes,) int64."""
        return np.array([self.categories.index(label.category) for label in self.labels])

    @cached_property
    def palette(self) -> NDArray[np.uint8]:
        """Return the colors by id, (256, 3) uint8 RGB; ids without a class are black."""
        palette = np.zeros((256, 3), np.uint8)
        palette[list(self.ids)] = [label.color for label in self.labels]
        return palette

    @cached_property
    def from_source(self) -> NDArray[np.uint8]:
        """Return the class id by the value in the data set's label files, (256,) uint8."""
        table = np.full(256, UNLABELED, np.uint8)
        for index, label in enumerate(self.labels):
            table[list(label.source_ids)] = index
        return table

    @cached_property
    def from_color(self) -> NDArray[np.int16]:
        """
        Return the class id by color, (2^24,) int16: `red << 16 | green << 8 | blue`.

        -1 is a color that label files must not have.

        Raises
        ------
        LabelMapError
            Two classes have a color in common.

        """
        colors = [color for label in self.labels for color in label.source_colors]
        _check_unique(self.name, 'color', colors)
        table = np.full(1 << 24, -1, np.int16)
        # A class may be black, too.
        for color in self.unlabeled_colors:
            table[_pack(*color)] = UNLABELED
        for index, label in enumerate(self.labels):
            for color in label.source_colors:
                table[_pack(*color)] = index
        return table

    def from_colors(self, colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """
        Convert a label image in colors to class ids.

        Parameters
        ----------
        colors
            (H, W, 3) uint8 RGB.

        Returns
        -------
        ndarray
            (H, W) uint8; 255 is unlabeled.

        Raises
        ------
        LabelMapError
            A color belongs to no class, or to two.

        """
        packed = np.zeros((*colors.shape[:2], 4), np.uint8)
        packed[..., 2::-1] = colors
        ids = self.from_color[packed.view('<u4')[..., 0]]
        if (ids < 0).any():
            row, column = np.argwhere(ids < 0)[0].tolist()
            raise LabelMapError(
                f'color {tuple(colors[row, column].tolist())} in row {row}, column {column} is '
                f"not in label map '{self.name}'"
            )
        return np.asarray(ids, np.uint8)

    def id_of(self, name: str) -> int:
        """
        Find the id of a class by its name.

        Raises
        ------
        LabelMapError
            No class has that name.

        """
        if name not in self.names:
            raise LabelMapError(
                f"unknown class '{name}'; label map '{self.name}' has: {', '.join(self.names)}"
            )
        return self.ids[self.names.index(name)]

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
                'source_colors': [list(color) for color in label.source_colors],
            }
            for index, label in enumerate(self.labels)
        ]
        return {
            'name': self.name,
            'unlabeled_ids': list(self.unlabeled_ids),
            'unlabeled_colors': [list(color) for color in self.unlabeled_colors],
            'classes': classes,
        }

    @classmethod
    def from_dict(cls, content: Any, source: str) -> 'LabelMap':
        """
        Build a label map from the content of its YAML file.

        Parameters
        ----------
        content
            Mapping with `classes` and, optionally, `name`, `unlabeled_ids` (default: none) and
            `unlabeled_colors` (default: black). Each class has `id` (0, 1, 2 ... in order),
            `name`, `color` and, optionally, `category` (default: its name), `source_ids`
            (default: its id) and `source_colors` (default: its color).
        source
            Origin of the content, for messages.

        Raises
        ------
        LabelMapError
            A key is missing, or its value isn't allowed.

        """
        labels = tuple(
            _read_label(entry, index, f'{source}: class {index}')
            for index, entry in enumerate(_read_classes(content, source, UNLABELED))
        )
        _check_unique(source, 'name', [label.name for label in labels])
        unlabeled_ids = content.get('unlabeled_ids', [])
        if not _is_bytes(unlabeled_ids):
            raise LabelMapError(
                f'{source}: unlabeled_ids is {unlabeled_ids!r}; it must be a list of 0..255'
            )
        ids = [number for label in labels for number in label.source_ids]
        _check_unique(source, 'source id', [*ids, *unlabeled_ids])
        return cls(
            name=str(content.get('name', source)),
            labels=labels,
            unlabeled_ids=tuple(unlabeled_ids),
            unlabeled_colors=_read_colors(content, 'unlabeled_colors', BLACK, source),
        )

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
        content, path = _read_file(name_or_path, 'labels', 'label map')
        return cls.from_dict(content, str(path))


@dataclass(frozen=True)
class MergedLabelMap(LabelMap):
    """
    Classes to publish, each made of one or several classes of a network.

    The network's classes that are in none of them are left out: they become unlabeled.

    Attributes
    ----------
    origin
        The classes of the network.
    chosen_ids
        The id of each class.
    members
        The ids of the network's classes that each class is made of.
    min_confidences
        See `limits`.

    """

    origin: LabelMap
    chosen_ids: tuple[int, ...]
    members: tuple[tuple[int, ...], ...]
    min_confidences: tuple[float | None, ...]

    @property
    def network(self) -> LabelMap:
        """See `LabelMap`."""
        return self.origin

    @property
    def ids(self) -> tuple[int, ...]:
        """See `LabelMap`."""
        return self.chosen_ids

    @property
    def limits(self) -> tuple[float | None, ...]:
        """See `LabelMap`."""
        return self.min_confidences

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """See `LabelMap`; the last channel stands for the classes that are left out, if any."""
        taken = {index for group in self.members for index in group}
        left_out = tuple(index for index in self.origin.ids if index not in taken)
        return (*self.members, left_out) if left_out else self.members

    def from_network(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """
        See `LabelMap`; what is left out becomes `LEFT_OUT`.

        Raises
        ------
        LabelMapError
            An id is neither one of the network's classes nor 255.

        """
        table = np.full(256, UNLABELED, np.uint8)
        for group, number in zip(self.groups, self.truth_ids, strict=True):
            table[list(group)] = number
        unknown = set(np.unique(labels).tolist()) - {*self.origin.ids, UNLABELED}
        if unknown:
            raise LabelMapError(
                f"ground truth has id {min(unknown)}; label map '{self.origin.name}' has 0 to "
                f'{self.origin.num_classes - 1} and {UNLABELED}'
            )
        return table[labels]

    @classmethod
    def merge(cls, content: Any, source: str, network: LabelMap) -> 'MergedLabelMap':
        """
        Build the classes to publish from the content of their YAML file.

        Parameters
        ----------
        content
            Mapping with `classes` and, optionally, `name`; each class has `id` (0 to 253), `name`
            and, optionally, `from` (names of the network's classes; default: its name), `color`,
            `category` (default: those of the first one in `from`) and `min_confidence` (0 to 1).
        source
            Origin of the content, for messages.
        network
            The classes of the network.

        Raises
        ------
        LabelMapError
            A key is missing, or its value isn't allowed.

        """
        entries = _read_classes(content, source, LEFT_OUT)
        labels, ids, members, limits = [], [], [], []
        for index, entry in enumerate(entries):
            where = f'{source}: class {index}'
            name = _read_name(
                entry, where, {'id', 'name', 'from', 'color', 'category', 'min_confidence'}
            )
            where = f"{where} ('{name}')"
            number, limit = entry.get('id'), entry.get('min_confidence')
            if not _is_bytes([number]) or number >= LEFT_OUT:
                raise LabelMapError(f'{where}: id is {number!r}; it must be 0 to {LEFT_OUT - 1}')
            if limit is not None and not (_is_number(limit) and 0 <= limit <= 1):
                raise LabelMapError(f'{where}: min_confidence is {limit!r}; it must be 0 to 1')
            taken = entry.get('from', [name])
            if not isinstance(taken, list) or not taken:
                raise LabelMapError(f'{where}: from is {taken!r}; it must be a list of classes')
            try:
                group = tuple(network.id_of(each) for each in taken)
            except LabelMapError as error:
                raise LabelMapError(f'{where}: {error}') from error
            first = network.labels[group[0]]
            color = _read_color(entry.get('color', list(first.color)), where)
            labels.append(Label(name, color, str(entry.get('category', first.category)), ()))
            ids.append(number)
            members.append(group)
            limits.append(None if limit is None else float(limit))
        _check_unique(source, 'name', [label.name for label in labels])
        _check_unique(source, 'id', ids)
        names = [network.names[member] for group in members for member in group]
        _check_unique(source, 'class of the network', names)
        name = str(content.get('name', source))
        return cls(name, tuple(labels), network, tuple(ids), tuple(members), tuple(limits))


def choose_classes(label_map: LabelMap, name_or_path: str | None) -> LabelMap:
    """
    Return the classes to publish for a network.

    Parameters
    ----------
    label_map
        The classes of the network.
    name_or_path
        A YAML file (see `MergedLabelMap.merge`), or the name of one in `config/classes`; None
        publishes the classes of the network.

    Raises
    ------
    LabelMapError
        There is no such file, or it doesn't fit the network.

    """
    if name_or_path is None:
        return label_map
    content, path = _read_file(name_or_path, 'classes', 'file of classes')
    return MergedLabelMap.merge(content, str(path), label_map)


def _read_file(name_or_path: str | Path, folder: str, kind: str) -> tuple[Any, Path]:
    """Read a YAML file, or the one of that name in a folder of `config`."""
    path = Path(name_or_path)
    if not path.suffix:
        path = share_directory() / 'config' / folder / f'{name_or_path}.yaml'
    try:
        return parse_yaml(path.read_text(encoding='utf-8')), path
    except FileNotFoundError:
        known = sorted(file.stem for file in path.parent.glob('*.yaml'))
        raise LabelMapError(
            f"no {kind} '{name_or_path}': {path} does not exist; "
            f"{path.parent} has: {', '.join(known) or 'none'}"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        # YAML's messages have several lines.
        raise LabelMapError(f"{path}: {' '.join(str(error).split())}") from error


def _read_classes(content: Any, source: str, limit: int) -> list[Any]:
    """Return the entries of a file with a list of 1 to `limit` classes."""
    if not isinstance(content, Mapping):
        raise LabelMapError(f"{source}: a mapping with 'name' and 'classes' is needed")
    classes = content.get('classes')
    if not isinstance(classes, list) or not 1 <= len(classes) <= limit:
        raise LabelMapError(f"{source}: 'classes' must be a list of 1 to {limit} classes")
    return classes


def _read_name(entry: Any, source: str, keys: set[str]) -> str:
    """Check the keys of a class and return its name."""
    if not isinstance(entry, Mapping):
        raise LabelMapError(f"{source}: a mapping with 'id' and 'name' is needed")
    unknown = set(entry) - keys
    if unknown:
        raise LabelMapError(f'{source}: unknown keys {sorted(map(str, unknown))}')
    name = entry.get('name')
    if not isinstance(name, str) or not name:
        raise LabelMapError(f'{source}: name is {name!r}; it must be a text')
    return name


def _read_color(color: Any, source: str) -> Color:
    if not _is_bytes(color) or len(color) != 3:
        raise LabelMapError(f'{source}: color is {color!r}; it must be [r, g, b], 0..255')
    red, green, blue = color
    return red, green, blue


def _read_colors(
    entry: Mapping[str, Any], key: str, default: Color, source: str
) -> tuple[Color, ...]:
    colors = entry.get(key, [list(default)])
    if not isinstance(colors, list):
        raise LabelMapError(f'{source}: {key} is {colors!r}; it must be a list of colors')
    return tuple(_read_color(color, f'{source}: {key}') for color in colors)


def _pack(red: int, green: int, blue: int) -> int:
    return red << 16 | green << 8 | blue


def _read_label(entry: Any, index: int, source: str) -> Label:
    name = _read_name(
        entry, source, {'id', 'name', 'color', 'category', 'source_ids', 'source_colors'}
    )
    if entry.get('id') != index:
        raise LabelMapError(
            f"{source}: id is {entry.get('id')!r}; ids must be 0, 1, 2 ... in order "
            '(values of label files go into source_ids)'
        )
    source = f"{source} ('{name}')"
    color = _read_color(entry.get('color'), source)
    source_ids = entry.get('source_ids', [index])
    if not _is_bytes(source_ids):
        raise LabelMapError(
            f'{source}: source_ids is {source_ids!r}; it must be a list of 0..255'
        )
    colors = _read_colors(entry, 'source_colors', color, source)
    return Label(name, color, str(entry.get('category', name)), tuple(source_ids), colors)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_bytes(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255
        for value in values
    )


def _check_unique(source: str, attribute: str, values: list[Any]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise LabelMapError(f'{source}: {attribute} {value!r} is given twice')
