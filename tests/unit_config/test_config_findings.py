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
        (('error ha.cf:12: "ucast eth1 fd00::3"; expected an IPv4 address or host name'),),
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
        "ping6 fd00::1",
        ('error ha.cf:19: "ping6" is IPv6, which is not supported yet; expected IPv4. Use mcast, ucast or ping',),
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
                'error haresources:1: resource "2001:db8::1/64"; expected an IPv4 address or a script. IPv6 '
                "addresses are not supported yet"
            ),
        ),
    ),
    (
        "IPaddr::192.168.2.232/24/eth0:0",
        "IPaddr2::2001:db8::1/64",
        (
            (
                'error haresources:1: resource "IPaddr2::2001:db8::1/64"; expected '
                "IPaddr2::ADDRESS/BITS/INTERFACE:LABEL with one argument"
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
                "error haresources:1: ldirectord::other.cf is a second configuration file, which is not "
                "supported yet; expected one ldirectord file (ldirectord.cf). Put all virtual services into "
                "one file"
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

LDIRECTORD_CF: tuple[Case, ...] = (
    (
        "checktimeout=3",
        "checktimeout=0",
        ("error ldirectord.cf:2: checktimeout=0; expected a whole number from 1 to 86400",),
    ),
    (
        "checktimeout=3",
        "checktimeout=3s",
        ('warning ldirectord.cf:2: checktimeout: "3s" is read as 3; expected digits alone',),
    ),
    (
        "checktimeout=3",
        "checktimeout",
        ('error ldirectord.cf:2: "checktimeout" without "="; expected checktimeout = value',),
    ),
    (
        "checktimeout=3",
        "chektimeout=3",
        (
            (
                'error ldirectord.cf:2: unknown directive "chektimeout"; expected a directive of '
                'ldirectord.cf. Did you mean "checktimeout"?'
            ),
        ),
    ),
    (
        "checktimeout=3",
        " checktimeout=3",
        (
            (
                'error ldirectord.cf:2: "checktimeout" is indented outside a virtual section; expected a '
                "global directive in column 0, or a virtual= line above"
            ),
        ),
    ),
    (
        "checktimeout=3",
        "checktimeout=3 # short",
        (
            (
                "warning ldirectord.cf:2: a comment behind a global directive; expected it on a line of its "
                "own. ldirectord takes it for part of the value"
            ),
        ),
    ),
    (
        "checktimeout=3",
        "checktimeout=3\ncheckcount=2",
        ("warning ldirectord.cf:3: checkcount: only ping checks use it; expected nothing. Remove the line",),
    ),
    (
        "autoreload=yes",
        "autoreload=Yes",
        ("error ldirectord.cf:4: autoreload=Yes; expected yes or no, in lower case",),
    ),
    (
        "autoreload=yes",
        'emailalert="a@b"',
        (
            (
                'error ldirectord.cf:4: "emailalert" is not supported yet; expected only directives that '
                "hafsm carries out. Remove the line"
            ),
        ),
    ),
    (
        "quiescent=no",
        "quiescent=no\nquiescent=yes",
        ("warning ldirectord.cf:6: quiescent: given in line 5 already; expected it once. The last one counts",),
    ),
    (
        "quiescent=no",
        "cleanstop=no",
        ("error ldirectord.cf:5: cleanstop=no; expected cleanstop=yes. The other value is not supported yet",),
    ),
    (
        "quiescent=no",
        "scheduler=rr",
        ('error ldirectord.cf:5: "scheduler" stands in the wrong place; expected it in a virtual section',),
    ),
    (
        "quiescent=no",
        "fallback=127.0.0.1:httpx",
        (
            (
                "error ldirectord.cf:5: fallback=127.0.0.1:httpx; expected a port from 0 to 65535, or a name "
                "of /etc/services"
            ),
        ),
    ),
    (
        "virtual=192.168.2.232:80",
        "virtual=192.168.2.232",
        (
            (
                "error ldirectord.cf:8: virtual=192.168.2.232; expected ADDRESS:PORT such as 192.0.2.1:80, "
                "or a firewall mark such as 7. ldirectord would take its first digits for a firewall mark"
            ),
        ),
    ),
    (
        "virtual=192.168.2.232:80",
        "virtual=192.168.2.332:80",
        (
            (
                "error ldirectord.cf:8: virtual=192.168.2.332:80; expected an IPv4 address such as "
                "192.0.2.1, or a host name"
            ),
        ),
    ),
    (
        "virtual=192.168.2.232:80",
        "virtual=192.168.2.232:80 x",
        (
            (
                "error ldirectord.cf:8: virtual=192.168.2.232:80 x; expected a port number, or a tcp name of "
                "/etc/services"
            ),
        ),
    ),
    (
        "virtual=192.168.2.232:80",
        "virtual=[fd00::1]:80",
        (
            (
                "error ldirectord.cf:8: virtual=[fd00::1]:80; expected ADDRESS:PORT such as 192.0.2.1:80, or "
                "a firewall mark such as 7. IPv6 is not supported yet"
            ),
        ),
    ),
    (
        "virtual=192.168.2.232:80",
        "virtual6=[fd00::1]:80",
        (
            (
                'error ldirectord.cf:8: "virtual6" is not supported yet; expected virtual=ADDRESS:PORT with '
                "an IPv4 address"
            ),
        ),
    ),
    (
        "virtual=192.168.2.232:80",
        "virtual=0",
        ("error ldirectord.cf:8: virtual=0; expected a firewall mark from 1 to 4294967295",),
    ),
    (
        "virtual=192.168.2.232:80",
        "virtual=7",
        (("error ldirectord.cf:8: protocol=tcp with firewall mark 7; expected protocol=fwm for a firewall mark"),),
    ),
    (
        "virtual=192.168.2.232:80",
        "virtual=192.168.2.232:0",
        ("error ldirectord.cf:8: virtual=192.168.2.232:0; expected a port from 1 to 65535",),
    ),
    (
        "virtual=192.168.2.232:80",
        "virtual=nowhere.example:80",
        (
            (
                "error ldirectord.cf:8: virtual=nowhere.example:80; expected a host name that resolves to an "
                "IPv4 address. The resolver said: Name or service not known; write the address, or add the "
                "name to /etc/hosts"
            ),
        ),
    ),
    (
        "virtual=192.168.2.232:80",
        "virtual=192.168.2.234:80",
        (
            (
                "warning haresources:1: address 192.168.2.232 has no virtual service; expected "
                "virtual=192.168.2.232:PORT in ldirectord.cf"
            ),
            (
                "warning ldirectord.cf:8: virtual service tcp:192.168.2.234:80 has an address that no resource "
                "group holds; expected IPaddr::192.168.2.234/24 or the like in haresources"
            ),
        ),
    ),
    (
        "real=192.168.2.31:80 gate",
        "real=192.168.2.31:80",
        (
            (
                "error ldirectord.cf:9: real=192.168.2.31:80; expected HOST:PORT gate, masq or ipip, such as "
                "192.0.2.31:80 gate"
            ),
        ),
    ),
    (
        "real=192.168.2.31:80 gate",
        "real=192.168.2.31:80 gatte",
        (
            (
                'error ldirectord.cf:9: forwarding "gatte"; expected gate, masq or ipip behind the server. '
                'Did you mean "gate"?'
            ),
        ),
    ),
    (
        "real=192.168.2.31:80 gate",
        "real=web_db1:80 gate",
        (
            (
                "error ldirectord.cf:9: real=web_db1:80 gate; expected a host of letters, digits, dots and "
                "hyphens, as HOST:PORT"
            ),
        ),
    ),
    (
        "real=192.168.2.31:80 gate",
        "real=192.168.2:80 gate",
        (
            (
                "error ldirectord.cf:9: real=192.168.2:80 gate; expected an IPv4 address such as 192.0.2.1, "
                "or a host name"
            ),
        ),
    ),
    (
        "real=192.168.2.31:80 gate",
        "real=[fd00::31]:80 gate",
        (
            (
                "error ldirectord.cf:9: real=[fd00::31]:80 gate; expected an IPv4 address or host name. IPv6 "
                "is not supported yet"
            ),
        ),
    ),
    (
        "real=192.168.2.31:80 gate",
        "real=192.168.2.31:8080 gate",
        (("warning ldirectord.cf:9: gate cannot change the port: traffic goes to port 80; expected port 80, or masq"),),
    ),
    (
        "real=192.168.2.31:80 gate",
        "real=192.168.2.31 gate",
        ("warning ldirectord.cf:9: no port: 80 is used; expected HOST:80. ldirectord would use port 0",),
    ),
    (
        "real=192.168.2.31:80 gate",
        "real=192.168.2.31:80 gate 65536",
        (
            (
                'error ldirectord.cf:9: "65536" behind the forwarding word; expected as weight a whole '
                "number from 0 to 65535"
            ),
        ),
    ),
    (
        "real=192.168.2.31:80 gate",
        "real=192.168.2.31:80 gate -1",
        (
            (
                'error ldirectord.cf:9: "-1" behind the forwarding word; expected as weight a whole number '
                "from 0 to 65535"
            ),
        ),
    ),
    (
        "real=192.168.2.31:80 gate",
        'real=192.168.2.31:80 gate 1 "a"',
        (
            (
                'error ldirectord.cf:9: real=192.168.2.31:80 gate 1 "a"; expected both "REQUEST","RECEIVE" '
                "in double quotes, or none"
            ),
        ),
    ),
    (
        "real=192.168.2.31:80 gate",
        'real=192.168.2.31:80 gate 1 "a',
        (
            (
                'error ldirectord.cf:9: real=192.168.2.31:80 gate 1 "a; expected both "REQUEST","RECEIVE" in '
                "double quotes, or none"
            ),
        ),
    ),
    (
        "real=192.168.2.31:80 gate",
        'real=192.168.2.31:80 gate 1 "l:5" "u:10"',
        (
            (
                'warning ldirectord.cf:9: real: threshold "l:5" stands in quotes; expected it without. '
                "ldirectord takes it for a request"
            ),
            (
                'warning ldirectord.cf:9: real: threshold "u:10" stands in quotes; expected it without. '
                "ldirectord takes it for a request"
            ),
        ),
    ),
    (
        "real=192.168.2.31:80 gate",
        "real=192.168.2.31:80 gate 1 l:10 u:5",
        ("error ldirectord.cf:9: thresholds l:10 u:5; expected l:N not above u:N (the kernel refuses it)",),
    ),
    (
        "real=192.168.2.31:80 gate",
        "real=192.168.2.31->192.168.2.30:80 gate",
        (
            (
                "error ldirectord.cf:9: real=192.168.2.31->192.168.2.30:80 gate; expected a range A->B that "
                "rises and has at most 4096 addresses"
            ),
        ),
    ),
    (
        "real=192.168.2.31:80 gate",
        "real=192.168.2.31:80 gate\n\treal=192.168.2.31:80 gate",
        (
            (
                "warning ldirectord.cf:10: real server 192.168.2.31:80 is in this section already; expected "
                "each real server once"
            ),
        ),
    ),
    (
        "real=192.168.2.31:80 gate",
        "real=192.168.2.31:80 gate\n\treal=192.168.2.31:80 gate 5",
        (
            (
                "error ldirectord.cf:10: real server 192.168.2.31:80 is in this section already; expected "
                "each real server once"
            ),
        ),
    ),
    (
        "real=192.168.2.31:80 gate",
        'real=192.168.2.31:80 gate "/i","a("',
        (
            (
                'error ldirectord.cf:9: real with "/i", "a("; expected a regular expression that Perl and '
                "Python share. It does not compile: missing ), unterminated subpattern at position 1"
            ),
        ),
    ),
    (
        "\treal=192.168.2.31:80 gate\n\treal=192.168.2.41:80 gate\n",
        "",
        (("warning ldirectord.cf:8: a virtual service without a real server; expected a real= line in its section"),),
    ),
    (
        "\treal=192.168.2.31:80 gate",
        "  real=192.168.2.31:80 gate",
        (('error ldirectord.cf:9: "real" is indented by 2; expected a tab or at least 4 blanks in a virtual section'),),
    ),
    (
        "\treal=192.168.2.31:80 gate",
        "\n\treal=192.168.2.31:80 gate",
        (
            (
                "warning ldirectord.cf:9: an empty line in a virtual section; expected none. ldirectord ends "
                "the section here"
            ),
        ),
    ),
    (
        "fallback=127.0.0.1:80 gate",
        "fallback=127.0.0.1:80 gat",
        (
            (
                'error ldirectord.cf:11: forwarding "gat"; expected gate, masq or ipip behind the server. '
                'Did you mean "gate"?'
            ),
        ),
    ),
    (
        "fallback=127.0.0.1:80 gate",
        "fallback=127.0.0.1:8080 gate",
        (
            (
                "warning ldirectord.cf:11: gate cannot change the port: the fallback is reached at port 80; "
                "expected port 80, or masq"
            ),
        ),
    ),
    (
        "fallback=127.0.0.1:80 gate",
        "fallback=[::1]:80",
        (
            (
                "error ldirectord.cf:11: fallback=[::1]:80; expected an IPv4 address or host name, such as "
                "127.0.0.1:80. IPv6 is not supported yet"
            ),
        ),
    ),
    (
        "service=http",
        "service=https",
        (
            (
                'error ldirectord.cf:12: service "https" is not supported yet; expected http or none. '
                "checktype=connect works for any port"
            ),
        ),
    ),
    (
        "service=http",
        "service=htp",
        ('error ldirectord.cf:12: service=htp; expected one of http, none. Did you mean "http"?',),
    ),
    (
        "service=http",
        "service=none",
        (
            (
                "warning ldirectord.cf:12: checktype=negotiate without a service checks nothing: every real "
                "server counts as up; expected service=http, or checktype=connect"
            ),
        ),
    ),
    (
        "scheduler=rr",
        "scheduler=wllc",
        (
            (
                "error ldirectord.cf:13: scheduler=wllc; expected a scheduler of the kernel: rr, wrr, lc, "
                'wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh, twos. Did you mean "wlc"?'
            ),
        ),
    ),
    (
        "scheduler=rr",
        "scheduler=rr\n\tnetmask=255.255.255.0",
        ("warning ldirectord.cf:14: netmask without persistent; expected persistent= too. It has no effect",),
    ),
    (
        "#netmask=255.255.255.255",
        "netmask=255.0.255.0",
        ("error ldirectord.cf:15: netmask=255.0.255.0; expected a netmask such as 255.255.255.0",),
    ),
    (
        "protocol=tcp",
        "protocol=udp",
        ("error ldirectord.cf:12: service=http with protocol=udp; expected protocol=tcp",),
    ),
    (
        "protocol=tcp",
        "protocol=fwm",
        (
            (
                'error ldirectord.cf:8: protocol=fwm with address "192.168.2.232:80"; expected protocol=tcp '
                "or udp for an address"
            ),
        ),
    ),
    (
        "protocol=tcp",
        "protocol=sctp",
        ("error ldirectord.cf:16: protocol=sctp; expected one of tcp, udp, fwm",),
    ),
    (
        "checktype=negotiate",
        "checktype=ping",
        (
            (
                'error ldirectord.cf:17: checktype "ping" is not supported yet; expected one of negotiate, '
                "connect, on, off"
            ),
        ),
    ),
    (
        "checktype=negotiate",
        "checktype=5",
        (('error ldirectord.cf:17: checktype "5" is not supported yet; expected one of negotiate, connect, on, off'),),
    ),
    (
        "checktype=negotiate",
        "checktype=conect",
        (
            (
                "error ldirectord.cf:17: checktype=conect; expected one of negotiate, connect, on, off. Did "
                'you mean "connect"?'
            ),
        ),
    ),
    (
        "checkport=80",
        "checkport=0",
        ("error ldirectord.cf:18: checkport=0; expected a whole number from 1 to 65535",),
    ),
    (
        "checkport=80",
        "checkinterval=5",
        (
            (
                "warning ldirectord.cf:18: checkinterval in a section without fork=yes; expected fork=yes "
                "above (the global one, 1 s, counts)"
            ),
        ),
    ),
    (
        'request="index.html"',
        "request=index.html",
        (
            (
                "error ldirectord.cf:19: request=index.html; expected text in double quotes, not empty, such "
                'as "index.html"'
            ),
        ),
    ),
    (
        'request="index.html"',
        'request="a b"',
        (('error ldirectord.cf:19: request="a b"; expected a path without blanks, in ASCII; write %20 for a blank'),),
    ),
    (
        'request="index.html"',
        'request="http://10.0.0.9/x"',
        (
            (
                "warning ldirectord.cf:19: request: the request is a URL: 10.0.0.9 is asked instead of the "
                "real server; expected a path"
            ),
        ),
    ),
    (
        'request="index.html"',
        'request="http://u:p@10.0.0.9/x"',
        (("error ldirectord.cf:19: a user in a URL is not supported yet; expected a URL without user and password"),),
    ),
    (
        'request="index.html"',
        'request="page#5"',
        (
            (
                "warning ldirectord.cf:19: # inside quotes begins a comment; expected text without #. "
                "ldirectord cuts the line there too"
            ),
            ('error ldirectord.cf:19: request="page; expected text in double quotes, not empty, such as "index.html"'),
        ),
    ),
    (
        '#\treceive="Test Page"',
        '\treceive="a(b"',
        (
            (
                'error ldirectord.cf:20: receive="a(b"; expected a regular expression that Perl and Python '
                "share. It does not compile: missing ), unterminated subpattern at position 1"
            ),
        ),
    ),
    (
        '#\treceive="Test Page"',
        '\treceive="[[:alpha:]]"',
        (
            (
                'error ldirectord.cf:20: receive="[[:alpha:]]"; expected a regular expression that Perl and '
                'Python share. "[[:" means something in Perl only'
            ),
        ),
    ),
    (
        '#\treceive="Test Page"',
        '\treceive="\\Qa\\E"',
        (
            (
                'error ldirectord.cf:20: receive="\\Qa\\E"; expected a regular expression that Perl and Python '
                'share. "\\Q" means something in Perl only'
            ),
        ),
    ),
    (
        '#\treceive="Test Page"',
        '\treceive="a"\n\thttpmethod=head',
        (
            (
                "error ldirectord.cf:20: receive with httpmethod=HEAD never matches: the answer has no body; "
                "expected one of the two"
            ),
        ),
    ),
    (
        '#\treceive="Test Page"',
        "\thttpmethod=POST",
        ("error ldirectord.cf:20: httpmethod=POST; expected one of GET, HEAD",),
    ),
    (
        "#\tvirtualhost=",
        '\tvirtualhost="a b"',
        ('error ldirectord.cf:21: virtualhost="a b"; expected a host name such as www.example.com',),
    ),
    (
        "",
        "virtual=192.168.2.232:http\n\treal=10.0.0.1:80 gate\n",
        (
            (
                "error ldirectord.cf:22: virtual service tcp:192.168.2.232:80 is here again; expected it "
                "once (line 8 has it). Join the two sections"
            ),
        ),
    ),
    (
        "",
        "virtual=192.168.2.232:8080\n\treal=10.0.0.1:8080 gate\n",
        (
            (
                "warning ldirectord.cf:22: checktype=negotiate without a service checks nothing: every real "
                "server counts as up; expected service=http, or checktype=connect"
            ),
        ),
    ),
    (
        "",
        "virtual=192.168.2.232:443\n\treal=10.0.0.1:443 gate\n",
        (
            (
                "error ldirectord.cf:22: port 443 implies service=https, which is not supported yet; "
                "expected service=http or none. checktype=connect works for any port"
            ),
        ),
    ),
    (
        "",
        "virtual=192.168.2.232:123\n\treal=10.0.0.1:123 gate\n\tprotocol=udp\n\tchecktype=connect\n",
        (
            (
                "error ldirectord.cf:25: checktype=connect with protocol=udp is not supported yet; expected "
                "checktype=on. ldirectord pings instead"
            ),
        ),
    ),
    (
        "",
        "virtual=7\n\treal=10.0.0.1 gate\n\tchecktype=connect\n",
        (("error ldirectord.cf:23: no port to connect to; expected checkport=, or a port behind the real server"),),
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


@pytest.mark.parametrize(("old", "new", "expected"), LDIRECTORD_CF)
def test_ldirectord_cf(remarks: Remarks, old: str, new: str, expected: tuple[str, ...]) -> None:
    assert tuple(remarks("ldirectord.cf", old, new)) == expected
