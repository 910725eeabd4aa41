"""The node: image messages and init boxes in, tracked boxes out."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from typing import Any

import torch
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Float32

from sot_ros.drawing import draw
from sot_ros.geometry import Box
from sot_ros.msg import InitBox, TrackedBox
from sot_ros.node.frames import Frame
from sot_ros.node.messages import one_line, rgb_image, seconds, tracked_box
from sot_ros.node.parameters import (
    FIXED_WHILE_CONFIGURED,
    NodeParameters,
    accept_whole_numbers,
    declare,
    pick,
    take_overrides,
)
from sot_ros.node.worker import Worker
from sot_ros.session import Session, State, Target, Thresholds
from sot_ros.trackers.models import create_tracker, find_model
from sot_ros.trackers.settings import override

# Only the newest image counts, and a lost one is not worth a second sending.
IMAGE_QOS = QoSProfile(depth=1, reliability=qos_profile_sensor_data.reliability)
# A reliable publisher serves reliable subscribers (RViz, most controllers) and best-effort ones alike.
COMMAND_QOS = QoSProfile(depth=10)
BOX_QOS = QoSProfile(depth=10)
DEBUG_QOS = QoSProfile(depth=1)


class TrackerNode(LifecycleNode):
    """Topics, parameters and transitions around a Worker. The callbacks only hand things over to it.

    Raises ValueError with one line for a parameter that was given a value which is not accepted.
    """

    def __init__(self):
        super().__init__("tracker", namespace="/sot", automatically_declare_parameters_from_overrides=True)
        given = take_overrides(self)
        declare(self, override(NodeParameters(), **pick(NodeParameters, given)))
        self._given = {name: value for name, value in given.items() if not self.has_parameter(name)}
        """What the user gave for the model: it waits for the first model that is configured."""
        self._model = ""
        """The model whose thresholds and settings are declared."""
        self._model_parameters: list[str] = []
        self._session: Session | None = None
        self._worker: Worker | None = None
        self._inputs: list[Subscription] = []
        self._reentrant = ReentrantCallbackGroup()
        self._tracked_box = self.create_publisher(TrackedBox, "tracked_box", BOX_QOS)
        self._confidence = self.create_publisher(Float32, "confidence", BOX_QOS)
        self._debug_image = self.create_publisher(Image, "debug_image", DEBUG_QOS)
        self._answered_at: deque[float] = deque(maxlen=30)
        self._drawn_at = 0.0
        accept_whole_numbers(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)

    def bring_up(self) -> bool:
        """Configure and activate; False, with the reason in the log, where that failed."""
        success = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == success and self.trigger_activate() == success

    # Transitions

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._declare_model_parameters()
            device = self._value("device")
            tracker = create_tracker(
                self._model,
                weights=self._value("weights") or None,
                device=None if device in ("", "auto") else device,
                precision=self._value("precision"),
                **dataclasses.asdict(self._settings),
            )
        except Exception as error:
            self.get_logger().error(one_line(error))
            return TransitionCallbackReturn.FAILURE
        self.get_logger().debug(f"{self._settings}, {self._thresholds}")
        self._session = Session(tracker, self._thresholds)
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        worker = self._worker = Worker(self._session, self._answer, self.get_logger())
        worker.change(self._settings, self._thresholds)
        image_type, image_topic = Image, self.resolve_topic_name("image")
        if self._value("image_transport") == "compressed":
            # image_transport's convention: the suffix follows the name as it was remapped.
            image_type, image_topic = CompressedImage, f"{image_topic}/compressed"

        def see(message: Image | CompressedImage) -> None:
            worker.see(Frame(message, seconds(message.header.stamp) or self.get_clock().now().nanoseconds * 1e-9))

        def start(message: InitBox) -> None:
            worker.start(Box(message.x, message.y, message.width, message.height))

        def start_from_roi(message: RegionOfInterest) -> None:
            worker.start(Box(message.x_offset, message.y_offset, message.width, message.height))

        self._inputs = [
            self.create_subscription(message_type, topic, callback, qos, callback_group=self._reentrant)
            for message_type, topic, callback, qos in (
                (image_type, image_topic, see, IMAGE_QOS),
                (InitBox, "init_box", start, COMMAND_QOS),
                (RegionOfInterest, "init_roi", start_from_roi, COMMAND_QOS),
            )
        ]
        tracker = self._session.tracker
        self.get_logger().info(
            f"{self._model} on {tracker.device}, {self._value('precision')}: {image_topic} "
            f"and {self.resolve_topic_name('init_box')} in, {self.resolve_topic_name('tracked_box')} out"
        )
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs = []
        if self._worker is not None:
            self._worker.close()
            self._worker = None
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._session = None
        torch.cuda.empty_cache()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.on_deactivate(state)
        return self.on_cleanup(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.on_shutdown(state)

    # Answers, called by the worker

    def _answer(self, frame: Frame, target: Target) -> None:
        header = frame.message.header
        self._tracked_box.publish(tracked_box(header, target))
        self._confidence.publish(Float32(data=float(target.confidence)))
        now = time.monotonic()
        self._answered_at.append(now)
        wanted = self._value("debug") and self._debug_image.get_subscription_count() > 0
        if wanted and now - self._drawn_at >= 1 / self._value("debug_rate"):
            self._drawn_at = now
            box = None if target.state is State.IDLE else target.box
            drawn = draw(frame.image, box, target.state.name, target.confidence, self._rate())
            self._debug_image.publish(rgb_image(header, drawn))

    def _rate(self) -> float:
        """Images answered per second, of late."""
        passed = self._answered_at[-1] - self._answered_at[0]
        return (len(self._answered_at) - 1) / passed if passed > 0 else 0.0

    # Parameters

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _declare_model_parameters(self) -> None:
        """Read the model's thresholds and settings; declare them first if the model is another than the last time."""
        model = self._value("model")
        row = find_model(model)
        thresholds, settings = Thresholds(row.occluded_below, row.tracking_above), row.settings
        names = [field.name for part in (thresholds, settings) for field in dataclasses.fields(part)]
        known = model == self._model
        values = {name: self._value(name) for name in names} if known else self._given
        for_thresholds = pick(thresholds, values)
        thresholds = override(thresholds, **for_thresholds)
        settings = override(settings, **{name: v for name, v in values.items() if name not in for_thresholds})
        if not known:
            for name in self._model_parameters:
                self.undeclare_parameter(name)
            declare(self, thresholds)
            declare(self, settings)
            self._model, self._model_parameters, self._given = model, names, {}
        self._thresholds, self._settings = thresholds, settings

    def _on_set_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        try:
            self._change({parameter.name: parameter.value for parameter in parameters})
        except ValueError as error:
            self.get_logger().warning(str(error))
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _change(self, changes: dict[str, Any]) -> None:
        override(NodeParameters(), **pick(NodeParameters, changes))
        if self._session is None:
            return
        for name in (*FIXED_WHILE_CONFIGURED, *find_model(self._model).built_by):
            if name in changes:
                raise ValueError(f"{name} refused: deactivate the node and clean it up, then it can change")
        thresholds = override(self._thresholds, **pick(self._thresholds, changes))
        settings = override(self._settings, **pick(self._settings, changes))
        self._thresholds, self._settings = thresholds, settings
        if self._worker is not None:
            self._worker.change(settings, thresholds)
