"""Speed on one accelerator in a few minutes, against torch: `python -m bench.device --out DIRECTORY`.

`plan.py` has the cases in the order of importance. Cases on one backbone share a process (`worker.py`); a case that
fails, also for lack of memory, has its error as its record. When the time is up, `run.py` stops the running case and
starts no other. Needed are jax, flax, optax, numpy, ml-collections, jinja2 and PyYAML; for PEFT's cases also torch,
transformers and peft.
"""
