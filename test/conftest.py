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

"""What tests of several modules share."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
import fcntl
from importlib.util import find_spec
import os
from pathlib import Path
import tempfile

from _pytest.terminal import TerminalReporter
import cv2
from lednet_ros.checkpoint import Checkpoint, save_checkpoint
from lednet_ros.datasets import synthetic_frames
from lednet_ros.labels import LabelMap
from lednet_ros.models import build_network, NETWORKS
from lednet_ros.ros.distribution import PROFILE_VARIABLES
import numpy as np
import pytest
import torch
from torch import nn, Tensor

# Tensors of tests are too small to gain from threads; on a busy machine threads that wait for
# each other make the tests ten times slower. Processes that tests start have one thread too, as
# a training repeats to the bit with the same number of threads only.
torch.set_num_threads(1)
os.environ['OMP_NUM_THREADS'] = '1'
# Triton's interpreter stands in for a GPU where there is none; Triton reads this when imported.
if not torch.cuda.is_available():
    os.environ['TRITON_INTERPRET'] = '1'
# Measuring what is fastest takes half a minute for each network; tests of that turn it on.
os.environ['LEDNET_ROS_TUNING'] = 'off'
# What OpenVINO compiles in one test serves the others, in all workers, but not the next run of the
# tests. Workers of pytest-xdist inherit the folder of the process that started them.
if 'PYTEST_XDIST_WORKER' not in os.environ:
    CACHE = tempfile.TemporaryDirectory(prefix='lednet_ros_cache_')
    os.environ['LEDNET_ROS_CACHE'] = CACHE.name


def claim_domain() -> int:
    """Claim a ROS domain that no other test process of this machine has, until this one ends."""
    # Beyond 101 the ports of DDS reach into those that Linux gives to any socket.
    for domain in range(1, 102):
        path = Path(tempfile.gettempdir(), f'lednet_ros_domain_{domain}.lock')
        try:
            # Never closed: the lock ends with the process.
            file = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            # Another process, or another user, has it.
            continue
        return domain
    raise RuntimeError('the ROS domains 1 to 101 are all used by other test processes')


# Discovery stays on this machine.
os.environ['ROS_DOMAIN_ID'] = str(claim_domain())
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'

# Packages that may be absent, and the tests that are left out then.
NEEDED_BY = {
    'rclpy': (
        'ros/*', 'live/*', 'fuzz/test_fuzz_node.py', 'fuzz/test_fuzz_configuration.py',
    ),
    'triton': ('inference/backends/test_cuda_*.py',),
    'flask': ('view/*',),
}
ABSENT = [package for package in NEEDED_BY if find_spec(package) is None]
collect_ignore_glob = [pattern for package in ABSENT for pattern in NEEDED_BY[package]]

REPOSITORY = Path(__file__).resolve().parents[1]
# The profile that large images need.
for variable in PROFILE_VARIABLES:
    os.environ[variable] = str(REPOSITORY / 'config' / 'fastdds.xml')
SMALL_INPUT = (64, 96)

MakeDataset = Callable[..., Path]
MakeWeights = Callable[[nn.Module, int, float], dict[str, Tensor]]


def pytest_report_header() -> list[str]:
    """Say which tests are left out."""
    return [f"without {package}: {', '.join(NEEDED_BY[package])} left out" for package in ABSENT]


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Print the time that each folder took, summed over all workers."""
    seconds: dict[str, float] = defaultdict(float)
    tests: dict[str, set[str]] = defaultdict(set)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                folder = Path(report.nodeid.partition('::')[0]).parent.as_posix()
                seconds[folder] += report.duration
                tests[folder].add(report.nodeid)
    if len(seconds) < 2:
        return
    terminalreporter.section('time of each folder')
    for folder in sorted(seconds, key=seconds.__getitem__, reverse=True):
        terminalreporter.line(f'{seconds[folder]:8.1f} s  {len(tests[folder]):5} tests  {folder}')
    terminalreporter.line(f'{sum(seconds.values()):8.1f} s in all workers together')


@pytest.fixture(scope='session')
def camvid() -> Path:
    """Folder of the CamVid frames, which lie beside the repository where they lie anywhere."""
    folder = REPOSITORY.parent / 'shared' / 'camvid'
    if not folder.is_dir():
        pytest.skip(f'{folder} is not there')
    return folder


@pytest.fixture(scope='session')
def make_weights() -> MakeWeights:
    """
    Return weights by rule, the same on every machine and in every version of torch.

    The tensors are taken in the order of their sorted names; number i is drawn from
    `numpy.random.RandomState(seed + i).uniform(low, high, shape)`, in float64, and rounded to
    float32. low and high are, by the end of the name and the number of dimensions:
    running_var 0.5, 1.5; running_mean and bias -0.02, 0.02; weight of one dimension (BatchNorm)
    0.5, 1.5; weight of four dimensions -s, s with s = sqrt(gain / fan_in), after which each
    filter's mean is subtracted, so that features follow the image and not the means of their
    inputs. num_batches_tracked is 0. At gain 3.5 scores are near 1 and rounding stays near 1e-6;
    at gain 6 every class wins somewhere.
    """

    def make(network: nn.Module, seed: int, gain: float) -> dict[str, Tensor]:
        weights = {}
        for number, (name, tensor) in enumerate(sorted(network.state_dict().items())):
            if name.endswith('num_batches_tracked'):
                weights[name] = torch.zeros((), dtype=torch.int64)
                continue
            if name.endswith('running_var') or (name.endswith('weight') and tensor.ndim == 1):
                low, high = 0.5, 1.5
            elif name.endswith('weight'):
                high = (gain / tensor[0].numel()) ** 0.5
                low = -high
            else:
                low, high = -0.02, 0.02
            drawn = np.random.RandomState(seed + number).uniform(low, high, tuple(tensor.shape))
            if drawn.ndim == 4:
                drawn -= drawn.mean(axis=(1, 2, 3), keepdims=True)
            weights[name] = torch.from_numpy(drawn.astype(np.float32))
        return weights

    return make


