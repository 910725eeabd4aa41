"""The recent frames: what is held, and what is found again."""

from sensor_msgs.msg import Image

from sot_ros.node.frames import Frame
from sot_ros.node.history import History


def filled(stamps, **limits) -> History:
    history = History(**limits)
    for stamp in stamps:
        history.add(Frame(Image(data=bytes(1000)), stamp))
    return history


def stamps(history: History) -> list[float]:
    found, number = [], 0
    while frame := history.after(number, stamp=0.0):
        found.append(frame.stamp)
        number = frame.number
    return found


def test_frames_are_held_for_some_seconds():
    assert stamps(filled([1.0, 2.0, 3.0, 4.0, 5.0], seconds=2.0)) == [3.0, 4.0, 5.0]


def test_frames_take_so_many_megabytes():
    assert stamps(filled([1.0, 2.0, 3.0, 4.0], megabytes=0.002)) == [3.0, 4.0]


def test_the_newest_is_held_whatever_the_limits():
    assert stamps(filled([1.0, 2.0], seconds=0.0)) == [2.0]
    assert stamps(filled([1.0, 2.0], megabytes=0.0)) == [2.0]


def test_the_frame_of_a_stamp_is_the_nearest_that_is_held():
    history = filled([1.0, 2.0, 3.0, 4.0], seconds=2.0)
    assert [history.nearest(stamp).stamp for stamp in (0.0, 2.0, 2.9, 3.1, 9.0)] == [2.0, 2.0, 3.0, 3.0, 4.0]


def test_after_a_frame_comes_the_newest_or_the_next_that_keeps_pace():
    history = filled([1.0, 2.0, 3.0, 4.0])
    assert history.after(1).stamp == 4.0
    assert history.after(1, stamp=2.5).stamp == 3.0
    assert history.after(1, stamp=0.0).stamp == 2.0
    assert history.after(1, stamp=9.0).stamp == 4.0
    assert history.after(4) is None


def test_numbers_go_on_after_time_jumped_back():
    history = filled([8.0, 9.0])
    history.clear()
    assert history.newest is None and history.nearest(8.0) is None
    frame = Frame(Image(), 1.0)
    history.add(frame)
    assert history.after(2) is frame
