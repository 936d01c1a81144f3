"""Worlds from mail to trackers, each drawn from a seed: whatever befalls them, the laws hold."""

from __future__ import annotations

from seeds import live, summary

SEEDS = (0, 5, 7, 8, 19, 24)  # of 30 those which meet much and cost little
MET = (
    "crash",
    "drain",
    "outage",
    "configuration change",
    "lease loss",
    "webhook 503",
    "webhook again",
    "webhook cut",
    "webhook to nobody",
    "webhook unheard",
    "effect retried",
    "effect dead",
    "effect sent by two",
)


def test_whatever_befalls_a_chain_the_laws_hold(worlds: str) -> None:
    lives = [live(seed, worlds, family="chain") for seed in SEEDS]

    broken = {f"make simulate WORLD=chain SEEDS={w.seed}": w.broken for w in lives if w.broken}
    assert broken == {}
    met, said = summary(lives)
    assert [kind for kind in MET if not met[kind]] == [], said
