"""Down and up again, under a lifecycle manager."""

import math

import cv2
import pytest
from lifecycle_msgs.msg import Transition
from robot import box_of, picture, truth
from sensor_msgs.msg import CompressedImage

from sot_ros.msg import TrackedBox
from sot_ros.trackers import list_models


def resident_mb(pid: int) -> float:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


def test_without_autostart_the_node_waits_unconfigured(managed):
    assert managed.state() == "unconfigured"
    assert managed.node.count_subscribers("image") == 0
    managed.bring_up()
    assert managed.state() == "active"


def test_an_inactive_node_answers_nothing_and_an_active_one_starts_without_a_target(managed):
    managed.bring_up()
    managed.meet()
    managed.start()
    assert managed.transition(Transition.TRANSITION_DEACTIVATE)
    managed.wait(lambda: managed.node.count_subscribers("image") == 0, "end of the subscription")
    assert managed.transition(Transition.TRANSITION_ACTIVATE)
    managed.meet()
    assert managed.answers[-1].state == TrackedBox.IDLE


def test_an_impossible_transition_is_outlived(managed):
    managed.ask_for(Transition.TRANSITION_ACTIVATE)
    managed.says("No transition", "unconfigured")
    managed.bring_up()


def test_settings_survive_cleaning_up(managed):
    managed.bring_up()
    assert managed.set("window_influence", 0.3) == ""
    managed.clean_up()
    managed.bring_up()
    assert managed.get("window_influence") == pytest.approx(0.3)
    assert managed.set("window_influence", 0.176) == ""


def test_another_model_brings_its_own_settings(managed, siamfc_weights):
    managed.bring_up()
    managed.clean_up()
    assert managed.get("scale_num") == 3
    try:
        assert managed.set("model", "ostrack_256") == ""
        assert managed.set("weights", "random") == ""
        managed.bring_up()
        assert managed.get("scale_num") is None
        assert managed.get("keep_ratio") == pytest.approx(0.7)
        assert "head refused: deactivate the node" in managed.set("head", "CORNER")
    finally:
        managed.clean_up()
        managed.set("model", "siamfc")
        managed.set("weights", str(siamfc_weights))


def test_the_network_takes_as_many_threads_as_it_is_given(managed):
    for threads, taken in ((2, 2), (0, 1)):  # these tests give the process one
        assert managed.set("threads", threads) == ""
        managed.bring_up()
        managed.says(f"on cpu with {taken} thread(s)")
        managed.clean_up()


@pytest.mark.parametrize("model", list_models())
def test_every_model_runs_in_the_node_by_its_name(model, managed, siamfc_weights):
    try:
        assert managed.set("model", model) == ""
        assert managed.set("weights", "random") == ""
        managed.bring_up()
        managed.says(f"{model} on cpu")
        managed.meet()
        answer = managed.start()
        assert answer.state != TrackedBox.IDLE
        assert all(map(math.isfinite, box_of(answer))) and 0 <= answer.confidence <= 1
        assert answer.width > 0 and answer.height > 0
    finally:
        managed.clean_up()
        managed.set("model", "siamfc")
        managed.set("weights", str(siamfc_weights))


def test_memory_is_flat_over_20_times_down_and_up(managed):
    sizes = []
    for _ in range(20):
        managed.bring_up()
        managed.meet()
        managed.start()
        managed.clean_up()
        sizes.append(resident_mb(managed.process.pid))
    # The weights of siamfc take 9 MB: a session that is kept alive would show.
    assert sizes[-1] - sizes[4] < 30, sizes


def test_compressed_images_are_tracked(managed):
    assert managed.set("image_transport", "compressed") == ""
    try:
        managed.bring_up()
        managed.says("image/compressed")

        def compressed(t: int) -> CompressedImage:
            _, data = cv2.imencode(".jpg", cv2.cvtColor(picture(t), cv2.COLOR_RGB2BGR))
            return CompressedImage(header=managed.header(), format="jpeg", data=data.tobytes())

        known = len(managed.answers)
        while len(managed.answers) == known:
            managed.publish(compressed(0))
            managed.spin(0.2)
        managed.init(truth(0))
        managed.says("started at")
        assert managed.show(compressed(1)).state == TrackedBox.TRACKING
        for data, reason in (
            (b"not a picture", "compressed image of format 'jpeg' refused"),
            (b"", "it holds no data"),
        ):
            while not managed.has_said(reason):  # at most one line a second is logged
                managed.publish(CompressedImage(header=managed.header(), format="jpeg", data=data))
                managed.spin(0.1)
        assert managed.show(compressed(2)).state == TrackedBox.TRACKING
    finally:
        managed.clean_up()
        managed.set("image_transport", "raw")
