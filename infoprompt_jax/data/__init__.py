"""Data: data sets and the templates that turn their rows into text; tokenised rows; batches."""
