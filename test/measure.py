"""Figures of the running node, as docs/robots.md quotes them. Not a test: they depend on the machine.

source setup.bash
python test/measure.py soak         # an hour of images at 60 Hz, as fast as they go: does the memory grow?
python test/measure.py transport    # 1280x720 best effort at 30 Hz: how many arrive, with and without our profile?
python test/measure.py load         # the processor time the node takes: disabled, without a target, tracking
python test/measure.py overhead     # image sent to box received, less the tracker's own time, beside a bare subscriber
"""

import argparse
import os
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import cv2
import numpy as np
import rclpy
import scene
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from robot import Robot, picture, truth
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from sot_ros.msg import TrackedBox
from sot_ros.node.messages import rgb_image

ME = [sys.executable, __file__]
PROFILE = Path(__file__).parents[1] / "config" / "fastdds.xml"
VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
RATE_HZ = 30
SIZE = 720, 1280


def processor_s(pid: int) -> float:
    """Seconds of processor time that a process has taken."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def soak(options: argparse.Namespace) -> None:
    """Every image is decoded, tracked by cross-correlation and answered. Each minute of them a new target, on an image
    half a second old; one image in 20 is corrupt; now and then a stop, or a jump back in time."""
    import test_worker  # and with it torch, which camera and counter need not wait for

    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    test_worker.NEAR = 2 * scene.STEP  # fast
    bench = test_worker.Bench()
    clip = [*range(57), *range(57, 0, -1)]
    memory = Memory()
    now = 0.0
    for i in range(options.images):
        now += 1 / 60
        if i % 20 == 7:
            bench.show(0, now, Image(encoding="rgb565"), wait=False)
            continue
        bench.show(clip[i % len(clip)], now)
        if i % 3600 == 100:
            bench.start(scene.place(clip[(i - 30) % len(clip)]), now - 0.5)
        elif i % 18000 == 9000:
            bench.worker.stop("stopped")
        elif i % 18000 == 13000:
            now -= 60
        if i % 3600 == 3599:
            bench.lines.clear()
            del bench.answers[:-1]
            memory.note(os.getpid(), i + 1)
    print(", ".join(f"{count} {fate}" for fate, count in bench.worker.counts.items()))
    bench.worker.close()
    memory.sum_up()


def soak_node(options: argparse.Namespace) -> None:
    """Small images of the clip to the real node, with what `soak` does to it. What is too fast for the node is lost."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    robot = Robot(**dict(part.split("=") for part in options.parameters))
    robot.meet()
    clip = [*range(48), *range(46, 0, -1)]
    pictures = [rgb_image(Header(), cv2.resize(picture(t), None, fx=0.25, fy=0.25)) for t in clip]
    bad = Image(encoding="rgb565")
    headers: deque[Header] = deque(maxlen=30)
    memory = Memory()
    begin = time.monotonic()
    for i in range(options.images):
        message = bad if i % 20 == 7 else pictures[i % len(clip)]
        message.header = robot.header(1 / 60)
        headers.append(message.header)
        robot.images.publish(message)
        if i % 3600 == 100:
            robot.init([value / 4 for value in truth(clip[(i - 29) % len(clip)])], headers[0])
        elif i % 18000 == 9000:
            robot.stop()
        elif i % 18000 == 13000:
            robot.header(-60)
        while True:  # take what was answered, and keep the pace
            rest = begin + (i + 1) / options.rate - time.monotonic()
            rclpy.spin_once(robot.node, timeout_sec=max(0.0, rest))
            if rest <= 0:
                break
        if i % 3600 == 3599:
            robot.begin()
            memory.note(robot.process.pid, i + 1)
    _, values = robot.health()
    robot.close()
    print(", ".join(f"{key} {value}" for key, value in values.items() if key.startswith("images")))
    memory.sum_up()


