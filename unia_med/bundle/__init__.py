"""A trained run as a MONAI bundle: network code, weights, configs and documentation that need no unia_med."""
