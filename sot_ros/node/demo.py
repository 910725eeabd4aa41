"""The demo: plays a clip as a camera to a running tracker node and records what the node answers.

    demo --source video.mp4 --box 100,80,60,120

It starts the tracker in a process of its own, unless told that one is running, and talks to it over ROS alone, as a
camera, a user and a controller of a robot would.
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import rclpy
from ament_index_python.packages import get_package_prefix
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from rclpy.time import Time
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from tqdm import tqdm

from sot_ros.drawing import COLORS, draw
from sot_ros.geometry import Box, check_box
from sot_ros.msg import InitBox, TrackedBox
from sot_ros.node.clips import Clip, newest, open_clip, read
from sot_ros.node.messages import rgb_image

START_TIMEOUT_S = 180.0
"""The first import of torch from a cold disk takes a minute on a small machine, and longer on a busy one."""
LAST_ANSWER_S = 10.0
"""The newest frame is always answered, so this is waited out only where something broke."""
SHEET_FRAMES = 8
STATES = {getattr(TrackedBox, name): name for name in COLORS}


class DemoError(Exception):
    """One line for the user."""


class TrackerProcess:
    """The tracker node in a process of its own; what it says goes to a log file."""

    def __init__(self, parameters: dict[str, str], log: Path):
        self.log = log
        command = [Path(get_package_prefix("sot_ros")) / "lib" / "sot_ros" / "tracker", "--ros-args"]
        for name, value in parameters.items():
            command += ["-p", f"{name}:={value}"]
        with log.open("w") as output:
            # A session of its own: Ctrl-C reaches the demo alone, which then stops the tracker once.
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)

    def check(self) -> None:
        """Raise DemoError if the process has ended, or stays up but reports an error."""
        if self._process.poll() is not None:
            raise DemoError(f"the tracker ended with exit code {self._process.returncode}" + self.last_words())
        if "[ERROR]" in self.log.read_text(errors="replace"):
            raise DemoError("the tracker reports an error" + self.last_words())

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-5:]
        return f"; {self.log} ends with:\n" + "\n".join(f"  {line}" for line in lines)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Demo(Node):
    """Camera, user and controller in one node: sends images and the init box, takes the tracked boxes."""

    def __init__(self, tracker: TrackerProcess | None):
        super().__init__("demo", namespace="/sot")
        self._tracker = tracker
        self._images = self.create_publisher(Image, "image", qos_profile_sensor_data)
        self._init_boxes = self.create_publisher(InitBox, "init_box", 10)
        self._answers: queue.Queue[tuple[TrackedBox, float]] = queue.Queue()
        self.create_subscription(
            TrackedBox, "tracked_box", lambda message: self._answers.put((message, time.monotonic())), 10
        )

    def send(self, image: np.ndarray) -> Image:
        """Publish one RGB frame with the stamp of now."""
        message = rgb_image(Header(stamp=self.get_clock().now().to_msg(), frame_id="camera"), image)
        self._images.publish(message)
        return message

    def receive(self, timeout: float) -> tuple[TrackedBox, float] | None:
        """The next answer and when it arrived, by time.monotonic(); None if there is none within `timeout` seconds."""
        with suppress(queue.Empty):
            return self._answers.get(timeout=max(0.0, timeout))
        return None

    def check_tracker(self) -> None:
        """Raise DemoError if the tracker that this demo started has ended."""
        if self._tracker:
            self._tracker.check()

    def wait_for_tracker(self, image: np.ndarray) -> None:
        """Show the tracker `image` until it answers; DemoError after START_TIMEOUT_S seconds without an answer."""
        self._repeat(image, lambda answer: True, START_TIMEOUT_S, "the tracker did not answer an image")

    def start(self, image: np.ndarray, box: Box) -> TrackedBox:
        """Give the tracker its target on `image`; its first answer, or DemoError if it does not take it."""
        message = InitBox(header=self.send(image).header, x=box.x, y=box.y, width=box.w, height=box.h)
        self._init_boxes.publish(message)
        return self._repeat(
            image, lambda answer: answer.state == TrackedBox.TRACKING, 30.0, "the tracker did not take the box"
        )

    def _repeat(self, image: np.ndarray, enough, timeout: float, complaint: str) -> TrackedBox:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            self.check_tracker()
            self.send(image)
            if (answer := self.receive(0.2)) and enough(answer[0]):
                return answer[0]
        raise DemoError(f"{complaint} within {timeout:.0f} s" + (self._tracker.last_words() if self._tracker else ""))


class Recorder:
    """Puts frames and answers together: the annotated video and the figures.

    A frame without an answer is shown with the one before it; `first` is what the first frames are shown with.
    """

    def __init__(self, video: Path, rate: float, first: TrackedBox):
        self.latencies: list[float] = []
        """Seconds from sending an image to receiving its box, one for each processed frame."""
        self.states: Counter[str] = Counter()
        self.sent = 0
        self._video, self._rate, self._writer = video, rate, None
        self._waiting: deque[tuple[int, np.ndarray, float]] = deque()
        self._arrivals: deque[float] = deque(maxlen=int(rate) + 1)
        self._last = first

    @property
    def complete(self) -> bool:
        """Whether every frame has its answer."""
        return not self._waiting

    def add_frame(self, stamp: int, image: np.ndarray, sent: float) -> None:
        """A frame with its stamp in nanoseconds was sent at `sent`."""
        self.sent += 1
        self._waiting.append((stamp, image, sent))

    def add_answer(self, message: TrackedBox, arrived: float) -> None:
        """An answer came; frames before its own that are still without one were dropped by the tracker."""
        answered = Time.from_msg(message.header.stamp).nanoseconds
        while self._waiting and self._waiting[0][0] <= answered:
            stamp, image, sent = self._waiting.popleft()
            if stamp == answered:
                self._last = message
                self._arrivals.append(arrived)
                self.latencies.append(arrived - sent)
                self.states[STATES[message.state]] += 1
            self._write(image)

    def close(self) -> None:
        """Write what is left, without answers, and finish the file."""
        while self._waiting:
            self._write(self._waiting.popleft()[1])
        if self._writer:
            self._writer.release()

    def _write(self, image: np.ndarray) -> None:
        scale = -(-480 // image.shape[0])  # small clips are enlarged for the eye
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        if self._writer is None:
            # MPEG-4 Part 2 is what every build of OpenCV can write into mp4.
            codec = cv2.VideoWriter_fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._video), codec, self._rate, image.shape[1::-1])
        last, span = self._last, self._arrivals[-1] - self._arrivals[0] if self._arrivals else 0.0
        box = [scale * value for value in (last.x, last.y, last.width, last.height)]
        frame_rate = (len(self._arrivals) - 1) / span if span else 0.0
        frame = draw(image, box, STATES[last.state], last.confidence, frame_rate)
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))


def play(demo: Demo, clip: Clip, recorder: Recorder) -> float:
    """Send every frame of the clip in its own time and record the answers. Seconds that it took."""
    start = time.monotonic()
    # Where nobody sees the bar move, as in a log, it writes a line now and then.
    seen = sys.stderr.isatty()
    bar = tqdm(
        clip.frames, "playing", clip.length, unit=" frames", mininterval=0.1 if seen else 2.0,
        bar_format=None if seen else "{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt} {rate_fmt}\n",
    )  # fmt: skip
    with suppress(KeyboardInterrupt):
        for count, image in enumerate(bar, 1):
            demo.check_tracker()
            sent = time.monotonic()
            stamp = Time.from_msg(demo.send(image).header.stamp).nanoseconds
            recorder.add_frame(stamp, image, sent)
            due = start + count / clip.rate
            while not recorder.complete and (answer := demo.receive(0 if clip.live else due - time.monotonic())):
                recorder.add_answer(*answer)
            if not clip.live:
                time.sleep(max(0.0, due - time.monotonic()))
        end = time.monotonic() + LAST_ANSWER_S
        while not recorder.complete and (answer := demo.receive(end - time.monotonic())):
            recorder.add_answer(*answer)
    return time.monotonic() - start


def contact_sheet(video: Path, sheet: Path) -> None:
    """Write a picture of SHEET_FRAMES frames, evenly spread over a video, in rows of four."""
    length = sum(1 for _ in read(cv2.VideoCapture(str(video))))
    chosen = np.linspace(0, length - 1, SHEET_FRAMES).round()
    tiles = []
    for index, frame in enumerate(read(cv2.VideoCapture(str(video)))):
        size = 480, round(480 * frame.shape[0] / frame.shape[1])
        # A video of fewer frames repeats some.
        tiles += np.count_nonzero(chosen == index) * [cv2.resize(frame, size, interpolation=cv2.INTER_AREA)]
    picture = np.vstack([np.hstack(tiles[:4]), np.hstack(tiles[4:])])
    cv2.imwrite(str(sheet), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


def select_box(image: np.ndarray) -> Box:
    """Ask for the box in a window."""
    title = "Drag a box around the target, then press Enter"
    box = Box(*map(float, cv2.selectROI(title, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), showCrosshair=False)))
    cv2.destroyAllWindows()
    return box


def parse_box(text: str) -> Box | None:
    """'x,y,w,h' as a Box; None for an empty text."""
    if not text:
        return None
    try:
        return Box(*map(float, text.split(",")))
    except (TypeError, ValueError):
        raise argparse.ArgumentTypeError(f"'{text}' refused: x,y,w,h in pixels is accepted") from None


@contextmanager
def spinning(node: Node) -> Iterator[None]:
    """Take the node's messages in a thread meanwhile."""

    def spin() -> None:
        with suppress(ExternalShutdownException):
            rclpy.spin(node)

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        yield
    finally:
        rclpy.try_shutdown()
        thread.join()


