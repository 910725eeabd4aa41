"""`sot bench` tells how long a frame takes, where the time goes, and how that compares."""

import json
import sys

import numpy as np
import pytest
import yaml

from sot_ros.cli import main
from sot_ros.cli.models import FACTS
from sot_ros.evaluation.speed import Program, Rates, work

THEIRS = """\
import sys
print("ready", flush=True)
for line in sys.stdin:
    print(5.0, flush=True)
"""


@pytest.fixture
def theirs(tmp_path):
    """A command that always takes 5 ms for a frame."""
    program = tmp_path / "theirs.py"
    program.write_text(THEIRS)
    return f"{sys.executable} {program}"


def test_a_row_says_how_long_a_frame_takes_and_where_the_time_goes(tmp_path, theirs, capsys):
    ballast = np.ones(2_200_000_000, np.uint8)
    rows, picture = tmp_path / "rows.json", tmp_path / "plot.png"
    options = ["--device", "cpu", "--seconds", "0.1", "--against", f"theirs={theirs}"]
    assert main(["bench", "siamfc", *options, "--json", str(rows), "--plot", str(picture)]) == 0
    del ballast
    [row] = json.loads(rows.read_text())
    assert row["floor"] > 0 and 0 < row["p50"] <= row["p95"] and row["frames"] >= 5
    assert row["crop"] + row["network"] + row["decode"] == pytest.approx(1, abs=0.1)
    assert row["network"] > 0.3
    assert row["over_floor"] == pytest.approx(row["p50"] / row["floor"])
    assert row["against"] == {"theirs": {"p50": 5.0, "ratio": pytest.approx(row["p50"] / 5)}}
    # The table is of the process that ran the model, however large this one has become.
    assert 100 < row["memory_mb"] < 2000
    table = capsys.readouterr().out.splitlines()[-3:]
    assert table[0].endswith("| theirs ms, ours over it |") and table[2].startswith("| siamfc | torch | fp32 |")
    assert len({line.count("|") for line in table}) == 1
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("model", ["siamfc", "sot_mobile"])
def test_operations_are_those_of_the_table_of_models(model):
    operations, size = work(model)
    facts = yaml.safe_load(FACTS.read_text())[model]
    assert operations / 2e9 == pytest.approx(facts["gmacs"], rel=0.1, abs=0.1)
    assert size / 4e6 == pytest.approx(facts["millions"], rel=0.05)


def test_the_floor_is_set_by_what_is_scarcer():
    rates = Rates(flops=1e9, bandwidth=1e9)
    assert rates.floor(operations=2e6, size=1e6) == 2
    assert rates.floor(operations=1e6, size=3e6) == 3


def test_a_program_that_does_not_keep_to_the_rules_is_refused(tmp_path):
    with pytest.raises(ValueError, match="it says 'hello', and not 'ready'"):
        Program("echo hello")
    program = Program(f"{sys.executable} -c \"print('ready'); print('soon')\"")
    with pytest.raises(ValueError, match="it says 'soon', and not a time"):
        program.track()


def test_wrong_arguments_are_told_in_one_line(capsys):
    assert main(["bench", "resnet"]) == 1
    assert main(["bench", "--against", "theirs"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("sot: unknown model 'resnet': known are sot_mobile")
    assert lines[1] == "sot: --against theirs refused: NAME=COMMAND is accepted"
