"""The node: image messages and init boxes in, tracked boxes out."""

from __future__ import annotations

import time
from collections import deque

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
from sot_ros.node.messages import rgb_image, seconds, tracked_box
from sot_ros.node.parameters import (
    FIXED_WHILE_CONFIGURED,
    NODE_PARAMETERS,
    Value,
    accept_whole_numbers,
    checked,
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
COMMAND_QOS = QoSProfile(depth=10)
BOX_QOS = QoSProfile(depth=10)
DEBUG_QOS = QoSProfile(depth=1)


class TrackerNode(LifecycleNode):
    """Topics, parameters and transitions around a Worker. The callbacks only hand things over to it.

    Raises ValueError with one line for a parameter that was given a value which is not accepted.
    """

    def __init__(self):
        super().__init__("tracker", namespace="/sot", automatically_declare_parameters_from_overrides=True)
        self._given = take_overrides(self)
        """What the user gave and is not declared yet: it waits for the model to be known."""
        declare(self, NODE_PARAMETERS, self._given)
        self._model = ""
        """The model whose parameters are declared."""
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
            self._settings, self._thresholds = model_values(self._model, self._model_parameter_values())
            device = self._value("device")
            tracker = create_tracker(
                self._model,
                weights=self._value("weights") or None,
                device=None if device in ("", "auto") else device,
                precision=self._value("precision"),
            )
        except Exception as error:
            expected = isinstance(error, (ValueError, OSError))
            self.get_logger().error(str(error) if expected else one_line(error))
            return TransitionCallbackReturn.FAILURE
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

    def _value(self, name: str) -> Value:
        return self.get_parameter(name).value

    def _model_parameter_values(self) -> dict[str, Value]:
        return {row.name: self._value(row.name) for row in model_parameters(self._model)}

    def _declare_model_parameters(self) -> None:
        model = self._value("model")
        if model == self._model:
            return
        rows = model_parameters(model)
        given = self._given
        model_values(model, {row.name: row.default for row in rows} | given)
        if self._model:
            for row in model_parameters(self._model):
                self.undeclare_parameter(row.name)
        declare(self, rows, given)
        self._model = model

    def _on_set_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        try:
            self._change({parameter.name: parameter.value for parameter in parameters})
        except ValueError as error:
            self.get_logger().warning(str(error))
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _change(self, changes: dict[str, Value]) -> None:
        for row in NODE_PARAMETERS:
            if row.name in changes:
                checked(row, changes[row.name])
        if self._session is None:
            return
        for row in FIXED_WHILE_CONFIGURED:
            if row.name in changes:
                raise ValueError(f"{row.name} refused: deactivate the node and clean it up, then it can change")
        current = self._model_parameter_values()
        new = current | {name: value for name, value in changes.items() if name in current}
        self._settings, self._thresholds = model_values(self._model, new)
        if self._worker is not None:
            self._worker.change(self._settings, self._thresholds)
