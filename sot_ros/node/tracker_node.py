"""The node: image messages and init boxes in, tracked boxes out."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
import torch
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Float32, Header, UInt32
from std_srvs.srv import SetBool, Trigger

from sot_ros.geometry import Box
from sot_ros.msg import InitBox, TrackedBox
from sot_ros.node.calibration import Calibration
from sot_ros.node.debug_image import DebugImage
from sot_ros.node.detections import Detections
from sot_ros.node.diagnostics import Diagnostics
from sot_ros.node.direction import Direction
from sot_ros.node.frames import Frame
from sot_ros.node.image_plane import ImagePlane
from sot_ros.node.messages import one_line, seconds, tracked_box
from sot_ros.node.parameters import (
    FIXED_WHILE_CONFIGURED,
    NodeParameters,
    declare,
    pick,
    take_overrides,
)
from sot_ros.node.position import Position
from sot_ros.node.silence import Silence
from sot_ros.node.worker import Worker
from sot_ros.session import Target, Thresholds
from sot_ros.trackers import Tracker
from sot_ros.trackers.models import create_tracker, find_model
from sot_ros.trackers.settings import override

# Only the newest image counts, and a lost one is not worth a second sending.
IMAGE_QOS = QoSProfile(depth=1, reliability=qos_profile_sensor_data.reliability)
# A reliable publisher serves reliable subscribers (RViz, most controllers) and best-effort ones alike.
RELIABLE_QOS = QoSProfile(depth=10)

FEATURES = (Silence, DebugImage, Direction, Position, ImagePlane, Detections)
"""What the node does besides its boxes. docs/architecture.md tells what a feature is."""


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
        self._threads = self._cores = torch.get_num_threads()
        self._target_id = 0
        """The number of the last target of all."""
        self.tracker: Tracker | None = None
        """None while unconfigured."""
        self.worker: Worker | None = None
        """None while not active."""
        self.broken = False
        """Whether only a new process can track again."""
        self._inputs: list[Subscription] = []
        self._features: list[Any] = []
        self.reentrant = ReentrantCallbackGroup()
        """For callbacks that only put something in place."""
        self._tracked_box = self.advertise(TrackedBox, "tracked_box")
        self._confidence = self.advertise(Float32, "confidence")
        self._diagnostics = Diagnostics(self)
        self.calibration = Calibration(self)
        self.create_service(Trigger, "stop", self._on_stop)
        self.create_service(SetBool, "enable", self._on_enable)
        self.add_on_set_parameters_callback(self._on_set_parameters)

    def bring_up(self) -> bool:
        """Configure, where that is not done, and activate; False, with the reason in the log, where that failed."""
        success = TransitionCallbackReturn.SUCCESS
        configured = self.tracker is not None or self.trigger_configure() == success
        return configured and self.trigger_activate() == success

    # For the features, too

    def value(self, name: str) -> Any:
        """A parameter's value."""
        return self.get_parameter(name).value

    def advertise(self, message_type: type, topic: str, qos: QoSProfile = RELIABLE_QOS) -> Publisher:
        """A publisher whose QoS the user can override with parameters, as rclpy names them."""
        options = QoSOverridingOptions.with_default_policies()
        return self.create_publisher(message_type, topic, copy.copy(qos), qos_overriding_options=options)

    def subscribe(
        self, message_type: type, topic: str, callback: Callable, qos: QoSProfile = RELIABLE_QOS
    ) -> Subscription:
        """A subscription whose QoS the user can override; its callback may run several times at once."""
        return self.create_subscription(
            message_type,
            topic,
            callback,
            copy.copy(qos),
            callback_group=self.reentrant,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def start(self, box: Box, header: Header) -> None:
        """Take the target in `box` on the image with the stamp of `header`; on the newest one where that is zero."""
        if worker := self.worker:
            worker.start(box, seconds(header.stamp))

    def publish_boxes(self, header: Header, targets: Sequence[Target]) -> None:
        """Tell the controllers: one box for each target, and the confidence of the first."""
        for target in targets:
            self._tracked_box.publish(tracked_box(header, target))
        self._confidence.publish(Float32(data=float(targets[0].confidence)))

    @property
    def stale(self) -> bool:
        """Whether no image was processed for longer than `stale_after`."""
        worker = self.worker
        return worker is not None and time.monotonic() - worker.alive_at > self.value("stale_after")

    @property
    def rate(self) -> float:
        """Images answered per second, of late."""
        return self._diagnostics.rate

    # Transitions

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._declare_model_parameters()
            device = self.value("device")
            self._threads = self.value("threads") or self._cores
            torch.set_num_threads(self._threads)  # of this thread, and of those that start from now on: the worker's
            self.tracker = create_tracker(
                self._model,
                weights=self.value("weights") or None,
                device=None if device in ("", "auto") else device,
                precision=self.value("precision"),
                backend=self.value("backend"),
                compile=self.value("compile"),
                **dataclasses.asdict(self._settings),
            )
        except Exception as error:
            self.get_logger().error(one_line(error))
            return TransitionCallbackReturn.FAILURE
        self.get_logger().debug(f"{self._settings}, {self._thresholds}")
        return TransitionCallbackReturn.SUCCESS

    def _how(self) -> str:
        """What runs the network."""
        if self.value("backend") != "torch":
            return ", ".join(self.value(name) for name in ("backend", "device", "precision"))
        threads = f" with {self._threads} thread(s)" if self.tracker.device.type == "cpu" else ""
        return f"{self.tracker.device}{threads}, {self.tracker.precision}, {self.tracker.compiled}"

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._activate()
        except Exception as error:
            self.get_logger().error(one_line(error))
            self.on_deactivate(state)
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def _activate(self) -> None:
        worker = self.worker = Worker(
            self.tracker,
            self._thresholds,
            self._answer,
            self.get_logger(),
            self.value("max_targets"),
            self._target_id,
            self._give_up,
        )
        worker.change(self._settings, self._thresholds)
        worker.hold(self.value("history_s"), self.value("history_mb"))
        for feature in FEATURES:
            try:
                self._features.append(feature(self))
            except Exception as error:
                self.get_logger().warning(f"no {feature.__name__}: {one_line(error)}")
        image_type, image_topic = Image, self.resolve_topic_name("image")
        if self.value("image_transport") == "compressed":
            # image_transport's convention: the suffix follows the name as it was remapped.
            image_type, image_topic = CompressedImage, f"{image_topic}/compressed"

        def see(message: Image | CompressedImage) -> None:
            worker.see(Frame(message, seconds(message.header.stamp) or self.get_clock().now().nanoseconds * 1e-9))

        def start(message: InitBox) -> None:
            self.start(Box(message.x, message.y, message.width, message.height), message.header)

        def start_from_roi(message: RegionOfInterest) -> None:
            self.start(Box(message.x_offset, message.y_offset, message.width, message.height), Header())

        self._inputs = [
            self.subscribe(image_type, image_topic, see, IMAGE_QOS),
            self.subscribe(InitBox, "init_box", start),
            self.subscribe(RegionOfInterest, "init_roi", start_from_roi),
            self.subscribe(UInt32, "stop_target", lambda message: worker.stop_target(message.data)),
        ]
        self.get_logger().info(
            f"{self._model} on {self._how()}: {image_topic} "
            f"and {self.resolve_topic_name('init_box')} in, {self.resolve_topic_name('tracked_box')} out"
        )

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs = []
        if self.worker is not None:
            self.worker.close()
            self._target_id = self.worker.target_id
            self.worker = None
        for feature in self._features:
            self.attempt(feature, feature.close)
        self._features = []
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.tracker = None
        torch.cuda.empty_cache()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.on_deactivate(state)
        return self.on_cleanup(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.on_shutdown(state)

    # Services

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Let all targets go; the next image is answered IDLE."""
        response.success = self.worker is not None
        response.message = "" if response.success else "the node is not active"
        if response.success:
            self.worker.stop("stopped")
        return response

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Activate or deactivate, for those without a lifecycle manager."""
        if request.data and self.worker is None:
            response.success = self.bring_up()
            response.message = "" if response.success else "it could not be activated, its log says why"
            return response
        if not request.data and self.worker is not None:
            self.trigger_deactivate()
        response.success = True
        return response

    # Answers, called by the worker

    def _answer(self, frame: Frame, targets: list[Target]) -> None:
        self.publish_boxes(frame.message.header, targets)
        for feature in (self._diagnostics, *self._features):
            self.attempt(feature, feature.answer, frame, targets)

    def _give_up(self) -> None:
        self.get_logger().fatal("CUDA is broken for this process, so it ends; with respawn:=true it is started again")
        self.broken = True
        rclpy.try_shutdown()

    def attempt(self, feature: Any, method: Callable, *arguments) -> None:
        """Call a feature; what it raises is its own affair."""
        try:
            method(*arguments)
        except Exception as error:
            if rclpy.ok():  # else it is only that nothing can be published any more
                self.get_logger().error(f"{type(feature).__name__}: {one_line(error)}", throttle_duration_sec=1.0)

    # Parameters

    def _declare_model_parameters(self) -> None:
        """Read the model's thresholds and settings; declare them first if the model is another than the last time."""
        model = self.value("model")
        row = find_model(model)
        thresholds, settings = Thresholds(row.occluded_below, row.tracking_above), row.settings
        names = [field.name for part in (thresholds, settings) for field in dataclasses.fields(part)]
        known = model == self._model
        values = {name: self.value(name) for name in names} if known else self._given
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
        now = {field.name: self.value(field.name) for field in dataclasses.fields(NodeParameters)}
        parameters = override(NodeParameters(**now), **pick(NodeParameters, changes))
        if self.tracker is None:
            return
        for name in (*FIXED_WHILE_CONFIGURED, *self.tracker.fixed):
            if name in changes:
                raise ValueError(f"{name} refused: deactivate the node and clean it up, then it can change")
        thresholds = override(self._thresholds, **pick(self._thresholds, changes))
        settings = override(self._settings, **pick(self._settings, changes))
        self._thresholds, self._settings = thresholds, settings
        if self.worker is not None:
            self.worker.change(settings, thresholds)
            self.worker.hold(parameters.history_s, parameters.history_mb)
