"""Training: from a config to an experiment, the loop, and all that a run leaves in its directory."""
