"""DICOM: series in folders, short-axis stacks of several series, and segmentation objects."""
