"""haresources: every kind of resource, every refusal word for word, and where heartbeat reads a file otherwise."""

from pathlib import Path

import pytest

from hafsm.config.findings import Report
from hafsm.config.haresources import PlacedGroup, read_haresources, read_resource
from hafsm.config.source import Source, split_lines
from hafsm.core.settings import Address, NodeName, Resource, ResourceKind, SyncDaemon, SyncRole


def read(text: str) -> tuple[tuple[PlacedGroup, ...], list[str]]:
    report = Report("haresources")
    source = Source(path=Path("haresources"), mode=0o644, lines=tuple(split_lines(text.encode())))
    groups = read_haresources(source, report, (NodeName("a"), NodeName("b")))
    return groups, [f"{f.level} {f}" for f in report.findings]


def words(groups: tuple[PlacedGroup, ...]) -> list[list[str]]:
    return [[resource.text for resource in placed.group.resources] for placed in groups]


@pytest.mark.parametrize(
    "resource",
    [
        Resource(
            kind=ResourceKind.ANNOUNCE,
            text="SendArp::192.0.2.10/eth1",
            announced=Address(ip="192.0.2.10", prefix=32, interface="eth1"),
        ),
        Resource(kind=ResourceKind.MAIL, text="MailTo::root", arguments=("root",)),
        Resource(
            kind=ResourceKind.MAIL,
            text="MailTo::root,ad.min+ha@example.com::Web-servers",
            arguments=("root,ad.min+ha@example.com", "Web-servers"),
        ),
        Resource(kind=ResourceKind.SYNC, text="LVSSyncDaemonSwap::master", sync=SyncDaemon(role=SyncRole.MASTER)),
        Resource(kind=ResourceKind.SYNC, text="LVSSyncDaemonSwap::slave", sync=SyncDaemon(role=SyncRole.BACKUP)),
        Resource(
            kind=ResourceKind.SYNC,
            text="LVSSyncDaemonSwap::backup::eth1::255",
            sync=SyncDaemon(role=SyncRole.BACKUP, interface="eth1", sync_id=255),
        ),
        Resource(
            kind=ResourceKind.SCRIPT,
            text="Filesystem::/dev/sda1::/mnt",
            script="Filesystem",
            arguments=("/dev/sda1", "/mnt"),
        ),
        Resource(
            kind=ResourceKind.SCRIPT,
            text="Dummy::state=/run/x::a=b=c",
            script="Dummy",
            arguments=("state=/run/x", "a=b=c"),
        ),
        Resource(kind=ResourceKind.SCRIPT, text="OCF::Dummy::one", script="OCF", arguments=("Dummy", "one")),
    ],
    ids=lambda resource: resource.text,
)
def test_a_word_becomes_a_resource(resource: Resource) -> None:
    assert read_resource(resource.text) == resource


SEND_ARP = "SendArp::ADDRESS/INTERFACE such as SendArp::192.0.2.10/eth1"
MAIL_TO = "MailTo::ADDRESS,ADDRESS or MailTo::ADDRESS,ADDRESS::SUBJECT"
MAILBOX = "mail addresses such as root or admin@example.com, with commas between them"
SYNC = "LVSSyncDaemonSwap::master or LVSSyncDaemonSwap::slave, then ::INTERFACE and ::ID if need be"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("SendArp", SEND_ARP),
        ("SendArp::192.0.2.10", SEND_ARP),
        ("SendArp::192.0.2.10/eth0::x", SEND_ARP),
        ("SendArp::192.0.2.10/24/eth0", f"{SEND_ARP}. It takes neither a prefix length nor a label"),
        ("SendArp::192.0.2.10/eth0:0", f"{SEND_ARP}. It takes neither a prefix length nor a label"),
        ("SendArp::192.0.2.300/eth0", SEND_ARP),
        ("MailTo", MAIL_TO),
        ("MailTo::root::Subject::more", MAIL_TO),
        ("MailTo::root::", MAIL_TO),
        ("MailTo::", MAILBOX),
        ("MailTo::root,", MAILBOX),
        ("MailTo::-oQ/tmp", MAILBOX),
        ("MailTo::root,-X/etc/passwd", MAILBOX),
        ("MailTo::a@b@c", MAILBOX),
        ("LVSSyncDaemonSwap", SYNC),
        ("LVSSyncDaemonSwap::primary", SYNC),
        ("LVSSyncDaemonSwap::master::eth0::1::2", SYNC),
        ("LVSSyncDaemonSwap::master::eth0::256", f"{SYNC}; a whole number from 0 to 255"),
        (
            "LVSSyncDaemonSwap::master::",
            f"{SYNC}; an interface name of at most 15 characters such as eth0",
        ),
    ],
)
def test_a_wrong_word_is_refused_with_what_was_expected(word: str, expected: str) -> None:
    groups, findings = read(f"a {word}\n")
    assert groups == ()
    assert findings == [f'error haresources:1: resource "{word}"; expected {expected}']


