"""The `ring` prior: a bright disc inside a dark ring."""
