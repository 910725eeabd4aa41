"""The node: image messages and init boxes in, tracked boxes out."""

from __future__ import annotations

import gc
import time

import torch
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Float32

from sot_ros.drawing import draw
from sot_ros.geometry import Box
from sot_ros.msg import InitBox, TrackedBox
from sot_ros.node.frames import Frame
from sot_ros.node.messages import rgb_image, seconds, tracked_box
from sot_ros.node.parameters import (
    FIXED_WHILE_CONFIGURED,
    NODE_PARAMETERS,
    declare,
    model_parameters,
    model_values,
    take_overrides,
)
from sot_ros.node.worker import Worker, one_line
from sot_ros.session import Session, State, Target
from sot_ros.trackers import create_tracker

# Only the newest image counts, and a lost one is not worth a second sending.
IMAGE_QOS = QoSProfile(depth=1, reliability=qos_profile_sensor_data.reliability)
# A reliable publisher serves reliable subscribers (RViz, most controllers) and best-effort ones alike.
BOX_QOS = QoSProfile(depth=10)
DEBUG_QOS = QoSProfile(depth=1)


class TrackerNode(LifecycleNode):
    """Topics, parameters and transitions around a Worker. The callbacks only hand things over to it."""

    def __init__(self):
        super().__init__("tracker", namespace="/sot", automatically_declare_parameters_from_overrides=True)
        self._given = take_overrides(self)
        declare(self, NODE_PARAMETERS, self._given)
        for row in NODE_PARAMETERS:
            self._given.pop(row.name, None)
        self._model = None
        """The model whose parameters are declared."""
        self._session: Session | None = None
        self._worker: Worker | None = None
        self._subscriptions_: list = []
        self._reentrant = ReentrantCallbackGroup()
        self.add_on_set_parameters_callback(self._on_set_parameters)
