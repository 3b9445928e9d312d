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

"""
The fastest right way to run a network on this machine, found by measuring.

All candidates are built, compared with fp32 on the CPU and timed, in a process of its own: a crash
in a driver or a hang costs the candidate, not the node. The verdict is kept in the cache; later
starts compare the winner alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import ctypes
from dataclasses import asdict, dataclass, replace
from functools import partial
import json
import logging
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any, TYPE_CHECKING

from lednet_ros import __version__
from lednet_ros.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lednet_ros.files import atomic_path, warn_of_cache, write_json, write_to_cache
from lednet_ros.inference.backends.calibration import Calibration, draw_streets
from lednet_ros.inference.backends.compiled import compiled_path, digest_weights
from lednet_ros.inference.encodings import Frame
from lednet_ros.inference.options import ConfigurationError, SegmenterOptions
from lednet_ros.labels import choose_classes
from lednet_ros.machine import (
    describe_processor,
    package_versions,
    processor_features,
    usable_cores,
)
import numpy as np
from numpy.typing import NDArray
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from lednet_ros.inference.segmenter import Segmentation, Segmenter

logger = logging.getLogger(__name__)

SWITCH = 'LEDNET_ROS_TUNING'
"""Environment variable; 'off' makes 'auto' take the preferred candidate without measuring."""

TOLERANCE = {'fp32': 0.01, 'fp16': 0.01, 'bf16': 0.04, 'int8': 0.2}
"""Largest difference of a logit from fp32 on the CPU, as a fraction of the range of all logits."""
AGREEMENT = {'fp32': 0.999, 'fp16': 0.999, 'bf16': 0.999, 'int8': 0.99}
"""Fraction of the clear pixels that must have the same label."""
CLEAR = 0.02
"""A pixel is clear where its two best logits differ by more than this fraction of the range."""
GRAY_LEVELS = 2
# What took more than this many times the fastest one's time once is not timed again.
CLOSE = 2.0
TIMED_ROUNDS = 30
TIMED_SECONDS = 3.0
# Engines and kernels are compiled in this time.
CANDIDATE_SECONDS = 300.0
LOG_SECONDS = 4.0
TAIL = 300
# sys/prctl.h
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Row:
    """
    What was found out about one candidate.

    Attributes
    ----------
    backend, precision
        The candidate.
    failure
        Why it can't be used; empty if it can.
    milliseconds
        Median time of a frame of the input's size to labels and overlay; None if it failed.
    error
        Largest difference of a logit from fp32, as a fraction of the range of all logits.
    agreement
        Fraction of the clear pixels that have the label of fp32.

    """

    backend: str
    precision: str
    failure: str = ''
    milliseconds: float | None = None
    error: float | None = None
    agreement: float | None = None

    @property
    def name(self) -> str:
        """Return backend and precision."""
        return f'{self.backend} {self.precision}'


@dataclass(frozen=True)
class Verdict:
    """
    The candidates for some options on this machine.

    Attributes
    ----------
    device
        Where they ran.
    rows
        The usable ones first, the fastest of them first.
    measured
        Whether they were measured now; otherwise the verdict is from the cache.

    """

    device: str
    rows: tuple[Row, ...]
    measured: bool = False

    def describe(self) -> str:
        """Return the candidates with their times, or why they can't be used."""
        return ', '.join(
            f'{row.name} {row.milliseconds:.1f} ms' if row.milliseconds else f'{row.name} unusable'
            for row in self.rows
        )


class WrongResultError(RuntimeError):
    """Results that differ from those of fp32 on the CPU by more than rounding."""


def _segment(segmenter: 'Segmenter', frames: Sequence[Frame]) -> 'Segmentation':
    with segmenter.plain():
        return segmenter.segment(frames, confidence=False)


