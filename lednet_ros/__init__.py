# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""LEDNet semantic segmentation for ROS 2."""

__version__ = '0.1.0'
