"""Settings of the ring prior, in mm and fractions so that they hold for any pixel size."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RingSettings:
    """All settings of `RingPrior`.

    Attributes:
        spacing_mm: Pixel size of the volumes.
        radii_mm: Radii tried for the bright disc (LV cavity).
        annulus_mm: Width of the darker annulus round the disc.
        radius_exponent: Power of the radius in the choice of the centre; larger prefers large discs to bright spots.
        centre_sigma_mm: Width of the Gaussian round the expected heart centre; larger trusts the location less.
        spread_weight: How strongly inhomogeneous discs and annuli are punished (per standard deviation).
        step_mm: Displacement between neighbouring slices that costs `step_cost`.
        step_cost: Cost, in response units, of moving by `step_mm` from one slice to the next.
        radius_cost: Cost of changing the radius by 5 mm from one slice to the next.
        cavity_level: Threshold between muscle (0) and blood (1) for the LV cavity.
        wall_level: The same for the outer end of the wall, where the RV or fat begins.
        wall_dark_level: Contrast below which the wall ends at lung.
        wall_slice_share: Share of a slice's own measurements in its typical width; the rest is the volume's.
        wall_mm: Wall width before it is measured, and the weight of a doubtful measurement.
        wall_range_mm: Widths that a measurement may give.
        wall_trim_mm: Taken off a measured width, because the threshold lies within the bright neighbour's border.
        wall_percentile: Percentile of a volume's measured widths that is its typical width.
        rv_level: Threshold between muscle and blood for the RV.
        rv_gap_mm: Farthest distance from the epicardium at which the RV may begin.
        rv_reach_mm: Farthest distance from the epicardium that the RV may reach.
        rv_direction: Angle of the RV in radians (0 = rows downwards, pi/2 = columns to the right), or None for a vote.
        rv_fat_level: Contrast above which a pixel counts as fat, in units of LV blood.
        rv_direction_weight: Share of the data set's direction in a volume's own; 1 ignores the volume.
        atlas_pseudo_slices: Weight, in slices, of the geometric atlas against the averaged one.
        atlas_peak: Largest probability of a level of the atlas after rescaling.
        rv_atlas_floor: Atlas probability below which no pixel becomes RV.
        rv_minimal_mm2: Smaller RV regions are dropped.
        minimal_response: Ring responses below this, in image units, mean that a slice shows no heart.
        relative_response: The same as a share of the volume's strongest ring.
        border_mm: Softness of the borders in the scores.
    """

    spacing_mm: float = 1.875
    radii_mm: tuple[float, ...] = (5.5, 8.0, 11.0, 14.0, 17.0, 20.0, 23.0, 26.0)
    annulus_mm: float = 9.0
    radius_exponent: float = 0.25
    centre_sigma_mm: float = 30.0
    spread_weight: float = 0.5
    step_mm: float = 6.0
    step_cost: float = 0.05
    radius_cost: float = 0.02
    cavity_level: float = 0.25
    wall_level: float = 0.4
    wall_dark_level: float = -0.8
    wall_slice_share: float = 0.6
    wall_mm: float = 9.0
    wall_range_mm: tuple[float, float] = (5.0, 25.0)
    wall_trim_mm: float = 1.3
    wall_percentile: float = 40.0
    rv_level: float = 0.25
    rv_gap_mm: float = 7.0
    rv_reach_mm: float = 48.0
    rv_direction: float | None = None
    rv_fat_level: float = 1.8
    rv_direction_weight: float = 0.5
    atlas_pseudo_slices: float = 150.0
    atlas_peak: float = 0.95
    rv_atlas_floor: float = 0.1
    rv_minimal_mm2: float = 60.0
    minimal_response: float = 0.02
    relative_response: float = 0.1
    border_mm: float = 1.3

    def pixels(self, millimetres: float) -> float:
        """Return a length in pixels."""
        return millimetres / self.spacing_mm
