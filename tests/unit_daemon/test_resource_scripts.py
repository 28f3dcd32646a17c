"""Real scripts, really run: starts, stops, hangs, chatters, leaves services behind."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from hafsm.core.actions import RunScript, ScriptVerb
from hafsm.core.events import Outcome
from hafsm.daemon import scripts


def script(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(0o755)


def action(name: str, verb: ScriptVerb, *arguments: str, timeout_s: float = 5.0) -> RunScript:
    return RunScript(id=1, script=name, arguments=arguments, verb=verb, timeout_ns=int(timeout_s * 1e9))


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize(
    ("says", "running"),
    [
        ("httpd (pid 12) is running...", True),
        ("Running", True),
        ("httpd is not running", False),
        ("stopped", False),
        ("OK", True),
        ("NOTOK", False),
        ("", False),
    ],
)
def test_status_is_read_as_heartbeat_reads_it(says: str, running: bool) -> None:
    assert scripts.says_running(says) is running


async def test_arguments_come_before_the_verb_and_status_ignores_the_exit_code(tmp_path: Path) -> None:
    script(tmp_path, "web", 'echo "$@" > "$0.args"; [ "$3" = status ] && echo running; exit 3\n')
    ended = await scripts.run(action("web", ScriptVerb.STATUS, "a b", "$(id)"), [tmp_path])
    assert ended == (Outcome.DONE, "running")
    assert (tmp_path / "web.args").read_text() == "a b $(id) status\n"


async def test_a_failure_names_the_exit_code_and_the_last_line(tmp_path: Path) -> None:
    script(tmp_path, "web", "echo one; echo 'port 80 is taken' >&2; exit 7\n")
    assert await scripts.run(action("web", ScriptVerb.START), [tmp_path]) == (
        Outcome.FAILED,
        "exit 7: port 80 is taken",
    )


async def test_a_missing_script_says_where_it_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "web").write_text("not executable")
    ended = await scripts.run(action("web", ScriptVerb.START), [tmp_path])
    assert ended.outcome is Outcome.FAILED and str(tmp_path) in ended.detail


async def test_a_service_left_running_with_our_output_open_does_not_hold_us(tmp_path: Path) -> None:
    script(tmp_path, "web", 'sleep 60 & echo $! > "$0.pid"; echo started\n')
    began = time.monotonic()
    ended = await scripts.run(action("web", ScriptVerb.START), [tmp_path])
    pid = int((tmp_path / "web.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    assert ended.outcome is Outcome.DONE and time.monotonic() - began < 30


async def test_a_hanging_script_is_ended_with_everything_it_started(tmp_path: Path) -> None:
    script(tmp_path, "web", 'trap "" TERM; sleep 61 & echo $! > "$0.pid"; wait; sleep 61\n')
    ended = await scripts.run(action("web", ScriptVerb.START, timeout_s=0.3), [tmp_path])
    assert ended == (Outcome.TIMED_OUT, "no end within 0.3 s, killed")
    pid = int((tmp_path / "web.pid").read_text())
    for _ in range(200):
        if is_gone(pid):
            return
        await asyncio.sleep(0.02)
    pytest.fail("the script's child is still there")


async def test_endless_output_costs_no_memory(tmp_path: Path) -> None:
    script(tmp_path, "web", "head -c 3000000 /dev/zero; echo running\n")
    ended, output = await scripts.execute([str(tmp_path / "web"), "start"], 20)
    assert len(output) <= scripts.OUTPUT_LIMIT and ended.outcome in (Outcome.DONE, Outcome.FAILED)


async def test_a_program_that_cannot_be_run_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "web").write_bytes(b"\x00\x01")
    (tmp_path / "web").chmod(0o755)
    ended = await scripts.run(action("web", ScriptVerb.START), [tmp_path])
    assert ended.outcome is Outcome.FAILED and "Exec format error" in ended.detail


AGENT = """
echo "$0 $* ip=$OCF_RESKEY_ip nic=$OCF_RESKEY_nic" >> "$OCF_ROOT/log"
env | grep ^OCF_ | sort > "$OCF_ROOT/environment"
state="$OCF_ROOT/running"
case "$1" in
    start) touch "$state" ;;
    stop) rm -f "$state" ;;
    monitor)
        echo "running, says the text of an agent that is not"
        [ -f "$OCF_ROOT/answer" ] && exit "$(cat "$OCF_ROOT/answer")"
        [ -f "$state" ] || exit 7 ;;
    *) exit 3 ;;
