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

"""Locations of the package's files, and safe reading and writing."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
from dataclasses import dataclass, field
import itertools
import json
import logging
import os
from pathlib import Path
import re
import shutil
import tempfile
from typing import Any

import yaml

logger = logging.getLogger(__name__)

# The largest shipped file has a few hundred.
MAX_YAML_VALUES = 100_000
# What a user can do about an output that is there.
REMEDY = 'choose another name, or replace it by --overwrite'
# Names that are listed before the rest is counted.
LISTED = 3
BAG_FILE = re.compile(r'\.(mcap|db3|bag)(\.zstd)?$')
# Of each kind: other weights, versions and sizes would fill the disk.
CACHED_FILES = 32
# Can be neither read nor written.
NO_CACHE = Path(os.devnull) / 'lednet_ros'
# Folders that can't be written.
_warned: set[Path] = set()
_COUNTER = itertools.count()


def share_directory() -> Path:
    """
    Return the folder that holds `config` and `launch`.

    This is the source tree, or `share/lednet_ros` of the prefix that the package is installed in
    (colcon, pip and symlinked installs alike).

    Raises
    ------
    FileNotFoundError
        The package was copied somewhere without its configuration.

    """
    here = Path(__file__).resolve()
    source = here.parent.parent
    if (source / 'package.xml').is_file():
        return source
    for parent in here.parents:
        share = parent / 'share' / 'lednet_ros'
        if (share / 'config').is_dir():
            return share
    raise FileNotFoundError(
        f'no share/lednet_ros beside {here.parent}; install the package with colcon or pip'
    )


def cache_folder() -> Path:
    """
    Return the cache folder: `$LEDNET_ROS_CACHE`, or `lednet_ros` in the user's cache.

    For a user without a home it is `NO_CACHE`.
    """
    if named := os.environ.get('LEDNET_ROS_CACHE'):
        return Path(named)
    try:
        return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'lednet_ros'
    except RuntimeError:
        return NO_CACHE


def keep_in_cache(path: Path, content: bytes) -> None:
    """Write a file of the cache; where that is impossible, warn once and go on."""
    try:
        write_to_cache(path, content)
    except OSError as error:
        warn_of_cache(error)


def warn_of_cache(error: OSError) -> None:
    """Warn, once for a folder, that nothing can be kept."""
    folder = cache_folder()
    if folder not in _warned:
        _warned.add(folder)
        reason = 'the user has no home' if folder == NO_CACHE else error
        logger.warning(
            'nothing is kept for the next start, which will take as long as this one: %s; '
            'LEDNET_ROS_CACHE names another folder', reason,
        )


def write_to_cache(path: Path, content: bytes) -> None:
    """Write a file of the cache, and remove the oldest files with its ending; raises OSError."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    files = sorted(path.parent.glob(f'*{path.suffix}'), key=lambda file: file.stat().st_mtime)
    for file in files[:-CACHED_FILES]:
        file.unlink(missing_ok=True)


def parse_yaml(text: str) -> Any:
    """
    Parse YAML from any source: plain values only, and not too many of them.

    Raises
    ------
    yaml.YAMLError
        It isn't such YAML, or repeats so much by aliases that it would fill the memory.

    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if (size := _count_values(node, {})) > MAX_YAML_VALUES:
            raise yaml.YAMLError(f'holds {size:.3g} values; allowed: {MAX_YAML_VALUES}')
        return loader.construct_document(node)
    except RecursionError as error:
        raise yaml.YAMLError('nested too deeply') from error
    finally:
        loader.dispose()


def _count_values(node: Any, known: dict[int, int]) -> int:
    """Count the values of a YAML node, including every repetition by aliases."""
    if id(node) not in known:
        children = node.value if isinstance(node, yaml.CollectionNode) else ()
        if isinstance(node, yaml.MappingNode):
            children = [part for pair in children for part in pair]
        known[id(node)] = 1 + sum(_count_values(child, known) for child in children)
    return known[id(node)]


def make_folder(folder: Path) -> None:
    """
    Make a folder for output and its parents where missing, and check that it can be written.

    Raises
    ------
    OSError
        It can't be made or written.

    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise NotADirectoryError(
            f"can't write into {folder}: a file is where a folder is needed"
        ) from error
    # Permissions alone don't show that a file system is read-only, and an empty file not that it
    # is full.
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(4096))


def claim_files(
    paths: Sequence[Path | str], inputs: Sequence[Path] = (), overwrite: bool = False
) -> None:
    """
    Check, before the work, that files can be written without losing any.

    With `claim_folder`, this is the one place that decides what a command may write.

    Parameters
    ----------
    paths
        The files; their folders are made if missing.
    inputs
        What the command reads. It is never replaced.
    overwrite
        Allow to replace other files.

    Raises
    ------
    OSError
        A file is there, or can't be written.
    ValueError
        Two of them are the same.

    """
    targets, known = set(), _Inputs(inputs)
    for path in map(Path, paths):
        known.protect(path)
        check_file(path, overwrite)
        if (target := real_path(path)) in targets:
            raise ValueError(f'{path} is given for two outputs; they must differ')
        targets.add(target)
        _RUN.claimed.append(path)
    for folder in {path.parent for path in map(Path, paths)}:
        make_folder(folder)


def check_file(path: Path, overwrite: bool = False) -> None:
    """Raise OSError if something is there that may not be replaced."""
    if path.is_dir():
        raise IsADirectoryError(f"can't write {path}: it is a folder; a file is needed")
    if os.path.lexists(path) and not path.is_file():
        raise FileExistsError(f"can't write {path}: it is there and no regular file")
    if path.is_file() and not overwrite:
        raise FileExistsError(f"can't write {path}: it is there; {REMEDY}")


