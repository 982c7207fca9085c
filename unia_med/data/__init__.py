"""Volumes, slices and weak labels."""
