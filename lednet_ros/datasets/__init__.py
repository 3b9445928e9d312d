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

"""Labeled data sets of all layouts, for training and evaluation."""

from lednet_ros.datasets.cityscapes import ANNOTATIONS, CityscapesDataset
from lednet_ros.datasets.coco import CocoDataset
from lednet_ros.datasets.frames import Dataset, DatasetError, LabeledFrame
from lednet_ros.datasets.image_folder import ClassifiedImage, ImageFolder
from lednet_ros.datasets.layouts import find_splits, guess_layout, LABELED, LAYOUTS, open_labeled
from lednet_ros.datasets.pairs import FolderDataset
from lednet_ros.datasets.survey import ImageSurvey, list_problems, Survey, survey, survey_images
from lednet_ros.datasets.synthetic import synthetic_frames, SyntheticDataset

__all__ = [
    'ANNOTATIONS',
    'LABELED',
    'LAYOUTS',
    'CityscapesDataset',
    'ClassifiedImage',
    'CocoDataset',
    'Dataset',
    'DatasetError',
    'FolderDataset',
    'ImageFolder',
    'ImageSurvey',
    'LabeledFrame',
    'Survey',
    'SyntheticDataset',
    'find_splits',
    'guess_layout',
    'list_problems',
    'open_labeled',
    'survey',
    'survey_images',
    'synthetic_frames',
]
