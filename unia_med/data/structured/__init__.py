"""Synthetic volumes with masks on which methods can be tried and compared: nothing in here knows a heart."""
