"""The names that `task.metric` takes: the package's, and those that your code adds.

The functions are in `evaluation/metrics.py`, and `register_metric` there adds one. The names lie apart, because the
declaration of the field imports no room.
"""

NAMES = ["", "accuracy", "f1", "macro_f1", "matthews", "exact_match"]  # "" = the data set's own
