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
The options of a segmenter, each declared once: type, default, range and description.

The node's parameters, the options of the commands and their documentation are made from `OPTIONS`.
PyTorch is imported only to resolve options, so that parsers can be built without it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from importlib.util import find_spec
import logging
from numbers import Integral, Real
from pathlib import Path
import platform
from types import NoneType
from typing import Any, get_args

from lednet_ros.limits import MAX_SIZE, MIN_SIZE
from lednet_ros.machine import processor_has_bf16, threads_of_quota, X86

DEVICES = ('auto', 'cpu', 'cuda', 'cuda:N')
PALETTES = ('label_map', 'color_blind')

logger = logging.getLogger(__name__)

Size = tuple[int, int]
"""Height and width."""

Names = tuple[str, ...]

Crop = tuple[float, float, float, float]
"""Fractions of an image at its top, bottom, left and right."""


class ConfigurationError(ValueError):
    """An option that can't be used; the message names it, its value and what is allowed."""


@dataclass(frozen=True)
class BackendSpec:
    """
    Requirements and capabilities of a backend.

    Attributes
    ----------
    precisions
        The precisions that it knows.
    auto
        For each type of device that it runs on, the precisions that 'auto' tries, the preferred
        one first.
    packages
        What it needs in addition to PyTorch.

    """

    precisions: Names
    auto: Mapping[str, Names]
    packages: Names = ()


BACKENDS = {
    'openvino': BackendSpec(
        ('fp32', 'bf16', 'int8'), {'cpu': ('bf16', 'fp32', 'int8')}, ('openvino',)
    ),
    'torch_eager': BackendSpec(
        ('fp32', 'fp16', 'bf16'), {'cpu': ('fp32', 'bf16'), 'cuda': ('fp16',)}
    ),
    'cuda_graph': BackendSpec(('fp32', 'fp16', 'bf16'), {'cuda': ('fp16',)}),
    'triton': BackendSpec(('fp16', 'bf16'), {'cuda': ('fp16',)}, ('triton',)),
    'tensorrt': BackendSpec(
        ('fp32', 'fp16', 'int8'), {'cuda': ('fp16', 'int8')}, ('tensorrt', 'onnxscript')
    ),
}
"""The preferred one of each device first."""


@dataclass(frozen=True)
class Option:
    """
    One option, as parameters, parsers and documentation are made from it.

    Attributes
    ----------
    name, default
        Of the field of `SegmenterOptions`.
    type
        str, int, float, Path, `Size`, `Crop` or `Names`; an option whose default is None takes
        None, too.
    description
        A sentence without its period.
    without
        What is taken where the value is None.
    choices
        Allowed texts; empty allows any.
    minimum, maximum
        Allowed range of a number, of each side of a size, or of each fraction.
    run_time
        Whether `Segmenter.update` takes it.
    group
        'network', 'results' or 'drawing': commands offer the groups that they use.
    flag
        Of the command line; empty makes it of the name.

    """

    name: str
    type: Any  # noqa: A003
    default: Any
    description: str
    without: str = ''
    choices: Names = ()
    minimum: float | None = None
    maximum: float | None = None
    run_time: bool = False
    group: str = 'network'
    flag: str = ''

    @property
    def allowed(self) -> str:
        """Describe the allowed values; empty if any value of the type is allowed."""
        if self.minimum is not None:
            return f'{self.minimum:g} to {self.maximum:g}'
        return ', '.join(self.choices)

    def clean(self, value: Any) -> Any:
        """
        Return a value as the option's type.

        Raises
        ------
        ConfigurationError
            It is out of range, not among the choices or of another type.

        """
        if value is None and self.default is None:
            return None
        if self.type == Size:
            return self._clean_size(value)
        if self.type == Crop:
            return self._clean_crop(value)
        if self.type == Names and not isinstance(value, str):
            return tuple(value)
        if self.type is Path and isinstance(value, (str, Path)):
            return Path(value)
        if self.type in (int, float):
            kind = Integral if self.type is int else Real
            if isinstance(value, kind) and self._has_in_range(value):
                return self.type(value)
        elif self.type is str and (value in self.choices if self.choices else value is not None):
            return value
        shown = f"'{value}'" if isinstance(value, str) else value
        raise ConfigurationError(
            f'{self.name} is {shown}; allowed: {self.allowed or self.type.__name__}'
        )

    def _has_in_range(self, value: Any) -> bool:
        return self.minimum is None or self.maximum is None or (
            self.minimum <= value <= self.maximum
        )

    def _clean_crop(self, value: Any) -> Crop:
        sides = tuple(value) if isinstance(value, Iterable) else ()
        numbers = all(isinstance(side, Real) and self._has_in_range(side) for side in sides)
        if len(sides) != 4 or not numbers or max(sum(sides[:2]), sum(sides[2:])) >= 1:
            raise ConfigurationError(
                f'{self.name} is {value!r}; it must be the fractions at the top, bottom, left and '
                f'right, {self.allowed}; top and bottom, and left and right, must leave something'
            )
        top, bottom, left, right = map(float, sides)
        return top, bottom, left, right

    def _clean_size(self, value: Any) -> Size:
        sides = tuple(value) if isinstance(value, Iterable) else ()
        if len(sides) != 2 or not all(isinstance(side, Integral) for side in sides):
            raise ConfigurationError(
                f'{self.name} is {value!r}; it must be height and width, both {self.allowed}'
            )
        height, width = sides
        if not (self._has_in_range(height) and self._has_in_range(width)):
            raise ConfigurationError(
                f'{self.name} is {height}x{width} (height x width); both must be {self.allowed}'
            )
        return int(height), int(width)


