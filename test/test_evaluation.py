"""The evaluation measures what OTB measures, on folders as they are handed around."""

import cv2
import numpy as np
import pytest
from golden import synthetic_clip as clip

from sot_ros.cli import main
from sot_ros.cli.eval import parse_settings
from sot_ros.evaluation.confidence import probe
from sot_ros.evaluation.metrics import calibration, center_errors, ious, precision, roc_area, success_auc
from sot_ros.evaluation.sequences import Sequence, disturbed_starts, evaluate, every, find_sequences, read_sequence
from sot_ros.geometry import Box, iou
from sot_ros.trackers.base import Estimate

TRUTH = np.array([[10.0, 20, 30, 40], [15, 22, 30, 40], [np.nan] * 4, [21, 25, 33, 44]])


def write_sequence(folder, frames=4, separator=",", boxes=None):
    (folder / "img").mkdir(parents=True)
    for t in range(frames):
        cv2.imwrite(str(folder / "img" / f"{t:04d}.jpg"), clip.frame(t)[..., ::-1])
    boxes = [clip.box(t) for t in range(frames)] if boxes is None else boxes
    lines = (separator.join(f"{v:.3f}" for v in (x + 1, y + 1, w, h)) for x, y, w, h in boxes)
    (folder / "groundtruth_rect.txt").write_text("\n".join(lines) + "\n")
    return folder


class Oracle:
    """Knows the truth, and reports it moved to the right by a share of the width."""

    def __init__(self, truth, shift):
        self.boxes = iter(truth[1:] + [shift * truth[0, 2], 0, 0, 0])

    def initialize(self, image, box): ...

    def track(self, image):
        return Estimate(Box(*next(self.boxes)), 0.5)


def test_iou_of_arrays_is_that_of_boxes():
    rng = np.random.default_rng(0)
    a = rng.uniform(0, 20, (200, 4))
    b = a + rng.normal(0, 8, (200, 4)).clip(-a, None)
    one_by_one = [iou(Box(*p), Box(*q)) for p, q in zip(a.tolist(), b.tolist(), strict=True)]
    assert ious(a, b) == pytest.approx(one_by_one)
    assert max(one_by_one) > 0.5 and min(one_by_one) == 0


def test_auc_counts_thresholds_below_each_iou():
    # Half a width aside, the IoU is 1/3: above 0, 0.05, ... 0.3, seven of 21 thresholds.
    truth = np.array([[0.0, 0, 10, 10]])
    assert success_auc(truth, truth) == pytest.approx(20 / 21)
    assert success_auc(truth + [5, 0, 0, 0], truth) == pytest.approx(7 / 21)
    assert success_auc(truth + [10, 0, 0, 0], truth) == 0


def test_auc_agrees_with_the_definition_spelt_out():
    rng = np.random.default_rng(1)
    truth = rng.uniform(5, 40, (60, 4))
    boxes = truth + rng.normal(0, 4, (60, 4))
    expected = 0.0
    for step in range(21):
        above = [iou(Box(*p), Box(*q)) > step / 20 for p, q in zip(boxes, truth, strict=True)]
        expected += sum(above) / len(above) / 21
    assert success_auc(boxes, truth) == pytest.approx(expected)


def test_precision_counts_centres_within_20_pixels():
    truth = np.array([[0.0, 0, 10, 10]] * 4)
    boxes = truth + np.array([[0, 0, 0, 0], [12, 16, 0, 0], [12, 17, 0, 0], [0, 0, 30, 0]])
    assert center_errors(boxes, truth) == pytest.approx([0, 20, np.hypot(12, 17), 15])
    assert precision(boxes, truth) == 0.75


def test_frames_without_the_target_count_nowhere():
    boxes = np.nan_to_num(TRUTH, nan=500.0)
    assert success_auc(boxes, TRUTH) == pytest.approx(20 / 21)
    assert precision(boxes, TRUTH) == 1


@pytest.mark.parametrize("separator", [",", "\t", " ", ", "])
def test_a_sequence_is_read_0_indexed_whatever_separates_the_numbers(tmp_path, separator):
    sequence = read_sequence(write_sequence(tmp_path / "one", separator=separator, boxes=TRUTH))
    assert sequence.name == "one" and [p.name for p in sequence.frames] == [f"{t:04d}.jpg" for t in range(4)]
    np.testing.assert_allclose(sequence.truth, TRUTH)


@pytest.mark.parametrize("shift, auc", [(0.0, 20 / 21), (0.5, (20 + 3 * 7) / 21 / 4)])
def test_one_pass_of_a_perfect_and_of_a_shifted_tracker(tmp_path, shift, auc):
    sequence = read_sequence(write_sequence(tmp_path, boxes=[(10, 10, 40, 30)] * 4))
    result = evaluate(Oracle(sequence.truth, shift), sequence)
    assert result.auc == pytest.approx(auc)
    assert len(result.boxes) == len(result.confidences) == len(result.seconds) + 1 == 4


