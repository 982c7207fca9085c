"""Which slices make the batches of an epoch."""

from __future__ import annotations

import numpy as np

from unia_med.labels import TAG_ABSENT


def batch_indices(
    seed: int, epoch: int, tags: np.ndarray, batch_size: int, discordant_weight: float = 1.0
) -> list[np.ndarray]:
    """Return the slices of each batch of an epoch; the same arguments always give the same batches.

    Every batch is full: up to `batch_size - 1` slices of an epoch are left out, other ones in each epoch, and a set
    smaller than a batch is repeated to fill it.

    Args:
        seed: Seed of the run.
        epoch: Epoch, from 0.
        tags: int8 (N, T) tags of the slices.
        batch_size: Slices per batch.
        discordant_weight: Above 1, slices of which a class is known to be absent are drawn that much more often, with
            replacement: they alone separate classes that mostly occur together.
    """
    generator = np.random.default_rng((seed, epoch))
    count = len(tags)
    if discordant_weight == 1.0:
        order = generator.permutation(count)
    else:
        weights = np.where(discordant(tags), discordant_weight, 1.0)
        order = generator.choice(count, size=count, p=weights / weights.sum())
    if count < batch_size:
        order = np.resize(order, batch_size)
    return list(order[: len(order) // batch_size * batch_size].reshape(-1, batch_size))


def shared_batches(
    seed: int,
    epoch: int,
    tags: np.ndarray,
    batch_size: int,
    labelled: np.ndarray,
    share: float,
    discordant_weight: float = 1.0,
) -> list[np.ndarray]:
    """Return batches with a fixed share of labelled slices; an epoch sees each of the others about once.

    Where all slices are labelled or none is, or a batch cannot be divided, these are the batches of `batch_indices`.

    Args:
        seed: As in `batch_indices`.
        epoch: As in `batch_indices`.
        tags: As in `batch_indices`.
        batch_size: As in `batch_indices`.
        discordant_weight: As in `batch_indices`.
        labelled: bool (N,): which slices have weak labels.
        share: Share of them in a batch, above 0 and below 1; at least one slice of each sort is in every batch.
    """
    own, others = np.flatnonzero(labelled), np.flatnonzero(~labelled)
    if batch_size < 2 or not len(own) or not len(others):
        return batch_indices(seed, epoch, tags, batch_size, discordant_weight)
    count = min(max(1, round(share * batch_size)), batch_size - 1)
    rest = [
        others[picked] for picked in batch_indices(seed, epoch, tags[others], batch_size - count, discordant_weight)
    ]
    generator = np.random.default_rng((seed, epoch, 1))
    needed = count * len(rest)
    # Whole permutations one after another, so that each labelled slice comes equally often.
    order = np.concatenate([generator.permutation(own) for _ in range(-(-needed // len(own)))])
    picked = order[:needed].reshape(-1, count)
    return [np.concatenate(pair) for pair in zip(picked, rest, strict=True)]


def discordant(tags: np.ndarray) -> np.ndarray:
    """Return bool (N,): at least one class is known to be absent, so the slice helps to separate classes.

    Example:
        >>> discordant(np.array([[1, 1, 1], [0, 1, 1], [0, 0, 0], [-1, 1, 1]])).tolist()
        [False, True, True, False]
    """
    return (tags == TAG_ABSENT).any(axis=1)