class Memory:
    """What a process takes, over time."""

    def __init__(self):
        self._begin = time.monotonic()
        self._sizes: list[float] = []
        print(f"{'images':>8} {'seconds':>8} {'memory (MB)':>12}")

    def note(self, pid: int, images: int) -> None:
        from sot_ros.node.diagnostics import resident_bytes

        self._sizes.append(resident_bytes(pid) / 1e6)
        print(f"{images:8} {time.monotonic() - self._begin:8.1f} {self._sizes[-1]:12.1f}", flush=True)

    def sum_up(self) -> None:
        settled = self._sizes[len(self._sizes) // 10 :]
        print(f"it grew by {settled[-1] - settled[0]:.1f} MB after the first tenth, to {max(settled):.1f} MB at most")


def transport(options: argparse.Namespace) -> None:
    """Two processes, a camera and one that counts."""
    for name, profile in (("default", None), ("config/fastdds.xml", str(PROFILE))):
        environment = {key: value for key, value in os.environ.items() if key not in VARIABLES}
        if profile:
            environment |= dict.fromkeys(VARIABLES, profile)
        count = options.seconds * RATE_HZ
        counting = [*ME, "count", "/transport/image"]
        counter = subprocess.Popen(counting, env=environment, stdout=subprocess.PIPE, text=True)
        subprocess.run([*ME, "camera", "/transport/image", str(count)], env=environment, check=True)
        print(f"{name:20} {counter.communicate()[0].strip()} of {count} received", flush=True)


def load(options: argparse.Namespace) -> None:
    """The real node beside a camera process."""
    from sot_ros.node.diagnostics import resident_bytes

    os.environ |= dict.fromkeys(VARIABLES, str(PROFILE))
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    robot = Robot(**dict(part.split("=") for part in options.parameters))
    robot.disconnect_camera()
    topic = robot.node.get_namespace() + "/image"
    camera = subprocess.Popen([*ME, "camera", topic, str(10**6)])
    try:
        robot.wait(lambda: robot.answers, "answer")
        for what in ("disabled", "without a target", "tracking"):
            robot.enable(what != "disabled")
            robot.spin(2)
            if what == "tracking":
                robot.init((600, 300, 80, 60))
                robot.says("started at")
            begin, used = time.monotonic(), processor_s(robot.process.pid)
            robot.begin()
            robot.spin(options.seconds)
            share = (processor_s(robot.process.pid) - used) / (time.monotonic() - begin)
            print(
                f"{what:18} {share:6.1%} of a core, {len(robot.answers) / options.seconds:5.1f} answers a second, "
                f"{resident_bytes(robot.process.pid) / 1e6:.0f} MB",
                flush=True,
            )
    finally:
        camera.kill()
        robot.close()


def overhead(options: argparse.Namespace) -> None:
    """What sends images and waits for boxes, opposite a node that does nothing else but answer, and opposite ours."""
    os.environ |= dict.fromkeys(VARIABLES, str(PROFILE))
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node, answers = rclpy.create_node("bare"), []
    images = node.create_publisher(Image, "/bare/image", qos_profile_sensor_data)
    node.create_subscription(TrackedBox, "/bare/tracked_box", answers.append, 10)
    echoing = subprocess.Popen([*ME, "echo"])
    try:
        while images.get_subscription_count() == 0 or node.count_publishers("/bare/tracked_box") == 0:
            time.sleep(0.01)
        time.sleep(1)
        floor = show("a bare subscriber and publisher", round_trips(node, images, answers, options.seconds))
    finally:
        echoing.kill()
    robot = Robot(**dict(part.split("=") for part in options.parameters))
    try:
        robot.meet()
        idle = show("the node, no target", round_trips(robot.node, robot.images, robot.answers, options.seconds))
        scale = np.tile(np.divide(SIZE, picture(0).shape[:2])[::-1], 2)
        robot.init(np.multiply(truth(0), scale))
        robot.says("started at")

        def added(what: str) -> str:
            whole = show(f"the node, {what}", round_trips(robot.node, robot.images, robot.answers, options.seconds))
            tracker = float(robot.health()[1]["tracker, p50 (ms)"])
            return f"{whole - tracker - floor:.1f} {what} (the tracker itself {tracker:.1f})"

        found = [f"{idle - floor:.1f} without a target", added("tracking")]
        watching = subprocess.Popen([*ME, "count", robot.node.get_namespace() + "/debug_image"])
        try:
            robot.spin(2)
            found.append(added("its debug image watched"))
        finally:
            watching.kill()
        print(f"ms that the node adds to the bare time and the tracker's own: {', '.join(found)}")
    finally:
        robot.close()


def round_trips(node: Node, images: Publisher, answers: list[TrackedBox], seconds: int) -> list[float]:
    """Milliseconds from each image that was sent to the box that answers it."""
    image = cv2.resize(picture(0), SIZE[::-1])
    answers.clear()
    sent, took = {}, []
    begin = time.monotonic()
    for i in range(seconds * RATE_HZ):
        message = rgb_image(Header(frame_id="camera", stamp=node.get_clock().now().to_msg()), image)
        sent[str(message.header.stamp)] = time.perf_counter()
        images.publish(message)
        while (rest := begin + (i + 1) / RATE_HZ - time.monotonic()) > 0:
            rclpy.spin_once(node, timeout_sec=rest)
            now = time.perf_counter()
            took += [1e3 * (now - sent.pop(stamp)) for a in answers if (stamp := str(a.header.stamp)) in sent]
            answers.clear()
    return took


def show(what: str, took: list[float]) -> float:
    p50, p95 = np.percentile(took, (50, 95))
    print(f"{what:32} p50 {p50:5.1f} ms, p95 {p95:5.1f} ms, {len(took)} answers", flush=True)
    return p50


def echo(options: argparse.Namespace) -> None:
    rclpy.init()
    node = rclpy.create_node("echo")
    boxes = node.create_publisher(TrackedBox, "/bare/tracked_box", 10)
    node.create_subscription(
        Image, "/bare/image", lambda image: boxes.publish(TrackedBox(header=image.header)), qos_profile_sensor_data
    )
    rclpy.spin(node)


def camera(options: argparse.Namespace) -> None:
    rclpy.init()
    node = rclpy.create_node("camera")
    publisher = node.create_publisher(Image, options.topic, qos_profile_sensor_data)
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    while publisher.get_subscription_count() == 0:
        time.sleep(0.01)
    time.sleep(0.5)
    begin = time.monotonic()
    for i in range(options.count):
        publisher.publish(rgb_image(Header(stamp=node.get_clock().now().to_msg(), frame_id="camera"), image))
        time.sleep(max(0.0, begin + (i + 1) / RATE_HZ - time.monotonic()))
    time.sleep(0.5)


def count(options: argparse.Namespace) -> None:
    rclpy.init()
    node = rclpy.create_node("counter")
    received = []
    node.create_subscription(Image, options.topic, lambda message: received.append(None), qos_profile_sensor_data)
    last, quiet_since = 0, None
    while quiet_since is None or time.monotonic() < quiet_since + 3:
        rclpy.spin_once(node, timeout_sec=0.1)
        if len(received) != last:
            last, quiet_since = len(received), time.monotonic()
    print(last)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for function in (soak, soak_node, transport, load, overhead, echo, camera, count):
        command = commands.add_parser(function.__name__, help=function.__doc__)
        command.set_defaults(run=function)
        if function in (soak_node, load, overhead):
            command.add_argument("parameters", nargs="*", help="of the node, such as model=siamfc")
        if function in (soak, soak_node):
            command.add_argument("--images", type=int, default=216_000)
        if function is soak_node:
            command.add_argument("--rate", type=float, default=600, help="images a second that are published")
        if function in (transport, load, overhead):
            command.add_argument("--seconds", type=int, default=6)
        if function in (camera, count):
            command.add_argument("topic")
        if function is camera:
            command.add_argument("count", type=int)
    options = parser.parse_args()
    if options.run not in (echo, camera, count):  # what else runs on this machine shall not be heard
        os.environ["ROS_DOMAIN_ID"] = str(50 + os.getpid() % 50)
    options.run(options)


if __name__ == "__main__":
    main()
