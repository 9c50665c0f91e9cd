"""Other programs: what they get, what is taken of them, how they are ended."""

import os
from pathlib import Path
from queue import SimpleQueue

import pytest

from mailtools.system.process import programs
from mailtools.system.process.programs import ProgramJob, Programs, Ran
from tests.servers import eventually


def run(
    command: str,
    message: bytes = b"hello\n",
    environment: dict[str, str] | None = None,
    user: str = "",
    **limits: float,
) -> Ran:
    posted: SimpleQueue[object] = SimpleQueue()
    runner = Programs(posted.put, **limits)  # type: ignore[arg-type]
    ended: list[Ran] = []
    runner.run(ProgramJob(command, environment or {}, iter([message]), lambda ran: ran, ended.append, user))
    call = posted.get(timeout=30)
    assert callable(call)
    call()
    runner.stop()
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


@pytest.mark.parametrize("left", ["sleep 30 &", "setsid sleep 30 &", "(sleep 30 &);"])
def test_what_it_leaves_behind_is_not_waited_for(left: str) -> None:
    ran = run(f"{left} cat", timeout=10)
    assert (ran.code, output(ran)) == (0, b"hello\n")


def test_one_that_closes_its_output_and_stays_is_ended() -> None:
    ran = run("exec >&- 2>&-; sleep 1000", timeout=0.3)
    assert ran.code == -1


def test_a_value_that_is_too_long_is_cut_at_a_line() -> None:
    ran = run(
        'printf %s "$RECIPIENT" | wc -l',
        environment={"RECIPIENT": "x" * 150 + "\n" + ("y" * 150 + "\n") * 2000},
    )
    assert ran.code == 0
    assert 100 < int(output(ran)) < 700


def test_all_that_run_are_ended_at_the_end(tmp_path: Path) -> None:
    posted: SimpleQueue[object] = SimpleQueue()
    programs = Programs(posted.put)
    ended: list[Ran] = []
    programs.run(
        ProgramJob(f"touch {tmp_path}/up; sleep 1000", {}, iter([b""]), lambda ran: ran, ended.append)
    )
    eventually((tmp_path / "up").exists, "the program")
    programs.stop()
    call = posted.get(timeout=20)
    assert callable(call)
    call()
    assert ended[0].code == -1


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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may run programs as another user")
def test_one_that_another_user_runs_has_none_of_our_rights() -> None:
    ran = run("id -un; id -Gn; pwd", user="nobody")
    assert ran.code == 0
    name, groups, folder = output(ran).split(b"\n")[:3]
    assert (name, folder) == (b"nobody", b"/")
    assert len(groups.split()) == 1


def test_a_user_who_is_not_there_runs_nothing() -> None:
    ran = run("echo ran", user="no-such-user")
    assert (ran.code, output(ran), ran.said) == (-1, b"", "there is no user no-such-user to run it")


@pytest.mark.parametrize(("uid", "user"), [(0, "nobody"), (1000, "")])
def test_programs_of_recipients_never_run_as_root(
    monkeypatch: pytest.MonkeyPatch, uid: int, user: str
) -> None:
    monkeypatch.setattr(programs.os, "geteuid", lambda: uid)
    assert programs.unprivileged() == user


class Jobs:
    """Programs whose results are kept in the order in which they end."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.programs = Programs(lambda call: call())

    def run(self, command: str, name: str) -> None:
        self.programs.run(ProgramJob(command, {}, iter([b""]), lambda ran: name, self.ended.append))


def test_a_command_that_hangs_keeps_no_other_command_waiting(tmp_path: Path) -> None:
    jobs = Jobs()
    for number in range(40):
        jobs.run("sleep 1000", f"hangs {number}")
    for number in range(10):
        jobs.run("true", f"ends {number}")
    eventually(lambda: len(jobs.ended) == 10, "the other command")
    assert set(jobs.ended) == {f"ends {number}" for number in range(10)}
    jobs.programs.stop()
    eventually(lambda: len(jobs.ended) == 50, "an end of all")


def test_jobs_of_one_command_run_in_turn_and_all_of_them_end() -> None:
    jobs = Jobs()
    for number in range(100):
        jobs.run("true", str(number))
    eventually(lambda: len(jobs.ended) == 100, "all of them")
    jobs.run("true", "again")
    eventually(lambda: jobs.ended[-1] == "again", "one more")
    assert len(jobs.programs._threads) <= 5
    jobs.programs.stop()


def test_a_bug_of_the_judge_is_a_program_that_failed() -> None:
    ended: list[int] = []
    programs = Programs(lambda call: call())

    def judge(ran: Ran) -> int:
        if ran.code == 0:
            raise RuntimeError
        return ran.code

    programs.run(ProgramJob("true", {}, iter([b""]), judge, ended.append))
    eventually(lambda: ended == [-1], "an answer")
    programs.stop()
