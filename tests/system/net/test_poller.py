"""system/net/poller: descriptors, calls from other threads, timers; one thread, nobody forgotten."""

import socket
import threading

import pytest

from mailtools.system.net.poller import Poller


@pytest.fixture
def poller():
    found = Poller()
    yield found
    found.close()


def test_a_descriptor_is_told_whenever_octets_come(poller: Poller) -> None:
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
        poller.watch(ours.fileno(), ready)
        for number in range(3):
            theirs.sendall(b"%d" % number)
            poller.poll(5.0)
        assert got == [b"0", b"1", b"2"]
        poller.forget(ours.fileno())
        theirs.sendall(b"3")
        poller.poll(0.0)
        assert len(got) == 3


def test_octets_that_were_there_before_it_was_watched(poller: Poller) -> None:
    ours, theirs = socket.socketpair()
    told: list[int] = []
    with ours, theirs:
        theirs.sendall(b"x")
        poller.watch(ours.fileno(), lambda: told.append(1))
        poller.poll(5.0)
    assert told


def test_a_descriptors_number_that_is_used_again(poller: Poller) -> None:
    first, other = socket.socketpair()
    number = first.fileno()
    poller.watch(number, lambda: None)
    first.close()  # closed without a word: the kernel forgets it by itself
    other.close()
    again, other = socket.socketpair()
    told: list[int] = []
    with again, other:
        assert again.fileno() == number
        poller.watch(number, lambda: told.append(1))
        other.sendall(b"x")
        poller.poll(5.0)
    assert told


def test_a_call_from_another_thread_wakes_it(poller: Poller) -> None:
    called = []
    thread = threading.Thread(target=lambda: poller.post(lambda: called.append(threading.current_thread())))
    thread.start()
    while not called:
        poller.poll(20.0)
    thread.join()
    assert called == [threading.current_thread()]


def test_many_calls_are_made_in_order(poller: Poller) -> None:
    called: list[int] = []
    for number in range(1000):
        poller.post(lambda n=number: called.append(n))
    poller.poll(5.0)
    assert called == list(range(1000))


def test_a_call_that_calls_again_has_its_turn_later(poller: Poller) -> None:
    called: list[int] = []

    def again() -> None:
        called.append(1)
        poller.post(again)

    poller.post(again)
    poller.poll(0.0)
    poller.poll(0.0)
    assert len(called) == 2


def test_timers_come_in_their_order(poller: Poller) -> None:
    called: list[str] = []
    poller.later(0.02, lambda: called.append("second"))
    poller.later(0.01, lambda: called.append("first"))
    poller.later(1000.0, lambda: called.append("never"))
    while len(called) < 2:
        poller.poll(20.0)
    assert called == ["first", "second"]
