"""What this project does on one accelerator in a few minutes, beside torch: `python -m bench.device --out DIRECTORY`.

Cases stand in `plan.py` in order of value. Cases on one backbone share a process (`worker.py`), and what breaks in one
of them, memory included, is its own record; `run.py` starts no case once the time is up and stops the one that runs
then. Needs jax, flax, optax, numpy, ml-collections, jinja2 and PyYAML; torch, transformers and peft for the rows that
bear their names.
"""
