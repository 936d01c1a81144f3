"""Worlds from mail to trackers, each drawn from a seed: whatever befalls them, the laws hold."""

from __future__ import annotations

from seeds import live, summary

SEEDS = (7, 12, 23, 35, 38, 53)  # of 60 those which meet much and cost little
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
    "conversation merged",
    "conversation deleted",
    "number of two companies",
    "model refusal",
    "model away",
    "model busy, says not how long",
    "model garbled",
    "model spent",
    "account resumed",
    "quota for a bulk",
    "quota for items",
    "409",
    "existing",
)


def test_whatever_befalls_a_chain_the_laws_hold(worlds: str) -> None:
    lives = [live(seed, worlds, family="chain") for seed in SEEDS]

    broken = {f"make simulate WORLD=chain SEEDS={w.seed}": w.broken for w in lives if w.broken}
    assert broken == {}
    met, said = summary(lives)
    assert [kind for kind in MET if not met[kind]] == [], said