def _option(default: Any, description: str, **traits: Any) -> Any:
    """Declare an option; traits are attributes of `Option`."""
    return field(default=default, metadata={'description': description, **traits})


@dataclass(frozen=True)
class SegmenterOptions:
    """
    All options of a segmenter besides its checkpoint.

    Raises
    ------
    ConfigurationError
        An option is out of range or not among its choices.

    """

    device: str = _option(
        'auto', "Where the network runs: 'auto' (CUDA if there is one), 'cpu', 'cuda' or 'cuda:N'"
    )
    backend: str = _option(
        'auto',
        "What runs the network; 'auto' measures all that can run here and takes the fastest that "
        "is right. 'openvino' is for CPUs; 'cuda_graph', 'triton' and 'tensorrt' are for GPUs",
        choices=('auto', *BACKENDS),
    )
    precision: str = _option(
        'auto',
        "Arithmetic of the network; 'auto' is measured with the backend, or else fp16 on CUDA, "
        "bf16 with OpenVINO on a CPU that has it, and fp32. 'int8' is for OpenVINO and TensorRT",
        choices=('auto', 'fp32', 'fp16', 'bf16', 'int8'),
    )
    calibration: Path | None = _option(
        None,
        "For 'int8': folder with images like those of the camera",
        without="the checkpoint's ranges, or synthetic streets",
    )
    classes: str | None = _option(
        None,
        'Classes to publish, merged from those of the network: a YAML file, or the name of one in '
        'config/classes',
        without="the network's",
    )
    input_size: Size | None = _option(
        None,
        "Height and width of the network's input",
        without="the checkpoint's, or what `crop` leaves of it",
        minimum=MIN_SIZE,
        maximum=MAX_SIZE,
    )
    crop: Crop | None = _option(
        None,
        'Fractions of the frame at its top, bottom, left and right that the network does not see; '
        'labels are 255 there',
        without='the whole frame',
        minimum=0.0,
        maximum=1.0,
    )
    num_threads: int = _option(
        0,
        'CPU threads of the network; 0 leaves it to the backend, within the quota of a container',
        minimum=0,
        maximum=256,
        flag='--threads',
    )
    output_size: Size | None = _option(
        None,
        'Height and width of all outputs',
        without='those of each frame',
        minimum=1,
        maximum=MAX_SIZE,
        group='results',
    )
    min_confidence: float = _option(
        0.0,
        'Pixels whose class is less probable than this become unlabeled (255), unless `classes` '
        'has a threshold for that class',
        minimum=0.0,
        maximum=1.0,
        run_time=True,
        group='results',
    )
    palette: str = _option(
        'label_map',
        "Colors of the classes: the label map's, or some that stay apart for the color-blind",
        choices=PALETTES,
        group='drawing',
    )
    overlay_alpha: float = _option(
        0.5,
        'Weight of the class colors in the overlay: 0 shows the frame, 1 the colors',
        minimum=0.0,
        maximum=1.0,
        run_time=True,
        group='drawing',
        flag='--alpha',
    )
    overlay_classes: Names = _option(
        (), 'Classes that the overlay draws; empty draws all', run_time=True, group='drawing'
    )

    def __post_init__(self) -> None:
        for name, option in OPTIONS.items():
            object.__setattr__(self, name, option.clean(getattr(self, name)))

    def for_input(self, size: Size) -> 'SegmenterOptions':
        """
        Return the options with a size of the network's input.

        Parameters
        ----------
        size
            That of the checkpoint. Without an `input_size` it is cropped like the frames, so that
            what they show keeps the size and the shape that the network was trained with.

        Raises
        ------
        ConfigurationError
            The crop leaves too little.

        """
        if self.input_size is not None:
            return self
        rows, columns = find_region(self.crop, size)
        left = rows.stop - rows.start, columns.stop - columns.start
        if self.crop is not None and min(left) < MIN_SIZE:
            raise ConfigurationError(
                f"crop is {list(self.crop)}, which leaves {left[0]}x{left[1]} of the network's "
                f'input of {size[0]}x{size[1]} (height x width); both must be {MIN_SIZE} or more, '
                'or input_size be given'
            )
        return replace(self, input_size=left)

    def resolve(self) -> 'SegmenterOptions':
        """
        Choose device, backend and precision where they are 'auto', without measuring.

        Returns
        -------
        SegmenterOptions
            The first one of `candidates`.

        Raises
        ------
        ConfigurationError
            See `candidates`.

        """
        return self.candidates()[0]

    def candidates(self) -> list['SegmenterOptions']:
        """
        List what device, backend and precision can be on this machine where they are 'auto'.

        Returns
        -------
        list of SegmenterOptions
            With nothing left to choose; the preferred one first.

        Raises
        ------
        ConfigurationError
            The device isn't there, a package isn't installed, or the three don't go together.

        """
        device = resolve_device(self.device)
        kind = device.partition(':')[0]
        if self.backend == 'auto':
            backends = [name for name, spec in BACKENDS.items() if kind in spec.auto]
            backends = [name for name in backends if not _missing_packages(name)]
            if platform.machine() not in X86:
                # OpenVINO is at home on x86.
                backends.sort(key=lambda name: name == 'openvino')
        else:
            _check_backend(self.backend, device)
            backends = [self.backend]
        # Backends see the cores of the machine.
        threads = self.num_threads or threads_of_quota()
        found = [
            replace(
                self, device=device, backend=backend, precision=precision, num_threads=threads
            )
            for backend in backends
            for precision in _precisions(self.precision, backend, kind)
        ]
        if not found:
            names = ', '.join(BACKENDS[backends[0]].precisions)
            raise ConfigurationError(
                f"precision is '{self.precision}'; allowed with backend '{backends[0]}': "
                f'auto, {names}'
            )
        if is_emulated(backends[0], self.precision, kind):
            logger.warning(
                "precision is '%s', which this processor does not have; 'fp32' is faster",
                self.precision,
            )
        return found


