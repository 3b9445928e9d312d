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

"""Tests of the shipped weights: their metadata, and whether they are correct."""

from pathlib import Path

from lednet_ros.checkpoint import (
    Checkpoint,
    load_checkpoint,
    resolve_checkpoint,
    shipped_checkpoints,
)
from lednet_ros.datasets import FolderDataset, SyntheticDataset
from lednet_ros.evaluation.corruptions import CorruptedFrames, CORRUPTIONS
from lednet_ros.evaluation.dataset import evaluate
from lednet_ros.inference.options import SegmenterOptions
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.inference.tuning import tune
from lednet_ros.labels import LabelMap
from lednet_ros.models import build_network
from lednet_ros.training.recipe import load_recipe, Recipe
import pytest

CAMVID = LabelMap.load('camvid')


# The runs, each of which starts from the weights of the one before.
RECIPES = {
    'lednet': ['camvid', 'camvid_distill'],
    'shufflenet_v2_deeplab': ['camvid_shufflenet'],
    'shufflenet_v2_dpc': ['camvid_shufflenet'],
}


@pytest.fixture(scope='module', params=RECIPES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope='module')
def content(name: str) -> Checkpoint:
    return load_checkpoint(name)


@pytest.fixture(scope='module')
def segmenter(content: Checkpoint) -> Segmenter:
    return Segmenter(content, device='cpu', backend='torch_eager', precision='fp32')


def test_all_shipped_weights_are_tested() -> None:
    assert shipped_checkpoints() == sorted(RECIPES)


def test_shipped_weights_are_small_and_have_metadata(name: str, content: Checkpoint) -> None:
    assert resolve_checkpoint(name).stat().st_size < 4_000_000
    assert content.network == name
    assert content.label_map == CAMVID
    assert content.input_size == ((360, 480) if name == 'lednet' else (480, 640))
    assert set(content.metrics['val']['iou']) == set(CAMVID.names)
    training = content.training
    assert {'data', 'recipe', 'epochs', 'hardware', 'seconds', 'torch'} <= set(training)


def test_normalization_is_that_of_the_network(content: Checkpoint) -> None:
    network = build_network(content.network, content.label_map.num_classes)
    assert (content.mean, content.std) == (network.MEAN, network.STD)


def test_weights_were_trained_with_the_shipped_recipes(name: str, content: Checkpoint) -> None:
    training = content.training
    for recipe_name in reversed(RECIPES[name]):
        recipe = load_recipe(recipe_name, [f'network={name}'])
        # Options added since must have defaults that match the training.
        trained = Recipe.model_validate(training['recipe'])
        # The machine decides, where the recipe doesn't.
        assert recipe.precision == 'auto'
        assert trained.model_copy(update={'precision': 'auto'}) == recipe
        assert trained.epochs == training['epochs']
        training = training['initial']
    assert training is None


def test_terms_and_metrics_are_documented(name: str, content: Checkpoint) -> None:
    page = (resolve_checkpoint(name).parent / 'README.md').read_text(encoding='utf-8')
    assert 'research and evaluation' in ' '.join(page.split())
    row = next(line for line in page.splitlines() if line.startswith(f'| `{name}.safetensors`'))
    cells = [cell.strip() for cell in row.split('|')]
    for frames in ('val', 'synthetic'):
        metrics = content.metrics[frames]
        if metrics.get('frames_trained_on'):
            before = content.metrics[f'{frames} before']
            assert f"trained on; {100 * before['miou']:.1f} before" in cells
        else:
            assert f"{100 * metrics['miou']:.1f}" in cells


@pytest.mark.slow
def test_accuracy_on_camvid_matches_the_metadata(
    content: Checkpoint, segmenter: Segmenter, camvid: Path
) -> None:
    measured = evaluate(segmenter, FolderDataset(camvid, 'val', CAMVID))
    assert measured.confusion.miou() == pytest.approx(content.metrics['val']['miou'], abs=0.001)


@pytest.mark.slow
def test_int8_costs_no_accuracy(content: Checkpoint, camvid: Path) -> None:
    pytest.importorskip('openvino')
    quantized = Segmenter(content, device='cpu', backend='openvino', precision='int8')
    measured = evaluate(quantized, FolderDataset(camvid, 'val', CAMVID))
    assert measured.confusion.miou() >= content.metrics['val']['miou'] - 0.003


@pytest.mark.slow
def test_no_precision_is_refused(content: Checkpoint) -> None:
    verdict = tune(content, SegmenterOptions(device='cpu'))
    assert {row.name: row.failure for row in verdict.rows if row.failure} == {}


@pytest.fixture(scope='module')
def streets() -> SyntheticDataset:
    return SyntheticDataset(12, (360, 480), 1 << 21, CAMVID, frames_per_street=2)


@pytest.mark.slow
def test_accuracy_on_unseen_streets(
    content: Checkpoint, segmenter: Segmenter, streets: SyntheticDataset
) -> None:
    stated = content.metrics['synthetic']['miou']
    assert evaluate(segmenter, streets).confusion.miou() >= stated - 0.1


@pytest.mark.slow
def test_noise_of_a_sensor_costs_little(segmenter: Segmenter, streets: SyntheticDataset) -> None:
    noisy = CorruptedFrames(streets, CORRUPTIONS['noise'])
    plain = evaluate(segmenter, streets).confusion.miou()
    # 0.3 and more for weights that had seen none.
    assert evaluate(segmenter, noisy).confusion.miou() >= plain - 0.05
