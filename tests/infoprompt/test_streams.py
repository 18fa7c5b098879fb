"""The numbers of the random streams: a run that an earlier version began resumes with the same random numbers."""

from __future__ import annotations

from infoprompt_jax.infoprompt import streams


def test_the_numbers_stay() -> None:
    assert (streams.INIT, streams.STEP) == (0, 1)
    of_step = (streams.ENCODER_DROPOUT, streams.DECODER_DROPOUT, streams.BOTTLENECK_NOISE, streams.NEGATIVES)
    assert of_step == (0, 1, 2, 3)
