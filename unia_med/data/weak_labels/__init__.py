"""Weak labels on pixels: made from masks, read from files, brought to the network's grid and completed."""
