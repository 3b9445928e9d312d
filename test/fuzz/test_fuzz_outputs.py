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

"""Strange names and folders: no file is lost, names of results differ, errors are clear."""

from collections.abc import Callable
import os
from pathlib import Path
import tempfile

from hypothesis import given
from hypothesis import strategies as st
from lednet_ros.files import claim_files, claim_folder, unique_names
from lednet_ros.images import find_images, open_video, write_png
from lednet_ros.recordings.bags import SourceError
from lednet_ros.recordings.segment import claim_output
from lednet_ros.recordings.sources import read_frames
import numpy as np
from strange_input import attempt, fuzz

PIXELS = np.zeros((4, 6, 3), np.uint8)
# Names of any bytes, as Linux has them, and the ones that mean something to somebody.
names = st.one_of(
    st.binary(min_size=1, max_size=40).filter(lambda raw: not {0, 47} & {*raw}).map(os.fsdecode),
    st.sampled_from(['a.png', 'A.PNG', 'a.jpg', '._a.png', 'a', '%d.png', 'http:a.png', '-o',
                     'metadata.yaml', 'a.mcap', '~', ' ']),
).filter(lambda name: name not in ('.', '..'))
kinds = st.sampled_from(['image', 'empty', 'folder', 'link', 'loop', 'pipe', 'words'])


def make(path: Path, kind: str) -> None:
    if os.path.lexists(path):
        return
    if kind == 'image':
        write_png(path, PIXELS)
    elif kind == 'folder':
        path.mkdir()
    elif kind == 'pipe':
        os.mkfifo(path)
    elif kind in ('link', 'loop'):
        path.symlink_to('nowhere' if kind == 'link' else path.name)
    else:
        path.write_text('' if kind == 'empty' else 'words')


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes() if path.is_file() else b'' for path in folder.rglob('*')
    }


@fuzz
@given(st.lists(st.tuples(names, kinds), max_size=6), st.sampled_from(['', 'sub']))
def test_folders_of_strange_items(items: list[tuple[str, str]], below: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, below)
        folder.mkdir(exist_ok=True)
        for name, kind in items:
            make(folder / name, kind)
        problems: list[str] = []
        frames = attempt(lambda: list(read_frames(folder, problems=problems)), SourceError)
        assert len(frames or ()) + len(problems) == len(find_images(folder)) or frames is None
        assert len({frame.name for frame in frames or ()}) == len(frames or ())


@fuzz
@given(
    st.lists(st.tuples(names, kinds), max_size=4),
    names,
    st.sampled_from(['labels', 'video', 'bag', 'json']),
    st.booleans(),
)
def test_claims_change_nothing(
    items: list[tuple[str, str]], output: str, kind: str, overwrite: bool
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, kind_of_item in items:
            make(folder / name, kind_of_item)
        source, target = folder / (items[0][0] if items else 'none'), folder / output
        claim: Callable[[], None] = (
            (lambda: claim_files([target], [source], overwrite)) if kind == 'json'
            else lambda: claim_output(source, target, kind, [source], overwrite)
        )
        before = contents(folder)
        attempt(claim, OSError, SourceError)
        after = contents(folder)
        # A folder for images may have been made.
        assert {name: after[name] for name in before} == before
        assert set(after) - set(before) <= {str(target)}


@fuzz
@given(st.lists(st.lists(names, min_size=1, max_size=3).map('/'.join), unique=True, max_size=8))
def test_names_of_results(inputs: list[str]) -> None:
    paths = [Path('/data', name) for name in inputs]
    found = unique_names(paths)
    assert len(set(found)) == len({str(path) for path in paths})
    assert all(not name.startswith(('/', '../')) for name in found)


@fuzz
@given(names, st.binary(max_size=200))
def test_videos_of_any_name_and_content(name: str, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        with open_video(path) as capture:
            capture.read()
        attempt(lambda: claim_folder(path), OSError)
