# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recordings through the live node."""
