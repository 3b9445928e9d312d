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

"""One table of parameters: the YAML, the documentation and `ros2 param describe` agree with it."""

from pathlib import Path
from typing import Any

from lednet_ros.ros import parameter_files
from lednet_ros.ros.parameters import (
    BY_NAME,
    NodeParameter,
    ParameterError,
    PARAMETERS,
    unknown_parameters,
)
import pytest
from rcl_interfaces.srv import DescribeParameters
from rclpy.parameter import Parameter
from ros_harness import Harness
import yaml

pytestmark = pytest.mark.ros

ROOT = Path(__file__).parents[2]


def test_shipped_files_are_generated_from_the_table() -> None:
    shipped = (ROOT / parameter_files.YAML_FILE).read_text(encoding='utf-8')
    assert shipped == parameter_files.format_yaml()
    document = (ROOT / parameter_files.DOCUMENT).read_text(encoding='utf-8')
    assert document == parameter_files.replace_table(document)


def test_parameter_file_has_every_default() -> None:
    text = parameter_files.format_yaml()
    values = yaml.safe_load(text)['/**']['ros__parameters']
    # An empty list has no type in a parameter file, so it is only a comment there.
    empty = {p.name for p in PARAMETERS if p.default == []}
    assert values == {p.name: p.default for p in PARAMETERS if p.name not in empty}
    assert all(f'# {name}: []' in text for name in empty)
    assert all(len(line) <= 99 for line in text.splitlines())


def test_document_without_its_table_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"docs/node\.md lacks '<!-- parameters -->'"):
        parameter_files.replace_table('# A page\n')


def test_describe_agrees_with_the_table(harness: Harness) -> None:
    harness.node(start=False)
    request = DescribeParameters.Request(names=list(BY_NAME))
    descriptors = harness.call(DescribeParameters, 'describe_parameters', request).descriptors
    for parameter, descriptor in zip(PARAMETERS, descriptors, strict=True):
        assert descriptor.name == parameter.name
        assert descriptor.type == parameter.type.value
        assert descriptor.description == parameter.description
        assert parameter.allowed in descriptor.additional_constraints
        for limits in (*descriptor.floating_point_range, *descriptor.integer_range):
            assert (limits.from_value, limits.to_value) == (parameter.minimum, parameter.maximum)


def test_every_default_is_allowed_and_declared(harness: Harness) -> None:
    node = harness.node(start=False, device='auto', diagnostics_period=1.0)
    for parameter in PARAMETERS:
        parameter.check(parameter.default)
        value = node.get_parameter(parameter.name).value
        assert parameter.clean(value) == parameter.default


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('overlay_alpha', 1.5),
        ('overlay_alpha', float('nan')),
        ('overlay_alpha', 'half'),
        ('precision', 'int3'),
        ('jpeg_quality', 0),
        ('input_size', [64]),
        ('input_size', [-1, 64]),
        ('diagnostics_period', 0.0),
        ('autostart', 'yes'),
        ('cameras', 5),
    ],
)
def test_bad_value_at_start_names_parameter_and_allowed_values(
    harness: Harness, name: str, value: Any
) -> None:
    with pytest.raises(ParameterError) as caught:
        harness.node(start=False, **{name: value})
    assert f"'{name}'" in str(caught.value)
    allowed = BY_NAME[name].allowed or BY_NAME[name].type.name.lower().replace('_', ' ')
    assert allowed in str(caught.value)


def test_unknown_parameters_are_named_with_the_closest_one() -> None:
    sentences = unknown_parameters(['overlay_alhpa', 'checkpoint', 'use_sim_time', 'zebra'])
    assert len(sentences) == 2
    assert "'overlay_alpha'" in sentences[0]
    assert 'did you mean' not in sentences[1]


def test_misspelled_parameter_is_logged(
    harness: Harness, capfd: pytest.CaptureFixture[str]
) -> None:
    harness.node(start=False, overlay_alhpa=0.3)
    assert "did you mean 'overlay_alpha'" in capfd.readouterr().err


def test_empty_texts_stand_for_an_empty_list(harness: Harness) -> None:
    node = harness.node(start=False, cameras=[''])
    change = Parameter('overlay_classes', value=[''])
    assert node.set_parameters([change])[0].successful
    assert node._values['overlay_classes'] == node._values['cameras'] == []


def test_check_covers_arrays() -> None:
    parameter = NodeParameter(
        'size', Parameter.Type.INTEGER_ARRAY, [1, 1], '', minimum=0, maximum=9, length=2
    )
    parameter.check([0, 9])
    for bad in ([0], [0, 10], [0, 1, 2]):
        with pytest.raises(ParameterError, match='size'):
            parameter.check(bad)
