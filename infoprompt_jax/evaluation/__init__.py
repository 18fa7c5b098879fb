"""Evaluation: from batches to predictions, and metrics."""
