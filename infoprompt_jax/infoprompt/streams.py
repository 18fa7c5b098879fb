"""The random streams of a fleet member: the numbers that its key is folded with, one for each purpose.

A member has one key, made from its seed. Nothing is split and carried from step to step, so a resumed run draws the
same numbers as an uninterrupted one:

    member key -> INIT                          first values
               -> STEP -> step number           one training step (-> number of the micro-batch, if there are several)
                          -> ENCODER_DROPOUT, DECODER_DROPOUT, BOTTLENECK_NOISE, NEGATIVES, VOCABULARY
               -> HEAD_STEP -> number          one of the steps on the head loss alone, before training
"""

from __future__ import annotations

# Of a member's key.
INIT = 0
STEP = 1
HEAD_STEP = 2

# Of a step's key.
ENCODER_DROPOUT = 0
DECODER_DROPOUT = 1
BOTTLENECK_NOISE = 2
NEGATIVES = 3
VOCABULARY = 4
