"""Pretraining: the one job that trains all weights of a T5, for the embedded backbone."""
