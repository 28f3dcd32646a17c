"""Every remark about the files, as a whole sentence: what stands there, what was expected, what to do.

Each case replaces one piece of the scenario (an empty one appends) and lists all findings that follow.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

Remarks = Callable[[str, str, str], list[str]]
Case = tuple[str, str, tuple[str, ...]]

HA_CF: tuple[Case, ...] = (
    (
        "keepalive 2",
        "keepalive 2s",
        (
            (
                'error ha.cf:4: "keepalive" is "2s"; expected a time of at most 7 days: seconds such as 2 or '
                "1.5, or 200ms, or 1500us, without a blank"
            ),
        ),
    ),
    (
        "keepalive 2",
        "keepalive",
        ('error ha.cf:4: "keepalive" without a value; expected its value on the same line',),
    ),
    (
        "keepalive 2",
        "keepalive 0",
        ("error ha.cf:4: keepalive is 0; expected more than 0, such as 1 or 500ms",),
    ),
    (
        "keepalive 2",
        "keepalive 200 ms",
        (
            'warning ha.cf:4: "keepalive" has 2 values; expected one. The last one counts',
            (
                'error ha.cf:4: "keepalive" is "ms"; expected a time of at most 7 days: seconds such as 2 or '
                "1.5, or 200ms, or 1500us, without a blank"
            ),
        ),
    ),
    (
        "keepalive 2",
        "keepalive 1 2",
        ('warning ha.cf:4: "keepalive" has 2 values; expected one. The last one counts',),
    ),
    (
        "keepalive 2",
        "keepalive 1\nkeepalive 2",
        ('warning ha.cf:5: "keepalive" stands in line 4 already; expected it once. The last one counts',),
    ),
    (
        "keepalive 2",
        "keepalve 2",
        (('error ha.cf:4: unknown directive "keepalve"; expected a directive of ha.cf. Did you mean "keepalive"?'),),
    ),
    (
        "keepalive 2",
        "zzz",
        ('error ha.cf:4: unknown directive "zzz"; expected a directive of ha.cf',),
    ),
    (
        "keepalive 2",
        "Keepalive 2",
        (('error ha.cf:4: unknown directive "Keepalive"; expected a directive of ha.cf. Did you mean "keepalive"?'),),
    ),
    (
        "deadtime 30",
        "deadtime 4",
        (
            "error ha.cf:5: deadtime 4 s with keepalive 2 s; expected more than twice keepalive, 4 s",
            "warning ha.cf:6: warntime 10 s above deadtime 4 s never warns; expected less than deadtime",
        ),
    ),
    (
        "deadtime 30",
        "deadtime 7",
        (
            (
                "warning ha.cf:5: deadtime 7 s is less than 4 times keepalive 2 s; expected 8 s or more, so "
                "that two lost packets kill nobody"
            ),
            "warning ha.cf:6: warntime 10 s above deadtime 7 s never warns; expected less than deadtime",
        ),
    ),
    (
        "deadtime 30",
        "deadtime 130\ndeadping 3",
        (
            "error ha.cf:6: deadping 3 s with keepalive 2 s; expected more than twice keepalive, 4 s",
            "error ha.cf:8: initdead 120 s with deadtime 130 s; expected at least deadtime, 130 s",
        ),
    ),
    (
        "deadtime 30\n",
        "",
        (),
    ),
    (
        "warntime 10",
        "warntime 31",
        ("warning ha.cf:6: warntime 31 s above deadtime 30 s never warns; expected less than deadtime",),
    ),
    (
        "warntime 10",
        "warntime 0",
        ("error ha.cf:6: warntime is 0; expected more than 0, such as half of deadtime",),
    ),
    (
        "initdead 120",
        "initdead 20",
        ("error ha.cf:7: initdead 20 s with deadtime 30 s; expected at least deadtime, 30 s",),
    ),
    (
        "udpport 694",
        "udpport 70000",
        ('error ha.cf:8: "udpport" is "70000"; expected a whole number from 1 to 65535',),
    ),
    (
        "bcast eth0",
        "bcast eth0\nudpport 695",
        (
            'warning ha.cf:12: "udpport" stands in line 8 already; expected it once. The last one counts',
            (
                'error ha.cf:12: "udpport" stands below the medium of line 11; expected it above all media. '
                "Move it up; heartbeat would use 694 for the media above it"
            ),
        ),
    ),
    (
        "#ucast eth1 10.0.0.3",
        "udpport 694",
        (
            'warning ha.cf:12: "udpport" stands in line 8 already; expected it once. The last one counts',
            (
                'warning ha.cf:12: "udpport" stands below the medium of line 11; expected it above all '
                "media. Move it up; heartbeat would use 694 for the media above it"
            ),
        ),
    ),
    (
        "#ucast eth1 10.0.0.3",
        "serial /dev/ttyS1\nbaud 9600",
        (
            (
                'error ha.cf:13: "baud" stands below the medium of line 12; expected it above all media. '
                "Move it up; heartbeat would use 19200 for the media above it"
            ),
        ),
    ),
    (
        "bcast eth0",
        "bcast eth0 eth0",
        ("warning ha.cf:11: this medium on eth0 is given again; expected each medium once",),
    ),
    (
        "bcast eth0",
        "",
        (
            (
                "error ha.cf: no heartbeat medium; expected at least one bcast, ucast, mcast or serial line. "
                "Add one, better two"
            ),
        ),
    ),
    (
        "bcast eth0",
        "bcast",
        ('error ha.cf:11: "bcast" without a value; expected its value on the same line',),
    ),
    (
        "bcast eth0",
        "bcast an-interface-of-17c",
        (
            (
                'error ha.cf:11: "bcast" names "an-interface-of-17c"; expected an interface name of at most '
                "15 characters such as eth0"
            ),
        ),
    ),
    (
        "bcast eth0",
        "udp eth0",
        ('warning ha.cf:11: "udp" is an old word; expected "bcast". Both mean the same',),
    ),
    (
        "#ucast eth1 10.0.0.3",
        "ucast eth1",
        ('error ha.cf:12: "ucast eth1"; expected ucast INTERFACE HOST',),
    ),
    (
        "#ucast eth1 10.0.0.3",
        "ucast eth1 10.0.0.300",
        (('error ha.cf:12: "ucast eth1 10.0.0.300"; expected an IPv4 address such as 192.0.2.1, or a host name'),),
    ),
    (
        "#ucast eth1 10.0.0.3",
        "ucast eth1 nowhere.example",
        (
            (
                'error ha.cf:12: "ucast eth1 nowhere.example"; expected a host name that resolves to an IPv4 '
                "address. The resolver said: Name or service not known; write the address, or add the name "
                "to /etc/hosts"
            ),
        ),
    ),
    (
        "#ucast eth1 10.0.0.3",
        "ucast eth1 fd00::3",
        (('error ha.cf:12: "ucast eth1 fd00::3"; expected an IPv4 address or host name. Use ucast6'),),
    ),
    (
        "#mcast eth0 225.0.0.1 694 1 0",
        "mcast eth0 225.0.0.1 694 1",
        (('error ha.cf:13: "mcast eth0 225.0.0.1 694 1"; expected mcast INTERFACE GROUP PORT TTL LOOP, all five'),),
    ),
    (
        "#mcast eth0 225.0.0.1 694 1 0",
        "mcast eth0 10.0.0.1 694 1 0",
        (
            (
                'error ha.cf:13: "mcast eth0 10.0.0.1 694 1 0"; expected as GROUP a multicast address from '
                "224.0.0.0 to 239.255.255.255"
            ),
        ),
    ),
    (
        "#mcast eth0 225.0.0.1 694 1 0",
        "mcast eth0 225.0.0.1 694 5 0",
        ('error ha.cf:13: "mcast eth0 225.0.0.1 694 5 0"; expected as TTL a whole number from 0 to 4',),
    ),
    (
        "#mcast eth0 225.0.0.1 694 1 0",
        "mcast eth0 225.0.0.1 0 1 0",
        ('error ha.cf:13: "mcast eth0 225.0.0.1 0 1 0"; expected as PORT a whole number from 1 to 65535',),
    ),
    (
        "#mcast eth0 225.0.0.1 694 1 0",
        "mcast eth0 225.0.0.1 694 1 yes",
        ('error ha.cf:13: "mcast eth0 225.0.0.1 694 1 yes"; expected as LOOP a whole number from 0 to 1',),
    ),
    (
        "#serial /dev/ttyS0",
        "serial ttyS0",
        ('error ha.cf:10: "serial" names "ttyS0"; expected an absolute path',),
    ),
    (
        "#baud 19200",
        "baud 1200",
        (('error ha.cf:9: "baud" is "1200"; expected one of 9600, 19200, 38400, 57600, 115200, 230400, 460800'),),
    ),
    (
        "auto_failback on",
        "",
        ("warning ha.cf: no auto_failback line; expected auto_failback on or off. hafsm treats it as on",),
    ),
    (
        "auto_failback on",
        "auto_failback legacy",
        ("warning ha.cf:14: auto_failback is legacy; expected auto_failback on or off. hafsm treats it as on",),
    ),
    (
        "auto_failback on",
        "auto_failback maybe",
        ('error ha.cf:14: "auto_failback" is "maybe"; expected on, off or legacy',),
    ),
    (
        "auto_failback on",
        "nice_failback on",
        (
            "warning ha.cf: no auto_failback line; expected auto_failback on or off. hafsm treats it as on",
            (
                'warning ha.cf:14: "nice_failback" is an old word, which heartbeat 3 takes for auto_failback legacy '
                "here; expected auto_failback on or off. Replace it"
            ),
        ),
    ),
    (
        "auto_failback on",
        "auto_failback on\nautojoin any",
        ('error ha.cf:15: "autojoin" is "any"; expected none. A pair has two directors, and node lines name them',),
    ),
    (
        "auto_failback on",
        "auto_failback on\ncrm yes",
        (
            (
                'error ha.cf:15: "crm" is "yes"; expected off. hafsm does what haresources says; a Pacemaker cluster '
                "needs Pacemaker"
            ),
        ),
    ),
    (
        "#stonith baytech /etc/ha.d/conf/stonith.baytech",
        "stonith baytech",
        ("error ha.cf:15: stonith with other words; expected stonith TYPE FILE with an absolute file",),
    ),
    (
        "#stonith baytech /etc/ha.d/conf/stonith.baytech",
        "stonith a /b\nstonith c /d",
        (
            (
                'error ha.cf:16: a second stonith device for "*"; expected one stonith or stonith_host line for each '
                "host. Remove one of them"
            ),
        ),
    ),
    (
        "watchdog /dev/watchdog",
        "watchdog dog",
        ('error ha.cf:16: "watchdog" is "dog"; expected an absolute path',),
    ),
    (
        "logfacility local0",
        "logfacility local9",
        (('error ha.cf:3: "logfacility" is "local9"; expected a syslog facility such as local0 or daemon, or none'),),
    ),
    (
        "node server40.example.com",
        "node server42.example.com",
        (
            (
                "error ha.cf:17: no node is named server40.example.com, as uname -n calls this host; ha.cf "
                "names server42.example.com and server19.example.com; expected this host among them. Did you "
                'mean "server42.example.com"?'
            ),
            (
                'error haresources:1: "server40.example.com" is no node of ha.cf; expected a line to begin '
                'with server42.example.com or server19.example.com. Did you mean "server42.example.com"?'
            ),
        ),
    ),
    (
        "node server19.example.com",
        "",
        ("warning ha.cf:17: one node: server40.example.com; expected two. Nobody takes over when it fails",),
    ),
    (
        "node server19.example.com",
        "node server19.example.com third",
        (
            (
                "error ha.cf:17: 3 nodes: server40.example.com, server19.example.com, third; expected two; "
                "hafsm is made for a pair. Remove the others"
            ),
        ),
    ),
    (
        "node server19.example.com",
        "node server19.example.com SERVER40.example.com",
        (('warning ha.cf:18: node "server40.example.com" is named again; expected each node once. The first counts'),),
    ),
    (
        "node server19.example.com",
        "node server/19",
        (
            (
                'error ha.cf:18: "node" names "server/19"; expected a node name as uname -n shows it: '
                "letters, digits, dots, hyphens"
            ),
        ),
    ),
    (
        "node server40.example.com\nnode server19.example.com",
        "",
        (
            (
                "error ha.cf: no node line; expected a node line for each of the two directors. Write the "
                "names that uname -n shows"
            ),
        ),
    ),
    (
        "ping 192.168.2.251",
        "",
        ("warning ha.cf:21: ipfail without a ping node does nothing; expected a ping or ping_group line",),
    ),
    (
        "ping 192.168.2.251",
        "ping 192.168.2.251 192.168.2.251",
        (
            (
                'error ha.cf:19: ping node "192.168.2.251" is named again; expected each ping node or group '
                "once. Remove one of them"
            ),
        ),
    ),
    (
        "ping 192.168.2.251",
        "ping_group g",
        ('error ha.cf:19: "ping_group g"; expected a name and at least one host: ping_group NAME HOST …',),
    ),
    (
        "ping 192.168.2.251",
        "ping fd00::1",
        ('error ha.cf:19: "ping" names "fd00::1"; expected an IPv4 address or host name. Use ping6',),
    ),
    (
        "respawn hacluster /usr/lib64/heartbeat/ipfail",
        "",
        (
            (
                "warning ha.cf:19: ping nodes without ipfail are watched, but nothing follows from it; "
                "expected respawn hacluster /usr/lib/heartbeat/ipfail"
            ),
        ),
    ),
    (
        "respawn hacluster /usr/lib64/heartbeat/ipfail",
        "respawn hacluster",
        ('error ha.cf:21: "respawn hacluster"; expected respawn USER COMMAND with an absolute command',),
    ),
    (
        "respawn hacluster /usr/lib64/heartbeat/ipfail",
        "respawn hacluster /usr/lib64/heartbeat/ipfail\nrespawn root /usr/bin/dopd",
        (
            (
                "warning ha.cf:21: dopd talks to heartbeat's local API, which hafsm does not have; expected "
                "programs that run by themselves. Remove the line"
            ),
        ),
    ),
    (
        "apiauth ipfail gid=haclient uid=hacluster",
        "apiauth ipfail",
        (
            (
                'error ha.cf:22: "apiauth ipfail"; expected apiauth NAME uid=USER[,USER…] '
                "gid=GROUP[,GROUP…], at least one of the two"
            ),
        ),
    ),
    (
        "apiauth ipfail gid=haclient uid=hacluster",
        "apiauth ipfail uid=a\napiauth ipfail uid=b",
        ('error ha.cf:23: apiauth "ipfail" is given again; expected each name once. Remove one of them',),
    ),
    (
        "",
        "use_logd perhaps\n",
        (('error ha.cf:23: "use_logd" is "perhaps"; expected on or off (also true, yes, y, 1; false, no, n, 0)'),),
    ),
    (
        "",
        "hopfudge 256\n",
        ('error ha.cf:23: "hopfudge" is "256"; expected a whole number from 0 to 255',),
    ),
    (
        "",
        "debug \u0001\n",
        (
            (
                'error ha.cf:23: the line holds "\\x01", which is neither a letter nor a blank; expected '
                "UTF-8 text with ordinary blanks. Retype the line"
            ),
        ),
    ),
)

HARESOURCES: tuple[Case, ...] = (
    (
        "server40.example.com",
        "server41.example.com",
        (
            (
                'error haresources:1: "server41.example.com" is no node of ha.cf; expected a line to begin '
                'with server40.example.com or server19.example.com. Did you mean "server40.example.com"?'
            ),
        ),
    ),
    (
        " IPaddr::192.168.2.232/24/eth0:0 httpd ldirectord",
        "",
        (
            (
                'error haresources:1: "server40.example.com" stands alone; expected a node followed by at '
                "least one resource"
            ),
        ),
    ),
    (
        "192.168.2.232/24/eth0:0",
        "192.168.2.332/24/eth0:0",
        (
            (
                'error haresources:1: resource "IPaddr::192.168.2.332/24/eth0:0"; expected '
                "ADDRESS/BITS/INTERFACE:LABEL such as 192.0.2.10/24/eth0:0"
            ),
        ),
    ),
    (
        "192.168.2.232/24/eth0:0",
        "192.168.2.232/33/eth0:0",
        (
            (
                'error haresources:1: resource "IPaddr::192.168.2.232/33/eth0:0"; expected '
                "ADDRESS/BITS/INTERFACE:LABEL such as 192.0.2.10/24/eth0:0, BITS from 1 to 32"
            ),
        ),
    ),
    (
        "192.168.2.232/24/eth0:0",
        "192.168.2.232",
        (
            (
                'warning haresources:1: "IPaddr::192.168.2.232" has no prefix length; expected '
                "192.168.2.232/24 or what your network has. hafsm uses /32, heartbeat that of the "
                "interface's network"
            ),
        ),
    ),
    (
        "192.168.2.232/24/eth0:0",
        "192.168.2.232/24/eth0:a-label-too-long",
        (
            (
                'error haresources:1: resource "IPaddr::192.168.2.232/24/eth0:a-label-too-long"; expected '
                "INTERFACE:LABEL of at most 15 characters together, such as eth0:0 (the kernel's IFNAMSIZ)"
            ),
        ),
    ),
    (
        "192.168.2.232/24/eth0:0",
        "192.168.2.232/24/eth0/192.168.2.255/x",
        (
            (
                'error haresources:1: resource "IPaddr::192.168.2.232/24/eth0/192.168.2.255/x"; expected '
                "ADDRESS/BITS/INTERFACE:LABEL such as 192.0.2.10/24/eth0:0"
            ),
        ),
    ),
    (
        "192.168.2.232/24/eth0:0",
        "192.168.2.232::x",
        (
            (
                'error haresources:1: resource "IPaddr::192.168.2.232::x"; expected '
                "IPaddr::ADDRESS/BITS/INTERFACE:LABEL with one argument"
            ),
        ),
    ),
    (
        "IPaddr::192.168.2.232/24/eth0:0",
        "2001:db8::1/64",
        (
            (
                'error haresources:1: resource "2001:db8::1/64"; expected an IPv4 address or a script. Write '
                "IPv6addr::2001:db8:0:0:0:0:0:1/64"
            ),
        ),
    ),
    (
        "IPaddr::192.168.2.232/24/eth0:0",
        "IPaddr::192.168.2.232/24/eth0:0 IPv6addr::2001:db8:0:0:0:0:0:1/64",
        (
            (
                "warning haresources:1: address 2001:db8::1 has no virtual service; expected "
                "virtual6=[2001:db8::1]:PORT in ldirectord.cf"
            ),
        ),
    ),
    (
        "192.168.2.232/24/eth0:0",
        "192.168.2.233/24/eth0:0",
        (
            (
                "warning haresources:1: address 192.168.2.233 has no virtual service; expected "
                "virtual=192.168.2.233:PORT in ldirectord.cf"
            ),
            (
                "warning ldirectord.cf:8: virtual service tcp:192.168.2.232:80 has an address that no resource "
                "group holds; expected IPaddr::192.168.2.232/24 or the like in haresources"
            ),
        ),
    ),
    (
        "httpd",
        "../httpd",
        (
            (
                'error haresources:1: resource "../httpd"; expected script, script::argument::argument, or '
                "an IPv4 address"
            ),
        ),
    ),
    (
        "ldirectord",
        "ldirectord::",
        ('error haresources:1: resource "ldirectord::"; expected ldirectord or ldirectord::FILE',),
    ),
    (
        "ldirectord",
        "ldirectord::other.cf",
        (
            (
                "error other.cf: there is no such file; expected the virtual services. Create the file; it "
                "must be the same on both nodes"
            ),
        ),
    ),
    (
        "ldirectord",
        "ldirectord ldirectord::other.cf",
        (
            (
                "error haresources:1: ldirectord::other.cf is a second configuration file; expected one "
                "ldirectord file (ldirectord.cf). Put execute=other.cf into it: all virtual services move "
                "together"
            ),
        ),
    ),
    (
        " ldirectord",
        "",
        (
            (
                "warning ldirectord.cf: no resource group starts ldirectord: the virtual services stay "
                "unused; expected ldirectord in a line of haresources"
            ),
        ),
    ),
    (
        "",
        "server19.example.com IPaddr::192.168.2.232/24/eth0:0 smbd\n",
        (
            (
                'error haresources:2: a second group begins with "IPaddr::192.168.2.232/24/eth0:0"; expected '
                "the first resource to differ from that of line 1. Join the lines or begin with another "
                "resource"
            ),
        ),
    ),
    (
        "",
        "server19.example.com 192.168.2.232/24 smbd\n",
        (("error haresources:2: address 192.168.2.232 is a resource twice; expected it once (line 1 has it too)"),),
    ),
    (
        "",
        "server19.example.com nfs ldirectord\n",
        (
            (
                "warning haresources:2: ldirectord in groups of server40.example.com and "
                "server19.example.com; expected it in the groups of one node. Each node that holds one of "
                "them programs all virtual services"
            ),
        ),
    ),
    (
        "",
        "server19.example.com \\\n  nfs \\",
        (("warning haresources:2: the last line ends in a backslash; expected a line after it. Remove the backslash"),),
    ),
)

AUTHKEYS: tuple[Case, ...] = (
    (
        "auth 1\n",
        "",
        (
            (
                "error authkeys: no auth line; expected auth N, naming the key that signs. Write auth 1 into "
                "the first line"
            ),
        ),
    ),
    (
        "auth 1\n",
        "auth 2\n",
        (
            (
                "error authkeys:1: auth 2 names a key that is not there; expected a line 2 METHOD KEY. Make "
                "one with: echo 2 sha1 $(openssl rand -hex 20)"
            ),
        ),
    ),
    (
        "auth 1\n",
        "auth 16\n",
        ("error authkeys:1: an auth line without an index from 0 to 15; expected auth N with N from 0 to 15",),
    ),
    (
        "auth 1\n",
        "auth one more\n",
        ("error authkeys:1: an auth line that cannot be read; expected auth N with N from 0 to 15",),
    ),
    (
        "auth 1\n",
        "auth 1\nauth 1\n",
        ("error authkeys:2: a second auth line; expected one (line 1 has it). Remove one of them",),
    ),
    (
        "auth 1\n1 sha1 LabSecretKey\n",
        "1 sha1 k\nauth 1\n",
        ("warning authkeys:2: auth 1 stands below its key; expected it above. heartbeat refuses this order",),
    ),
    (
        "1 sha1 LabSecretKey",
        "1 sha1",
        (
            (
                "error authkeys:2: key 1 is sha1 without a key; expected a key behind sha1. Make one with: "
                "echo 1 sha1 $(openssl rand -hex 20)"
            ),
        ),
    ),
    (
        "1 sha1 LabSecretKey",
        "1 sha512 k",
        ("error authkeys:2: key 1 has no known method; expected crc, md5, sha1 or sha256 behind the index",),
    ),
    (
        "1 sha1 LabSecretKey",
        "1 sha256 k",
        (),
    ),
    (
        "1 sha1 LabSecretKey",
        "1 sha256",
        (
            (
                "error authkeys:2: key 1 is sha256 without a key; expected a key behind sha256. Make one with: "
                "echo 1 sha1 $(openssl rand -hex 20)"
            ),
        ),
    ),
    (
        "1 sha1 LabSecretKey",
        "1 crc k",
        ("error authkeys:2: key 1 is crc with a key; expected crc alone. Remove the word, or write sha1",),
    ),
    (
        "1 sha1 LabSecretKey",
        "1 crc",
        (
            (
                "warning authkeys:2: crc is the active method: anyone on the network can forge heartbeats "
                "and take the addresses; expected sha1. Make one with: echo 1 sha1 $(openssl rand -hex 20)"
            ),
        ),
    ),
    (
        "1 sha1 LabSecretKey",
        "16 sha1 k",
        (
            (
                "error authkeys:1: auth 1 names a key that is not there; expected a line 1 METHOD KEY. Make "
                "one with: echo 1 sha1 $(openssl rand -hex 20)"
            ),
            "error authkeys:2: a key index out of range; expected an index from 0 to 15",
        ),
    ),
    (
        "1 sha1 LabSecretKey",
        "1 sha1 k more",
        (
            (
                "warning authkeys:2: key 1 is followed by more words; expected a key without blanks. Only "
                "the first word is the key"
            ),
        ),
    ),
    (
        "1 sha1 LabSecretKey",
        "1 sha1 k\n1 sha1 l",
        ("error authkeys:3: key 1 is given again; expected it once (line 2 has it)",),
    ),
    (
        "1 sha1 LabSecretKey",
        "key",
        (
            (
                "error authkeys:1: auth 1 names a key that is not there; expected a line 1 METHOD KEY. Make "
                "one with: echo 1 sha1 $(openssl rand -hex 20)"
            ),
            (
                "error authkeys:2: neither an auth line nor a key line; expected INDEX METHOD KEY such as: 1 "
                "sha1 SomeKey"
            ),
        ),
    ),
)


@pytest.mark.parametrize(("old", "new", "expected"), HA_CF)
def test_ha_cf(remarks: Remarks, old: str, new: str, expected: tuple[str, ...]) -> None:
    assert tuple(remarks("ha.cf", old, new)) == expected


@pytest.mark.parametrize(("old", "new", "expected"), HARESOURCES)
def test_haresources(remarks: Remarks, old: str, new: str, expected: tuple[str, ...]) -> None:
    assert tuple(remarks("haresources", old, new)) == expected


@pytest.mark.parametrize(("old", "new", "expected"), AUTHKEYS)
def test_authkeys(remarks: Remarks, old: str, new: str, expected: tuple[str, ...]) -> None:
    assert tuple(remarks("authkeys", old, new)) == expected
