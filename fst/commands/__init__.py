"""A file for each command. Those that take flags have `add` (the flags) and `run`, the Hydra applications `main`.

No file loads torch before it has checked the flags, the files they name and their values.
"""
