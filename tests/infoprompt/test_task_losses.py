"""The verbalizer's logits by hand; the losses themselves are tested with the objective."""

from __future__ import annotations

import numpy as np
import pytest

from infoprompt_jax.infoprompt.task_losses import verbalizer_logits
from infoprompt_jax.t5.config import T5Config


@pytest.mark.parametrize(("scaled", "factor"), [(True, 0.5), (False, 1.0)])
def test_verbalizer_logits_by_hand(scaled: bool, factor: float) -> None:
    """Scaled by D ** -0.5 where the LM head is; a label that the row does not have cannot be chosen."""
    config = T5Config(10, 4, 2, 8, 1, 1, 2, scale_decoder_outputs=scaled)
    theta = np.float32([[1, 0, 0, 0], [0, 2, 0, 0], [1, 1, 1, 1]])
    choices = np.array([[[5, 1], [6, 1], [0, 0]]])
    found = verbalizer_logits(config, np.float32([[1, 2, 3, 4]]), theta, choices)
    assert found.tolist() == [[1 * factor, 4 * factor, -np.inf]]
