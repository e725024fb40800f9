"""Mean ranks on a line, with a bar as long as the critical difference (Demsar 2006)."""

from __future__ import annotations

from pathlib import Path

from bench.accuracy.ranks import Comparison

OURS = "vsae_fast auto"


def draw(comparison: Comparison, path: Path) -> None:
    """Write the picture; methods within the critical difference of ours share its shaded band."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    names, ranks = list(comparison.ranks), list(comparison.ranks.values())
    difference = comparison.critical_difference()
    figure = Figure(figsize=(8, 0.42 * len(names) + 1.3), layout="constrained")
    axes = figure.subplots()
    if OURS in comparison.ranks:
        own = comparison.ranks[OURS]
        axes.axvspan(
            own, own + difference, color="tab:blue", alpha=0.12, lw=0, label=f"critical difference {difference:.2f}"
        )
        axes.legend(loc="upper right", frameon=False)
    positions = range(len(names))
    axes.hlines(positions, 1, ranks, color="0.8", lw=1)
    axes.scatter(ranks, positions, c=["tab:blue" if name == OURS else "0.3" for name in names], zorder=3)
    for position, rank in zip(positions, ranks, strict=True):
        axes.annotate(f"{rank:.2f}", (rank, position), textcoords="offset points", xytext=(8, -3), fontsize=9)
    axes.set_yticks(positions, names)
    axes.invert_yaxis()
    axes.set_xlim(1, len(names) + 0.6)
    axes.set_xlabel(f"mean rank over {comparison.n_sets} tables, {comparison.n_conditions} masks (1 is best)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.hashsalt": "", "svg.fonttype": "none"}):  # the same text for the same ranks
        figure.savefig(path, metadata={"Date": None})
