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
Images with more pixels than allowed are refused before decoding, by every reader.

Each reader runs in a separate process: OpenCV reads its limit when it is loaded, and each reader
loads it by another module.
"""

import json
from pathlib import Path
import struct
import subprocess
import sys
import zlib

from bag_files import Entry, write_bag
import cv2
import numpy as np
import pytest

WIDTH, HEIGHT = 8400, 16384
REASON = 'is too large: '
NOT_DECODED = 'that OpenCV reads, of at most 134217728 pixels'
# MiB, as gray: the minimum that decoding takes.
DECODED = WIDTH * HEIGHT >> 20

# Runs statements, and prints their peak memory beyond that of their imports.
CHILD = """
import importlib, re, sys
from pathlib import Path
def peak():
    # Of this process alone; that of getrusage starts at the parent's.
    return int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])
imports, statements, path = sys.argv[1:]
for module in imports.split():
    importlib.import_module(module)
before = peak()
try:
    exec(statements)
except Exception as error:
    print(f'{type(error).__name__}: {error}', file=sys.stderr)
print('\\n', (peak() - before) // 1024, sep='')
"""
COMMAND = 'from lednet_ros.cli.main import main\nmain([{}])'
NO_NETWORK = "'--backend', 'torch_eager', '--device', 'cpu'"
SMALL = np.zeros((64, 96, 3), np.uint8)


def chunk(kind: bytes, content: bytes) -> bytes:
    tail = struct.pack('>I', zlib.crc32(kind + content))
    return struct.pack('>I', len(content)) + kind + content + tail


@pytest.fixture(scope='module')
def bomb() -> bytes:
    """Make a PNG with one bit per pixel: 17 kB, and 413 MB when decoded to colors."""
    packer = zlib.compressobj(9)
    row = bytes(1 + WIDTH // 8)
    rows = b''.join([*(packer.compress(row) for _ in range(HEIGHT)), packer.flush()])
    header = struct.pack('>IIBBBBB', WIDTH, HEIGHT, 1, 0, 0, 0, 0)
    chunks = chunk(b'IHDR', header) + chunk(b'IDAT', rows) + chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + chunks


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory, bomb: bytes) -> Path:
    """Make files and data sets of every kind; in each, only the bomb is bad."""
    root = tmp_path_factory.mktemp('files')
    _, small = cv2.imencode('.png', SMALL)
    _, labels = cv2.imencode('.png', SMALL[..., 0])
    contents = {
        'bomb.png': bomb,
        'bomb.mp4': bomb,
        'folder/val/images/bomb.png': bomb,
        'folder/val/labels/bomb.png': labels,
        'folder/train/images/a.png': small,
        'folder/train/labels/a.png': bomb,
        'cityscapes/leftImg8bit/val/a/bomb_leftImg8bit.png': bomb,
        'cityscapes/gtFine/val/a/bomb_gtFine_labelIds.png': labels,
        'cityscapes/gtFine/val/a/bomb_gtFine_instanceIds.png': bomb,
        'image_folder/train/class/also_bomb.png': bomb,
        'image_folder/train/class/bomb.png': bomb,
        'image_folder/val/class/bomb.png': bomb,
        'coco/val/bomb.png': bomb,
        'raw_labels/0.000000001.png': bomb,
    }
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(content))
    square = [[0, 0, 50, 0, 50, 50, 0, 50]]
    objects = {
        'images': [{'id': 1, 'file_name': 'bomb.png', 'height': HEIGHT, 'width': WIDTH}],
        'annotations': [
            {'image_id': 1, 'category_id': 3, 'iscrowd': 0, 'area': 2500, 'segmentation': square}
        ],
    }
    (root / 'coco/annotations').mkdir()
    (root / 'coco/annotations/instances_val.json').write_text(json.dumps(objects))
    write_bag(root / 'compressed', [Entry('/image', 1, 1, bomb, 'png')])
    write_bag(root / 'raw', [Entry('/image', 1, 1, SMALL)])
    write_bag(
        root / 'labeled', [Entry('/image', 1, 1, SMALL), Entry('/truth', 1, 1, bomb, 'png')]
    )
    return root


SEGMENT = COMMAND.format(f"'segment', path, '-o', path + '_out', {NO_NETWORK}")
SEGMENT_IMPORTS = 'lednet_ros.recordings.segment lednet_ros.inference.segmenter'
VIEW_IMPORTS = 'lednet_ros.recordings.sources lednet_ros.view.player'
BAG_IMPORTS = 'lednet_ros.evaluation.many_bags lednet_ros.inference.segmenter'
# Name, imports, statements, file and error message of each reader.
READERS = {
    'cv2 after lednet_ros': (
        'lednet_ros cv2', 'import cv2; cv2.imread(path)', 'bomb.png', 'CV_IO_MAX_IMAGE_PIXELS',
    ),
    'segment an image': (SEGMENT_IMPORTS, SEGMENT, 'bomb.png', f'bomb.png {REASON}'),
    'segment a video': (
        SEGMENT_IMPORTS, SEGMENT, 'bomb.mp4', 'bomb.mp4 is 8400x16384; at most 134217728 pixels',
    ),
    'segment a bag': (
        SEGMENT_IMPORTS, SEGMENT, 'compressed', 'frame at 0.000000001 s was left out',
    ),
    'view an image': (
        VIEW_IMPORTS, COMMAND.format("'view', path"), 'bomb.png', f'bomb.png {REASON}',
    ),
    'view a bag': (VIEW_IMPORTS, COMMAND.format("'view', path"), 'compressed', NOT_DECODED),
    **{
        f'check-data {layout}, {split}': (
            'lednet_ros.datasets', COMMAND.format(f"'check-data', path, '--split', '{split}'"),
            layout, f'{name} {REASON}',
        )
        for layout, split, name in (
            ('folder', 'val', 'images/bomb.png'),
            ('folder', 'train', 'labels/a.png'),
            ('cityscapes', 'val', 'bomb_leftImg8bit.png'),
            ('image_folder', 'val', 'bomb.png'),
            ('coco', 'val', 'bomb.png'),
        )
    },
    'instance ids': (
        'lednet_ros.evaluation.cityscapes',
        'from lednet_ros.datasets import CityscapesDataset\n'
        'from lednet_ros.labels import LabelMap\n'
        "CityscapesDataset(path, 'val', LabelMap.load('cityscapes')).instances(0)",
        'cityscapes', f'bomb_gtFine_instanceIds.png {REASON}',
    ),
    **{
        f'train {layout}': (
            'lednet_ros.training.loop torch._dynamo torch.utils.tensorboard',
            COMMAND.format(
                f"'train', '{recipe}', '--data', path, '--output', path + '_out', "
                "'--set', 'workers=0', '--set', 'stages.0.batch_size=2'"
            ),
            layout, f'bomb.png {REASON}',
        )
        for layout, recipe in (('folder', 'finetune'), ('image_folder', 'imagenet_encoder'))
    },
    'evaluate a folder': (
        'lednet_ros.evaluation.dataset lednet_ros.inference.segmenter',
        COMMAND.format(f"'evaluate', path, {NO_NETWORK}"), 'folder', f'bomb.png {REASON}',
    ),
    'evaluate a bag': (
        BAG_IMPORTS, COMMAND.format(f"'evaluate', path, {NO_NETWORK}"), 'compressed',
        'compressed: /image has no frame that can be used (rejected: 1 compressed)',
    ),
    'evaluate a bag with labels': (
        BAG_IMPORTS, COMMAND.format(f"'evaluate', path, '--label-topic', '/truth', {NO_NETWORK}"),
        'labeled', f'/truth at 0.000000001 s {REASON}',
    ),
    'evaluate a bag with label files': (
        BAG_IMPORTS,
        COMMAND.format(f"'evaluate', path, '--labels', path + '_labels', {NO_NETWORK}"),
        'raw', f'0.000000001.png {REASON}',
    ),
    'Python': (
        'lednet_ros.inference.segmenter',
        'from lednet_ros.inference.encodings import decode_compressed\n'
        'decode_compressed(Path(path).read_bytes())',
        'bomb.png', NOT_DECODED,
    ),
    'node': (
        'lednet_ros.ros.segmentation_node',
        'from lednet_ros.inference.encodings import decode_message\n'
        'from sensor_msgs.msg import CompressedImage\n'
        'decode_message(CompressedImage(data=Path(path).read_bytes()))',
        'bomb.png', NOT_DECODED,
    ),
}
NEEDED = {'node': 'rclpy', 'view': 'flask', 'check-data coco': 'pycocotools'}


@pytest.mark.parametrize('name', READERS)
def test_image_with_too_many_pixels_is_refused_before_decoding(
    name: str, files: Path
) -> None:
    for start, package in NEEDED.items():
        if name.startswith(start):
            pytest.importorskip(package)
    imports, statements, path, expected = READERS[name]
    done = subprocess.run(
        [sys.executable, '-c', CHILD, imports, statements, str(files / path)],
        capture_output=True, text=True, timeout=120, check=True,
    )
    assert expected in done.stdout + done.stderr
    grown = int(done.stdout.splitlines()[-1])
    assert grown < DECODED, f'MiB; {name} printed {done.stderr}'