def test_disturbed_starts_are_otbs_twelve():
    x, y, w, h = truth = np.array([10.0, 20, 30, 40])
    starts = disturbed_starts(truth)
    assert len(starts) == 12
    shifts = {tuple(np.round((s[:2] - truth[:2]) / (w, h), 6)) for s in starts if np.allclose(s[2:], (w, h))}
    assert shifts == {(dx, dy) for dx in (-0.1, 0, 0.1) for dy in (-0.1, 0, 0.1)} - {(0, 0)}
    scaled = [s for s in starts if not np.allclose(s[2:], (w, h))]
    assert [s[2] / w for s in scaled] == pytest.approx([0.8, 0.9, 1.1, 1.2]) == [s[3] / h for s in scaled]
    assert all(s[:2] + s[2:] / 2 == pytest.approx([x + w / 2, y + h / 2]) for s in scaled)


def test_a_disturbed_start_is_what_the_tracker_is_given_and_the_truth_what_it_is_judged_by(tmp_path):
    sequence = read_sequence(write_sequence(tmp_path, boxes=[(10, 10, 40, 30)] * 4))
    oracle, given = Oracle(sequence.truth, 0.0), []
    oracle.initialize = lambda image, box: given.append(box)
    start = disturbed_starts(sequence.truth[0])[0]
    assert evaluate(oracle, sequence, start).auc == pytest.approx(20 / 21)
    assert given == [pytest.approx(start)]


def test_a_slower_camera_shows_the_first_frame_and_every_nth_after_it(tmp_path):
    sequence = read_sequence(write_sequence(tmp_path, frames=5, boxes=[(x, 10, 40, 30) for x in range(5)]))
    (slower,) = every(2, [sequence])
    assert [p.name for p in slower.frames] == ["0000.jpg", "0002.jpg", "0004.jpg"]
    assert slower.truth[:, 0] == pytest.approx([0, 2, 4])
    assert every(1, [sequence])[0].frames == sequence.frames
    with pytest.raises(ValueError, match="every 5 refused: 1 to 4 are accepted"):
        every(5, [sequence])


def test_a_sequence_of_one_frame_is_as_it_was_for_a_camera_of_the_full_rate():
    single = Sequence("one", ["0000.jpg"], TRUTH[:1])
    assert every(1, [single])[0].frames == single.frames


def test_values_are_read_as_in_a_configuration_file_and_powers_of_ten_as_numbers():
    wanted = {"a": 2e-5, "b": 3, "c": 0.5, "d": True, "e": "GT_BOX"}
    assert parse_settings(["a=2e-5", "b=3", "c=0.5", "d=true", "e=GT_BOX"]) == wanted


def test_sot_eval_says_what_disturbed_starts_cost(tmp_path, capsys):
    write_sequence(tmp_path / "one", frames=2)
    command = ["eval", str(tmp_path), "--model", "sot_mobile", "--weights", "random", "--device", "cpu", "--sre"]
    assert main(command) == 0
    head, row, mean = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert head == ["sequence", "frames", "AUC", "prec.20", "fps", "SRE", "least"]
    assert float(row[6]) <= float(row[5]) <= 1 and row[5:] == mean[5:]


def test_sot_eval_prints_a_row_for_each_sequence_and_the_mean(tmp_path, capsys):
    for name in ("first", "second"):
        write_sequence(tmp_path / name, frames=3)
    command = ["eval", str(tmp_path), "--model", "sot_mobile", "--weights", "random", "--device", "cpu"]
    assert main([*command, "--set", "size_lr=0.0", "--set", "window_influence=1"]) == 0
    head, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert head == ["sequence", "frames", "AUC", "prec.20", "fps"]
    assert [row[:2] for row in rows] == [["first", "3"], ["second", "3"], ["mean", "6"]]
    assert 0 < float(rows[2][2]) == pytest.approx((float(rows[0][2]) + float(rows[1][2])) / 2, abs=2e-3)


def test_the_area_under_the_roc_is_the_chance_of_the_right_order():
    present, absent = np.array([0.9, 0.6, 0.5]), np.array([0.1, 0.5, 0.7, 0.5])
    pairs = [(p > a) + 0.5 * (p == a) for p in present for a in absent]
    assert roc_area(present, absent) == pytest.approx(np.mean(pairs))
    assert roc_area(absent + 1, absent) == 1 and roc_area(absent, absent) == 0.5


def test_calibration_counts_by_ranges_of_confidence():
    confidences, right = np.array([0.02, 0.08, 0.55, 0.59, 1.0]), np.array([0, 1, 1, 1, 1])
    assert calibration(confidences, right) == [
        (pytest.approx(0.05), 0.5, 2),
        (pytest.approx(0.57), 1.0, 2),
        (pytest.approx(1.0), 1.0, 1),
    ]


