"""Hostile and careless inputs, made from a seed: what does the program do with each?

python -m experiments.fuzz --minutes 20 --seed 0
"""
