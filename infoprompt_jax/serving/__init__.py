"""Predictions for new rows and texts, with saved prompts, with a library's, or with none."""
