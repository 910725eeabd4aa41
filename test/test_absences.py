"""Clips in which a target goes away, what is counted on them, and the table that `sot absences` prints."""

import cv2
import numpy as np
import pytest
from golden import synthetic_clip as clip

from sot_ros.cli import main
from sot_ros.evaluation import absences as making
from sot_ros.evaluation import recovery
from sot_ros.evaluation.absences import AFTER, AWAY, BEFORE, COVERED, MARGIN, PAN, Clip, Moment, Player, absences
from sot_ros.evaluation.recovery import Claim, Outcome, claims_from, judge, summarize
from sot_ros.evaluation.sequences import Sequence, read_sequence
from sot_ros.geometry import Box
from sot_ros.trackers import Estimate

FRAMES = 24
"""Fewer than any clip has: the sequence is played forwards and backwards."""


def write_sequence(folder, brightness=0):
    (folder / "img").mkdir(parents=True)
    for t in range(FRAMES):
        cv2.imwrite(str(folder / "img" / f"{t:04d}.png"), np.clip(clip.frame(t)[..., ::-1] // 2 + brightness, 0, 255))
    lines = ["{},{},{},{}\n".format(*np.add(clip.box(t), (1, 1, 0, 0))) for t in range(FRAMES)]
    (folder / "groundtruth_rect.txt").write_text("".join(lines))
    return read_sequence(folder)


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    root = tmp_path_factory.mktemp("sequences")
    return [write_sequence(root / "dark"), write_sequence(root / "bright", 100)]


def moments_of(sequences, kind):
    return list(next(c for c in absences(sequences) if c.kind == kind).moments())


def inside(image, box, grow=0.0):
    x, y, w, h = box
    return image[round(y - grow * h) : round(y + h + grow * h), round(x - grow * w) : round(x + w + grow * w)]


def test_a_short_sequence_is_played_forwards_and_backwards(sequences):
    player = Player(sequences[0], 0.5)
    order = [*range(12, 24), *range(22, -1, -1), *range(1, 10)]
    np.testing.assert_allclose([player.truth(t) for t in range(len(order))], [clip.box(i) for i in order])
    np.testing.assert_array_equal(player.image(15), clip.frame(19) // 2)


def test_only_the_longest_stretch_with_a_known_target_is_played():
    truth = np.arange(40.0).reshape(10, 4)
    truth[[2, 8]] = np.nan
    player = Player(Sequence("gaps", list(range(10)), truth), 0.0)
    assert [player.truth(t).x / 4 for t in range(7)] == [3, 4, 5, 6, 7, 6, 5]


def test_every_sequence_gives_every_kind_of_absence_from_two_starts(sequences):
    kinds = [f"cover {n}" for n in COVERED]
    assert [c.kind for c in absences(sequences)] == 4 * [*kinds, "leave", "cut"]
    assert [c.kind for c in absences(sequences[:1])] == 2 * kinds


def test_a_cover_hides_the_target_under_background_and_nothing_else(sequences):
    moments = moments_of(sequences, "cover 45")
    assert [m.visible for m in moments] == BEFORE * [1] + 45 * [0] + AFTER * [1]
    player = Player(sequences[0], 0.0)
    for t, moment in enumerate(moments):
        change = np.abs(moment.image.astype(int) - player.image(t)).sum(axis=2) > 0
        assert moment.truth == player.truth(t)
        assert np.mean(inside(change, moment.truth)) > 0.9 if moment.visible == 0 else not change.any()
        x, y, w, h = moment.truth
        rows, columns = np.nonzero(change)
        if len(rows):
            assert x - MARGIN * w - 1 <= columns.min() and columns.max() <= x + w + MARGIN * w + 1
            assert y - MARGIN * h - 1 <= rows.min() and rows.max() <= y + h + MARGIN * h + 1


def test_a_target_leaves_the_view_and_comes_back_elsewhere_in_it(sequences):
    moments = moments_of(sequences, "leave")
    visible = np.round([m.visible for m in moments], 6)
    assert set(visible[:BEFORE]) == {1} and set(visible[BEFORE + PAN : BEFORE + PAN + AWAY]) == {0}
    assert np.all(visible[-AFTER + 1 :] == 1)
    player = Player(sequences[0], 0.0)
    for t in (0, BEFORE - 1, len(moments) - 1):
        moment, whole = moments[t], player.truth(t)
        same = np.abs(inside(moment.image, moment.truth).astype(int) - inside(player.image(t), whole))
        assert same.max() == 0
    assert moments[0].truth == player.truth(0)
    assert abs(moments[-1].truth.x - player.truth(len(moments) - 1).x) == pytest.approx(clip.WIDTH / 4)
    partly = next(m for m in moments if 0 < m.visible < 1)
    assert partly.truth.x >= 0 and partly.truth.x + partly.truth.w <= clip.WIDTH


def test_a_cut_shows_the_next_sequence_meanwhile(sequences):
    moments = moments_of(sequences, "cut")
    assert [m.visible for m in moments] == BEFORE * [1] + AWAY * [0] + AFTER * [1]
    for t in (BEFORE, BEFORE + AWAY - 1):
        np.testing.assert_array_equal(moments[t].image, Player(sequences[1], 0.0).image(t))


BOX, ELSEWHERE = Box(0, 0, 10, 10), Box(50, 50, 10, 10)
SHORT = Clip("made", "cover", lambda: (Moment(None, BOX, v) for v in [1, 1, 0.3, 0.1, *[0] * 19, 0.3, 0.5, *[1] * 59]))
"""Gone on the frames 3 to 22, back on 24: the claims are those from frame 1 on."""


def claims(*frames, box=BOX):
    """A claim of `box` on these frames of SHORT."""
    return [Claim(box, t in frames) for t in range(1, 84)]


@pytest.mark.parametrize(
    "said, false_claims, noticed, recovered",
    [
        (claims(1, 2, 24), 0, 0, 0),
        (claims(1, 2, 3, 4, 30), 2, 2, 6),
        (claims(1, 2, 3, 10, 30), 2, 1, 6),
        (claims(*range(1, 84)), 20, None, 0),
        (claims(1, 83), 0, 0, 59),
        (claims(1, 2), 0, 0, None),
        (claims(*range(1, 84), box=ELSEWHERE), 20, None, None),
    ],
)
def test_a_claim_is_false_while_the_target_is_absent_and_right_on_it_afterwards(said, false_claims, noticed, recovered):
    assert judge(SHORT, said) == Outcome("cover", 20, false_claims, noticed, recovered)


def test_the_summary_counts_frames_over_all_clips_and_loss_and_recovery_by_clip():
    outcomes = [Outcome("a", 10, 1, 2, 4), Outcome("a", 90, 9, 9, 6), Outcome("a", 60, 10, 10, None)]
    assert summarize([*outcomes, Outcome("a", 40, 0, None, 40)]) == (4, 0.5, 9, 0.1, 0.75, 6)


def test_a_tracker_alone_claims_from_a_confidence_on():
    assert claims_from([Estimate(BOX, 0.5), Estimate(BOX, 0.4)], 0.5) == [Claim(BOX, True), Claim(BOX, False)]


def test_sot_absences_prints_a_row_for_every_kind_and_the_sequences_as_they_are(sequences, monkeypatch, capsys):
    for room, names in ((making, {"BEFORE": 2, "AFTER": 3, "COVERED": (2, 4)}), (recovery, {"AFTER": 3})):
        for name, value in names.items():
            monkeypatch.setattr(room, name, value)
    folder = str(sequences[0].frames[0].parents[1])
    command = ["absences", folder, "--device", "cpu", "--set", "size_lr=0.2"]
    assert main([*command, "--set", "occluded_below=0", "--set", "tracking_above=0.25"]) == 0
    head, *rows, last = capsys.readouterr().out.splitlines()
    assert head.split() == ["absence", "clips", "noticed", "frames", "false", "claims", "recovered", "frames"]
    whose = ("session", "tracker alone", "from 0.25 on")
    kinds = ("cover 2", "cover 4", "all")
    assert [" ".join(row.split()[:-6]) for row in rows] == [f"{who} {kind}" for who in whose for kind in kinds]
    assert [row.split()[-6] for row in rows] == 3 * ["2", "2", "4"]
    # Nothing is ever below a threshold of 0.
    assert rows[2].split()[-3] == rows[5].split()[-3] == "100.0%"
    assert "not TRACKING a visible target on 0.0% of the frames" in last