def run(source: str, box: Box | None, output: Path, parameters: dict[str, str] | None) -> None:
    """Play, record and report; with `parameters` for a tracker to start, or None if one is running.

    Raises DemoError or ValueError with what is wrong.
    """
    clip = open_clip(source)
    box = box or clip.box
    if box is None and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise DemoError("there is no display to draw the target's box on: give it as BOX=x,y,w,h")
    image = next(clip.frames, None)
    if image is None:
        raise DemoError(f"{clip.name} holds no frame that can be read")
    if not clip.live:
        box = check_box(box or select_box(image), image.shape[1], image.shape[0])

    output.mkdir(parents=True, exist_ok=True)
    video, sheet = output / "tracked.mp4", output / "contact_sheet.png"
    recorder = None
    tracker = None if parameters is None else TrackerProcess(parameters, output / "tracker.log")
    try:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        demo = Demo(tracker)
        with spinning(demo):
            print("Waiting for the tracker ...", flush=True)
            demo.wait_for_tracker(image)
            if clip.live:
                image = newest(clip.frames)
                box = check_box(box or select_box(image), image.shape[1], image.shape[0])
            recorder = Recorder(video, clip.rate, demo.start(image, box))
            print(f"Playing {clip.name} as /sot/image, the box as /sot/init_box ...", flush=True)
            took = play(demo, clip._replace(frames=chain([image], clip.frames)), recorder)
    finally:
        if tracker:
            tracker.stop()
        if recorder:
            recorder.close()
    if not recorder.latencies:
        raise DemoError("no frame was processed" + (tracker.last_words() if tracker else ""))
    contact_sheet(video, sheet)
    processed = len(recorder.latencies)
    p50, p95 = 1000 * np.percentile(recorder.latencies, (50, 95))
    print(f"""
frames   {recorder.sent} sent, {processed} processed, {recorder.sent - processed} dropped
states   {", ".join(f"{count} {state}" for state, count in recorder.states.items())}
rate     {processed / took:.1f} Hz of {clip.rate:.1f} Hz
latency  image to box: p50 {p50:.1f} ms, p95 {p95:.1f} ms
video    {video}
frames   {sheet}""")


def main(args: list[str] | None = None) -> int:
    """The `demo` executable."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__.split("\n")[0])
    parser.add_argument("--source", default="", help="video file, folder of images or webcam number [a clip]")
    parser.add_argument("--box", type=parse_box, metavar="X,Y,W,H", help="the target in the first frame, in pixels")
    parser.add_argument("--model", default="", help="the tracker to start [the node's default]")
    parser.add_argument("--weights", default="", help="its checkpoint [the one shipped with the package]")
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for the results [demo]")
    parser.add_argument("--no-tracker", action="store_true", help="start none: one is running already")
    options = parser.parse_args(remove_ros_args(args)[1:] if args is None else args)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parameters = {name: value for name in ("model", "weights") if (value := getattr(options, name))}
    try:
        run(options.source, options.box, options.output, None if options.no_tracker else parameters)
    except KeyboardInterrupt:
        return 130
    except (DemoError, ValueError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0
