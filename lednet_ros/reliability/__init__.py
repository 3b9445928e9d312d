# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Injects faults into the live node and tells what became of it."""
