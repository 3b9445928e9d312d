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

from collections.abc import Iterator, Mapping
import contextlib
import json
import logging
import os
from pathlib import Path
import tempfile
from typing import Any

import yaml

logger = logging.getLogger(__name__)

# The largest shipped file has a few hundred.
MAX_YAML_VALUES = 100_000
# Of each kind: other weights, versions and sizes would fill the disk.
CACHED_FILES = 32
# Can be neither read nor written.
NO_CACHE = Path(os.devnull) / 'lednet_ros'
# Folders that can't be written.
_warned: set[Path] = set()


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
    # Permissions alone don't show that a file system is read-only.
    with tempfile.TemporaryFile(dir=folder):
        pass


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
    temporary = path.with_name(f'.{path.stem}.{os.getpid()}{path.suffix}')
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(content: Mapping[str, Any], path: Path | str) -> None:
    """Write a JSON file, replaced in one step; raises OSError."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
