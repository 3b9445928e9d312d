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

"""The segmenter: camera frames in; labels, confidence and colored images out."""

from collections.abc import Callable, Collection, Iterator, Sequence
import contextlib
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
import gc
import logging
from pathlib import Path
from typing import Any

from lednet_ros.checkpoint import Checkpoint, load_checkpoint
from lednet_ros.inference.backends.base import Backend, Outputs, SIZES_KEPT, Style, Wanted
from lednet_ros.inference.encodings import Frame, FrameError
from lednet_ros.inference.options import (
    ConfigurationError,
    Crop,
    find_region,
    OPTIONS,
    resolve_device,
    SegmenterOptions,
)
from lednet_ros.inference.postprocess import draw_on_host
from lednet_ros.labels import choose_classes, LabelMap, UNLABELED
from lednet_ros.models import Builders, load_network, NETWORKS
import numpy as np
from numpy.typing import NDArray
import torch

COLOR_ORDERS = ('rgb', 'bgr')

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Segmentation:
    """
    Results of one call, a list entry for each frame, in the order of the frames.

    The arrays are views of the segmenter's buffers: valid until its next call.

    Attributes
    ----------
    labels
        Class ids, (H, W) uint8; 255 is unlabeled.
    confidence
        Softmax probability of the chosen class, (H, W) uint8, 0..255; None if not requested.
    overlay
        Frame blended with the class colors, (H, W, 3) uint8 in the frame's color order; None if
        not requested.
    color
        The class colors alone, (H, W, 3) uint8 RGB; None if not requested.

    """

    labels: list[NDArray[np.uint8]]
    confidence: list[NDArray[np.uint8]] | None
    overlay: list[NDArray[np.uint8]] | None
    color: list[NDArray[np.uint8]] | None


