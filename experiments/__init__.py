"""Measures quality: what prompts gain, over seeds, and what the documents report of it."""
