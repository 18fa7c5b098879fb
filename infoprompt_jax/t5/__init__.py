"""The frozen backbone: T5 in Flax NNX, its checkpoints, its vocabulary, its scores."""
