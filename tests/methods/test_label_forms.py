"""Label maps of UniA from scores and activation maps, without a network."""

from __future__ import annotations

import torch

from unia_med.config.unia import FORMS, UniaConfig
from unia_med.methods.base import Batch
from unia_med.methods.label_plan import label_plan
from unia_med.methods.pseudo_labels import PseudoLabels


def test_scores_are_refined_in_the_default_form_whatever_the_method_says() -> None:
    """The publication knows no scores: neither its preset, nor a pull for activation maps, is meant for them."""
    generator = torch.Generator().manual_seed(0)
    batch = Batch(torch.rand(2, 1, 64, 48, generator=generator), torch.ones(2, 3, dtype=torch.int8))
    coarse = torch.randn(2, 4, 6, 5, generator=generator)
    batch.scores = torch.nn.functional.interpolate(coarse, (64, 48), mode="bicubic").mul(3).softmax(1)
    maps = batch.scores[:, 1:]

    def refined(scored: bool, **method: object) -> torch.Tensor:
        settings = UniaConfig.model_validate({**method, "label_source": "P2"})
        given = batch if scored else Batch(batch.images, batch.tags)
        plan = label_plan(settings, 99, 100)
        made = PseudoLabels(settings, 4).make(given, lambda: (maps, maps), (8, 6), None, plan, frozenset(("P2",)))
        return made["P2"]

    forms = ({"preset": "published"}, {"refine_pull": 1.0})
    assert all(torch.equal(refined(True, **form), refined(True)) for form in forms)
    assert not any(torch.equal(refined(False, **form), refined(False)) for form in forms)


def test_the_reach_of_the_refinement_is_published_pixels_or_a_share_of_the_image() -> None:
    images = torch.rand(1, 1, 64, 48, generator=torch.Generator().manual_seed(0))
    labels = PseudoLabels(UniaConfig(), 4)
    published, own = (labels.kernel(images, FORMS[name]) for name in ("published", "default"))
    assert (published.size, published.dilations) == ((32, 24), (1, 2, 4, 8, 12, 24))  # of the halved image
    assert own.size == (64, 48) and own.dilations[-1] == 7  # 24 of 224 pixels are 6.9 of 64