class Segmenter:
    """
    Segments frames with one network; buffers are allocated once and reused.

    Not thread-safe: one thread at a time may call `segment`, `run` or `draw`; another one may
    call `update` meanwhile.

    Parameters
    ----------
    checkpoint
        Weights and metadata.
    options
        How to run it; None takes the defaults.
    source
        Where the checkpoint is from, for messages.
    backend
        As in `SegmenterOptions`; or a callable that makes the object to run instead of a network.
    networks
        The networks that the checkpoint may be of.
    changes
        Options by name, which replace those of `options`.

    Attributes
    ----------
    options : SegmenterOptions
        Resolved, with the size of the network's input.
    device : torch.device
        Where the network runs.
    backend : str
        What runs it; 'custom' for an object that the caller made.
    label_map : LabelMap
        The classes that are published, in the colors of the palette.
    network_name : str
        Of the checkpoint.
    num_parameters : int
        Of the network.

    Raises
    ------
    ConfigurationError
        An option is not allowed, or the device is not there.
    LabelMapError
        The classes to publish don't fit the network, or a class that overlays should draw is none
        of them.
    CheckpointError
        The network is not known or the weights do not fit it.

    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        options: SegmenterOptions | None = None,
        *,
        source: str | Path = 'checkpoint',
        backend: str | Callable[[], Backend] | None = None,
        networks: Builders = NETWORKS,
        **changes: Any,
    ) -> None:
        if isinstance(backend, str):
            changes['backend'] = backend
        options = replace(options or SegmenterOptions(), **changes)
        options = options.for_input(checkpoint.input_size)
        self.label_map = choose_classes(checkpoint.label_map, options.classes)
        if options.palette == 'color_blind':
            self.label_map = self.label_map.for_color_blind()
        self.network_name = checkpoint.network
        self._style = make_style(self.label_map, options)
        self._checkpoint, self._source, self._networks = checkpoint, source, networks
        # What the backend fills for each place in the batch; with a crop, the results around that.
        self._outputs: list[Callable[[tuple[int, int]], Outputs]] = []
        self._wholes: list[Callable[[tuple[int, int]], Outputs]] = []
        self._factory = backend if callable(backend) else None
        if self._factory is None:
            self._choose(options)
        else:
            self._use(replace(options, device=resolve_device(options.device)))
            self.backend = 'custom'

    def _choose(self, options: SegmenterOptions) -> None:
        """Take the fastest backend that can be built and gives the right results."""
        # Imported here: it builds segmenters.
        from lednet_ros.inference.tuning import rank

        if options.backend == 'auto':
            # Weights that don't fit are refused now, not after every backend has failed with them.
            load_network(self._checkpoint, self._source, self._networks)
        ways = rank(self._checkpoint, options)
        resolved, reference = next(ways)
        while True:
            try:
                self._use(resolved)
                if reference is not None:
                    reference.check(self, 0)
                return
            except Exception as error:
                if (following := next(ways, None)) is None:
                    raise
                logger.warning(
                    '%s %s is left out: %s', resolved.backend, resolved.precision, error
                )
                resolved, reference = following

    def _use(self, options: SegmenterOptions) -> None:
        """Build the backend of resolved options."""
        self.options = options
        self.backend = options.backend
        self.device = torch.device(options.device)
        if options.num_threads:
            torch.set_num_threads(options.num_threads)
        self._outputs, self._wholes = [], []
        self._backend = self._make_backend()

    @classmethod
    def from_checkpoint(
        cls,
        path_or_name: str | Path,
        options: SegmenterOptions | None = None,
        *,
        label_map: LabelMap | str | Path | None = None,
        **changes: Any,
    ) -> 'Segmenter':
        """
        Build a segmenter from a checkpoint file or the name of a shipped checkpoint.

        Parameters
        ----------
        path_or_name, label_map
            See `lednet_ros.checkpoint.load_checkpoint`.
        options, changes
            See the class.

        Raises
        ------
        CheckpointError, ConfigurationError, LabelMapError
            See the class.

        """
        checkpoint = load_checkpoint(path_or_name, label_map)
        return cls(checkpoint, options, source=path_or_name, **changes)

    @property
    def precision(self) -> str:
        """Arithmetic of the network."""
        return self.options.precision

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        assert self.options.input_size is not None
        return self.options.input_size

    @property
    def output_size(self) -> tuple[int, int] | None:
        """Height and width of the results; None where each has the size of its frame."""
        return self.options.output_size

    @property
    def crop(self) -> Crop | None:
        """What the network does not see; see `SegmenterOptions`."""
        return self.options.crop

    @property
    def overlay_alpha(self) -> float:
        """Weight of the colors in overlays, 0..1; can be set."""
        return self.options.overlay_alpha

    @overlay_alpha.setter
    def overlay_alpha(self, value: float) -> None:
        self.update(overlay_alpha=value)

    @property
    def min_confidence(self) -> float:
        """Pixels below this softmax probability become 255, unless their class has its own."""
        return self.options.min_confidence

    @min_confidence.setter
    def min_confidence(self, value: float) -> None:
        self.update(min_confidence=value)

    def show_classes(self, names: Collection[str]) -> None:
        """
        Choose the classes that overlays draw; the others show the plain frame.

        Parameters
        ----------
        names
            Class names; none means all classes.

        Raises
        ------
        LabelMapError
            A name is not in the label map.

        """
        self.update(overlay_classes=tuple(names))

    def update(self, **changes: Any) -> None:
        """
        Change options while the segmenter runs; all of them or, after an error, none.

        Parameters
        ----------
        changes
            Options by name; those with `Option.run_time`.

        Raises
        ------
        ConfigurationError
            A value is not allowed, or an option can't change any more.
        LabelMapError
            A class is not in the label map.

        """
        options = replace(self.options, **changes)
        for name in changes:
            if not OPTIONS[name].run_time:
                able = ', '.join(option.name for option in OPTIONS.values() if option.run_time)
                raise ConfigurationError(
                    f'{name} cannot change any more; what can: {able}'
                )
        self._style = make_style(self.label_map, options)
        self.options = options

    def warm_up(self, frame_size: tuple[int, int], batch_size: int = 1) -> None:
        """
        Allocate buffers and run once, so that the first real frame is as fast as the rest.

        Parameters
        ----------
        frame_size
            Height and width of the frames to expect.
        batch_size
            Largest batch to expect.

        """
        frame = np.zeros((*frame_size, 3), np.uint8)
        # The largest batch allocates for all; each size has its own choice of algorithms. The
        # second run finds everything made.
        for count in range(batch_size, 0, -1):
            for _ in range(2):
                self.segment([frame] * count)

    def restart(self) -> None:
        """
        Replace a backend that has failed by a fresh one; first the memory of the old one goes.

        Raises
        ------
        Exception
            Whatever the fresh one can't handle either; the segmenter is of no use then.

        """
        if self.device.type == 'cuda':
            # After some errors every call of this process fails; then there is no way back.
            torch.cuda.synchronize(self.device)
        del self._backend
        self._outputs, self._wholes = [], []
        # What failed may hold itself in a circle, by its traceback for example.
        gc.collect()
        if self.device.type == 'cuda':
            with torch.cuda.device(self.device):
                torch.cuda.empty_cache()
        self._backend = self._make_backend()

    def segment(
        self,
        frames: Sequence[NDArray[np.uint8] | Frame] | NDArray[np.uint8],
        *,
        confidence: bool = True,
        overlay: bool = True,
        color: bool = False,
    ) -> Segmentation:
        """
        Segment a batch of frames.

        Parameters
        ----------
        frames
            Frames (height, width, 3) uint8; plain arrays are RGB, `Frame` names its color order.
            Sizes may differ. A single (height, width, 3) array is a batch of one.
        confidence, overlay, color
            Which results to compute besides the labels.

        Returns
        -------
        Segmentation
            Views of buffers that the next call overwrites.

        Raises
        ------
        FrameError
            A frame has another dtype or shape; nothing is computed.

        """
        if isinstance(frames, np.ndarray) and frames.ndim == 3:
            frames = [frames]
        batch = [
            frame if isinstance(frame, Frame) else Frame(frame, 'rgb') for frame in frames
        ]
        wanted = Wanted(confidence, overlay, color)
        outputs = self.run(batch, wanted)
        self.draw(batch, outputs, wanted)
        results = {
            name: [output.array(name) for output in outputs] for name in wanted.names()
        }
        return Segmentation(
            labels=results['labels'],
            confidence=results.get('confidence'),
            overlay=results.get('overlay'),
            color=results.get('color'),
        )

    def run(self, frames: Sequence[Frame], wanted: Wanted) -> list[Outputs]:
        """
        Compute the labels and the confidence of a batch; `draw` completes the results.

        Parameters
        ----------
        frames
            The batch; sizes and color orders may differ.
        wanted
            The results to compute besides the labels. Backends that draw in the same pass fill
            overlays and colors, too.

        Returns
        -------
        list of Outputs
            One for each frame; the next call overwrites them.

        Raises
        ------
        FrameError
            A frame has another dtype, shape or color order; nothing is computed.

        """
        for index, frame in enumerate(frames):
            _check_frame(frame, index)
        if not frames:
            raise FrameError('the batch is empty; it needs one frame or more', reason='size')
        crop = self.options.crop
        sizes = [frame.pixels.shape[:2] for frame in frames]
        if crop is None:
            outputs = self._reuse(self._outputs, sizes)
            self._backend.run(frames, outputs, wanted, self._style)
            return outputs
        views = [
            replace(frame, pixels=frame.pixels[find_region(crop, size)])
            for frame, size in zip(frames, sizes, strict=True)
        ]
        outputs = self._reuse(self._wholes, sizes)
        regions = [find_region(crop, output.size) for output in outputs]
        parts = self._reuse(self._outputs, [
            (rows.stop - rows.start, columns.stop - columns.start) for rows, columns in regions
        ], resized=False)
        wanted = Wanted(wanted.confidence)
        self._backend.run(views, parts, wanted, self._style)
        # Outside of the crop, where nothing else writes, they stay as they were made.
        for output, part, region in zip(outputs, parts, regions, strict=True):
            for name in wanted.names():
                output.array(name)[region] = part.array(name)
        return outputs

    def draw(
        self, frames: Sequence[Frame], outputs: Sequence[Outputs], wanted: Wanted
    ) -> None:
        """Draw the overlays and colors that are wanted and that `run` has left out."""
        if not self._backend.draws or self.options.crop is not None:
            draw_on_host(frames, outputs, wanted, self._style)

    def last_logits(self) -> NDArray[np.float32]:
        """
        Return the logits of the last batch, to compare backends.

        Returns
        -------
        ndarray
            (N, ceil(H/8), ceil(W/8), channels) float32 for an input of H x W, with a channel for
            each of `LabelMap.groups`; valid until the next batch.

        """
        return self._backend.last_logits()

    @contextlib.contextmanager
    def plain(self) -> Iterator[None]:
        """
        Let results depend on the network and the ids alone, in the block.

        Backends are compared on such results: sizes, thresholds and colors are not theirs.
        """
        options, style = self.options, self._style
        self.options, self._style = self._plain
        try:
            yield
        finally:
            self.options, self._style = options, style

    @cached_property
    def _plain(self) -> tuple[SegmenterOptions, Style]:
        palette = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
        palettes = {'rgb': palette, 'bgr': np.ascontiguousarray(palette[:, ::-1])}
        options = replace(self.options, output_size=None, crop=None)
        return options, Style(self._style.ids, palettes=palettes)

    def time_on_device(self, frames: Sequence[Frame], rounds: int) -> dict[str, list[float]]:
        """Time a batch to labels and overlays on a GPU; see `DeviceBackend.time_on_device`."""
        from lednet_ros.inference.backends.cuda_graph import DeviceBackend

        assert isinstance(self._backend, DeviceBackend)
        outputs = self._reuse(self._outputs, [frame.pixels.shape[:2] for frame in frames])
        wanted = Wanted(overlay=True)
        return self._backend.time_on_device(frames, outputs, wanted, self._style, rounds)

    def _make_backend(self) -> Backend:
        groups = self.label_map.groups
        network = load_network(self._checkpoint, self._source, self._networks, groups)
        self.num_parameters = sum(parameter.numel() for parameter in network.parameters())
        if self._factory is not None:
            return self._factory()
        # Imported where they are used: packages are optional, and take a while.
        if self.device.type == 'cuda':
            from lednet_ros.inference.backends.cuda_networks import make_device_backend

            return make_device_backend(network, self._checkpoint, self.options)
        if self.options.backend == 'openvino':
            from lednet_ros.inference.backends.openvino import OpenVINOBackend

            return OpenVINOBackend(network, self._checkpoint, self.options)
        from lednet_ros.inference.backends.torch_eager import TorchBackend

        return TorchBackend(network, self._checkpoint, self.options)

    def _reuse(
        self,
        places: list[Callable[[tuple[int, int]], Outputs]],
        sizes: Sequence[tuple[int, ...]],
        resized: bool = True,
    ) -> list[Outputs]:
        """Reuse the buffers of each place in the batch for the sizes that were last seen there."""
        pinned = self.device.type == 'cuda'
        while len(places) < len(sizes):
            places.append(
                lru_cache(maxsize=SIZES_KEPT)(lambda size: Outputs(size, pinned=pinned))
            )
        fixed = self.options.output_size if resized else None
        return [
            outputs(fixed or (height, width))
            for outputs, (height, width) in zip(places, sizes, strict=False)
        ]


def _check_frame(frame: Frame, index: int) -> None:
    pixels = frame.pixels
    if not isinstance(pixels, np.ndarray):
        raise FrameError(
            f'frame {index} is a {type(pixels).__name__}; it must be a NumPy array', reason='size'
        )
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise FrameError(
            f'frame {index} is {pixels.dtype} {pixels.shape}; '
            'it must be uint8 (height, width, 3) and not empty',
            reason='size',
        )
    if frame.color_order not in COLOR_ORDERS:
        raise FrameError(
            f'color order of frame {index} is {frame.color_order!r}; '
            f"allowed: {', '.join(COLOR_ORDERS)}",
            reason='encoding',
        )


def make_style(label_map: LabelMap, options: SegmenterOptions) -> Style:
    """Return the style of these classes and options."""
    ids = np.arange(256, dtype=np.uint8)
    left_out = [UNLABELED] * (len(label_map.groups) - label_map.num_classes)
    ids[: len(label_map.groups)] = [*label_map.ids, *left_out]
    own_limits = any(limit is not None for limit in label_map.limits)
    min_confidences = np.full(256 if own_limits else 1, options.min_confidence, np.float32)
    if own_limits:
        for number, limit in zip(label_map.ids, label_map.limits, strict=True):
            min_confidences[number] = options.min_confidence if limit is None else limit
    visible = np.zeros(256, np.uint8)
    visible[[label_map.id_of(name) for name in options.overlay_classes or label_map.names]] = 255
    palette = label_map.palette
    palettes = {'rgb': palette, 'bgr': np.ascontiguousarray(palette[:, ::-1])}
    return Style(ids, min_confidences, palettes, visible, options.overlay_alpha)
