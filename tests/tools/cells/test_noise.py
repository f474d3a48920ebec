"""What has no cells by any look: noise is refused, whether or not the look guards the tool."""

import numpy as np
import pytest
from skimage.data import immunohistochemistry

from pathasst.core.errors import BadInput
from pathasst.tools.cells.detect import check, is_noise


def test_noise_is_refused_and_tissue_is_not():
    noise = np.random.default_rng(0).integers(0, 256, (120, 120, 3), dtype=np.uint8)
    with pytest.raises(BadInput, match="noise"):
        check(noise, "The PD-L1 count")
    assert not is_noise(immunohistochemistry())
    assert not is_noise(np.full((80, 80, 3), 200, np.uint8))
