"""Experiments that measure quality over seeds, and write the results to the documents."""