class Reference:
    """
    Frames and what fp32 on the CPU makes of them.

    Parameters
    ----------
    arrays
        `frame_N` (H, W, 3) uint8 RGB; `logits_N` (h, w, C) float32; `labels_N` (H, W) uint8;
        `clear_N` (H, W) bool, the pixels whose label rounding can't change; `overlay_N` (H, W, 3)
        uint8: of a street and of noise, which differ in size.

    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.arrays = dict(arrays)
        self.frames = [Frame(self.arrays[f'frame_{k}'], 'rgb') for k in range(2)]
        self._clear = [self.arrays[f'clear_{k}'] for k in range(2)]

    @classmethod
    def compute(cls, segmenter: 'Segmenter') -> 'Reference':
        """Compute the reference with a segmenter of fp32 on the CPU."""
        height, width = segmenter.input_size
        street = next(draw_streets((height, width))).pixels
        # Not a multiple of anything.
        shape = (height * 3 // 4 + 1, width * 5 // 4 - 1, 3)
        noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        arrays: dict[str, NDArray[Any]] = {}
        for number, frame in enumerate((street, noise)):
            result = _segment(segmenter, [Frame(frame, 'rgb')])
            assert result.overlay is not None
            arrays[f'frame_{number}'] = frame
            arrays[f'logits_{number}'] = segmenter.last_logits()[0].copy()
            arrays[f'labels_{number}'] = result.labels[0].copy()
            arrays[f'clear_{number}'] = _find_clear(arrays[f'logits_{number}'], frame.shape[:2])
            arrays[f'overlay_{number}'] = result.overlay[0].copy()
        return cls(arrays)

    @classmethod
    def load(cls, path: Path) -> 'Reference':
        """Read what `save` wrote; raises OSError, KeyError or ValueError."""
        with np.load(path) as arrays:
            return cls(arrays)

    def save(self, path: Path) -> None:
        """Write the arrays as a compressed `.npz`."""
        np.savez_compressed(path, **self.arrays)  # type: ignore[arg-type]

    def check(self, segmenter: 'Segmenter', number: int) -> tuple[float, float]:
        """
        Compare a segmenter's results for one frame.

        Returns
        -------
        error, agreement
            See `Row`.

        Raises
        ------
        WrongResultError
            They differ too much.

        """
        expected = self.arrays[f'logits_{number}']
        result = _segment(segmenter, [self.frames[number]])
        assert result.overlay is not None
        found, spread = segmenter.last_logits()[0], float(np.ptp(expected))
        if not np.isfinite(found).all():
            raise WrongResultError('logits are not finite')
        error = float(np.abs(found - expected).max()) / spread
        labels, overlay = self.arrays[f'labels_{number}'], self.arrays[f'overlay_{number}']
        same = result.labels[0] == labels
        agreement = _fraction(same, self._clear[number])
        precision = segmenter.precision
        if error > TOLERANCE[precision]:
            raise WrongResultError(f'logits differ by {error:.2%} of their range')
        if agreement < AGREEMENT[precision]:
            raise WrongResultError(f'labels of {1 - agreement:.2%} of the clear pixels differ')
        drawn = np.abs(result.overlay[0].astype(np.int16) - overlay)[same]
        if drawn.size and drawn.max() > GRAY_LEVELS:
            raise WrongResultError(f'overlays differ by {drawn.max()} gray levels')
        return error, agreement

    def check_all(self, segmenter: 'Segmenter') -> tuple[float, float]:
        """
        Compare both frames, and the first one again.

        Returns and raises what `check` does.
        """
        first = self.check(segmenter, 0)
        labels = _segment(segmenter, [self.frames[0]]).labels[0].copy()
        second = self.check(segmenter, 1)
        again = _segment(segmenter, [self.frames[0]]).labels[0]
        if (again != labels).any():
            raise WrongResultError('labels of a frame differ after another frame')
        return max(first[0], second[0]), min(first[1], second[1])

    def time(self, segmenter: 'Segmenter') -> float:
        """Measure the milliseconds of the first frame to labels and overlay."""
        start = time.perf_counter()
        _segment(segmenter, [self.frames[0]])
        return 1e3 * (time.perf_counter() - start)

    def check_batch(self, segmenter: 'Segmenter') -> None:
        """
        Compare a batch with its frames one by one.

        Raises
        ------
        WrongResultError
            They differ by more than rounding.

        """
        alone = [_segment(segmenter, [one]).labels[0].copy() for one in self.frames]
        together = _segment(segmenter, self.frames).labels
        for found, expected, clear in zip(together, alone, self._clear, strict=True):
            differ = 1 - _fraction(found == expected, clear)
            if differ > 1 - AGREEMENT[segmenter.precision]:
                raise WrongResultError(
                    f'labels of {differ:.2%} of the clear pixels differ in a batch'
                )


def _fraction(true: NDArray[np.bool_], where: NDArray[np.bool_]) -> float:
    return float(true[where].mean()) if where.any() else 1.0


def _find_clear(logits: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.bool_]:
    """Find the pixels whose label rounding can't change."""
    tensor = torch.from_numpy(logits).permute(2, 0, 1)[None]
    full = functional.interpolate(tensor, size, mode='bilinear', align_corners=True)[0]
    if len(full) < 2:
        return np.ones(size, np.bool_)
    best = full.topk(2, dim=0).values
    clear: NDArray[np.bool_] = ((best[0] - best[1]) > CLEAR * float(np.ptp(logits))).numpy()
    return clear


