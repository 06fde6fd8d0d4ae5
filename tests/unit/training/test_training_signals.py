import signal
import threading

import pytest

from transect.training.trainer.signals import defer_interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_the_block_and_then_interrupts(number: signal.Signals) -> None:
    before = signal.signal(number, signal.default_int_handler)
    done: list[str] = []
    try:
        with pytest.raises(KeyboardInterrupt):
            _interrupted(number, done)
        # Once it has come, the next one is not held back.
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    assert done == ["the rest of the block"]


def _interrupted(number: signal.Signals, done: list[str]) -> None:
    with defer_interrupts():
        signal.raise_signal(number)
        done.append("the rest of the block")


def test_in_another_thread_there_is_nothing_to_wait_for() -> None:
    done = []

    def work() -> None:
        with defer_interrupts():
            done.append(1)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [1]
