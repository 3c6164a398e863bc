"""The commands that take flags: a file for each, with its flags (`add`) and what it does (`run`).

No file loads torch before it has checked the flags, the files they name and their values.
"""
