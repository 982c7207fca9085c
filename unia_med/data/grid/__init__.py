"""From a volume to slices on the network's grid: MONAI transforms and caches of their results."""