def rank(
    checkpoint: Checkpoint, options: SegmenterOptions
) -> Iterator[tuple[SegmenterOptions, Reference | None]]:
    """
    Yield ways to run a network, the fastest first, until the caller is content with one.

    Parameters
    ----------
    checkpoint
        The network.
    options
        Whose device, backend and precision may be 'auto'.

    Yields
    ------
    options : SegmenterOptions
        Resolved.
    reference : Reference or None
        What the results must be compared with; None if that was done, or is not to be done.

    Raises
    ------
    ConfigurationError
        See `SegmenterOptions.candidates`.

    """
    candidates = options.candidates()
    if options.backend != 'auto' or os.environ.get(SWITCH) == 'off':
        yield candidates[0], None
        return
    if len(candidates) > 1:
        tuning = _Tuning(checkpoint, options, candidates)
        verdict = tuning.load() or tuning.measure()
        for row in verdict.rows:
            if not row.failure:
                reference = None if verdict.measured else tuning.load_reference()
                chosen = replace(
                    candidates[0], backend=row.backend, precision=row.precision
                )
                yield chosen, reference
                # The caller wasn't content: the next start measures again.
                tuning.forget()
    eager = replace(options, device=candidates[0].device, backend='torch_eager')
    yield eager.resolve(), None
    if options.device == 'auto' and candidates[0].device != 'cpu':
        yield replace(eager, device='cpu').resolve(), None


def tune(checkpoint: Checkpoint, options: SegmenterOptions) -> Verdict:
    """
    Measure all candidates and keep the verdict for the next start.

    Parameters and errors are those of `rank`.
    """
    return _Tuning(checkpoint, options, options.candidates()).measure()


