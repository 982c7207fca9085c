"""Plain words for the names that methods and settings use."""

from __future__ import annotations

LABEL_WORDS: dict[str, tuple[str, str]] = {
    "CAM": ("activation map", "where the classifier of tags looks, with the slice's tags"),
    "aux CAM": ("early activation map", "the same of a second classifier, on earlier layers of the network"),
    "labels": ("labels given", "what a prior or an earlier round of training says"),
    "affinity": ("map spread by attention", "the activation map, spread along the attention between image patches"),
    "refined": ("map refined by pixels", "the activation map, refined by the intensities of neighbouring pixels"),
    "fused": ("training labels", "what the decoder learns from"),
    "prediction": ("network", "its prediction, without tags"),
}
"""Title and meaning of the label columns of methods."""

WEIGHT_WORDS = {
    "package": "ImageNet weights that came with the installation",
    "none": "random weights",
    "timm": "weights of timm, from this machine's cache",
}


def label_title(column: str) -> str:
    """Return the title of a label column; its own name where no other is known.

    Args:
        column: as in `Method.label_maps`, or in metrics.csv, where spaces are underscores.

    Example:
        >>> label_title("aux_CAM"), label_title("mine")
        ('early activation map', 'mine')
    """
    name = column.replace("_", " ")
    return LABEL_WORDS[name][0] if name in LABEL_WORDS else name


def weights_phrase(weights: str, start: str | None) -> str:
    """Say what training began with.

    Args:
        weights: `network.weights`.
        start: `training.start_from`.
    """
    return f"the model {start}" if start else WEIGHT_WORDS.get(weights, f"the weights in {weights}")
