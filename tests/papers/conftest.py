"""What the tests of `papers` share."""

import sys
from pathlib import Path

import pytest

from pathasst.core import weights

sys.path.insert(0, str(Path(__file__).parent))

from paper_samples import document, write


@pytest.fixture
def medline(tmp_path):
    """Writes records as a MEDLINE file: medline(name, *records, deleted=())."""
    return lambda name, *records, **options: write(tmp_path / name, document(*records, **options))


@pytest.fixture(scope="session")
def minilm():
    if not weights.present("minilm"):
        pytest.skip("the weights of minilm are not here: pathasst models pull minilm")
    return weights.path("minilm")


@pytest.fixture(scope="session")
def sample():
    if not weights.present("medline-sample"):
        pytest.skip("the MEDLINE sample is not here: pathasst models pull medline-sample")
    return weights.path("medline-sample")
