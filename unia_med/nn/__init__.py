"""Networks: backbones, the uncertainty inference network and task heads. No losses, no data."""
