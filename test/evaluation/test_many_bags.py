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

"""Many bags: one after the other, resumed, and by Ray processes."""

from pathlib import Path

from bag_files import Entry, write_bag
from lednet_ros.evaluation import many_bags
from lednet_ros.evaluation.many_bags import BagsResult, evaluate_bags, EvaluationSettings
from lednet_ros.evaluation.recording import recording_to_dict
from lednet_ros.evaluation.recording_reader import TruthSource
from lednet_ros.inference.options import SegmenterOptions
from lednet_ros.synthetic import StreetScene
import numpy as np
import pytest


@pytest.fixture
def settings(small_checkpoint: Path) -> EvaluationSettings:
    return EvaluationSettings(
        str(small_checkpoint),
        options=SegmenterOptions(device='cpu', backend='torch_eager', num_threads=1),
        image_topic='/image', truth=TruthSource(topic='/truth'),
    )


@pytest.fixture
def bags(tmp_path: Path) -> list[Path]:
    """Three bags of streets with ground truth, and a damaged one."""
    paths = []
    for seed in range(3):
        scene = StreetScene(96, 64, seed=seed)
        entries = []
        for index in range(3):
            pixels, labels = scene.render(index / 10)[:2]
            entries.append(Entry('/image', index, index, pixels, 'rgb8'))
            entries.append(Entry('/truth', index, index, labels, 'mono8'))
        paths.append(write_bag(tmp_path / f'drive{seed}', entries))
    broken = tmp_path / 'broken.mcap'
    broken.write_text('nothing')
    return [paths[0], broken, *paths[1:]]


def metrics(result: BagsResult) -> dict[str, object]:
    """Return the metrics that must not depend on the number of processes."""
    assert result.total is not None
    content = recording_to_dict(result.total)
    for name in ('fps', 'stages_ms'):
        content.pop(name)
    return content


def test_counts_are_summed_and_a_failure_is_reported(
    settings: EvaluationSettings, bags: list[Path]
) -> None:
    segmenter = settings.make_segmenter()
    result = evaluate_bags(segmenter, settings, bags)
    assert list(result.failures) == [str(bags[1])]
    assert 'not a readable bag' in result.failures[str(bags[1])]
    assert result.total is not None
    assert result.total.bags == [str(bags[0]), str(bags[2]), str(bags[3])]
    single = [evaluate_bags(segmenter, settings, [path]).total for path in (bags[0], *bags[2:])]
    counts = sum((one.confusion.counts for one in single if one), np.zeros((11, 12), np.int64))
    np.testing.assert_array_equal(result.total.confusion.counts, counts)
    assert evaluate_bags(segmenter, settings, [bags[1], bags[1]]).total is None


def test_finished_bags_are_skipped(
    settings: EvaluationSettings, bags: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = settings.make_segmenter()
    folder = tmp_path / 'results'
    expected = evaluate_bags(segmenter, settings, bags, folder)
    done: list[str] = []

    def watch(segmenter: object, path: Path, **_: object) -> object:
        done.append(path.name)
        raise RuntimeError('done before')

    monkeypatch.setattr(many_bags, 'evaluate_bag', watch)
    again = evaluate_bags(segmenter, settings, bags, folder)
    # Only the one that failed is tried again.
    assert done == ['broken.mcap']
    assert metrics(again) == metrics(expected)
    # An unreadable result and a changed bag are evaluated again.
    kept = sorted(folder.glob('drive0*.json'))
    kept[0].write_text('{}')
    (file,) = bags[2].glob('*.mcap')
    file.touch()
    done.clear()
    evaluate_bags(segmenter, settings, bags, folder)
    assert sorted(done) == ['broken.mcap', 'drive0', 'drive1']


@pytest.mark.slow
def test_two_processes_return_the_same(settings: EvaluationSettings, bags: list[Path]) -> None:
    pytest.importorskip('ray')
    segmenter = settings.make_segmenter()
    expected = evaluate_bags(segmenter, settings, bags)
    found = evaluate_bags(segmenter, settings, bags, workers=2)
    assert metrics(found) == metrics(expected)
    assert list(found.failures) == [str(bags[1])]
