"""Data: rows of data sets, templates that make text of them, tokenised rows, batches."""
