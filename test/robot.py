"""A robot to test with: a camera and a controller, and between them, over real DDS, the tracker process."""

import atexit
import functools
import itertools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import rclpy
from ament_index_python.packages import get_package_prefix
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from golden import synthetic_clip
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Float32, Header
from std_srvs.srv import SetBool, Trigger

from sot_ros.geometry import Box, iou
from sot_ros.msg import InitBox, TrackedBox
from sot_ros.node.messages import rgb_image, seconds

TRACKER = Path(get_package_prefix("sot_ros")) / "lib" / "sot_ros" / "tracker"
PATIENCE_S = 60
"""For machines that are busy. Nothing takes so long where it works."""

picture = functools.lru_cache(synthetic_clip.frame)
"""RGB frame t of the clip."""
CALIBRATION = CameraInfo(
    width=synthetic_clip.WIDTH,
    height=synthetic_clip.HEIGHT,
    distortion_model="plumb_bob",
    d=[-0.2, 0.05, 0.001, -0.002, 0.0],
    k=[350.0, 0.0, 190.0, 0.0, 352.0, 146.0, 0.0, 0.0, 1.0],
    p=[300.0, 0.0, 190.0, 0.0, 0.0, 300.0, 146.0, 0.0, 0.0, 0.0, 1.0, 0.0],
)
"""Of the camera that the robot carries, where a test needs one."""


def truth(t: int) -> Box:
    """Where the target is on frame t of the clip."""
    return Box(*map(float, synthetic_clip.box(t)))


class Process:
    """The tracker executable, or another that stands for it, with what it has logged so far, in lines."""

    def __init__(self, *arguments: str, program: Sequence[str | Path] = (TRACKER,)):
        self.log: list[str] = []
        self._process = subprocess.Popen(
            [*program, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},  # the tests themselves need a core
        )
        atexit.register(self._process.kill)  # whatever becomes of the test
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def end(self, send: signal.Signals | None = None) -> int:
        """The exit code, after a signal or, without one, of itself."""
        if send is not None:
            self._process.send_signal(send)
        try:
            code = self._process.wait(PATIENCE_S)
        finally:
            self._process.kill()
        self._reader.join()
        return code

    def _read(self) -> None:
        for line in self._process.stdout:
            self.log.append(line.rstrip())


