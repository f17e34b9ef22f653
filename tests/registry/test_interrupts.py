"""Signals interrupt where they may, are held where they may not, and never get lost."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from registry.interrupts import SignalInterrupt, signals_held, signals_interrupt, signals_noted


def test_signals_interrupt_once_and_are_restored() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)
    with pytest.raises(SignalInterrupt, match="SIGHUP") as caught, signals_interrupt():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(5)
    assert caught.value.signal_name == "SIGHUP"
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)) == before
    with signals_interrupt():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except SignalInterrupt:
            os.kill(os.getpid(), signal.SIGTERM)  # the second one does not disturb the end
            time.sleep(0.05)


def test_signals_stay_ignored_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.05)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_are_left_alone_in_threads() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[Any] = []

    def work() -> None:
        with signals_interrupt():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_an_interrupt_that_a_callback_swallows_prints_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Late:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    with pytest.raises(SignalInterrupt), signals_interrupt() as check:  # noqa: PT012
        Late()
        assert told == []
        check()
    assert sys.unraisablehook == told.append


def test_a_signal_that_got_lost_is_raised_again() -> None:
    with pytest.raises(SignalInterrupt, match="SIGTERM"), signals_interrupt() as check:  # noqa: PT012
        with suppress(BaseException):  # as in `__del__`, which cannot raise
            signal.raise_signal(signal.SIGTERM)
        check()
        pytest.fail("it got lost")


def test_signals_that_are_held_act_when_they_may() -> None:
    seen: list[str] = []
    with (  # noqa: PT012
        pytest.raises(SignalInterrupt, match="SIGHUP"),
        signals_interrupt(),
        signals_held() as held,
    ):
        signal.raise_signal(signal.SIGHUP)
        seen.append("held")
        held.act()
        seen.append("never")
    with pytest.raises(SignalInterrupt), signals_interrupt():  # noqa: PT012
        with signals_held():
            signal.raise_signal(signal.SIGINT)
            seen.append("to its end")
        seen.append("never")
    assert seen == ["held", "to its end"]

    def make() -> Iterator[int]:
        yield 1
        signal.raise_signal(signal.SIGTERM)
        seen.append("never")

    with pytest.raises(SignalInterrupt), signals_interrupt(), signals_held() as held:  # noqa: PT012
        for _ in held.act_within(make()):
            seen.append("made")
    assert seen[2:] == ["made"]


def test_signals_that_were_noted_interrupt_what_comes_next() -> None:
    with signals_noted() as noted:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(SignalInterrupt, match="SIGTERM"), signals_interrupt(noted):
            pytest.fail("it was forgotten")
        signal.raise_signal(signal.SIGHUP)
    assert noted == [signal.SIGTERM, signal.SIGHUP]
