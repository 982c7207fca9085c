"""Checks a data set before training: faults, what its labels can teach, and advice."""
