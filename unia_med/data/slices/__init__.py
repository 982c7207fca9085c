"""Training slices: data set, batches, augmentation, mixture with synthetic ones."""
