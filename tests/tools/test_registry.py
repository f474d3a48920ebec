"""The list of tools: complete, cheap to import, and honest about what is implemented."""

import subprocess
import sys

import numpy as np
import pytest

from pathasst.core import weights
from pathasst.core.errors import BadSettings
from pathasst.core.records import ToolCall
from pathasst.tools.registry import CLASSES, FURTHER, SPECIALISTS, all_specs, default_registry, tool_class

NINE = [
    "lbc_classify",
    "lbc_detect",
    "blood_cells",
    "lbc_generate",
    "her2_cells",
    "pdl1_cells",
    "ki67_cells",
    "segment",
    "papers_search",
]


def test_all_nine_tools_have_a_spec_with_described_arguments():
    specs = all_specs()
    assert [s.name for s in specs] == NINE
    for spec in specs:
        assert len(spec.description) > 40
        assert spec.parameters["type"] == "object"
        assert spec.parameters["additionalProperties"] is False
        for name, prop in spec.parameters.get("properties", {}).items():
            assert prop.get("description"), f"{spec.name}.{name} has no description"
            assert "title" not in prop


@pytest.mark.parametrize("name", [*CLASSES, *FURTHER])
def test_the_class_behind_a_name_carries_that_name(name):
    cls = tool_class(name)
    assert cls.name == name
    assert cls.card.expects
    assert set(cls.weights) <= set(weights.registry()), "`pathasst models pull` must know them"


def test_the_default_registry_holds_every_tool():
    assert list(default_registry().tools) == list(SPECIALISTS) and set(SPECIALISTS) == {*CLASSES, "he_nuclei"}


def test_listing_specs_and_building_the_registry_import_no_torch():
    code = (
        "import sys\nfrom pathasst.tools.registry import all_specs, default_registry\n"
        "all_specs(); default_registry().offered()\n"
        "assert not {'torch', 'timm', 'supervision', 'cv2', 'scipy'} & set(sys.modules), sorted(sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_an_unknown_name_is_refused_with_the_list():
    with pytest.raises(BadSettings, match="ki67_cells"):
        tool_class("x_ray")


@pytest.mark.parametrize("name", SPECIALISTS)
def test_wrong_arguments_come_back_as_a_readable_error(name):
    image = np.zeros((64, 64, 3), np.uint8)
    result = default_registry().call(ToolCall(name=name, arguments={"colour": "blue"}, id="7"), image)
    assert "colour" in result.error
    assert (result.name, result.call_id) == (name, "7")
