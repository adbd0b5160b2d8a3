"""A recorded trace becomes commands that one connection can replay."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks.replay import Arranger
from benchmarks.trace import BEGIN, END, FAR_MS, Executed, Recorder, fix_entry_ids, read_trace
from tests.servers import command_client, poll
from wfq.storage.keys import Namespace


def executed(text: str, *, inner: bool = False) -> Executed:
    return Executed(inner, [word.encode() for word in text.split()])


def texts(commands: list[list[bytes]]) -> list[str]:
    return [b" ".join(words).decode() for words in commands]


READ = "XREADGROUP GROUP g c COUNT 2 BLOCK 5000 STREAMS s >"
NOW = "XREADGROUP GROUP g c COUNT 2 STREAMS s >"


def test_a_blocked_read_moves_behind_the_command_that_ended_its_wait() -> None:
    told = [
        executed("XGROUP CREATE s g 0 MKSTREAM"),
        executed(READ),
        executed("SET a 1"),
        executed("EVALSHA x 0"),
        executed("XADD s * f v", inner=True),
        executed("SET b 2"),
    ]

    trace = Arranger().arrange(told)

    assert texts(trace.before)[1:] == ["SET a 1", "EVALSHA x 0", NOW, "SET b 2"]


def test_a_read_that_finds_entries_stays_where_it_is_and_does_not_block() -> None:
    told = [
        executed("XGROUP CREATE s g 0 MKSTREAM"),
        *[executed("XADD s * f v")] * 3,
        executed(READ),
        executed(READ),
        executed(READ),
        executed("SET a 1"),
    ]

    trace = Arranger().arrange(told)

    assert texts(trace.before)[4:] == [NOW, NOW, "SET a 1"]


def test_only_what_stands_between_the_marks_is_measured() -> None:
    told = [
        executed("SET a 1"),
        executed(f"ECHO {BEGIN}"),
        executed("SET b 2"),
        executed("INFO cpu"),
        executed(f"ECHO {END}"),
        executed("SET c 3"),
    ]

    trace = Arranger().arrange(told)

    assert (texts(trace.before), texts(trace.measured)) == (["SET a 1"], ["SET b 2"])


def test_a_recording_holds_every_argument_as_it_was_sent(valkey_url: str, tmp_path: Path) -> None:
    value = bytes(range(256)) + b'"\\x41\\n'
    recorder = Recorder(valkey_url, tmp_path / "trace")

    with command_client(valkey_url) as client:
        client.set("key", value)
        client.eval("return redis.call('SET', KEYS[1], ARGV[1])", 1, "other", value)
        client.delete("key", "other")
    found = recorder.finish()

    sets = [(one.inner, one.words[1:]) for one in found if one.words[0] == b"SET"]
    assert sets == [(False, [b"key", value]), (True, [b"other", value])]


def test_entry_ids_are_numbers_once_they_are_fixed(valkey_url: str) -> None:
    stream = Namespace().events(3, "default")
    fix_entry_ids(valkey_url)

    with command_client(valkey_url) as client:
        found = [client.xadd(stream, {"a": "b"}) for _ in range(2)]

    assert found == [f"{FAR_MS}-1".encode(), f"{FAR_MS}-2".encode()]


def test_a_half_written_line_is_no_command(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_bytes(b'+OK\r\n+1.5 [0 unix:/s] "SET" "a" "1"\r\n+1.6 [0 lua] "GET" "a"\r\n+1.7')

    found = list(read_trace(path))

    assert found == [Executed(False, [b"SET", b"a", b"1"]), Executed(True, [b"GET", b"a"])]


def test_a_recorder_that_is_closed_leaves_no_process(valkey_url: str, tmp_path: Path) -> None:
    recorder = Recorder(valkey_url, tmp_path / "trace")
    recorder.close()

    def gone() -> bool:
        listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
        return str(tmp_path) not in listed.stdout

    poll(gone)
