"""Synthetic volumes with masks on which methods can be tried and compared; none of them shows a heart."""
