"""system/net/poller: descriptors, calls from other threads, timers; one thread, nobody forgotten."""

import socket
import threading

import pytest

from mailtools.system.net.poller import Turns


@pytest.fixture
def turns():
    found = Turns()
    yield found
    found.close()


def test_a_descriptor_is_told_whenever_octets_come(turns: Turns) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    got: list[bytes] = []

    def ready() -> None:
        try:
            while octets := ours.recv(100):
                got.append(octets)
        except BlockingIOError:
            pass

    with ours, theirs:
        turns.watch(ours.fileno(), ready)
        for number in range(3):
            theirs.sendall(b"%d" % number)
            turns.turn(5.0)
        assert got == [b"0", b"1", b"2"]
        turns.forget(ours.fileno())
        theirs.sendall(b"3")
        turns.turn(0.0)
        assert len(got) == 3


def test_octets_that_were_there_before_it_was_watched(turns: Turns) -> None:
    ours, theirs = socket.socketpair()
    told: list[int] = []
    with ours, theirs:
        theirs.sendall(b"x")
        turns.watch(ours.fileno(), lambda: told.append(1))
        turns.turn(5.0)
    assert told


def test_a_descriptors_number_that_is_used_again(turns: Turns) -> None:
    first, other = socket.socketpair()
    number = first.fileno()
    turns.watch(number, lambda: None)
    first.close()  # closed without a word: the kernel forgets it by itself
    other.close()
    again, other = socket.socketpair()
    told: list[int] = []
    with again, other:
        assert again.fileno() == number
        turns.watch(number, lambda: told.append(1))
        other.sendall(b"x")
        turns.turn(5.0)
    assert told


def test_a_call_from_another_thread_wakes_it(turns: Turns) -> None:
    called = []
    thread = threading.Thread(target=lambda: turns.post(lambda: called.append(threading.current_thread())))
    thread.start()
    while not called:
        turns.turn(20.0)
    thread.join()
    assert called == [threading.current_thread()]


def test_many_calls_are_made_in_order(turns: Turns) -> None:
    called: list[int] = []
    for number in range(1000):
        turns.post(lambda n=number: called.append(n))
    turns.turn(5.0)
    assert called == list(range(1000))


def test_a_call_that_calls_again_has_its_turn_later(turns: Turns) -> None:
    called: list[int] = []

    def again() -> None:
        called.append(1)
        turns.post(again)

    turns.post(again)
    turns.turn(0.0)
    turns.turn(0.0)
    assert len(called) == 2


def test_timers_come_in_their_order(turns: Turns) -> None:
    called: list[str] = []
    turns.later(0.02, lambda: called.append("second"))
    turns.later(0.01, lambda: called.append("first"))
    turns.later(1000.0, lambda: called.append("never"))
    while len(called) < 2:
        turns.turn(20.0)
    assert called == ["first", "second"]
