"""The names that `infoprompt.estimator` takes: the package's, and those that your code adds.

The functions are in `infoprompt/estimators.py`, and `register_estimator` there adds one. The names lie apart, because
a config is checked before JAX is imported.
"""

NAMES = ["infonce", "nwj", "dv", "smile", "js"]
