# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measures the frame's way and its parts, beside what one would use otherwise, in one run."""