esac
"""


@pytest.fixture
def ocf_root(tmp_path: Path) -> Path:
    for provider in ("alpha", "heartbeat"):
        (tmp_path / "ocf/resource.d" / provider).mkdir(parents=True)
    script(tmp_path / "ocf/resource.d/heartbeat", "agent", AGENT)
    return tmp_path / "ocf"


async def test_an_ocf_agent_is_started_asked_and_stopped(tmp_path: Path, ocf_root: Path) -> None:
    said = []
    verbs = (ScriptVerb.STATUS, ScriptVerb.START, ScriptVerb.STATUS, ScriptVerb.STOP, ScriptVerb.STATUS)
    for verb in verbs:
        said.append(await scripts.run(action("agent", verb, "ip=10.0.0.1", "nic=a=b c"), [tmp_path], ocf_root))
    assert said == [
        (Outcome.DONE, "stopped"),
        (Outcome.DONE, ""),
        (Outcome.DONE, "running"),
        (Outcome.DONE, ""),
        (Outcome.DONE, "stopped"),
    ]
    path = ocf_root / "resource.d/heartbeat/agent"
    assert (ocf_root / "log").read_text().splitlines() == [
        f"{path} {verb} ip=10.0.0.1 nic=a=b c" for verb in ("monitor", "start", "monitor", "stop", "monitor")
    ]


async def test_an_ocf_agent_gets_what_the_api_promises(tmp_path: Path, ocf_root: Path) -> None:
    await scripts.run(action("agent", ScriptVerb.START, "ip=1"), [tmp_path], ocf_root)
    assert (ocf_root / "environment").read_text().splitlines() == [
        "OCF_RA_VERSION_MAJOR=1",
        "OCF_RA_VERSION_MINOR=0",
        "OCF_RESKEY_CRM_meta_interval=0",
        "OCF_RESKEY_CRM_meta_timeout=5000",
        "OCF_RESKEY_ip=1",
        "OCF_RESOURCE_INSTANCE=agent",
        "OCF_RESOURCE_PROVIDER=heartbeat",
        "OCF_RESOURCE_TYPE=agent",
        f"OCF_ROOT={ocf_root}",
    ]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0, (Outcome.DONE, "running")),
        (7, (Outcome.DONE, "stopped")),
        (8, (Outcome.DONE, "running")),
        (5, (Outcome.FAILED, "exit 5: running, says the text of an agent that is not")),
    ],
)
async def test_an_ocf_agent_answers_by_its_exit_code(
    code: int, expected: tuple[Outcome, str], tmp_path: Path, ocf_root: Path
) -> None:
    (ocf_root / "answer").write_text(str(code))
    assert await scripts.run(action("agent", ScriptVerb.STATUS), [tmp_path], ocf_root) == expected


async def test_an_ocf_agent_takes_no_bare_words(tmp_path: Path, ocf_root: Path) -> None:
    ended = await scripts.run(action("agent", ScriptVerb.START, "10.0.0.1"), [tmp_path], ocf_root)
    path = ocf_root / "resource.d/heartbeat/agent"
    assert ended == (Outcome.FAILED, f"'10.0.0.1' is not key=value, which the OCF agent {path} takes")
    assert not (ocf_root / "log").exists()


def test_where_a_name_is_looked_for(tmp_path: Path, ocf_root: Path) -> None:
    """The folders in their order, then OCF agents, heartbeat's before the others."""
    first, second = tmp_path / "resource.d", tmp_path / "init.d"
    places = [ocf_root / "resource.d/alpha", ocf_root / "resource.d/heartbeat", second, first]
    found = []
    for place in places:
        place.mkdir(exist_ok=True)
        script(place, "web", "")
        found.append(scripts.locate("web", [first, second], ocf_root))
    assert found == [
        scripts.OcfAgent(places[0] / "web", ocf_root),
        scripts.OcfAgent(places[1] / "web", ocf_root),
        scripts.Script(second / "web"),
        scripts.Script(first / "web"),
    ]
    assert scripts.locate("web", [], tmp_path / "nowhere") is None


async def test_a_real_agent(tmp_path: Path) -> None:
    """Debian's resource-agents."""
    if not (scripts.OCF_ROOT / "resource.d/heartbeat/Dummy").exists():
        require_or_skip("the package resource-agents is not installed")
    state = f"state={tmp_path / 'state'}"
    said = [
        (await scripts.run(action("Dummy", verb, state, timeout_s=30), [tmp_path])).detail
        for verb in (ScriptVerb.STATUS, ScriptVerb.START, ScriptVerb.STATUS, ScriptVerb.STOP, ScriptVerb.STATUS)
    ]
    assert said == ["stopped", "", "running", "", "stopped"]


def require_or_skip(missing: str) -> None:
    if os.environ.get("HAFSM_REQUIRE_KERNEL") == "1":
        pytest.fail(f"HAFSM_REQUIRE_KERNEL=1, but {missing}", pytrace=False)
    pytest.skip(missing)
