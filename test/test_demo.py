"""What the demo plays, what it draws, and one run of it from a clip to its files."""

import os
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from golden import synthetic_clip

from sot_ros.drawing import COLORS, draw
from sot_ros.geometry import Box


@pytest.fixture(scope="module")
def sequence(tmp_path_factory) -> Path:
    """Twenty frames of the test clip in OTB's layout."""
    folder = tmp_path_factory.mktemp("sequence")
    (folder / "img").mkdir()
    for t in range(20):
        cv2.imwrite(str(folder / "img" / f"{t + 1:04}.png"), synthetic_clip.frame(t)[..., ::-1])
    x, y, w, h = synthetic_clip.box(0)
    (folder / "groundtruth_rect.txt").write_text(f"{x + 1},{y + 1},{w},{h}\n")
    return folder


@pytest.mark.parametrize("state", COLORS)
def test_a_box_is_drawn_in_the_color_of_its_state_on_a_copy(state):
    image = np.zeros((240, 320, 3), np.uint8)
    drawn = draw(image, (100, 80, 60, 50), state, 0.5, 30.0)
    assert tuple(drawn[100, 100]) == COLORS[state]
    assert not image.any()


def test_without_a_box_only_the_line_of_text_is_drawn():
    drawn = draw(np.zeros((240, 320, 3), np.uint8), None, "LOST", 0.0, 30.0)
    assert drawn[:30].any() and not drawn[30:].any()


def test_a_sequence_in_otb_layout_brings_its_first_box_0_indexed(sequence):
    from sot_ros.node.clips import open_clip

    for path in (sequence, sequence / "img"):
        clip = open_clip(str(path))
        assert clip.length == 20 and clip.box == Box(*map(float, synthetic_clip.box(0)))
        np.testing.assert_array_equal(next(clip.frames), synthetic_clip.frame(0))


def test_a_source_that_is_not_there_is_refused_in_one_line(tmp_path):
    from sot_ros.node.clips import open_clip

    with pytest.raises(ValueError, match="accepted"):
        open_clip(str(tmp_path / "no.mp4"))
    with pytest.raises(ValueError, match="no images"):
        open_clip(str(tmp_path))


def run_demo(*arguments: str | Path) -> subprocess.CompletedProcess:
    from ament_index_python.packages import get_package_prefix

    # A display would be asked for a box.
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    demo = Path(get_package_prefix("sot_ros")) / "lib" / "sot_ros" / "demo"
    return subprocess.run([demo, *arguments], capture_output=True, text=True, env=environment, timeout=240)


def test_the_demo_leaves_a_video_a_contact_sheet_and_figures(sequence, siamfc_weights, tmp_path):
    ran = run_demo("--source", sequence, "--output", tmp_path, "--model", "siamfc", "--weights", siamfc_weights)
    assert ran.returncode == 0, ran.stderr
    assert "20 sent" in ran.stdout and "p95" in ran.stdout
    video = cv2.VideoCapture(str(tmp_path / "tracked.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 20
    assert cv2.imread(str(tmp_path / "contact_sheet.png")).shape[1] == 4 * 480


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--box", "1,2,3"], "x,y,w,h in pixels is accepted"),
        (["--box", "900,0,10,10"], "lies outside"),
        (["--source", "no.mp4"], "not found"),
    ],
)
def test_the_demo_says_in_one_line_what_is_wrong(arguments, reason, tmp_path):
    ran = run_demo(*arguments, "--output", tmp_path)
    assert ran.returncode != 0
    assert reason in ran.stderr and "Traceback" not in ran.stderr
