"""Pictures of a job, by matplotlib: its curves and its confusion matrix, as SVG or PNG.

matplotlib is imported at the first picture; an API that is never asked for one does without.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from app.specs import EpochRow, Evaluation, StopReason

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Format = Literal["svg", "png"]
TRAIN, VAL = "#2563eb", "#c2410c"
_NAMED = 30  # classes whose names still fit beside a matrix
_COUNTED = 20  # classes whose counts still fit into the cells
_drawing = threading.Lock()  # matplotlib's font cache and settings are shared


def curves(
    rows: Sequence[EpochRow], title: str, best_epoch: int | None, stop_reason: StopReason | None, format: Format
) -> bytes:
    """Loss and accuracy over the epochs, side by side; the best epoch and where training stopped are marked."""

    def draw(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

        for place, (what, unit) in enumerate((("loss", 1), ("acc", 100))):
            axes = figure.add_subplot(1, 2, place + 1)
            epochs = [row.epoch for row in rows]
            for split, colour in (("train", TRAIN), ("val", VAL)):
                values = [unit * getattr(row, f"{split}_{what}") for row in rows]
                marker = "o" if len(rows) == 1 else None
                axes.plot(epochs, values, color=colour, label=f"{split}_{what}", linewidth=1.6, marker=marker)
            if best_epoch is not None:
                axes.axvline(best_epoch, color="#15803d", linestyle="--", linewidth=1, label=f"best epoch {best_epoch}")
            if stop_reason is not None and rows:
                axes.axvline(epochs[-1], color="#6b7280", linestyle=":", linewidth=1, label=f"stopped: {stop_reason}")
            axes.set_xlabel("epoch")
            axes.set_ylabel("loss" if what == "loss" else "accuracy, %")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(alpha=0.25)
            axes.legend(frameon=False, fontsize=8)
        figure.suptitle(title, fontsize=11)

    return _drawn(draw, (10.0, 3.8), format)


def confusion(evaluation: Evaluation, title: str, format: Format) -> bytes:
    """The confusion matrix: rows are classes, columns what was taken for them, in shares of the row."""
    matrix, names = evaluation.confusion_matrix, [each.name for each in evaluation.per_class]
    shares = [[count / max(1, sum(row)) for count in row] for row in matrix]
    count = len(names)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        figure.colorbar(image, ax=axes, label="share of the class", fraction=0.046)
        if count <= _NAMED:
            axes.set_xticks(range(count), names, rotation=90 if max(map(len, names)) > 2 else 0)
            axes.set_yticks(range(count), names)
        if count <= _COUNTED:
            for i, row in enumerate(matrix):
                for j, value in enumerate(row):
                    colour = "white" if shares[i][j] > 0.5 else "black"
                    if value:
                        axes.text(j, i, str(value), ha="center", va="center", color=colour, fontsize=7)
        axes.set_xlabel("taken for")
        axes.set_ylabel("class")
        axes.set_title(title, fontsize=11)

    side = min(10.0, 4.5 + 0.2 * min(count, _NAMED))
    return _drawn(draw, (side, side), format)


def _drawn(draw: Callable[[Figure], None], inches: tuple[float, float], format: Format) -> bytes:
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    # Text stays text, and the same job gives the same bytes: no date, no random ids.
    out = io.BytesIO()
    with _drawing, mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "whistlestop"}):
        figure = Figure(figsize=inches, layout="constrained")
        draw(figure)
        figure.savefig(out, format=format, dpi=110, metadata={"Date": None} if format == "svg" else None)
    return out.getvalue()
