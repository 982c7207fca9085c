"""Makes timm importable where torchvision's compiled operators do not match the installed torch."""

from __future__ import annotations

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_libraries: list[object] = []  # a torch.library.Library takes its operators with it when it is collected


def ensure_torchvision_operators() -> None:
    """Declare the operators for which torchvision registers fake versions on import, where they are missing.

    A CPU build of torch with the registry's torchvision has no `torchvision::nms`, and `import timm` fails. Nothing
    in this package calls these operators; declaring them is enough.
    """
    import torch

    try:
        import torchvision  # noqa: F401
    except ImportError:
        return
    except RuntimeError:
        pass
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define(schema)
            _libraries.append(library)
