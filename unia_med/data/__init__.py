"""Data sets: volumes, slices and weak labels."""
