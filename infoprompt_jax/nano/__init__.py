"""The embedded default: a world of generated tasks, and the small T5 that was pretrained on it."""