class _Tuning:
    """The verdict for some options, in the cache or measured."""

    def __init__(
        self, checkpoint: Checkpoint, options: SegmenterOptions,
        candidates: Sequence[SegmenterOptions],
    ) -> None:
        self._checkpoint = checkpoint
        self._candidates = candidates
        self.device = candidates[0].device
        classes = choose_classes(checkpoint.label_map, options.classes)
        fingerprint = ' '.join(
            map(str, (
                'tuning', __version__, _describe_device(self.device), package_versions(),
                digest_weights(checkpoint.state_dict), checkpoint.label_map.num_classes,
                classes.groups, classes.ids,
                checkpoint.mean, checkpoint.std, options.input_size or checkpoint.input_size,
                options.num_threads, Calibration(checkpoint, options).describe(),
                [(one.backend, one.precision) for one in candidates],
            ))
        )
        self._rows_path = compiled_path(fingerprint, 'json')
        self._reference_path = compiled_path(fingerprint, 'npz')

    def load(self) -> Verdict | None:
        """Return the verdict of the cache; None if there is none."""
        try:
            content = json.loads(self._rows_path.read_text(encoding='utf-8'))
            return Verdict(self.device, tuple(Row(**row) for row in content['rows']))
        except (OSError, KeyError, TypeError, ValueError):
            return None

    def load_reference(self) -> Reference | None:
        """Return the reference of the cache; None if there is none."""
        try:
            return Reference.load(self._reference_path)
        except (OSError, KeyError, ValueError):
            return None

    def forget(self) -> None:
        """Remove the verdict from the cache."""
        with contextlib.suppress(OSError):
            self._rows_path.unlink()

    def measure(self) -> Verdict:
        """Measure the candidates in another process and keep the verdict."""
        logger.info(
            "backend 'auto': measuring %d candidates on '%s', for the first start on this machine",
            len(self._candidates), self.device,
        )
        with tempfile.TemporaryDirectory(prefix='lednet_ros_tuning_') as name:
            folder = Path(name)
            save_checkpoint(self._checkpoint, folder / 'checkpoint.safetensors')
            requests = [
                {key: str(value) if isinstance(value, Path) else value
                 for key, value in asdict(one).items()}
                for one in self._candidates
            ]
            (folder / 'candidates.json').write_text(json.dumps(requests), encoding='utf-8')
            rows = _measure_in_processes(folder, self._candidates)
            rows.sort(key=lambda row: (bool(row.failure), row.milliseconds or 0.0))
            verdict = Verdict(self.device, tuple(rows), measured=True)
            self._keep(folder, rows)
        for row in rows:
            if row.failure:
                logger.warning('%s is left out: %s', row.name, row.failure)
        logger.info("backend 'auto': %s", verdict.describe())
        return verdict

    def _keep(self, folder: Path, rows: Sequence[Row]) -> None:
        reference = folder / 'reference.npz'
        if not reference.is_file():
            return
        try:
            write_to_cache(self._reference_path, reference.read_bytes())
            content = json.dumps({'rows': [asdict(row) for row in rows]})
            write_to_cache(self._rows_path, content.encode())
        except OSError as error:
            warn_of_cache(error)


def _describe_device(device: str) -> str:
    if device == 'cpu':
        return f'{describe_processor()} {processor_features()} {usable_cores()}'
    found = torch.cuda.get_device_properties(torch.device(device))
    driver = Path('/proc/driver/nvidia/version')
    version = driver.read_text(encoding='utf-8') if driver.is_file() else ''
    return f'{found.name} {found.major}.{found.minor} {found.total_memory} {version}'