@pytest.fixture(scope='session')
def small_weights(make_weights: MakeWeights) -> dict[str, Tensor]:
    """Weights by rule of a `lednet` with the 11 classes of CamVid; don't change them."""
    return make_weights(build_network('lednet', 11), 0, 6.0)


@pytest.fixture
def small_content(small_weights: dict[str, Tensor]) -> Checkpoint:
    """Return a checkpoint of weights by rule with the label map camvid and a small input size."""
    return Checkpoint(
        network='lednet',
        label_map=LabelMap.load('camvid'),
        input_size=SMALL_INPUT,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        state_dict=dict(small_weights),
        training={'data': 'none: weights by rule'},
    )


@pytest.fixture(scope='session')
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of classes to publish for the label map camvid."""
    path = tmp_path_factory.mktemp('classes') / 'merged.yaml'
    path.write_text(
        'name: merged\n'
        'classes:\n'
        '  - {id: 7, name: ground, from: [road, pavement], color: [1, 2, 3]}\n'
        '  - {id: 0, name: car}\n'
        '  - {id: 200, name: people, from: [pedestrian, bicyclist], min_confidence: 0.6}\n',
        encoding='utf-8',
    )
    return path


@pytest.fixture(params=NETWORKS)
def content_of_each_network(
    request: pytest.FixtureRequest, small_content: Checkpoint, make_weights: MakeWeights
) -> Checkpoint:
    """Return what `small_content` is, of each network."""
    network = build_network(request.param, 11)
    return replace(
        small_content,
        network=request.param,
        mean=network.MEAN,
        std=network.STD,
        state_dict=make_weights(network, 0, 6.0),
    )


@pytest.fixture
def small_checkpoint(small_content: Checkpoint, tmp_path: Path) -> Path:
    """Write the file of `small_content`."""
    path = tmp_path / 'small.safetensors'
    save_checkpoint(small_content, path)
    return path


def write_image(path: Path, pixels: np.ndarray) -> None:
    """Write an image; colors are RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    assert cv2.imwrite(str(path), pixels)


@pytest.fixture(scope='session')
def make_folder_dataset() -> MakeDataset:
    """Write streets as `ROOT/SPLIT/images` and `labels`; counts says how many for each split."""

    def make(root: Path, counts: Mapping[str, int], size: tuple[int, int] = SMALL_INPUT) -> Path:
        for seed, (split, count) in enumerate(counts.items()):
            for frame in synthetic_frames(count, size, seed, frames_per_street=4):
                write_image(root / split / 'images' / f'{frame.name}.png', frame.pixels)
                write_image(root / split / 'labels' / f'{frame.name}.png', frame.labels)
        return root

    return make


# Cityscapes label ids of the synthetic street's classes, in their order.
CITYSCAPES_IDS = np.array([23, 11, 17, 7, 8, 21, 20, 13, 26, 24, 25] + [0] * 245, np.uint8)


@pytest.fixture(scope='session')
def make_cityscapes() -> MakeDataset:
    """
    Write streets in the official layout of Cityscapes.

    counts says how many for each city of each split, like `{'train': {'aachen': 2}}`; splits named
    `train_extra` get coarse annotations only, others fine and coarse ones.
    """

    def make(
        root: Path, counts: Mapping[str, Mapping[str, int]], size: tuple[int, int] = SMALL_INPUT
    ) -> Path:
        for seed, (split, cities) in enumerate(counts.items()):
            for city, count in cities.items():
                frames = synthetic_frames(count, size, seed, frames_per_street=4)
                for number, frame in enumerate(frames):
                    name = f'{city}_{number:06}_000019'
                    image = root / 'leftImg8bit' / split / city / f'{name}_leftImg8bit.png'
                    write_image(image, frame.pixels)
                    labels = CITYSCAPES_IDS[frame.labels]
                    fine = () if split == 'train_extra' else ('gtFine',)
                    for kind in (*fine, 'gtCoarse'):
                        folder = root / kind / split / city
                        write_image(folder / f'{name}_{kind}_labelIds.png', labels)
        return root

    return make


@pytest.fixture(scope='session')
def make_image_folder() -> MakeDataset:
    """Write images of three classes, four for each in `train` and two in `val`, as ImageNet."""

    def make(root: Path, size: tuple[int, int] = (80, 100)) -> Path:
        rng = np.random.default_rng(0)
        for split, count in (('train', 4), ('val', 2)):
            for channel, name in enumerate(('n01', 'n02', 'n03')):
                for number in range(count):
                    pixels = rng.integers(0, 100, (*size, 3), np.uint8)
                    pixels[..., channel] += 150
                    write_image(root / split / name / f'{name}_{number}.JPEG', pixels)
        return root

    return make
