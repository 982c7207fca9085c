"""Trains and scores every method on ACDC from every kind of label, and writes the table that compares them.

    python examples/compare_methods.py ACDC --output comparison
    python examples/compare_methods.py ACDC --output comparison --only full walker --seeds 0 --iterations-scale 0.2

Scores are those of `unia-med evaluate` on the validation patients. Run it again to go on after an interruption, or to
add rows: what is finished is kept. `table.md` and `table.csv` in the output folder are rewritten after each row.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from unia_med.errors import UserError
from unia_med.pipeline.comparison import Comparison, Entry, compare, select

PHANTOM = "phantom: synthetic hearts, side of the RV"
SHAPE = "convex LV, round wall"
ELLIPSES = "LV and wall fill their boxes as ellipses, the RV is bright"
SHIPPED = "cardiac-sax, phantom: synthetic hearts"
START = "cardiac-sax"
ALPHAS = "alphas chosen on training masks"
SCRIBBLES = "data.labels=[{kind: scribbles, source: files, fill: none}]"
TEACHING = "phantom + self-training"
POINTED = "1 point per class and slice, 3 background"
# Controls: the same data, prior, rounds, network grid and budget, without what is said to be UniA's.
AUXILIARY = ("classification", "auxiliary", "distribution", "affinity", "token_contrast")
PLAIN = tuple(f"method.weights.{name}=0" for name in AUXILIARY)
PARTIAL = ("method.name=partial",)
POINTS = (
    "data.labels=[{kind: points, source: masks, make: {points: 1, background_points: 3}}]",
    "data.tags.source=labels",
)
PARTIAL_POINTS = (*PARTIAL, "method.weights.annotations=0.2")
ALONE = ("data.tags={source: none}", "prior.names=[]", "prior.rounds=1", "training.labelled_share=0.9")
SCRIBBLES5 = (*ALONE, "data.labels=[{kind: scribbles, source: files, patients: 5, fill: none}]")
"""Controls of equal budget: no tag, no synthetic slice and no self-training, only what was drawn."""
ENTRIES = (
    Entry("full", "acdc_cpu_full.yaml", "masks"),
    Entry("walker", "acdc_cpu_walker.yaml", "scribbles", SHAPE),
    Entry("agmm", "acdc_cpu_agmm.yaml", "scribbles"),
    Entry("partial", "acdc_cpu_walker.yaml", "scribbles", overrides=(SCRIBBLES, "prior.rounds=1")),
    Entry("boxes", "acdc_cpu_boxes.yaml", "boxes of classes, per slice", ELLIPSES),
    Entry("points", "acdc_cpu_points.yaml", POINTED, PHANTOM),
    Entry("mixed", "acdc_cpu_mixed.yaml", "tags; scribbles of 5 patients", f"{PHANTOM}; {SHAPE}"),
    Entry("unia", "acdc_cpu.yaml", "tags", PHANTOM, work="phantom + self-training, network and losses of UniA"),
    Entry("unia_plain", "acdc_cpu.yaml", "tags", PHANTOM, overrides=PLAIN, work=f"{TEACHING}, network of UniA"),
    Entry("phantom_partial", "acdc_cpu.yaml", "tags", PHANTOM, overrides=PARTIAL, work=f"{TEACHING}, plain network"),
    Entry("points_unia", "acdc_cpu.yaml", POINTED, PHANTOM, overrides=POINTS, work=f"points + {TEACHING}, UniA"),
    Entry(
        "points_partial",
        "acdc_cpu.yaml",
        POINTED,
        PHANTOM,
        overrides=POINTS + PARTIAL_POINTS,
        work=f"points + {TEACHING}, plain network",
    ),
    Entry("unia_tags", "acdc_cpu_tags.yaml", "tags, merged classes"),
    Entry("adapt_images", "acdc_images_only.yaml", "images", SHIPPED),
    Entry("adapt_tags", "acdc_adapt_tags.yaml", "tags", SHIPPED),
    Entry("adapt_masks1", "acdc_adapt_masks1.yaml", "tags; masks of 1 patient", SHIPPED),
    Entry("adapt_masks3", "acdc_adapt_masks3.yaml", "tags; masks of 3 patients", SHIPPED),
    Entry("adapt_points", "acdc_adapt_points.yaml", "1 point per class and slice, 3 of background", SHIPPED),
    Entry("adapt_scribbles5", "acdc_adapt_scribbles5.yaml", "tags; scribbles of 5 patients", f"{SHIPPED}; {SHAPE}"),
    Entry("adapt_full", "acdc_adapt_full.yaml", "masks", START),
    Entry("adapt_scribbles", "acdc_adapt_scribbles.yaml", "scribbles", f"{START}; {SHAPE}"),
    Entry("adapt_boxes", "acdc_adapt_boxes.yaml", "boxes of classes, per slice", f"{START}; {ELLIPSES}"),
    Entry("partial_masks1", "acdc_adapt_masks1.yaml", "masks of 1 patient", START, overrides=ALONE),
    Entry("partial_masks3", "acdc_adapt_masks3.yaml", "masks of 3 patients", START, overrides=ALONE),
    Entry("partial_scribbles5", "acdc_adapt_scribbles5.yaml", "scribbles of 5 patients", START, overrides=SCRIBBLES5),
    Entry("aalr", "acdc_cpu_aalr.yaml", "tags", PHANTOM),
    Entry("affinitynet", "affinitynet_acdc.yaml", "tags, merged classes", ALPHAS, recipe=True, part="segmentation"),
    Entry("cam_alone", "affinitynet", "tags, merged classes", part="classifier"),
    Entry("phantom_alone", "unia", "none", PHANTOM, part="prior"),
)


def main() -> None:
    """Run the comparison and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="the ACDC folder")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of runs, masks and tables")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"rows: {', '.join(e.name for e in ENTRIES)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--split", choices=("val", "test"), default="val", help="patients that are scored")
    parser.add_argument("--iterations-scale", type=float, default=1.0, metavar="X", help="factor on all budgets")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="setting of every run")
    args = parser.parse_args()
    comparison = Comparison(args.root, args.output, args.iterations_scale, args.split, args.set)
    try:
        compare(comparison, ENTRIES, select(ENTRIES, args.only), args.seeds)
    except UserError as error:
        sys.exit(f"compare_methods: error: {error}")
    print((args.output / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