def claim_folder(
    folder: Path, inputs: Sequence[Path] = (), overwrite: bool = False, bag: bool = False
) -> None:
    """
    Check, before the work, that a new or empty folder can be written.

    Parameters
    ----------
    folder
        The folder.
    inputs
        See `claim_files`.
    overwrite
        Allow a folder that isn't empty, whose files may be replaced.
    bag
        The folder will be a bag and is replaced as a whole: what is there must be empty or, with
        `overwrite`, hold the files of a bag and nothing else. It isn't made.

    Raises
    ------
    OSError
        See `claim_files`.

    """
    if bag:
        # A folder below the current one, so that it can't be replaced either.
        _Inputs([*inputs, Path.cwd() / 'x']).protect(folder)
        if folder.is_symlink():
            raise FileExistsError(f"can't write {folder}: it is a link; a new folder is needed")
    if os.path.lexists(folder) and not folder.is_dir():
        raise NotADirectoryError(f"can't write into {folder}: it is no folder")
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    if found and not overwrite:
        raise FileExistsError(f"can't write into {folder}: it is not empty; {REMEDY}")
    for path in found if bag else ():
        if path.is_dir() or not (path.name == 'metadata.yaml' or BAG_FILE.search(path.name)):
            raise FileExistsError(f"can't replace {folder}: {path.name} is no part of a bag")
    make_folder(folder.parent if bag else folder)
    _RUN.claimed.append(folder)


def real_path(path: Path) -> Path:
    """Resolve all links; unlike `Path.resolve`, one that leads to itself is no error."""
    return Path(os.path.realpath(path))


class _Inputs:
    """What a command reads, and what holds it."""

    def __init__(self, inputs: Iterable[Path]) -> None:
        self._paths = {real_path(path) for path in inputs}
        self._parents = {parent for path in self._paths for parent in path.parents}
        self._folders = {path for path in self._paths if path.is_dir()}

    def protect(self, path: Path) -> None:
        """Raise FileExistsError if a path is an input, holds one, or is a file in one."""
        target = real_path(path)
        if target in self._paths:
            raise FileExistsError(f"can't write {path}: it is input and output; they must differ")
        if target in self._parents:
            raise FileExistsError(f"can't write {path}: it holds an input or the current folder")
        if self._folders.intersection(target.parents) and target.is_file():
            raise FileExistsError(f"can't write {path}: it is a file of an input")


@dataclass
class _Run:
    """What this process was to write, and what it has completed."""

    claimed: list[Path] = field(default_factory=list)
    finished: list[Path] = field(default_factory=list)


_RUN = _Run()


def forget_outputs() -> None:
    """Begin a command: nothing is claimed or finished."""
    _RUN.claimed.clear()
    _RUN.finished.clear()


def describe_outputs() -> str:
    """Say which of the claimed outputs are complete; empty if none was claimed."""
    whole, missing = [], []
    for path in dict.fromkeys(_RUN.claimed):
        count = sum(path in done.parents for done in _RUN.finished)
        if path in _RUN.finished:
            whole.append(f'{path}')
        elif count:
            whole.append(f'{count} files in {path}')
        else:
            missing.append(f'{path}')
    parts = [('complete: ', whole), ('not written: ', missing)]
    return '; '.join(text + _list_few(names) for text, names in parts if names)


def _list_few(names: Sequence[str]) -> str:
    more = f' and {len(names) - LISTED} more' if len(names) > LISTED else ''
    return ', '.join(names[:LISTED]) + more


def unique_names(paths: Sequence[Path]) -> list[str]:
    """
    Name the results of several inputs: the shortest names that differ.

    A name is the input's stem; where those are equal the whole name (`a.png` beside `a.jpg`),
    otherwise the path below their common folder (`left/0001` and `right/0001`), and at last that
    with the ending. Upper and lower case don't distinguish names, as some file systems ignore it.
    """
    places = [path.absolute() for path in paths]
    common = os.path.commonpath([place.parent for place in places]) if places else ''
    levels = []
    for place in places:
        # A dot in a folder's name, like that of a date, begins no ending.
        stem = place.name if place.is_dir() else place.stem
        below = place.parent.relative_to(common)
        levels.append([stem, place.name, str(below / stem), str(below / place.name)])
    depths = [0] * len(places)
    while True:
        names = [level[depth] for level, depth in zip(levels, depths, strict=True)]
        counts = Counter(name.casefold() for name in names)
        deeper = [
            depth + (counts[name.casefold()] > 1 and depth < 3)
            for name, depth in zip(names, depths, strict=True)
        ]
        if deeper == depths:
            return names
        depths = deeper


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """
    Provide a temporary path that becomes `path` when the block ends without an error.

    Parameters
    ----------
    path
        The file to write or replace; its folder is made if missing.

    Yields
    ------
    Path
        A name in the same folder, with the same suffix, for the block to write.

    Raises
    ------
    OSError
        The folder can't be made or written.

    """
    path = Path(path)
    make_folder(path.parent)
    temporary = temporary_path(path)
    try:
        yield temporary
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_path(path: Path) -> Path:
    """Return a free name in the same folder with the same suffix."""
    return path.with_name(f'.part{os.getpid()}_{next(_COUNTER)}{path.suffix}')


def publish(temporary: Path, path: Path) -> None:
    """Let a complete file or folder appear under its name, in place of one of its kind."""
    if temporary.is_dir() and path.is_dir():
        before = temporary.with_name('.replaced')
        path.rename(before)
        try:
            temporary.rename(path)
        except BaseException:
            before.rename(path)
            raise
        shutil.rmtree(before, ignore_errors=True)
    else:
        temporary.replace(path)
    _RUN.finished.append(path)


def write_json(content: Mapping[str, Any], path: Path | str) -> None:
    """Write a JSON file, replaced in one step; raises OSError."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
