# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The only place that imports rclpy or a message package."""
