"""Soft prompts: their kinds and first values, and prompts saved on disk."""
