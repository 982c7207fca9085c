"""Random walker (Grady, IEEE TPAMI 2006): from labelled pixels to all others, along the edges of the image."""

from __future__ import annotations

import numpy as np

from unia_med.labels import BACKGROUND, IGNORE

_LEAST_WEIGHT = 1e-6  # of an edge across any contrast, so that no pixel is cut off from all labels
# Neighbours that an edge leads to, and its weight: a diagonal one counts half, so that distances are rounder.
_STEPS = (((0, 1), 1.0), ((1, 0), 1.0), ((1, 1), 0.5), ((1, -1), 0.5))


def sure_labels(probabilities: np.ndarray, foreground: float, background: float) -> np.ndarray:
    """Labels (Z, H, W) of the pixels from which a walk starts, IGNORE elsewhere.

    Args:
        probabilities: (Z, K, H, W) in [0, 1].
        foreground: from this probability of all classes together, a pixel has its likeliest class.
        background: up to this probability of all classes together, a pixel is background.
    """
    inside = 1 - probabilities[:, 0]
    labels = np.where(inside >= foreground, probabilities[:, 1:].argmax(1) + 1, IGNORE)
    return np.where(inside <= background, BACKGROUND, labels)


def walked_slices(images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, beta: float) -> np.ndarray:
    """Float32 (Z, K, H, W): the chance that a random walk from a pixel meets a labelled pixel of each class first.

    Args:
        images: (Z, H, W), or (Z, C, H, W) with channels, in [0, 1].
        labels: (Z, H, W) as of `sure_labels`.
        probabilities: (Z, K, H, W); a slice that lacks a labelled class or labelled background keeps its own.
        beta: aversion to intensity edges, on scikit-image's scale.
    """
    found = probabilities.astype(np.float32)
    has_class = ((labels != BACKGROUND) & (labels != IGNORE)).any((1, 2))
    for index in np.flatnonzero(has_class & (labels == BACKGROUND).any((1, 2))):
        chances = walker_probabilities(images[index], labels[index], probabilities.shape[1], beta)
        found[index] = chances.clip(0, 1)  # solved to within rounding
    return found


def walker_probabilities(image: np.ndarray, labels: np.ndarray, classes: int, beta: float = 2000.0) -> np.ndarray:
    """Return float32 (K, H, W): the chance that a random walk from a pixel first meets a label of each class.

    Grady, IEEE TPAMI 2006, section 3: the Dirichlet problem on the pixel graph, one solve for all classes; edge
    weights exp(-beta (g - g')^2 / (10 sd)) as in scikit-image, sd being that of the slice. Eight neighbours instead
    of four, since four prefer boundaries along the axes. Of a slice without any label all is 0.

    Args:
        image: float (H, W), or (C, H, W) with channels, in [0, 1].
        labels: uint8 (H, W) with IGNORE where the walk starts.
        classes: K, with background.
        beta: Aversion to intensity edges.
    """
    image = np.atleast_3d(image.transpose(1, 2, 0) if image.ndim == 3 else image).astype(np.float64)
    known = np.arange(classes)[:, None, None] == labels
    probabilities = known.astype(np.float32)
    unknown = labels == IGNORE
    present = np.flatnonzero(known.any((1, 2)))
    if len(present) == 0 or not unknown.any():
        return probabilities
    if len(present) == 1:
        probabilities[present[0]] = 1
        return probabilities
    box = _surroundings(unknown)
    scale = beta / (10 * image.std() + 1e-9)
    solved = _first_labels_met(image[box], unknown[box], known[present][:, box[0], box[1]], scale)
    for position, values in zip(present, solved.T, strict=True):
        probabilities[position][unknown] = values
    return probabilities


def _surroundings(mask: np.ndarray) -> tuple[slice, slice]:
    """Return the bounding box of a mask with one pixel around it, as far as there is one."""
    ranges = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    rows, columns = (slice(max(0, at[0] - 1), at[-1] + 2) for at in ranges)
    return rows, columns


def _first_labels_met(image: np.ndarray, unknown: np.ndarray, known: np.ndarray, scale: float) -> np.ndarray:
    """Solves the Dirichlet problem; (N, P) for the N unknown pixels in their order and the P classes that are known.

    Args:
        image: (h, w, C).
        unknown: bool (h, w), true for N pixels.
        known: bool (P, h, w).
        scale: factor on squared differences.
    """
    number = np.full(unknown.shape, -1)
    count = int(np.count_nonzero(unknown))
    number[unknown] = np.arange(count)
    labels = known.astype(np.float64).transpose(1, 2, 0)
    diagonal, right = np.full(count, 1e-9), np.zeros((count, len(known)))
    entries: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = [(np.arange(count), np.arange(count), diagonal)]
    for (down, across), factor in _STEPS:
        one, other = _shifted(image.shape, down, across)
        weight = factor * (np.exp(-scale * ((image[one] - image[other]) ** 2).sum(-1)) + _LEAST_WEIGHT)
        for here, there in ((one, other), (other, one)):
            start = number[here] >= 0
            mine, theirs, w = number[here][start], number[there][start], weight[start]
            # Each pixel has one neighbour in this direction, so that no index repeats and += adds all of them.
            diagonal[mine] += w
            right[mine] += w[:, None] * labels[there][start]
            free = theirs >= 0
            entries.append((mine[free], theirs[free], -w[free]))
    rows, columns, values = (np.concatenate(part) for part in zip(*entries, strict=True))
    from scipy import sparse  # slow to import, and only walkers need it
    from scipy.sparse.linalg import splu

    matrix = sparse.csc_matrix((values, (rows, columns)), shape=(count, count))
    factors = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    return factors.solve(right)


def _shifted(shape: tuple[int, ...], down: int, across: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Two views of an array whose pixels are neighbours by (down, across); down is 0 or 1, across -1, 0 or 1."""
    height, width = shape[:2]
    left, right = max(0, -across), max(0, across)
    one = (slice(0, height - down), slice(left, width - right))
    other = (slice(down, height), slice(left + across, width - right + across))
    return one, other
