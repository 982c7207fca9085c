"""Parts of the bilateral grid that its closeness to the sum over all pairs does not show."""

from __future__ import annotations

import torch

from unia_med.losses.bilateral_grid import _principal


def test_colours_are_turned_to_their_own_axes() -> None:
    """Distances stay, and along these axes colours do not vary together: a grid over them has few filled cells."""
    mixing = torch.tensor([[1.0, 0.9, 0.8], [0.0, 0.3, 0.2], [0.0, 0.0, 0.05]])
    colours = (torch.rand(60, 3, generator=torch.Generator().manual_seed(0)) @ mixing).T.double()
    turned = _principal(colours)
    torch.testing.assert_close(torch.cdist(turned.T, turned.T), torch.cdist(colours.T, colours.T), atol=1e-4, rtol=1e-3)
    together = torch.cov(turned)
    assert (together - together.diag().diag()).abs().max() < 1e-4 * together.max()
