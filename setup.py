"""The packages of the wheel; all else is in pyproject.toml, which cannot put configs/ inside infoprompt_jax."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["infoprompt_jax*"]), "infoprompt_jax.configs"],
    package_dir={"infoprompt_jax.configs": "configs"},
)
