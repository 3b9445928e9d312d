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

"""Many bags: one after the other, or by several processes and machines with Ray."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
import functools
import hashlib
import json
import logging
import operator
import os
from pathlib import Path
from typing import Any

from lednet_ros import __version__
from lednet_ros.evaluation.consistency import Calibration, Flips
from lednet_ros.evaluation.metrics import ConfusionMatrix
from lednet_ros.evaluation.recording import evaluate_bag, FrameMetrics, RecordingResult
from lednet_ros.evaluation.recording_reader import TruthSource
from lednet_ros.files import write_json
from lednet_ros.inference.options import SegmenterOptions
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.labels import LabelMap
import numpy as np
from tqdm import tqdm


@dataclass(frozen=True)
class EvaluationSettings:
    """
    Settings of an evaluation, which worker processes use to build their segmenters.

    Attributes
    ----------
    checkpoint, label_map, options
        See `Segmenter.from_checkpoint`; the label map by name or file.
    image_topic, truth
        See `evaluate_bag`.

    """

    checkpoint: str
    label_map: str | None = None
    options: SegmenterOptions = field(default_factory=SegmenterOptions)
    image_topic: str | None = None
    truth: TruthSource = field(default_factory=TruthSource)

    def make_segmenter(self) -> Segmenter:
        """Build the segmenter; raises as `Segmenter.from_checkpoint`."""
        return Segmenter.from_checkpoint(self.checkpoint, self.options, label_map=self.label_map)


@dataclass(frozen=True)
class BagsResult:
    """
    Results of many bags.

    Attributes
    ----------
    total
        The sum; None if no bag could be evaluated.
    failures
        Reasons why bags could not be evaluated, by path.

    """

    total: RecordingResult | None
    failures: dict[str, str]


def evaluate_bags(
    segmenter: Segmenter,
    settings: EvaluationSettings,
    paths: Sequence[Path],
    resume: Path | None = None,
    workers: int = 1,
    address: str | None = None,
) -> BagsResult:
    """
    Evaluate bags and add the results; a bag that fails doesn't stop the others.

    Parameters
    ----------
    segmenter
        Built from the settings; used if there is a single process.
    settings
        Used by worker processes to build their segmenters.
    paths
        The bags. If there is one alone, its error is raised.
    resume
        Folder for the result of each bag; bags with a stored result are skipped.
    workers
        Number of processes; 1 uses this one.
    address
        Address of a Ray cluster; None starts one on this machine.

    Returns
    -------
    BagsResult
        The same for any number of workers: counts are whole numbers, and frames are joined in
        the order of `paths`.

    Raises
    ------
    ImportError
        Several workers are requested, but ray is not installed.
    OSError
        The folder can't be written.

    """
    label_map = segmenter.label_map
    files = {path: _result_file(resume, path, settings, label_map) for path in paths}
    stored = {path: _load(file, label_map) for path, file in files.items()}
    results = {path: result for path, result in stored.items() if result is not None}
    left = [path for path in paths if path not in results]
    outcomes: Iterable[tuple[Path, RecordingResult | str]]
    if workers > 1 or address is not None:
        outcomes = _by_ray(settings, left, workers, address)
    elif len(paths) > 1:
        bar = tqdm(left, 'evaluate', unit='bag')
        outcomes = ((path, _evaluate(segmenter, settings, path)) for path in bar)
    else:
        topic, truth = settings.image_topic, settings.truth
        outcomes = ((path, evaluate_bag(segmenter, path, topic, truth)) for path in left)
    failures: dict[str, str] = {}
    for path, outcome in outcomes:
        if isinstance(outcome, str):
            failures[str(path)] = outcome
            continue
        results[path] = outcome
        if (file := files[path]) is not None:
            write_json(_to_json(outcome), file)
    found = [results[path] for path in paths if path in results]
    return BagsResult(functools.reduce(operator.add, found) if found else None, failures)


def _evaluate(
    segmenter: Segmenter, settings: EvaluationSettings, path: Path
) -> RecordingResult | str:
    """Evaluate one of several bags; return the reason if that fails."""
    try:
        return evaluate_bag(
            segmenter, path, image_topic=settings.image_topic, truth=settings.truth, progress=False
        )
    except Exception as error:
        # Whatever is wrong with one bag, the others are evaluated.
        return str(error) or type(error).__name__


def _by_ray(
    settings: EvaluationSettings, paths: Sequence[Path], workers: int, address: str | None
) -> Iterator[tuple[Path, RecordingResult | str]]:
    # By default, Ray reports its use to a server.
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    import ray
    from ray.util import ActorPool

    ray.init(
        address=address,
        log_to_driver=False,
        include_dashboard=False,
        logging_level=logging.ERROR,
    )
    try:
        actor = ray.remote(num_cpus=1)(_Worker)
        pool = ActorPool([actor.remote(settings) for _ in range(min(workers, len(paths) or 1))])
        found = pool.map_unordered(lambda one, path: one.evaluate.remote(path), [*paths])
        yield from tqdm(found, 'evaluate', total=len(paths), unit='bag')
    finally:
        ray.shutdown()


class _Worker:
    """A worker process, which builds its segmenter once."""

    def __init__(self, settings: EvaluationSettings) -> None:
        self._settings = settings
        self._segmenter = settings.make_segmenter()

    def evaluate(self, path: Path) -> tuple[Path, RecordingResult | str]:
        """Evaluate a bag; return its path too, because bags finish in any order."""
        return path, _evaluate(self._segmenter, self._settings, path)


def _result_file(
    folder: Path | None, bag: Path, settings: EvaluationSettings, label_map: LabelMap
) -> Path | None:
    """Return the file of a bag's result, named by a digest of all that the result depends on."""
    if folder is None:
        return None
    # A file may have changed under its name; the number of threads changes nothing.
    state = ' '.join(map(_state, (bag, Path(settings.checkpoint))))
    settings = replace(settings, options=replace(settings.options, num_threads=0))
    key = f'{__version__} {settings} {label_map} {state}'
    return folder / f'{bag.name}.{hashlib.sha256(key.encode()).hexdigest()[:16]}.json'


