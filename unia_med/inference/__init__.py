"""From a trained method and a volume to labels and uncertainty on the volume's own grid."""
