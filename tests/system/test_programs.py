"""Other programs: what they get, what is taken of them, how they are ended."""

from queue import SimpleQueue

import pytest

from mailtools.system.programs import Job, Programs, Ran


def run(
    command: str, message: bytes = b"hello\n", environment: dict[str, str] | None = None, **limits: float
) -> Ran:
    posted: SimpleQueue[object] = SimpleQueue()
    programs = Programs(posted.put, **limits)  # type: ignore[arg-type]
    ended: list[Ran] = []
    programs.run(Job(command, environment or {}, iter([message]), ended.append))
    call = posted.get(timeout=30)
    assert callable(call)
    call()
    programs.stop()
    return ended[0]


def output(ran: Ran) -> bytes:
    return b"".join(ran.output.blocks())


def test_a_program_gets_the_message_and_its_output_is_taken() -> None:
    ran = run("tr a-z A-Z; echo careful >&2")
    assert (ran.code, output(ran), ran.said) == (0, b"HELLO\n", "careful")


@pytest.mark.parametrize("code", [1, 69, 75, 77, 99])
def test_exit_codes(code: int) -> None:
    assert run(f"exit {code}").code == code


def test_a_program_that_does_not_read_or_reads_late() -> None:
    message = b"x" * 3_000_000
    assert run("true", message).code == 0
    ran = run("head -c 1000000 /dev/zero; wc -c", message)
    assert output(ran).endswith(b"3000000\n")


def test_what_a_peer_said_is_a_value_and_no_part_of_the_command() -> None:
    ran = run('printf %s "$SENDER"', environment={"SENDER": "$(id); `id` 'x' \"y\""})
    assert output(ran) == b"$(id); `id` 'x' \"y\""


def test_one_that_does_not_end_is_ended_with_all_it_started() -> None:
    ran = run("sleep 1000 & sleep 1000", timeout=0.3)
    assert ran.code == -1
    assert "0.3 seconds" in ran.said
    ran = run("(sleep 1000 &) ; exit 0", timeout=0.3)  # a child holds its output
    assert ran.code == -1


def test_one_that_prints_without_end_is_ended() -> None:
    ran = run("yes", max_output=100_000)
    assert ran.code == -1
    assert "100000 octets" in ran.said


def test_one_that_complains_without_end_is_heard_a_little() -> None:
    ran = run("head -c 5000000 /dev/zero | tr '\\0' e >&2; exit 3")
    assert ran.code == 3
    assert ran.said == "e" * 2000


def test_one_that_is_not_there_or_dies() -> None:
    assert run("/no/such/program").code == 127
    assert run("kill -9 $$").code == -1
