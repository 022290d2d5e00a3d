import os
import signal

import pytest

from src.utils.signals import Interrupted, StopRequests


def test_a_request_waits_for_a_safe_point():
    requests = StopRequests()
    reached = []
    with pytest.raises(Interrupted) as caught, requests.handled(), requests.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        reached.append("after the signal")
        requests.raise_if_requested()
        reached.append("after the safe point")
    assert reached == ["after the signal"]
    assert caught.value.code == 143
    assert caught.value.reason == "stopped by SIGTERM"


def test_outside_of_training_it_stops_at_once():
    requests = StopRequests()
    with pytest.raises(Interrupted) as caught, requests.handled():
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("went on")
    assert caught.value.code == 130


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no such signal")
def test_a_terminal_that_closes_stops_it():
    requests = StopRequests()
    with pytest.raises(Interrupted) as caught, requests.handled():
        os.kill(os.getpid(), signal.SIGHUP)
        pytest.fail("went on")
    assert caught.value.code == 129


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no such signal")
def test_under_nohup_it_goes_on():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequests().handled():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_request_does_not_wait():
    requests = StopRequests()
    with pytest.raises(Interrupted), requests.handled(), requests.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("went on")


def test_handlers_are_restored():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequests().handled():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_request_counts_even_if_lightning_ends_first():
    """Between two epochs Lightning answers SIGTERM with SystemExit(0)."""
    requests = StopRequests()
    with pytest.raises(Interrupted) as stop, requests.handled(), requests.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        raise SystemExit(0)
    assert stop.value.code == 143
