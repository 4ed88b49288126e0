"""Early stopping as DESIGN defines it, to the letter."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.specs import EarlyStoppingSpec, StopReason
from app.specs.stopping import Stopping, advance, decide, in_words, replay

# Few distinct values: ties and steps of exactly min_delta are what an implementation gets wrong.
LOSSES = st.lists(st.integers(0, 12).map(lambda step: step / 8), max_size=40)
SETTINGS = st.builds(
    EarlyStoppingSpec,
    patience=st.none() | st.integers(1, 5),
    min_delta=st.sampled_from([0.0, 0.125, 0.25]),
    delta_overfit=st.none() | st.sampled_from([0.0, 0.125, 0.5]),
    overfit_patience=st.none() | st.integers(1, 4),
)


def reference(settings: EarlyStoppingSpec, losses: list[float]) -> tuple[int, int, StopReason | None]:
    """Written down from the definition: the last epoch, the best epoch, the reason."""
    level, stagnant, over = math.inf, 0, 0
    for epoch, loss in enumerate(losses, start=1):
        level, stagnant = (loss, 0) if loss < level - settings.min_delta else (level, stagnant + 1)
        above = settings.delta_overfit is not None and loss > min(losses[:epoch]) + settings.delta_overfit
        over = over + 1 if above else 0
        best = losses.index(min(losses[:epoch])) + 1
        if settings.overfit_patience is not None and over >= settings.overfit_patience:
            return epoch, best, StopReason.OVERFITTING
        if settings.patience is not None and stagnant >= settings.patience:
            return epoch, best, StopReason.STAGNATION
    return len(losses), losses.index(min(losses)) + 1 if losses else 0, None


@given(SETTINGS, LOSSES)
@example(EarlyStoppingSpec(patience=2, min_delta=0, delta_overfit=0, overfit_patience=2), [0.5, 0.625, 0.625])
def test_it_stops_where_the_definition_says(settings: EarlyStoppingSpec, losses: list[float]) -> None:
    state, reason = replay(settings, losses)
    assert (state.epoch, state.best_epoch, reason) == reference(settings, losses)
    if losses:
        assert state.best_val_loss == min(losses[: state.epoch])


@given(SETTINGS, LOSSES, st.integers(0, 40))
def test_counts_that_were_put_away_go_on_as_if_they_had_not(
    settings: EarlyStoppingSpec, losses: list[float], cut: int
) -> None:
    whole, _ = replay(settings, losses)
    state = Stopping()
    for epoch, loss in enumerate(losses, start=1):
        if epoch == cut:
            state = Stopping(**vars(state))
        state = advance(settings, state, loss)
        if decide(settings, state):
            break
    assert state == whole


def test_both_at_once_is_overfitting() -> None:
    settings = EarlyStoppingSpec(patience=3, min_delta=0, delta_overfit=0.1, overfit_patience=3)
    state, reason = replay(settings, [1.0, 2.0, 2.0, 2.0])
    assert (state.stagnation, state.overfitting, reason) == (3, 3, StopReason.OVERFITTING)


def test_a_fall_of_exactly_min_delta_is_no_progress_but_a_better_model() -> None:
    settings = EarlyStoppingSpec(patience=5, min_delta=0.25)
    state, _ = replay(settings, [1.0, 0.75])
    assert (state.stagnation, state.reference, state.best_epoch, state.improved) == (1, 1.0, 2, True)


def test_switched_off_it_only_tracks_the_best_epoch() -> None:
    state, reason = replay(None, [1.0, 0.5, *[9.0] * 50])
    assert (state.epoch, state.best_epoch, reason) == (52, 2, None)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (EarlyStoppingSpec(), "stagnation 1/5  overfitting 0/3"),
        (EarlyStoppingSpec(delta_overfit=None), "stagnation 1/5"),
        (EarlyStoppingSpec(patience=None, overfit_patience=None), "early stopping off"),
        (None, "early stopping off"),
    ],
)
def test_the_console_shows_what_is_switched_on(settings: EarlyStoppingSpec | None, words: str) -> None:
    assert in_words(settings, Stopping(2, 1, 1.0, 1.0, 1, 0)) == words
