# Copyright 2026 the lednet_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Sets up ROS for the tests of this folder before anything imports rclpy."""

import os

# A domain for this test process, and no discovery beyond this machine.
os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100))
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
