# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Bags, videos and folders of images: reading and writing them, without ROS."""