class Honest:
    """Says 0.9 where the target's own texture is in its box, else 0.2, and never moves."""

    def initialize(self, image, box):
        self.box, self.first = box, self.cut(image, box)

    def track(self, image):
        same = np.corrcoef(self.cut(image, self.box).ravel(), self.first.ravel())[0, 1] > 0.5
        return Estimate(Box(*self.box), 0.9 if same else 0.2)

    def cut(self, image, box):
        x, y, w, h = (int(v) for v in box)
        return image[y : y + h, x : x + w].astype(float)


def test_confidence_is_asked_with_the_target_there_covered_and_elsewhere(tmp_path):
    still = [clip.box(0)] * 11
    one, two = (write_sequence(tmp_path / name, 11, boxes=still) for name in ("one", "two"))
    for t in range(11):
        cv2.imwrite(str(one / "img" / f"{t:04d}.jpg"), clip.frame(0)[..., ::-1])
        cv2.imwrite(str(two / "img" / f"{t:04d}.jpg"), clip.frame(0)[::-1, ::-1, ::-1])
    sequences = find_sequences(tmp_path)
    probes = list(probe(Honest(), sequences[:1] + [sequences[1]]))[:6]
    assert [(p.shown, p.confidence, p.right) for p in probes] == 2 * [
        ("target", 0.9, True),
        ("cover", 0.2, False),
        ("elsewhere", 0.2, False),
    ]


def test_sot_eval_says_what_confidence_is_worth(tmp_path, capsys):
    for name in ("first", "second"):
        write_sequence(tmp_path / name, frames=6)
    assert main(["eval", str(tmp_path), "--device", "cpu", "--confidence"]) == 0
    said = capsys.readouterr().out
    assert "cover or elsewhere: mean confidence" in said and "on 4 frames, area under ROC" in said
    assert said.splitlines()[-1].split()[0] <= "1.00" and "confidence  right  frames" in said


def test_sot_eval_runs_nanotrack_beside_the_model(tmp_path, capsys, monkeypatch):
    write_sequence(tmp_path / "clip", frames=3)
    oracle = Oracle(np.array([clip.box(t) for t in range(3)], float), 0)
    monkeypatch.setattr("sot_ros.evaluation.nanotrack.NanoTrack", lambda folder: oracle)
    command = ["eval", str(tmp_path), "--model", "sot_mobile", "--weights", "random", "--device", "cpu"]
    assert main([*command, "--nanotrack", str(tmp_path)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    rows = ["sequence", "clip", "mean"]
    assert [line[0] for line in lines] == ["sot_mobile", *rows, "nanotrack", *rows]
    assert float(lines[-1][2]) == pytest.approx(20 / 21, abs=1e-3)


def test_sot_eval_runs_what_nobody_trained_beside_the_model(tmp_path, capsys):
    write_sequence(tmp_path / "clip", frames=12)
    picture = tmp_path / "plot.png"
    assert main(["eval", str(tmp_path), "--device", "cpu", "--untrained", "--plot", str(picture)]) == 0
    assert cv2.imread(str(picture)).std() > 10
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines][4] == "untrained"
    assert float(lines[-1][2]) > 0.6, "it follows a thing as plain as this one"


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["--set", "size_lr"], "--set size_lr refused: NAME=VALUE is accepted"),
        (["--set", "speed=1"], "unknown setting 'speed': this model has"),
        (["--model", "nothing"], "unknown model 'nothing': known are"),
        (["--every", "0"], "every 0 refused: 1 to 1 are accepted"),
        (["--nanotrack", "nowhere"], "NanoTrack needs nanotrack_backbone_sim.onnx and nanotrack_head_sim.onnx"),
        ([], "no sequences in"),
    ],
)
def test_sot_eval_says_in_one_line_what_was_wrong(tmp_path, capsys, arguments, complaint):
    if arguments:
        write_sequence(tmp_path / "one", frames=2)
    command = ["eval", str(tmp_path), "--model", "sot_mobile", "--weights", "random", "--device", "cpu"]
    assert main([*command, *arguments]) == 1
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("1,2,3,4\n", "2 frames but 1 lines"),
        ("1,2,3\n1,2,3\n", "four numbers x, y, w, h on each line"),
        ("1,2,3,x\n1,2,3,4\n", "four numbers x, y, w, h on each line"),
        ("nan,nan,nan,nan\n1,2,3,4\n", "the first frame needs a box"),
    ],
)
def test_a_sequence_that_cannot_be_evaluated_is_refused(tmp_path, text, complaint):
    (write_sequence(tmp_path / "bad", frames=2) / "groundtruth_rect.txt").write_text(text)
    with pytest.raises(ValueError, match=complaint):
        find_sequences(tmp_path)


def test_a_frame_that_is_no_image_is_named():
    sequence = Sequence("bad", [clip.__file__], TRUTH[:1])
    with pytest.raises(ValueError, match="synthetic_clip.py cannot be read"):
        evaluate(Oracle(TRUTH[:1], 0), sequence)