class Robot:
    """Runs a tracker with the given parameters in a namespace of its own, shows it images and collects its answers."""

    _numbers = itertools.count()

    def __init__(self, program: Sequence[str | Path] = (TRACKER,), **parameters):
        namespace = f"/robot{next(self._numbers)}"
        arguments = ["--ros-args", "-r", f"__ns:={namespace}"]
        for name, value in parameters.items():
            arguments += ["-p", f"{name}:={str(value).lower() if isinstance(value, bool) else value}"]
        self.process = Process(*arguments, program=program)
        self.log = self.process.log
        self.alive = self.process.alive
        self.node = rclpy.create_node("robot", namespace=namespace)
        self.answers: list[TrackedBox] = []
        self.confidences: list[float] = []
        self.node.create_subscription(TrackedBox, "tracked_box", self.answers.append, 10)
        self.node.create_subscription(Float32, "confidence", lambda m: self.confidences.append(m.data), 10)
        self.connect_camera()
        self._compressed = self.node.create_publisher(CompressedImage, "image/compressed", qos_profile_sensor_data)
        self._init_box = self.node.create_publisher(InitBox, "init_box", 10)
        self._init_roi = self.node.create_publisher(RegionOfInterest, "init_roi", 10)
        self._change_state = self.node.create_client(ChangeState, "tracker/change_state")
        self._get_state = self.node.create_client(GetState, "tracker/get_state")
        self._set = self.node.create_client(SetParameters, "tracker/set_parameters")
        self._get = self.node.create_client(GetParameters, "tracker/get_parameters")
        self._describe = self.node.create_client(DescribeParameters, "tracker/describe_parameters")
        self._stop = self.node.create_client(Trigger, "stop")
        self._enable = self.node.create_client(SetBool, "enable")
        self.diagnostics: list[DiagnosticArray] = []
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self.diagnostics.append, 10)
        self._publishers = {}
        self._time_ns = 10**15

    def listen(self, message_type: type, topic: str) -> list:
        """All messages of a topic from now on."""
        heard = []
        self.node.create_subscription(message_type, topic, heard.append, 10)
        return heard

    def say(self, topic: str, message) -> None:
        """Publish a message, once somebody listens."""
        publisher = self._publishers.get(topic)
        if publisher is None:
            publisher = self._publishers[topic] = self.node.create_publisher(type(message), topic, 10)
            self.wait(lambda: publisher.get_subscription_count() > 0, f"subscription to {topic}")
            self.spin(0.3)  # the other side gets to know of this one at another time
        publisher.publish(message)

    def topic(self, name: str) -> str:
        """The full name of a topic."""
        return self.node.resolve_topic_name(name)

    def begin(self) -> None:
        """Forget what was answered and logged so far."""
        self.answers.clear()
        self.confidences.clear()
        self.log.clear()

    def close(self, send: signal.Signals = signal.SIGINT) -> int:
        """Stop the tracker; returns its exit code."""
        code = self.process.end(send)
        self.node.destroy_node()
        return code

    def wait(self, condition, what: str, patience_s: float = PATIENCE_S) -> None:
        """Spin until the condition holds; fails with `what` was waited for where that takes too long."""
        end = time.monotonic() + patience_s
        while not condition():
            log = "\n".join(self.log)
            assert self.alive(), f"the tracker is gone. It said:\n{log}"
            assert time.monotonic() < end, f"no {what}. The tracker said:\n{log}"
            rclpy.spin_once(self.node, timeout_sec=0.02)

    def spin(self, duration_s: float, until: Callable[[], object] = lambda: False) -> None:
        """Let messages arrive for a while, or less where a condition holds before."""
        end = time.monotonic() + duration_s
        while time.monotonic() < end and not until():
            rclpy.spin_once(self.node, timeout_sec=0.02)

    # The camera

    def header(self, after_s: float = 0.1) -> Header:
        """A header so many seconds after the last."""
        self._time_ns += round(after_s * 10**9)
        header = Header(frame_id="camera")
        header.stamp.sec, header.stamp.nanosec = divmod(self._time_ns, 10**9)
        return header

    def connect_camera(self) -> None:
        self.images = self.node.create_publisher(Image, "image", qos_profile_sensor_data)

    def disconnect_camera(self) -> None:
        self.node.destroy_publisher(self.images)

    def publish(self, message: Image | CompressedImage) -> None:
        """Show an image, once somebody looks."""
        publisher = self.images if isinstance(message, Image) else self._compressed
        self.wait(lambda: publisher.get_subscription_count() > 0, "subscription to the images")
        publisher.publish(message)

    def show(self, image: int | Image | CompressedImage) -> TrackedBox:
        """Show frame t of the clip, or an image message, and return the answer to it."""
        message = image if not isinstance(image, int) else rgb_image(self.header(), picture(image))
        self.publish(message)
        self.wait(lambda: self.answer_to(message) is not None, "answer to an image")
        return self.answer_to(message)

    def answered(self) -> list[TrackedBox]:
        """The answers to images: all but STALE, which a busy machine can cause at any time."""
        return [answer for answer in self.answers if answer.state != TrackedBox.STALE]

    def answer_to(self, message: Image | CompressedImage) -> TrackedBox | None:
        return next((a for a in reversed(self.answered()) if a.header == message.header), None)

    # The operator

    def init(self, box, header: Header | None = None) -> None:
        """Send a box, once somebody listens: on the image with this header, or on the newest."""
        self.wait(lambda: self._init_box.get_subscription_count() > 0, "subscription to init_box")
        x, y, width, height = map(float, box)
        self._init_box.publish(InitBox(header=header or Header(), x=x, y=y, width=width, height=height))

    def init_roi(self, box) -> None:
        self.wait(lambda: self._init_roi.get_subscription_count() > 0, "subscription to init_roi")
        x, y, width, height = map(round, box)
        self._init_roi.publish(RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height))

    def start(self, t: int = 0) -> TrackedBox:
        """Take the clip's target on frame t; returns the answer to the frame after it."""
        self.show(t)
        self.says_after(lambda: self.init(truth(t)), "started at")
        return self.show(t + 1)

    def follows(self, t: int) -> bool:
        """Whether the target is tracked and found on frame t of the clip."""
        return self.follows_in(t, truth(t))

    def follows_in(self, image: int | Image, expected: Box) -> bool:
        """Whether the target is tracked and found where it is expected in an image."""
        answer = self.show(image)
        return answer.state == TrackedBox.TRACKING and iou(box_of(answer), expected) > 0.5

    def meet(self) -> None:
        """Show images until one is answered: while two processes are getting to know each other, some are lost; on a
        busy machine, at any time."""
        for _ in range(PATIENCE_S):
            message = rgb_image(self.header(), picture(0))
            self.publish(message)
            self.spin(1.0, until=functools.partial(self.answer_to, message))
            if self.answer_to(message):
                return
        raise AssertionError("no answer to any image. The tracker said:\n" + "\n".join(self.log))

    def let_go(self) -> None:
        """Make the tracker let its target go: time jumps back."""
        self.meet()
        self._time_ns -= 500 * 10**9
        self.says_after(self.meet, "target let go")
        self.begin()

    def has_said(self, *words: str) -> list[str]:
        """The lines of the log with all these words."""
        return [line for line in list(self.log) if all(word in line for word in words)]

    def says(self, *words: str) -> str:
        """Wait for the line of the log with these words; returns it."""
        self.wait(lambda: self.has_said(*words), f"line with {words}")
        return self.has_said(*words)[-1]

    def says_after(self, act: Callable[[], object], *words: str) -> str:
        """Act, and wait for a line with these words that was not in the log before; returns it."""
        known = len(self.has_said(*words))
        act()
        self.wait(lambda: len(self.has_said(*words)) > known, f"new line with {words}")
        return self.has_said(*words)[-1]

    # Parameters and transitions

    def get(self, name: str):
        values = self._call(self._get, GetParameters.Request(names=[name])).values
        return parameter_value_to_python(values[0]) if values else None

    def describe(self, name: str):
        return self._call(self._describe, DescribeParameters.Request(names=[name])).descriptors[0]

    def set(self, name: str, value) -> str:
        """Set a parameter. Returns the reason why it was refused; empty where it was not."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        result = self._call(self._set, request).results[0]
        assert result.successful == (not result.reason)
        return result.reason

    def stop(self) -> Trigger.Response:
        return self._call(self._stop, Trigger.Request())

    def enable(self, active: bool) -> SetBool.Response:
        return self._call(self._enable, SetBool.Request(data=active))

    def health(self) -> tuple[DiagnosticStatus, dict[str, str]]:
        """What the tracker says next of itself on /diagnostics, and its values by their names."""
        self.diagnostics.clear()
        name = self.node.get_namespace().lstrip("/") + "/tracker: tracking"
        found: list[DiagnosticStatus] = []

        def said() -> bool:
            found.extend(status for array in self.diagnostics for status in array.status if status.name == name)
            return bool(found)

        self.wait(said, "diagnostics")
        return found[-1], {value.key: value.value for value in found[-1].values}

    def transition(self, transition: int) -> bool:
        """Ask for a lifecycle transition; whether it succeeded."""
        future = self.ask_for(transition)
        self.wait(future.done, "end of the transition")
        return future.result().success

    def ask_for(self, transition: int):
        """The future of a transition. rclpy leaves it without an answer if the transition is impossible."""
        assert self._change_state.wait_for_service(PATIENCE_S), "no service change_state"
        return self._change_state.call_async(ChangeState.Request(transition=Transition(id=transition)))

    def state(self) -> str:
        """Asked again every second: while two processes are getting to know each other, answers are lost."""
        assert self._get_state.wait_for_service(PATIENCE_S), "no service get_state"
        asked, begin = [], time.monotonic()

        def answers() -> list:
            if time.monotonic() >= begin + len(asked):
                asked.append(self._get_state.call_async(GetState.Request()))
            return [future.result() for future in asked if future.done()]

        self.wait(answers, "answer of tracker/get_state")
        return answers()[0].current_state.label

    def bring_up(self) -> None:
        assert self.transition(Transition.TRANSITION_CONFIGURE), "\n".join(self.log)
        assert self.transition(Transition.TRANSITION_ACTIVATE), "\n".join(self.log)

    def clean_up(self) -> None:
        """Back to unconfigured, from wherever it is."""
        if self.state() == "active":
            assert self.transition(Transition.TRANSITION_DEACTIVATE)
        if self.state() == "inactive":
            assert self.transition(Transition.TRANSITION_CLEANUP)

    def _call(self, client, request):
        assert client.wait_for_service(PATIENCE_S), "no service " + client.srv_name + "\n" + "\n".join(self.log)
        future = client.call_async(request)
        self.wait(future.done, f"answer of {client.srv_name}")
        return future.result()


def box_of(answer: TrackedBox) -> Box:
    return Box(answer.x, answer.y, answer.width, answer.height)


def stamp_of(answer: TrackedBox) -> float:
    return seconds(answer.header.stamp)