def test_lines_are_joined_and_numbered_by_the_first() -> None:
    groups, findings = read("# all\n\nA 10.0.0.1/24 \\\n   httpd \\\n\tnfs\n\nb web\n")
    assert words(groups) == [["10.0.0.1/24", "httpd", "nfs"], ["web"]]
    assert [(placed.line, placed.group.preferred) for placed in groups] == [(3, "a"), (7, "b")]
    assert findings == []


def test_a_comment_ends_a_line_and_does_not_continue_it() -> None:
    groups, findings = read("a web # not this \\\nb nfs#nor this\n")
    assert words(groups) == [["web"], ["nfs"]]
    assert findings == []


COMMENT = (
    "a comment on a line that continues another; expected comments on lines of their own between groups. "
    "heartbeat takes each word of it for a resource, and the group does not start there"
)
BEHIND = (
    "something stands behind the backslash; expected the backslash as the last character of the line. "
    "heartbeat does not continue such a line, and takes the backslash for a resource"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a web \\\n nfs # the disk\n", [f"warning haresources:2: {COMMENT}"]),
        ("a web \\\n nfs # one \n", [f"warning haresources:2: {COMMENT}"]),
        ("a web \\ # one\n nfs\n", [f"warning haresources:1: {BEHIND}"]),
        ("a web \\ \t\n nfs\n", [f"warning haresources:1: {BEHIND}"]),
        (
            "a web \\# one\n nfs # two\n",
            [f"warning haresources:1: {BEHIND}", f"warning haresources:2: {COMMENT}"],
        ),
    ],
)
def test_what_heartbeat_would_misread_is_read_as_meant_and_said(text: str, expected: list[str]) -> None:
    groups, findings = read(text)
    assert words(groups) == [["web", "nfs"]]
    assert findings == expected


def test_words_that_a_backslash_glues_together_are_said() -> None:
    groups, findings = read("a web\\\nnfs\n")
    assert words(groups) == [["webnfs"]]
    assert findings == [
        'warning haresources:2: "web" and "nfs" are one word, since no blank parts them; '
        "expected a blank before the backslash or at the beginning of the next line"
    ]


def test_a_comment_between_continued_lines_ends_the_group() -> None:
    """As in heartbeat, where its words would be resources besides; the rest is then no group."""
    groups, findings = read("a web \\\n# the disk\n nfs\n")
    assert words(groups) == [["web"]]
    assert findings == [
        f"warning haresources:2: {COMMENT}",
        'error haresources:3: "nfs" is no node of ha.cf; expected a line to begin with a or b',
        'error haresources:3: "nfs" stands alone; expected a node followed by at least one resource',
    ]


def test_a_file_that_ends_in_a_backslash_is_read_to_its_end() -> None:
    groups, findings = read("a web \\\n nfs \\\n")
    assert words(groups) == [["web", "nfs"]]
    assert findings == [
        "warning haresources:1: the last line ends in a backslash; expected a line after it. Remove the backslash"
    ]