def is_emulated(backend: str, precision: str, kind: str) -> bool:
    """
    Return whether fp32 is faster than a precision because this machine does not have the latter.

    Parameters
    ----------
    backend, precision
        The backend and one of its precisions.
    kind
        'cpu' or 'cuda'.

    """
    if kind != 'cpu' or precision not in ('bf16', 'fp16'):
        return False
    if backend == 'openvino':
        if _missing_packages(backend):
            return False
        from lednet_ros.inference.backends.openvino import cpu_has_bf16

        return not cpu_has_bf16()
    return precision == 'fp16' or not processor_has_bf16()


def _plain_type(annotation: Any) -> Any:
    """Return an annotation without its None."""
    members = get_args(annotation)
    return members[0] if NoneType in members else annotation


OPTIONS: Mapping[str, Option] = {
    each.name: Option(each.name, _plain_type(each.type), each.default, **each.metadata)
    for each in fields(SegmenterOptions)
}


def find_region(crop: Crop | None, size: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the rows and columns of an image of a size that a crop leaves, at least one each."""
    top, bottom, left, right = crop or (0.0,) * 4
    height, width = size
    first_row, first_column = (
        min(round(before * length), length - 1)
        for before, length in ((top, height), (left, width))
    )
    return (
        slice(first_row, max(height - round(bottom * height), first_row + 1)),
        slice(first_column, max(width - round(right * width), first_column + 1)),
    )


def resolve_device(name: str) -> str:
    """
    Return the device that a name stands for.

    Parameters
    ----------
    name
        One of `DEVICES`.

    Returns
    -------
    str
        'cpu' or 'cuda:N', of a device that is there.

    Raises
    ------
    ConfigurationError
        The name is not known, or the device isn't there.

    """
    import torch

    if name == 'auto':
        return f'cuda:{torch.cuda.current_device()}' if _cuda_works() else 'cpu'
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ('cpu', 'cuda'):
        raise ConfigurationError(f"device is '{name}'; allowed: {', '.join(DEVICES)}")
    if device.type == 'cpu':
        return 'cpu'
    if (device.index or 0) >= torch.cuda.device_count():
        raise ConfigurationError(
            f"device is '{name}', but {torch.cuda.device_count()} CUDA devices are there; "
            "allowed: 'auto', 'cpu' or a device that is there"
        )
    # The current device differs by thread: it must not be looked up later.
    return f'cuda:{torch.cuda.current_device() if device.index is None else device.index}'


def _cuda_works() -> bool:
    """Return whether there is a CUDA device for which this PyTorch has code."""
    import torch

    if not torch.cuda.is_available():
        return False
    try:
        torch.ones(1, device='cuda').add_(1).item()
    except RuntimeError as error:
        logger.warning("the GPU is left out, device 'auto' is the CPU: %s", error)
        return False
    return True


def _missing_packages(backend: str) -> list[str]:
    return [package for package in BACKENDS[backend].packages if find_spec(package) is None]


def _check_backend(name: str, device: str) -> None:
    kind = device.partition(':')[0]
    if kind not in BACKENDS[name].auto:
        raise ConfigurationError(
            f"backend is '{name}' and device '{device}'; with it the device must be "
            f"'{next(iter(BACKENDS[name].auto))}'"
        )
    for package in _missing_packages(name):
        raise ConfigurationError(
            f"backend is '{name}', which needs {package} (pip install {package}); "
            "allowed without it: 'auto' or 'torch_eager'"
        )


def _precisions(name: str, backend: str, kind: str) -> list[str]:
    """List what a precision can be with a backend."""
    if name != 'auto':
        return [name] if name in BACKENDS[backend].precisions else []
    names = BACKENDS[backend].auto[kind]
    return [name for name in names if not is_emulated(backend, name, kind)]
