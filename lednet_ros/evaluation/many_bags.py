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
from collections.abc import Callable, Iterator, Sequence
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
from lednet_ros.evaluation.recording import evaluate_bag, FrameFigures, RecordingResult
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
    Everything that an evaluation needs, to be sent to another process.

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
        return Segmenter.from_checkpoint(
            self.checkpoint, self.options, label_map=self.label_map
        )


@dataclass(frozen=True)
class BagsResult:
    """
    Results of many bags.

    Attributes
    ----------
    total
        The sum; None if no bag could be evaluated.
    failures
        Why bags could not be evaluated, by their paths.

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
    Evaluate bags and sum up; the failure of one doesn't stop the others.

    Parameters
    ----------
    segmenter
        Made of the settings; what a single process works with.
    settings
        What several processes make theirs of.
    paths
        The bags.
    resume
        Folder for the result of each bag; those that are there already are not evaluated again.
    workers
        Processes; 1 works in this one.
    address
        Of a Ray cluster; None starts one on this machine.

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
    results: dict[Path, RecordingResult] = {}
    failures: dict[str, str] = {}
    stores = {
        path: _Store(resume, path, settings, segmenter.label_map) for path in paths
    }
    for path, store in stores.items():
        if (kept := store.read()) is not None:
            results[path] = kept
    left = [path for path in paths if path not in results]
    alone = len(paths) == 1
    if workers == 1 and address is None:
        outcomes = _one_by_one(segmenter, settings, left, alone)
    else:
        outcomes = _by_ray(settings, left, workers, address)
    for path, outcome in outcomes:
        if isinstance(outcome, RecordingResult):
            results[path] = outcome
            stores[path].write(outcome)
        else:
            failures[str(path)] = outcome
    found = [results[path] for path in paths if path in results]
    return BagsResult(functools.reduce(operator.add, found) if found else None, failures)


Outcomes = Iterator[tuple[Path, RecordingResult | str]]


def _one_by_one(
    segmenter: Segmenter, settings: EvaluationSettings, paths: Sequence[Path], alone: bool
) -> Outcomes:
    evaluate = functools.partial(
        evaluate_bag, segmenter, image_topic=settings.image_topic, truth=settings.truth
    )
    if alone:
        for path in paths:
            yield path, evaluate(path)
        return
    for path in tqdm(paths, 'evaluate', unit='bag'):
        yield path, _guarded(functools.partial(evaluate, path, progress=False))


def _by_ray(
    settings: EvaluationSettings, paths: Sequence[Path], workers: int, address: str | None
) -> Outcomes:
    # Ray reports its use to a server otherwise.
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
        found = pool.map_unordered(
            lambda one, path: one.evaluate.remote(path), [str(path) for path in paths]
        )
        for path, outcome in tqdm(found, 'evaluate', total=len(paths), unit='bag'):
            yield Path(path), outcome
    finally:
        ray.shutdown()


class _Worker:
    """Evaluates bags in a process of its own."""

    def __init__(self, settings: EvaluationSettings) -> None:
        self._settings = settings
        self._segmenter = settings.make_segmenter()

    def evaluate(self, path: str) -> tuple[str, RecordingResult | str]:
        """Evaluate a bag; returns its path too, because bags end in any order."""
        settings = self._settings
        return path, _guarded(
            lambda: evaluate_bag(
                self._segmenter, Path(path), settings.image_topic, settings.truth, progress=False
            )
        )


def _guarded(evaluate: Callable[[], RecordingResult]) -> RecordingResult | str:
    try:
        return evaluate()
    except Exception as error:
        # Whatever is wrong with one bag, the others are evaluated.
        return str(error) or type(error).__name__


class _Store:
    """
    Keeps the result of a bag in a file whose name encodes what it is made of.

    Parameters
    ----------
    folder
        None keeps nothing.
    bag
        Its path, size and time count.
    settings
        They count, too.
    label_map
        Of the result.

    """

    def __init__(
        self, folder: Path | None, bag: Path, settings: EvaluationSettings, label_map: LabelMap
    ) -> None:
        self._path: Path | None = None
        self._label_map = label_map
        if folder is not None:
            # A file may have changed under its name; the number of threads changes nothing.
            files = [bag, Path(settings.checkpoint)]
            state = ' '.join(map(_state, files))
            settings = replace(settings, options=replace(settings.options, num_threads=0))
            key = f'{__version__} {settings} {label_map} {state}'
            digest = hashlib.sha256(key.encode()).hexdigest()[:16]
            self._path = folder / f'{bag.name}.{digest}.json'

    def read(self) -> RecordingResult | None:
        """Return the stored result; None if there is none that can be read."""
        if self._path is None:
            return None
        try:
            return _from_json(json.loads(self._path.read_text('utf-8')), self._label_map)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, result: RecordingResult) -> None:
        """Keep a result."""
        if self._path is not None:
            write_json(_to_json(result), self._path)


def _state(path: Path) -> str:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    parts = []
    for file in files:
        if file.exists():
            status = file.stat()
            parts.append(f'{file.resolve()} {status.st_size} {status.st_mtime_ns}')
    return ' '.join(parts)


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


def _from_json(content: dict[str, Any], label_map: LabelMap) -> RecordingResult:
    confusion = ConfusionMatrix(label_map)
    counts = np.array(content['confusion'], np.int64)
    if counts.shape != confusion.counts.shape:
        raise ValueError(f'confusion matrix is {counts.shape}')
    confusion.counts = counts
    right, total = (np.array(values, np.int64) for values in content['calibration'])
    frames = []
    for frame in content['frames']:
        read, segment, score = frame.pop('milliseconds')
        frames.append(FrameFigures(**frame, milliseconds=(read, segment, score)))
    return RecordingResult(
        **{
            **content,
            'confusion': confusion,
            'calibration': Calibration(right, total),
            'flips': Flips(**content['flips']),
            'frames': frames,
            'rejected': Counter(content['rejected']),
            'class_pixels': np.array(content['class_pixels'], np.int64),
        }
    )