def _state(path: Path) -> str:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    states = [(file.resolve(), file.stat()) for file in files if file.exists()]
    return ' '.join(f'{file} {state.st_size} {state.st_mtime_ns}' for file, state in states)


def _to_json(result: RecordingResult) -> dict[str, Any]:
    content = {each.name: getattr(result, each.name) for each in fields(result)}
    return {
        **content,
        'confusion': result.confusion.counts.tolist(),
        'calibration': [result.calibration.right.tolist(), result.calibration.total.tolist()],
        'flips': asdict(result.flips),
        'frames': [asdict(frame) for frame in result.frames],
        'class_pixels': result.class_pixels.tolist(),
    }


def _load(file: Path | None, label_map: LabelMap) -> RecordingResult | None:
    """Load a stored result; None if there is none that can be read."""
    if file is None:
        return None
    try:
        content = json.loads(file.read_text('utf-8'))
        confusion = ConfusionMatrix(label_map)
        counts = np.array(content['confusion'], np.int64)
        confusion.counts = counts.reshape(confusion.counts.shape)
        right, total = (np.array(values, np.int64) for values in content['calibration'])
        frames = []
        for frame in content['frames']:
            read, segment, score = frame['milliseconds']
            frames.append(FrameMetrics(**{**frame, 'milliseconds': (read, segment, score)}))
        parts = {
            'confusion': confusion,
            'calibration': Calibration(right, total),
            'flips': Flips(**content['flips']),
            'frames': frames,
            'rejected': Counter(content['rejected']),
            'class_pixels': np.array(content['class_pixels'], np.int64),
        }
        return RecordingResult(**{**content, **parts})
    except (OSError, ValueError, KeyError, TypeError):
        return None
