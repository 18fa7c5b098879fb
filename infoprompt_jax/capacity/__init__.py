"""What a run needs of a TPU slice, from programs that are compiled without one."""