class _State:
    """
    What the measuring process has found out, in a file that the other process reads.

    Attributes
    ----------
    doing
        The candidate that is being tried, 'reference' or 'timing'.
    rows
        What was found out about candidates, by name.
    finished
        Whether nothing is left to do.

    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / 'state.json'
        self.doing, self.finished = 'reference', False
        self.rows: dict[str, Row] = {}
        if self._path.is_file():
            content = json.loads(self._path.read_text(encoding='utf-8'))
            self.doing, self.finished = content['doing'], content['finished']
            self.rows = {name: Row(**row) for name, row in content['rows'].items()}

    def write(self, doing: str, finished: bool = False) -> None:
        """Write the file before something is tried."""
        self.doing = doing
        rows = {name: asdict(row) for name, row in self.rows.items()}
        write_json({'doing': doing, 'finished': finished, 'rows': rows}, self._path)


def _measure_in_processes(folder: Path, candidates: Sequence[SegmenterOptions]) -> list[Row]:
    """Measure all candidates; after one that ends its process, another process goes on."""
    for _ in range(len(candidates) + 1):
        failure = _run_process(folder)
        state = _State(folder)
        if state.finished:
            break
        if state.doing in ('reference', 'timing'):
            logger.warning("backend 'auto' can't measure (%s): %s", state.doing, failure)
            return [Row(one.backend, one.precision, failure) for one in candidates]
        backend, precision = state.doing.split()
        state.rows[state.doing] = Row(backend, precision, failure)
        state.write('reference')
    return list(state.rows.values())


def _run_process(folder: Path) -> str:
    """Run a process that measures what is left; return why it ended early, if it did."""
    command = [sys.executable, '-m', 'lednet_ros.inference.tuning', str(folder)]
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}
    log = folder / 'log'
    with log.open('wb') as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL, env=environment
        )
        try:
            doing, since, said = '', 0.0, 0.0
            while process.poll() is None:
                state, now = _State(folder), time.monotonic()
                if state.doing != doing:
                    doing, since, said = state.doing, now, 0.0
                if now - since > CANDIDATE_SECONDS:
                    return f'did not end within {CANDIDATE_SECONDS:g} s'
                if now - since >= said:
                    logger.info("backend 'auto': %s, %.0f s", doing, now - since)
                    said += LOG_SECONDS
                time.sleep(0.05)
        finally:
            process.kill()
            process.wait()
    lines = log.read_text(encoding='utf-8', errors='replace').strip().splitlines()
    last = lines[-1][-TAIL:] if lines else 'without a message'
    if process.returncode < 0:
        return f'ended by {signal.Signals(-process.returncode).name}: {last}'
    return f'ended with exit code {process.returncode}: {last}'


def end_with_parent() -> None:
    """Let the kernel end this process when the thread that started it ends, however that is."""
    prctl = getattr(ctypes.CDLL(None), 'prctl', None)
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(arguments: Sequence[str]) -> None:
    """Measure the candidates of a folder; those that have failed already are left out."""
    from lednet_ros.inference.segmenter import Segmenter

    end_with_parent()
    folder = Path(arguments[0])
    checkpoint = load_checkpoint(folder / 'checkpoint.safetensors')
    requests = json.loads((folder / 'candidates.json').read_text(encoding='utf-8'))
    candidates = [SegmenterOptions(**request) for request in requests]
    state = _State(folder)
    path = folder / 'reference.npz'
    if path.is_file():
        reference = Reference.load(path)
    else:
        state.write('reference')
        plain = replace(candidates[0], device='cpu', backend='torch_eager', precision='fp32')
        reference = Reference.compute(Segmenter(checkpoint, plain))
        with atomic_path(path) as temporary:
            reference.save(temporary)
    segmenters = {}
    for one in candidates:
        row = Row(one.backend, one.precision)
        if state.rows.get(row.name, row).failure:
            continue
        state.write(row.name)
        row, segmenter = _try(row, partial(Segmenter, checkpoint, one), reference)
        state.rows[row.name] = row
        if segmenter is not None:
            segmenters[row.name] = segmenter
    state.write('timing')
    once = {name: state.rows[name].milliseconds or 0.0 for name in segmenters}
    close = {
        name: segmenter
        for name, segmenter in segmenters.items()
        if once[name] < CLOSE * min(once.values())
    }
    for name, milliseconds in _time(close, reference).items():
        state.rows[name] = replace(state.rows[name], milliseconds=milliseconds)
    for name in sorted(segmenters, key=lambda name: state.rows[name].milliseconds or 0.0):
        state.write(name)
        try:
            reference.check_batch(segmenters[name])
            break
        except Exception as failure:
            state.rows[name] = replace(
                state.rows[name], failure=_explain(failure), milliseconds=None
            )
    state.write('timing', finished=True)


def _try(
    row: Row, build: Callable[[], 'Segmenter'], reference: Reference
) -> tuple[Row, 'Segmenter | None']:
    """Build one candidate and compare it; whatever it raises becomes its failure."""
    try:
        segmenter = build()
        error, agreement = reference.check_all(segmenter)
    except Exception as failure:
        return replace(row, failure=_explain(failure)), None
    row = replace(row, error=error, agreement=agreement, milliseconds=reference.time(segmenter))
    return row, segmenter


def _explain(failure: Exception) -> str:
    first = (str(failure).splitlines() or [''])[0][:TAIL]
    known = isinstance(failure, (ConfigurationError, WrongResultError))
    return first if known else f'{type(failure).__name__}: {first}'


def _time(segmenters: Mapping[str, 'Segmenter'], reference: Reference) -> dict[str, float]:
    """Measure the median milliseconds of a frame, interleaved: a busy machine is so for all."""
    times: dict[str, list[float]] = {name: [] for name in segmenters}
    begin = time.perf_counter()
    for number in range(TIMED_ROUNDS):
        if number >= 3 and time.perf_counter() - begin > TIMED_SECONDS:
            break
        for name, segmenter in segmenters.items():
            times[name].append(reference.time(segmenter))
    return {name: float(np.median(values)) for name, values in times.items()}


if __name__ == '__main__':
    main(sys.argv[1:])
