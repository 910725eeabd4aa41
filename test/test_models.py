"""What `sot models` and docs/models.md say of the models is one and the same, and true where it can be counted."""

from pathlib import Path

import pytest
import torch

from sot_ros.cli import main
from sot_ros.cli.models import markdown, read_facts
from sot_ros.trackers.models import DEFAULT_MODEL, MODELS

DOCS = Path(__file__).parent.parent / "docs" / "models.md"


def test_every_model_is_described():
    assert list(read_facts()) == list(MODELS)


@pytest.mark.parametrize("model", MODELS)
def test_the_number_of_parameters_is_that_of_the_network(model):
    row = MODELS[model]
    with torch.device("meta"):
        network = row.build(row.settings)
    # Buffers of frozen BatchNorm are no parameters upstream, and published counts leave them out.
    count = sum(p.numel() for p in network.parameters()) / 1e6
    assert read_facts()[model]["millions"] == pytest.approx(count, rel=0.1)


def test_the_command_lists_every_model_with_the_origin_of_its_weights(capsys):
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[::2]] == list(MODELS)
    assert all("weights: " in line for line in lines[1::2])
    assert [line.endswith("(the default)") for line in lines[1::2]] == [name == DEFAULT_MODEL for name in MODELS]


def test_the_documentation_shows_the_same_table():
    assert markdown() in DOCS.read_text()
