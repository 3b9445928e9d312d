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

"""Tests of reading recipes."""

from pathlib import Path
from typing import Any

from lednet_ros.training.recipe import Augmentation, load_recipe, Recipe, RecipeError
import pytest
import yaml

SHIPPED = sorted(
    path.stem for path in (Path(__file__).parents[2] / 'config' / 'train').glob('*.yaml')
)
CONTENT: dict[str, Any] = {
    'input_size': [64, 96],
    'train': [{'layout': 'synthetic'}],
    'validation': {},
    'stages': [
        {'epochs': 2, 'batch_size': 4, 'crop': [64, 64], 'optimizer': {'rate': 0.1}},
        {'epochs': 3, 'batch_size': 4, 'crop': [64, 96], 'optimizer': {'rate': 0.1}},
    ],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / 'mine.yaml'
    path.write_text(yaml.safe_dump(CONTENT), encoding='utf-8')
    return path


def test_promised_recipes_are_shipped() -> None:
    assert {'cityscapes', 'camvid', 'synthetic', 'finetune', 'imagenet_encoder'} <= set(SHIPPED)


@pytest.mark.parametrize('name', SHIPPED)
def test_shipped_recipes_are_recipes(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.epochs > 0
    # A run writes this into its folder; it is the same recipe.
    again = yaml.safe_load(yaml.safe_dump(recipe.model_dump(mode='json')))
    assert Recipe.model_validate(again) == recipe


def test_a_file_is_read(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe == Recipe.model_validate(CONTENT)
    assert recipe.epochs == 5
    assert recipe.stages[1].crop == (64, 96)
    assert recipe.network == 'lednet'


def test_settings_change_entries(path: Path) -> None:
    recipe = load_recipe(
        path,
        [
            'seed=3',
            'ema=null',
            'stages.1.optimizer.rate=5e-1',
            'stages.0.loss.ohem=0.3',
            'stages.0.augmentation.scale=[0.5, 0.75]',
            'validation.val={layout: folder, split: val}',
            'train.1={layout: cityscapes}',
        ],
    )
    assert recipe.seed == 3
    assert recipe.ema is None
    assert [stage.optimizer.rate for stage in recipe.stages] == [0.1, 0.5]
    assert recipe.stages[0].loss.ohem == 0.3
    assert recipe.stages[0].augmentation.scale == (0.5, 0.75)
    assert recipe.validation['val'].split == 'val'
    assert [source.layout for source in recipe.train] == ['synthetic', 'cityscapes']


@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        ('seed', "setting is 'seed'; it must be KEY=VALUE"),
        ('seed=-1', 'seed is -1: .* greater than or equal to 0'),
        ('sede=1', 'sede is 1: Extra inputs are not permitted'),
        ('seed=[', r"'seed=\['"),
        ('stages.2.epochs=1', r"there is no 'stages\.2\.epochs'"),
        ('stages.5={}', r"there is no 'stages\.5'"),
        ('stages.first.epochs=1', r"there is no 'stages\.first\.epochs'"),
        ('seed.more=1', r"seed is \{'more': 1\}: Input should be a valid integer"),
        ('stages.0.epochs.more=1', r"there is no 'stages\.0\.epochs\.more'"),
        ('stages.0.epochs=many', r"stages\.0\.epochs is 'many'"),
        ('stages.0.crop=[64, 32]', r'stages\.0\.crop\.1 is 32: .* greater than or equal to 64'),
        ('stages.0.optimizer.name=lion', r"name is 'lion': .* 'adam', 'adamw' or 'sgd'"),
        ('stages.0.loss.ohem=1.5', r'ohem is 1\.5: .* less than or equal to 1'),
        ('stages.0.augmentation.scale=[2, 1]', r'scale is \[2\.0, 1\.0\]; the first must not'),
        ('stages.0.batch_size=1', r'batch_size is 1'),
        ('precision=fp16', r"precision is 'fp16': .* 'auto', 'fp32' or 'bf16'"),
        ('stages=[]', r'stages is \[\]'),
        ('train=[]', r'train is \[\]'),
    ],
)
def test_wrong_settings_are_reported(path: Path, setting: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(path, [setting])


def test_all_problems_are_reported_at_once(path: Path) -> None:
    with pytest.raises(RecipeError, match=r'mine\.yaml: .*seed is .*ema is 7'):
        load_recipe(path, ['seed=x', 'ema=7'])


def test_recipe_must_have_epochs(path: Path) -> None:
    assert load_recipe(path, ['stages.0.epochs=0']).epochs == 3
    with pytest.raises(RecipeError, match='epochs of all stages are 0'):
        load_recipe(path, ['stages.0.epochs=0', 'stages.1.epochs=0'])


def test_files_that_are_no_recipes_are_reported(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'none': .*shipped: .*camvid, .*cityscapes"):
        load_recipe('none')
    with pytest.raises(RecipeError, match=r'absent\.yaml does not exist'):
        load_recipe(tmp_path / 'absent.yaml')
    broken = tmp_path / 'broken.yaml'
    for content in (b'seed: [', b'\xff\xfe\x00', b'- a\n- b\n', b''):
        broken.write_bytes(content)
        with pytest.raises(RecipeError, match=r'broken\.yaml') as caught:
            load_recipe(broken)
        assert '\n' not in str(caught.value)


def test_python_tags_are_not_run(tmp_path: Path) -> None:
    hostile = tmp_path / 'hostile.yaml'
    hostile.write_text(f'seed: !!python/object/apply:pathlib.Path.touch [{tmp_path}/touched]\n')
    with pytest.raises(RecipeError, match='could not determine a constructor'):
        load_recipe(hostile)
    assert not (tmp_path / 'touched').exists()


def test_recipes_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match='frozen'):
        Augmentation().flip = 0.1  # type: ignore[misc]
