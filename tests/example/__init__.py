"""A researcher's own parts, as `conf/README.md` shows them; tests/training/test_own_parts.py trains with them."""
