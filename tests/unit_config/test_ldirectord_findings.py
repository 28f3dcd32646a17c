"""Every remark about ldirectord.cf, as a whole sentence: what stands there, what was expected, what to do.

Each case is a piece of a file and all findings that follow from it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from hafsm.config import ldirectord_scope
from hafsm.config.findings import FINDINGS_LIMIT
from hafsm.config.ldirectord_directives import DIRECTIVES
from hafsm.config.load import load_ldirectord

SECTION = "virtual=192.0.2.1:80\n\treal=10.77.0.1:80 gate\n"
"""Sound, and without a remark."""

GLOBAL_LINES: dict[str, tuple[str, ...]] = {
    "checktimeout=0": ("error ldirectord.cf:1: checktimeout=0; expected a whole number from 1 to 86400",),
    "checktimeout=x": ("error ldirectord.cf:1: checktimeout=x; expected a whole number from 1 to 86400",),
    "checktimeout=5s": ('warning ldirectord.cf:1: checktimeout: "5s" is read as 5; expected digits alone',),
    "negotiatetimeout=0": ("error ldirectord.cf:1: negotiatetimeout=0; expected a whole number from 1 to 86400",),
    "negotiatetimeout=x": ("error ldirectord.cf:1: negotiatetimeout=x; expected a whole number from 1 to 86400",),
    "negotiatetimeout=5s": ('warning ldirectord.cf:1: negotiatetimeout: "5s" is read as 5; expected digits alone',),
    "checkinterval=0": ("error ldirectord.cf:1: checkinterval=0; expected a whole number from 1 to 86400",),
    "checkinterval=x": ("error ldirectord.cf:1: checkinterval=x; expected a whole number from 1 to 86400",),
    "checkinterval=5s": ('warning ldirectord.cf:1: checkinterval: "5s" is read as 5; expected digits alone',),
    "failurecount=0": ("error ldirectord.cf:1: failurecount=0; expected a whole number from 1 to 1000",),
    "failurecount=x": ("error ldirectord.cf:1: failurecount=x; expected a whole number from 1 to 1000",),
    "failurecount=5s": ('warning ldirectord.cf:1: failurecount: "5s" is read as 5; expected digits alone',),
    "checktimeout": ('error ldirectord.cf:1: "checktimeout" without "="; expected checktimeout = value',),
    "checktimeout=3\nchecktimeout=4": (
        "warning ldirectord.cf:2: checktimeout: given in line 1 already; expected it once. The last one counts",
    ),
    "checkcount=3": (
        "warning ldirectord.cf:1: checkcount: only ping checks use it; expected nothing. Remove the line",
    ),
    "checkcount=0": ("error ldirectord.cf:1: checkcount=0; expected a whole number from 1 to 1000",),
    "checkcount=1001": ("error ldirectord.cf:1: checkcount=1001; expected a whole number from 1 to 1000",),
    "checkinterval=86401": ("error ldirectord.cf:1: checkinterval=86401; expected a whole number from 1 to 86400",),
    "quiescent=maybe": ("error ldirectord.cf:1: quiescent=maybe; expected yes or no, in lower case",),
    "quiescent=yes ": (
        "warning ldirectord.cf:1: quiescent: blanks behind the value; expected none. ldirectord refuses them",
    ),
    "readdquiescent=maybe": ("error ldirectord.cf:1: readdquiescent=maybe; expected yes or no, in lower case",),
    "readdquiescent=yes ": (
        "warning ldirectord.cf:1: readdquiescent: blanks behind the value; expected none. ldirectord refuses them",
    ),
    "cleanstop=maybe": ("error ldirectord.cf:1: cleanstop=maybe; expected yes or no, in lower case",),
    "cleanstop=yes ": (
        "warning ldirectord.cf:1: cleanstop: blanks behind the value; expected none. ldirectord refuses them",
    ),
    "autoreload=maybe": ("error ldirectord.cf:1: autoreload=maybe; expected yes or no, in lower case",),
    "autoreload=yes ": (
        "warning ldirectord.cf:1: autoreload: blanks behind the value; expected none. ldirectord refuses them",
    ),
    "fork=maybe": ("error ldirectord.cf:1: fork=maybe; expected yes or no, in lower case",),
    "fork=yes ": ("warning ldirectord.cf:1: fork: blanks behind the value; expected none. ldirectord refuses them",),
    "quiescent=YES": ("error ldirectord.cf:1: quiescent=YES; expected yes or no, in lower case",),
    "quiescent=yes # why": (
        "warning ldirectord.cf:1: a comment behind a global directive; expected it on a line of its own. "
        "ldirectord takes it for part of the value",
        "warning ldirectord.cf:1: quiescent: blanks behind the value; expected none. ldirectord refuses them",
    ),
    "quiescent": ('error ldirectord.cf:1: "quiescent" without "="; expected quiescent = value',),
    "supervised": (
        "warning ldirectord.cf:1: supervised: hafsm always stays in the foreground; expected nothing. Remove the line",
    ),
    "supervised=yes": (
        "warning ldirectord.cf:1: supervised: hafsm always stays in the foreground; expected nothing. Remove the line",
    ),
    "supervised=1": (
        "warning ldirectord.cf:1: supervised: hafsm always stays in the foreground; expected nothing. Remove the line",
        "error ldirectord.cf:1: supervised=1; expected yes or no, in lower case",
    ),
    "fallback=127.0.0.1:80 gate x": (
        "error ldirectord.cf:1: fallback=127.0.0.1:80 gate x; expected HOST:PORT and at most one of gate, masq, ipip",
    ),
    "fallback=127.0.0.1:80 gat": (
        'error ldirectord.cf:1: forwarding "gat"; expected gate, masq or ipip behind the server. Did you mean "gate"?',
    ),
    "fallback=[::1]:80 ipip": (
        "warning ldirectord.cf:1: fallback: an IPv6 address; expected fallback6=. ldirectord refuses it here",
    ),
    "fallback=[::1]:80": (
        "warning ldirectord.cf:1: fallback: an IPv6 address; expected fallback6=. ldirectord refuses it here",
    ),
    "fallback=::1": (
        "error ldirectord.cf:1: fallback=::1; expected an address or host name, such as 127.0.0.1:80. An "
        "IPv6 address stands in brackets: [2001:db8::1]:80",
    ),
    "fallback=127.0.0.1:nosuch": (
        "error ldirectord.cf:1: fallback=127.0.0.1:nosuch; expected a port from 0 to 65535, or a name of /etc/services",
    ),
    "fallback=127.0.0.1:http": (
        'warning ldirectord.cf:1: fallback: port "http" is not known for both tcp and udp; expected the '
        "port's number. ldirectord refuses it",
    ),
    "fallback=127.0.0.1:8080": (
        "warning ldirectord.cf:1: gate cannot change the port: the fallback is reached at the port of each "
        "service; expected no port, or masq",
    ),
    "fallback=127.0.0.1->127.0.0.2:80": (
        "error ldirectord.cf:1: fallback=127.0.0.1->127.0.0.2:80; expected an address or host name, such "
        "as 127.0.0.1:80",
    ),
    "fallback=no host": (
        "error ldirectord.cf:1: fallback=no host; expected a host name that resolves to an IPv4 address. "
        "The resolver said: Name or service not known; write the address, or add the name to /etc/hosts",
    ),
    "fallback=nosuch.example": (
        "error ldirectord.cf:1: fallback=nosuch.example; expected a host name that resolves to an IPv4 "
        "address. The resolver said: Name or service not known; write the address, or add the name to "
        "/etc/hosts",
    ),
    "fallback6=127.0.0.1:80": (
        "warning ldirectord.cf:1: fallback6: an IPv4 address; expected fallback=. ldirectord refuses it here",
    ),
    "fallback6=::1": (
        "error ldirectord.cf:1: fallback6=::1; expected an address or host name, such as 127.0.0.1:80. An "
        "IPv6 address stands in brackets: [2001:db8::1]:80",
    ),
    "fallbackcommand=": ("error ldirectord.cf:1: fallbackcommand=; expected a command",),
    "fallbackcommand=/x http://u:Hush@h/": (
        "error ldirectord.cf:1: fallbackcommand (its value holds a secret); expected a value without user "
        "and password in a URL",
    ),
    "maintenancedir=relative": ("error ldirectord.cf:1: maintenancedir=relative; expected an absolute path",),
    'maintenancedir="/srv/maint"': (
        "warning ldirectord.cf:1: maintenancedir: in quotes; expected it without. ldirectord takes the "
        "quotes for part of the value",
    ),
    "maintenancedir=": ("error ldirectord.cf:1: maintenancedir=; expected a value",),
    "callback=/bin/x": (
        "error ldirectord.cf:1: callback=/bin/x; expected text in double quotes, not empty, such as "
        '"/usr/local/bin/changed"',
    ),
    'callback="x"': ('error ldirectord.cf:1: callback="x"; expected an absolute path',),
    'callback="/bin/x" more': (
        "warning ldirectord.cf:1: callback: text behind the last double quote; expected nothing. It is not "
        "looked at, as in ldirectord",
    ),
    'callback="/bin/x#y"': (),
    'callback=""': (
        'error ldirectord.cf:1: callback=""; expected text in double quotes, not empty, such as '
        '"/usr/local/bin/changed"',
    ),
    'logfile="local0"': (
        "warning ldirectord.cf:1: logfile: hafsm writes one log; expected logfile, debugfile or "
        "logfacility in ha.cf. Without them it goes to stderr, which is systemd's journal",
    ),
    'logfile="/var/log/l"': (
        "warning ldirectord.cf:1: logfile: hafsm writes one log; expected logfile, debugfile or "
        "logfacility in ha.cf. Without them it goes to stderr, which is systemd's journal",
    ),
    "logfile=/var/log/l": (
        'error ldirectord.cf:1: logfile=/var/log/l; expected text in double quotes, not empty, such as "local0"',
    ),
    'logfile="Local 0"': (
        'error ldirectord.cf:1: logfile="Local 0"; expected a path such as "/var/log/ldirectord.log", or a '
        'syslog facility such as "local0"',
    ),
    "execute=": ("error ldirectord.cf:1: execute=; expected a value",),
    'execute="nosuch.cf"': (
        "warning ldirectord.cf:1: execute: in quotes; expected it without. ldirectord takes the quotes for "
        "part of the value",
        "error nosuch.cf: there is no such file; expected the virtual services. Create the file; it must "
        "be the same on both nodes",
    ),
    "execute=a b": (
        "error ldirectord.cf:1: execute=a b; expected one file name without blanks, of at most 512 characters",
    ),
    "execute=nosuch.cf": (
        "error nosuch.cf: there is no such file; expected the virtual services. Create the file; it must "
        "be the same on both nodes",
    ),
    "execute=ldirectord.cf": (
        "error ldirectord.cf:1: execute=ldirectord.cf is read already; expected each file once. Remove the line",
    ),
    "emailalert=": ("error ldirectord.cf:1: emailalert=; expected a value",),
    "emailalert=a b@c@d": (
        "error ldirectord.cf:1: emailalert=a b@c@d; expected mail addresses with commas between them",
    ),
    "emailalert=<a@b>": ("error ldirectord.cf:1: emailalert=<a@b>; expected mail addresses with commas between them",),
    "emailalert=-x": ("error ldirectord.cf:1: emailalert=-x; expected mail addresses with commas between them",),
    "emailalertfrom=x": (
        "warning ldirectord.cf:1: emailalertfrom without emailalert; expected emailalert= too. It has no effect",
    ),
    "emailalertfreq=60": (
        "warning ldirectord.cf:1: emailalertfreq without emailalert; expected emailalert= too. It has no effect",
    ),
    "emailalertstatus=all": (
        "warning ldirectord.cf:1: emailalertstatus without emailalert; expected emailalert= too. It has no effect",
    ),
    "smtp=h": ("warning ldirectord.cf:1: smtp without emailalert; expected emailalert= too. It has no effect",),
    "emailalert=a@b\nemailalertfreq=x": (
        "error ldirectord.cf:2: emailalertfreq=x; expected a whole number from 0 to 2678400",
    ),
    "emailalert=a@b\nemailalertstatus=never": (
        "error ldirectord.cf:2: emailalertstatus=never; expected one of all, none, starting, running, "
        "stopping, reloading",
    ),
    "emailalert=a@b\nemailalertstatus=none, running": (
        "error ldirectord.cf:2: emailalertstatus=none, running; expected none alone, or the others without it",
    ),
    "emailalert=a@b\nemailalertstatus=": (
        "error ldirectord.cf:2: emailalertstatus=; expected one of all, none, starting, running, stopping, reloading",
    ),
    'emailalert=a@b\nsmtp="mail"': (
        "warning ldirectord.cf:2: smtp: in quotes; expected it without. ldirectord takes the quotes for "
        "part of the value",
    ),
    "emailalert=a@b\nsmtp=a b": ("error ldirectord.cf:2: smtp=a b; expected a host name or address",),
    "servicename=x": (
        'error ldirectord.cf:1: "servicename" stands in the wrong place; expected it in a virtual section',
    ),
    "virtul=1": (
        'error ldirectord.cf:1: unknown directive "virtul"; expected a directive of ldirectord.cf. Did you '
        'mean "virtual"?',
    ),
    "real=10.0.0.1:80 gate": (
        'error ldirectord.cf:1: "real" stands in the wrong place; expected it in a virtual section',
    ),
    " quiescent=yes": (
        'error ldirectord.cf:1: "quiescent" is indented outside a virtual section; expected a global '
        "directive in column 0, or a virtual= line above",
    ),
    "quiescent=yes\x0b": (
        'error ldirectord.cf:1: the line holds "\\x0b", which is neither a letter nor a blank; expected '
        "UTF-8 text with ordinary blanks. Retype the line",
    ),
    "quiescent=y\xa0es": (
        'error ldirectord.cf:1: the line holds "\\xa0", which is neither a letter nor a blank; expected '
        "UTF-8 text with ordinary blanks. Retype the line",
    ),
    "emailalertfrom=" + "x" * 5000: (
        "error ldirectord.cf:1: "
        "emailalertfrom=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…; expected at most "
        "4096 characters",
        "warning ldirectord.cf:1: emailalertfrom without emailalert; expected emailalert= too. It has no effect",
    ),
    "nonsense": ('error ldirectord.cf:1: unknown directive "nonsense"; expected a directive of ldirectord.cf',),
    "=5": ('error ldirectord.cf:1: unknown directive ""; expected a directive of ldirectord.cf',),
}
SECTION_LINES: dict[str, tuple[str, ...]] = {
    "checktimeout=0": ("error ldirectord.cf:3: checktimeout=0; expected a whole number from 1 to 86400",),
    "checktimeout=5s": ('warning ldirectord.cf:3: checktimeout: "5s" is read as 5; expected digits alone',),
    "negotiatetimeout=0": ("error ldirectord.cf:3: negotiatetimeout=0; expected a whole number from 1 to 86400",),
    "negotiatetimeout=5s": ('warning ldirectord.cf:3: negotiatetimeout: "5s" is read as 5; expected digits alone',),
    "failurecount=0": ("error ldirectord.cf:3: failurecount=0; expected a whole number from 1 to 1000",),
    "failurecount=5s": ('warning ldirectord.cf:3: failurecount: "5s" is read as 5; expected digits alone',),
    "checkinterval=5": (
        "warning ldirectord.cf:3: checkinterval in a section without fork=yes; expected fork=yes above "
        "(the global one, 10 s, counts)",
    ),
    "checkcount=3": (
        "warning ldirectord.cf:3: checkcount has no effect with service=http; expected it only with ping",
    ),
    "checkcount=x": ("error ldirectord.cf:3: checkcount=x; expected a whole number from 1 to 1000",),
    "quiescent=maybe": ("error ldirectord.cf:3: quiescent=maybe; expected yes or no, in lower case",),
    "quiescent=yes\t": (
        "warning ldirectord.cf:3: quiescent: blanks behind the value; expected none. ldirectord refuses them",
    ),
    "cleanstop=x": ("error ldirectord.cf:3: cleanstop=x; expected yes or no, in lower case",),
    "autoreload=yes": ('error ldirectord.cf:3: "autoreload" stands in the wrong place; expected it in column 0',),
    "readdquiescent=yes": (
        'error ldirectord.cf:3: "readdquiescent" stands in the wrong place; expected it in column 0',
    ),
    "fallback=127.0.0.1:8080": (
        "warning ldirectord.cf:3: gate cannot change the port: the fallback is reached at port 80; "
        "expected port 80, or masq",
    ),
    "fallback6=[::1]:80": (
        "warning ldirectord.cf:3: fallback6 for an IPv4 service; expected fallback=. ldirectord refuses it",
        "error ldirectord.cf:3: the IPv6 address ::1 for an IPv4 service with gate; expected an IPv4 address, or ipip",
    ),
    "fallback=127.0.0.1\n\tfallback6=[::1]": (
        "warning ldirectord.cf:4: fallback6 for an IPv4 service; expected fallback=. fallback= counts",
    ),
    "fallback=10.0.0.1:domain-s": (
        "warning ldirectord.cf:3: gate cannot change the port: the fallback is reached at port 80; "
        "expected port 80, or masq",
    ),
    "fallback=x y z": (
        "error ldirectord.cf:3: fallback=x y z; expected HOST:PORT and at most one of gate, masq, ipip",
    ),
    'fallbackcommand=""': ('error ldirectord.cf:3: fallbackcommand=""; expected a command',),
    "emailalertfreq=60": (
        "warning ldirectord.cf:3: emailalertfreq without emailalert; expected emailalert= too. It has no effect",
    ),
    "emailalertstatus=all": (
        "warning ldirectord.cf:3: emailalertstatus without emailalert; expected emailalert= too. It has no effect",
    ),
    "smtp=h": ("warning ldirectord.cf:3: smtp without emailalert; expected emailalert= too. It has no effect",),
    "emailalertfrom=x": ('error ldirectord.cf:3: "emailalertfrom" stands in the wrong place; expected it in column 0',),
    "emailalert=a@b\n\temailalertstatus=x": (
        "error ldirectord.cf:4: emailalertstatus=x; expected one of all, none, starting, running, stopping, reloading",
    ),
    "monitorfile=x": ("error ldirectord.cf:3: monitorfile=x; expected an absolute path",),
    'monitorfile=""': ('error ldirectord.cf:3: monitorfile=""; expected a value',),
    "servicename=" + "x" * 5000: (
        "error ldirectord.cf:3: servicename=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…; "
        "expected at most 4096 characters",
    ),
    "comment=http://u:Hush@h/": (
        "error ldirectord.cf:3: comment (its value holds a secret); expected a value without user and "
        "password in a URL",
    ),
    "real=10.77.0.2": (
        "error ldirectord.cf:3: real=10.77.0.2; expected HOST:PORT gate, masq or ipip, such as 192.0.2.31:80 gate",
    ),
    "real=": ("error ldirectord.cf:3: real=; expected HOST:PORT gate, masq or ipip, such as 192.0.2.31:80 gate",),
    "real=10.77.0.2:80": (
        "error ldirectord.cf:3: real=10.77.0.2:80; expected HOST:PORT gate, masq or ipip, such as 192.0.2.31:80 gate",
    ),
    "real=10.77.0.2:80 gat": (
        'error ldirectord.cf:3: forwarding "gat"; expected gate, masq or ipip behind the server. Did you mean "gate"?',
    ),
    "real=10.77.0.2:80 gate x": (
        'error ldirectord.cf:3: "x" behind the forwarding word; expected as weight a whole number from 0 to 65535',
    ),
    "real=10.77.0.2:80 gate 65536": (
        'error ldirectord.cf:3: "65536" behind the forwarding word; expected as weight a whole number from 0 to 65535',
    ),
    "real=10.77.0.2:80 gate -1": (
        'error ldirectord.cf:3: "-1" behind the forwarding word; expected as weight a whole number from 0 to 65535',
    ),
    'real=10.77.0.2:80 gate 1 "a"': (
        'error ldirectord.cf:3: real=10.77.0.2:80 gate 1 "a"; expected both "REQUEST","RECEIVE" in double '
        "quotes, or none",
    ),
    'real=10.77.0.2:80 gate 1 "a","b","c"': (
        'error ldirectord.cf:3: ","; expected nothing but [WEIGHT] ["REQUEST","RECEIVE"] [l:N] [u:N]',
    ),
    'real=10.77.0.2:80 gate 1 "a': (
        'error ldirectord.cf:3: real=10.77.0.2:80 gate 1 "a; expected both "REQUEST","RECEIVE" in double '
        "quotes, or none",
    ),
    'real=10.77.0.2:80 gate 1 "/a","b"': (
        "warning ldirectord.cf:3: real: a request with a leading slash; expected it without. ldirectord "
        "loses it and all that follows",
    ),
    'real=10.77.0.2:80 gate "a","b("': (
        "error ldirectord.cf:3: the request and receive of the server; expected a regular expression that "
        "Perl and Python share. It does not compile: missing ), unterminated subpattern at position 1",
    ),
    'real=10.77.0.2:80 gate "a b","b"': (
        "warning ldirectord.cf:3: real: blanks and letters beyond ASCII are sent as %20 and the like; "
        "expected them written so",
    ),
    "real=10.77.0.2:80 gate u:5 l:2": (
        "warning ldirectord.cf:3: real: u:N stands before l:N; expected l:N before it. ldirectord loses u:N",
    ),
    "real=10.77.0.2:80 gate l:5 u:2": (
        "error ldirectord.cf:3: thresholds l:5 u:2; expected l:N not above u:N (the kernel refuses it)",
    ),
    'real=10.77.0.2:80 gate "l:5" "u:9"': (
        'warning ldirectord.cf:3: real: threshold "l:5" stands in quotes; expected it without. ldirectord '
        "takes it for a request",
        'warning ldirectord.cf:3: real: threshold "u:9" stands in quotes; expected it without. ldirectord '
        "takes it for a request",
    ),
    "real=10.77.0.2:80 gate l:5 7": (
        'error ldirectord.cf:3: "7"; expected nothing but [WEIGHT] ["REQUEST","RECEIVE"] [l:N] [u:N]',
    ),
    "real=10.77.0.2 gate": (
        "warning ldirectord.cf:3: no port: 80 is used; expected HOST:80. ldirectord would use port 0",
    ),
    "real=10.77.0.2:81 gate": (
        "warning ldirectord.cf:3: gate cannot change the port: traffic goes to port 80; expected port 80, "
        "or masq. Port 81 is only checked",
    ),
    "real=10.77.0.2:81 gate\n\tcheckport=82": (
        "warning ldirectord.cf:3: gate cannot change the port: traffic goes to port 80; expected port 80, or masq",
    ),
    "real=10.77.0.2:65536 gate": (
        "error ldirectord.cf:3: real=10.77.0.2:65536 gate; expected a port from 0 to 65535, or a name of /etc/services",
    ),
    "real=10.77.0.2:nosuch gate": (
        "error ldirectord.cf:3: real=10.77.0.2:nosuch gate; expected a port from 0 to 65535, or a name of "
        "/etc/services",
    ),
    "real=web_db1:80 gate": (
        "error ldirectord.cf:3: real=web_db1:80 gate; expected a host of letters, digits, dots and "
        "hyphens, as HOST:PORT. ldirectord would take what stands behind the last other sign for the host",
    ),
    "real=nosuch.example:80 gate": (
        "error ldirectord.cf:3: real=nosuch.example:80 gate; expected a host name that resolves to an IPv4 "
        "address. The resolver said: Name or service not known; write the address, or add the name to "
        "/etc/hosts",
    ),
    "real=10.77.0.1:80 gate": (
        "warning ldirectord.cf:3: real server 10.77.0.1:80 is in this section already; expected each real server once",
    ),
    "real=10.77.0.1:80 gate 2": (
        "error ldirectord.cf:3: real server 10.77.0.1:80 is in this section already; expected each real server once",
    ),
    "real=10.77.0.9->10.77.0.2:80 gate": (
        "error ldirectord.cf:3: real=10.77.0.9->10.77.0.2:80 gate; expected a range A->B that rises and "
        "has at most 4096 addresses",
    ),
    "real=10.77.0.2->10.99.0.2:80 gate": (
        "error ldirectord.cf:3: real=10.77.0.2->10.99.0.2:80 gate; expected a range A->B that rises and "
        "has at most 4096 addresses",
    ),
    "real=59.154.201.255->59.154.202.0:80 gate": (
        "warning ldirectord.cf:3: real: a range that crosses a power of ten; expected a line for each. "
        "ldirectord finds no server in it, hafsm all",
    ),
    "real=10.77.0.2->[fd00::1]:80 gate": (
        "warning ldirectord.cf:3: real: an IPv6 address; expected real6=. ldirectord refuses it here",
        "error ldirectord.cf:3: real=10.77.0.2->[fd00::1]:80 gate; expected a range A->B that rises and "
        "has at most 4096 addresses",
    ),
    "real=[fd00::2]:80 gate": (
        "warning ldirectord.cf:3: real: an IPv6 address; expected real6=. ldirectord refuses it here",
        "error ldirectord.cf:3: the IPv6 address fd00::2 for an IPv4 service with gate; expected an IPv4 "
        "address, or ipip",
    ),
    "real=[fd00::2]:80 ipip": (
        "warning ldirectord.cf:3: real: an IPv6 address; expected real6=. ldirectord refuses it here",
    ),
    "real=[fd00::2]->[fd00::3]:80 ipip": (
        "warning ldirectord.cf:3: real: an IPv6 address; expected real6=. ldirectord refuses it here",
        "warning ldirectord.cf:3: real: a range of IPv6 addresses; expected a line for each. ldirectord refuses it",
    ),
    "real=fd00::2:80 ipip": (
        "error ldirectord.cf:3: real=fd00::2:80 ipip; expected a host of letters, digits, dots and "
        "hyphens, as HOST:PORT. An IPv6 address stands in brackets: [2001:db8::1]:80",
    ),
    "real=[fd00::zz]:80 ipip": (
        "warning ldirectord.cf:3: real: an IPv6 address; expected real6=. ldirectord refuses it here",
        "error ldirectord.cf:3: real=[fd00::zz]:80 ipip; expected an IPv6 address in brackets, such as "
        "[2001:db8::1]:80",
    ),
    "real6=[fd00::2]:80 gate": (
        "error ldirectord.cf:3: the IPv6 address fd00::2 for an IPv4 service with gate; expected an IPv4 "
        "address, or ipip",
    ),
    "real6=10.77.0.2:80 gate": (
        "warning ldirectord.cf:3: real6: an IPv4 address; expected real=. ldirectord refuses it here",
    ),
    "real6=web6.example:80 ipip": (
        "error ldirectord.cf:3: real6=web6.example:80 ipip; expected a host name that resolves to an IPv6 "
        "address. The resolver said: Name or service not known; write the address, or add the name to "
        "/etc/hosts",
    ),
    'real=10.77.0.2:80 gate "http://u:Hush@10.0.0.9/","x"': (
        "warning ldirectord.cf:3: real: the request is a URL: 10.0.0.9 is asked instead of the real "
        "server; expected a path",
    ),
    'real=10.77.0.2:80 gat "http://u:Hush@10.0.0.9/","x"': (
        "error ldirectord.cf:3: real (its value holds a secret); expected gate, masq or ipip behind the "
        'server. Did you mean "gate"?',
    ),
    'real=10.77.0.2:80 gate "http://10.0.0.9/","x"': (
        "warning ldirectord.cf:3: real: the request is a URL: 10.0.0.9 is asked instead of the real "
        "server; expected a path",
    ),
    'real=10.77.0.2:80 gate "http://[/","x"': (
        "error ldirectord.cf:3: the request and receive of the server; expected a URL such as "
        "http://192.0.2.1/index.html",
    ),
    "protocol=sctp": (
        "warning ldirectord.cf:1: service=http with protocol=sctp: a TCP port of the same number is "
        "checked; expected checkport= with the port that is meant",
        "warning ldirectord.cf:3: protocol: sctp is hafsm's own; expected tcp, udp or fwm. ldirectord refuses it",
    ),
    "protocol=icmp": ("error ldirectord.cf:3: protocol=icmp; expected one of tcp, udp, sctp, fwm",),
    "protocol=fwm": (
        'error ldirectord.cf:1: protocol=fwm with address "192.0.2.1:80"; expected protocol=tcp or udp for an address',
    ),
    "protocol=udp": (
        "warning ldirectord.cf:1: service=http with protocol=udp: a TCP port of the same number is "
        "checked; expected checkport= with the port that is meant",
    ),
    "protocol=udp\n\tcheckport=80": (),
    "scheduler=wllc": (
        "error ldirectord.cf:3: scheduler=wllc; expected a scheduler of the kernel: rr, wrr, lc, wlc, "
        'lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh, twos. Did you mean "wlc"?',
    ),
    "scheduler=WRR": (
        "error ldirectord.cf:3: scheduler=WRR; expected a scheduler of the kernel: rr, wrr, lc, wlc, lblc, "
        "lblcr, dh, sh, sed, nq, fo, ovf, mh, twos",
    ),
    'scheduler="rr"': ("warning ldirectord.cf:3: scheduler: in quotes; expected it without quotes",),
    "schedflags=sh-port": (
        "error ldirectord.cf:3: schedflags=sh-port with scheduler=wrr; expected scheduler=sh. The kernel's "
        "other schedulers would take it for something else",
    ),
    "scheduler=sh\n\tschedflags=2 x": (
        "warning ldirectord.cf:4: schedflags: more than one word; expected flags with commas between them. "
        "Only the first word counts, as in ldirectord",
        'warning ldirectord.cf:4: schedflags: "2"; expected flag-2. ipvsadm wants the name',
    ),
    "schedflags=flag-4": (
        "error ldirectord.cf:3: schedflags=flag-4; expected one of flag-1, flag-2, flag-3, sh-fallback, "
        'sh-port, mh-fallback, mh-port. Did you mean "flag-3"?',
    ),
    'schedflags="flag-1"': ("warning ldirectord.cf:3: schedflags: in quotes; expected it without quotes",),
    "scheduler=mh\n\tschedflags=sh-port,mh-port": (
        "error ldirectord.cf:4: schedflags=sh-port with scheduler=mh; expected scheduler=sh. The kernel's "
        "other schedulers would take it for something else",
    ),
    "persistent=x": ("error ldirectord.cf:3: persistent=x; expected a whole number from 0 to 2678400",),
    "persistent=2678401": ("error ldirectord.cf:3: persistent=2678401; expected a whole number from 0 to 2678400",),
    "netmask=255.255.255.0": (
        "warning ldirectord.cf:3: netmask without persistent; expected persistent= too. It has no effect",
    ),
    "persistent=9\n\tnetmask=255.0.255.0": (
        "error ldirectord.cf:4: netmask=255.0.255.0; expected a netmask such as 255.255.255.0, or for IPv6 "
        "a prefix length from 1 to 128",
    ),
    "persistent=9\n\tnetmask=64": (
        "error ldirectord.cf:4: netmask=64 for an IPv4 service; expected a netmask such as 255.255.255.0",
    ),
    "persistent=9\n\tnetmask=129": (
        "error ldirectord.cf:4: netmask=129; expected a netmask such as 255.255.255.0, or for IPv6 a "
        "prefix length from 1 to 128",
    ),
    "ops=maybe": ("error ldirectord.cf:3: ops=maybe; expected yes or no, in lower case",),
    "ops=yes": ("warning ldirectord.cf:3: ops with protocol=tcp; expected protocol=udp. It has no effect",),
    "checktype=ping3": (
        "error ldirectord.cf:3: checktype=ping3; expected one of negotiate, connect, ping, external, "
        'external-perl, on, off, or a number. ldirectord takes "ping3" for the number in it',
    ),
    "checktype=conect": (
        "error ldirectord.cf:3: checktype=conect; expected one of negotiate, connect, ping, external, "
        'external-perl, on, off, or a number. Did you mean "connect"?',
    ),
    'checktype="connect"': ("warning ldirectord.cf:3: checktype: in quotes; expected it without quotes",),
    "checktype=3\n\tservice=none": (
        "warning ldirectord.cf:4: checktype=3 without a service: every check is a connect; expected "
        "service=, or checktype=connect",
    ),
    "checktype=9999999": ("error ldirectord.cf:3: checktype=9999999; expected a whole number from 0 to 1000000",),
    "service=none": (
        "warning ldirectord.cf:3: checktype=negotiate without a service checks nothing: every real server "
        "counts as up; expected service=http or the like, or checktype=connect",
    ),
    "service=HTTP": (
        "error ldirectord.cf:3: service=HTTP; expected one of ftp, smtp, dns, http, pop, nntp, imap, ldap, "
        "https, submission, ldaps, imaps, pops, oracle, radius, http_proxy, mysql, sip, pgsql, simpletcp, "
        "none",
    ),
    "service=htp": (
        "error ldirectord.cf:3: service=htp; expected one of ftp, smtp, dns, http, pop, nntp, imap, ldap, "
        "https, submission, ldaps, imaps, pops, oracle, radius, http_proxy, mysql, sip, pgsql, simpletcp, "
        'none. Did you mean "http"?',
    ),
    "checktype=connect\n\tservice=http": (
        "warning ldirectord.cf:4: service has no effect with checktype=connect; expected it only with "
        "negotiate or a number",
    ),
    "checktype=connect\n\tservice=none": (),
    "checktype=off\n\tservice=http": (
        "warning ldirectord.cf:4: service has no effect with checktype=off; expected it only with "
        "negotiate or a number",
    ),
    "checkport=0": ("error ldirectord.cf:3: checkport=0; expected a whole number from 1 to 65535",),
    "checkport=65536": ("error ldirectord.cf:3: checkport=65536; expected a whole number from 1 to 65535",),
    "checktype=ping\n\tcheckport=80": (
        "warning ldirectord.cf:4: checkport has no effect with checktype=ping; expected it only with "
        "negotiate or connect",
    ),
    "request=index.html": (
        'error ldirectord.cf:3: request=index.html; expected text in double quotes, not empty, such as "index.html"',
    ),
    'request=""': (
        'error ldirectord.cf:3: request=""; expected text in double quotes, not empty, such as "index.html"',
    ),
    'request="a b"': (
        "warning ldirectord.cf:3: request: blanks and letters beyond ASCII are sent as %20 and the like; "
        "expected them written so",
    ),
    'request="http://10.0.0.9/x"': (
        "warning ldirectord.cf:3: request: the request is a URL: 10.0.0.9 is asked instead of the real "
        "server; expected a path",
    ),
    'request="http://"': (
        'error ldirectord.cf:3: request="http://"; expected a URL such as http://192.0.2.1/index.html',
    ),
    'request="http://u:Hush@10.0.0.9/x"': (
        "warning ldirectord.cf:3: request: the request is a URL: 10.0.0.9 is asked instead of the real "
        "server; expected a path",
    ),
    'request="https://u:Hush@10.0.0.9/x"': (
        "error ldirectord.cf:3: request; expected a value without user and password in a URL",
    ),
    'request="page#5"': (
        "warning ldirectord.cf:3: # inside quotes begins a comment; expected text without #. ldirectord "
        "cuts the line there too",
        'error ldirectord.cf:3: request="page; expected text in double quotes, not empty, such as "index.html"',
    ),
    'request="a" b': (
        "warning ldirectord.cf:3: request: text behind the last double quote; expected nothing. It is not "
        "looked at, as in ldirectord",
    ),
    'checktype=connect\n\trequest="a"': (
        "warning ldirectord.cf:4: request has no effect with checktype=connect; expected it only with dns, "
        "ftp, http, http_proxy, https, ldap, ldaps, mysql, oracle, pgsql or simpletcp",
    ),
    'service=smtp\n\trequest="a"': (
        "warning ldirectord.cf:4: request has no effect with service=smtp; expected it only with dns, ftp, "
        "http, http_proxy, https, ldap, ldaps, mysql, oracle, pgsql or simpletcp",
    ),
    'request="a"\n\trequest="b"': (
        "warning ldirectord.cf:4: request: given in line 3 already; expected it once. The last one counts",
    ),
    "receive=x": ('error ldirectord.cf:3: receive=x; expected text in double quotes, not empty, such as "Test Page"',),
    'receive="a(b"': (
        'error ldirectord.cf:3: receive="a(b"; expected a regular expression that Perl and Python share. '
        "It does not compile: missing ), unterminated subpattern at position 1",
    ),
    'receive="(?R)"': (
        'error ldirectord.cf:3: receive="(?R)"; expected a regular expression that Perl and Python share. '
        'Python has no "(?R" (recursion)',
    ),
    'receive="\\Qa\\E"': (
        "warning ldirectord.cf:3: receive: \\Q in a regular expression; expected the signs with a backslash "
        "each. ldirectord looks for the letter Q",
    ),
    'service=imap\n\treceive="x"': (
        "warning ldirectord.cf:4: receive has no effect with service=imap; expected it only with dns, ftp, "
        "http, http_proxy, https, ldap, ldaps or simpletcp",
    ),
    'receive="a"\n\thttpmethod=HEAD': (
        "error ldirectord.cf:3: receive with httpmethod=HEAD never matches: the answer has no body; "
        "expected one of the two",
    ),
    "httpmethod=POST": ("error ldirectord.cf:3: httpmethod=POST; expected one of GET, HEAD",),
    "service=smtp\n\thttpmethod=GET": (
        "warning ldirectord.cf:4: httpmethod has no effect with service=smtp; expected it only with http, "
        "http_proxy or https",
    ),
    'virtualhost="a b"': ('error ldirectord.cf:3: virtualhost="a b"; expected a host name such as www.example.com',),
    "virtualhost=": (
        "warning ldirectord.cf:3: virtualhost: no host; expected a host name. The real server's address is "
        "sent as Host, as without the line",
    ),
    "service=smtp\n\tvirtualhost=a": (
        "warning ldirectord.cf:4: virtualhost has no effect with service=smtp; expected it only with http or https",
    ),
    "login=x": ("error ldirectord.cf:3: login=x; expected text in double quotes, not empty",),
    'login="u"': (
        "warning ldirectord.cf:3: login has no effect with service=http; expected it only with ftp, imap, "
        "imaps, ldap, ldaps, mysql, oracle, pgsql, pop, pops, radius or sip",
    ),
    "passwd=Hush": (
        "error ldirectord.cf:3: passwd (its value holds a secret); expected text in double quotes, not empty",
    ),
    'passwd="Hush" Hush': (
        "warning ldirectord.cf:3: passwd: text behind the last double quote; expected nothing. It is not "
        "looked at, as in ldirectord",
        "warning ldirectord.cf:3: passwd has no effect with service=http; expected it only with ftp, imap, "
        "imaps, ldap, ldaps, mysql, oracle, pgsql, pop, pops or radius",
    ),
    'passwd="Hush"': (
        "warning ldirectord.cf:3: passwd has no effect with service=http; expected it only with ftp, imap, "
        "imaps, ldap, ldaps, mysql, oracle, pgsql, pop, pops or radius",
    ),
    'service=ldap\n\tlogin="u"': (
        "warning ldirectord.cf:4: login and passwd are used together only: the bind is anonymous; expected both",
    ),
    'service=ldap\n\tpasswd="Hush"': (
        "warning ldirectord.cf:4: login and passwd are used together only: the bind is anonymous; expected both",
    ),
    'database="d"': (
        "warning ldirectord.cf:3: database has no effect with service=http; expected it only with mysql, "
        "oracle or pgsql",
    ),
    'secret="Hush"': ("warning ldirectord.cf:3: secret has no effect with service=http; expected it only with radius",),
    "secret=Hush": (
        "error ldirectord.cf:3: secret (its value holds a secret); expected text in double quotes, not empty",
    ),
    "database=d": ("error ldirectord.cf:3: database=d; expected text in double quotes, not empty",),
    "service=mysql": (
        'error ldirectord.cf:3: service=mysql without login: no server would ever be up; expected login="…"',
        'error ldirectord.cf:3: service=mysql without request: no server would ever be up; expected request="…"',
    ),
    'service=pgsql\n\tlogin="u"\n\trequest="SELECT 1"': (
        "warning ldirectord.cf:3: service=pgsql without database: the login's is used, and ldirectord asks "
        'the director itself; expected database="…"',
    ),
    'service=oracle\n\tlogin="u"\n\trequest="SELECT 1"': (
        'error ldirectord.cf:3: service=oracle without database: no server would ever be up; expected database="…"',
    ),
    "service=radius": (
        'error ldirectord.cf:3: service=radius without login: no server would ever be up; expected login="…"',
        'error ldirectord.cf:3: service=radius without secret: no server would ever be up; expected secret="…"',
    ),
    "service=pop": (
        "warning ldirectord.cf:3: service=pop without login: only the greeting is checked, and in "
        'ldirectord nothing; expected login="…"',
    ),
    "service=pops": (
        "warning ldirectord.cf:3: service=pops without login: only the greeting is checked, and in "
        'ldirectord nothing; expected login="…"',
    ),
    "service=ftp": (
        "warning ldirectord.cf:3: service=ftp without receive: only the login is checked, and in "
        'ldirectord nothing; expected receive="…"',
    ),
    'service=dns\n\tprotocol=udp\n\trequest="a.example"': (
        "warning ldirectord.cf:3: service=dns without receive: any answer will do, and in ldirectord none; "
        'expected receive="…"',
    ),
    "service=http_proxy": (
        "error ldirectord.cf:3: service=http_proxy without a URL to ask the proxy for; expected "
        'request="http://www.example.com/". ldirectord counts such servers as down',
    ),
    'service=http_proxy\n\trequest="http://www.example.com/"': (),
    "checktype=external": (
        "warning ldirectord.cf:3: checktype=external without checkcommand checks nothing; expected checkcommand=PATH",
    ),
    "checktype=external\n\tcheckcommand=check.sh": (
        "error ldirectord.cf:4: checkcommand=check.sh; expected the absolute path of a program, and if "
        "need be its own arguments",
    ),
    'checktype=external\n\tcheckcommand="/bin/check --fast"': (
        "warning ldirectord.cf:4: checkcommand: a command with arguments of its own; expected a path "
        "alone. ldirectord takes the whole for the program's name",
    ),
    "checktype=external\n\tcheckcommand=/bin/check 'a": (
        "error ldirectord.cf:4: checkcommand=/bin/check 'a; expected quotes in pairs",
    ),
    "checktype=external\n\tcheckcommand=": ("error ldirectord.cf:4: checkcommand=; expected a value",),
    "checkcommand=/bin/check": (
        "warning ldirectord.cf:3: checkcommand has no effect with service=http; expected it only with "
        "external or external-perl",
    ),
    "checktype=external-perl": (
        "warning ldirectord.cf:3: checktype=external-perl without checkcommand checks nothing; expected "
        "checkcommand=PATH",
    ),
    'checktype=connect\n\treal=10.77.0.2:80 gate "a","b"': (
        "warning ldirectord.cf:4: request and receive have no effect with checktype=connect; expected a "
        "line without them",
    ),
    'load="x"': (
        "warning ldirectord.cf:3: load: nothing uses it, in ldirectord neither; expected nothing. Remove the line",
    ),
    "load=x": (
        "warning ldirectord.cf:3: load: nothing uses it, in ldirectord neither; expected nothing. Remove the line",
        "error ldirectord.cf:3: load=x; expected text in double quotes, not empty",
    ),
    'callback="/x"': ('error ldirectord.cf:3: "callback" stands in the wrong place; expected it in column 0',),
    "virtual=10.0.0.1:81": ('error ldirectord.cf:3: "virtual" stands in the wrong place; expected it in column 0',),
    "unknown=x": ('error ldirectord.cf:3: unknown directive "unknown"; expected a directive of ldirectord.cf',),
    "  unknown=x": ('error ldirectord.cf:3: unknown directive "unknown"; expected a directive of ldirectord.cf',),
}
WHOLE_FILES: dict[str, tuple[str, ...]] = {
    "virtual=192.0.2.1\n\treal=10.77.0.1:80 gate\n": (
        "error ldirectord.cf:1: virtual=192.0.2.1; expected ADDRESS:PORT such as 192.0.2.1:80, or a "
        "firewall mark such as 7. ldirectord would take its first digits for a firewall mark",
    ),
    "virtual=\n": (
        "error ldirectord.cf:1: virtual=; expected ADDRESS:PORT such as 192.0.2.1:80, or a firewall mark such as 7",
    ),
    "virtual\n": (
        "error ldirectord.cf:1: virtual=; expected ADDRESS:PORT such as 192.0.2.1:80, or a firewall mark such as 7",
    ),
    "virtual=192.0.2.1:0\n": ("error ldirectord.cf:1: virtual=192.0.2.1:0; expected a port from 1 to 65535",),
    "virtual=192.0.2.1:nosuch\n": (
        "error ldirectord.cf:1: virtual=192.0.2.1:nosuch; expected a port number, or a tcp name of /etc/services",
    ),
    "virtual=192.0.2.1:80 junk\n\treal=10.77.0.1:80 gate\n": (
        'warning ldirectord.cf:1: virtual: "junk" behind the service; expected nothing. It is not looked '
        "at, as in ldirectord",
    ),
    "virtual=192.0.2.1:80:90\n": (
        "error ldirectord.cf:1: virtual=192.0.2.1:80:90; expected ADDRESS:PORT such as 192.0.2.1:80, or a "
        "firewall mark such as 7. An IPv6 address stands in brackets: [2001:db8::1]:80",
    ),
    "virtual=0\n": ("error ldirectord.cf:1: virtual=0; expected a firewall mark from 1 to 4294967295",),
    "virtual=4294967296\n": (
        "error ldirectord.cf:1: virtual=4294967296; expected a firewall mark from 1 to 4294967295",
    ),
    "virtual=nosuch.example:80\n": (
        "error ldirectord.cf:1: virtual=nosuch.example:80; expected a host name that resolves to an IPv4 "
        "address. The resolver said: Name or service not known; write the address, or add the name to "
        "/etc/hosts",
    ),
    "virtual=a/b:80\n": (
        "error ldirectord.cf:1: virtual=a/b:80; expected ADDRESS:PORT such as 192.0.2.1:80, or a firewall "
        "mark such as 7",
    ),
    "virtual=[fd00::1]:80\n\treal6=[fd00::2]:80 gate\n": (
        "warning ldirectord.cf:1: virtual: an IPv6 address; expected virtual6=. ldirectord refuses it here",
    ),
    "virtual=fd00::1:80\n": (
        "error ldirectord.cf:1: virtual=fd00::1:80; expected ADDRESS:PORT such as 192.0.2.1:80, or a "
        "firewall mark such as 7. An IPv6 address stands in brackets: [2001:db8::1]:80",
    ),
    "virtual6=[fd00::1]:80\n\treal=[fd00::2]:80 gate\n\tfallback=[::1]\n": (
        "warning ldirectord.cf:2: real: an IPv6 address; expected real6=. ldirectord refuses it here",
        "warning ldirectord.cf:3: fallback: an IPv6 address; expected fallback6=. ldirectord refuses it here",
        "warning ldirectord.cf:3: fallback for an IPv6 service; expected fallback6=. ldirectord refuses it",
    ),
    "virtual6=fd00::1:80\n": (
        "error ldirectord.cf:1: virtual6=fd00::1:80; expected ADDRESS:PORT such as [2001:db8::1]:80, or a "
        "firewall mark such as 7. An IPv6 address stands in brackets: [2001:db8::1]:80",
    ),
    "virtual6=192.0.2.1:80\n\treal=10.77.0.1:80 gate\n": (
        "warning ldirectord.cf:1: virtual6: an IPv4 address; expected virtual=. ldirectord refuses it here",
    ),
    "virtual6=[fd00::1]:80\n\treal=10.77.0.1:80 gate\n": (
        "error ldirectord.cf:2: the IPv4 address 10.77.0.1 for an IPv6 service with gate; expected an IPv6 "
        "address, or ipip",
    ),
    "virtual6=[fd00::1]:80\n\treal=10.77.0.1:80 ipip\n\tfallback=127.0.0.1:80 masq\n": (
        "warning ldirectord.cf:3: fallback for an IPv6 service; expected fallback6=. ldirectord refuses it",
        "error ldirectord.cf:3: the IPv4 address 127.0.0.1 for an IPv6 service with masq; expected an IPv6 "
        "address, or ipip",
    ),
    "virtual6=[fd00::1]:80\n\treal6=[fd00::2]:80 gate\n\tpersistent=9\n\tnetmask=255.255.255.0\n": (
        "error ldirectord.cf:4: netmask=255.255.255.0 for an IPv6 service; expected a prefix length from 1 to 128",
    ),
    "virtual=192.0.2.1:80\n": (
        "warning ldirectord.cf:1: a virtual service without a real server; expected a real= line in its section",
    ),
    "virtual=192.0.2.1:80\n\treal=10.77.0.1:80 gate\n\nvirtual=192.0.2.1:http\n\treal=10.77.0.1:80 gate\n": (
        "error ldirectord.cf:4: virtual service tcp:192.0.2.1:80 is here again; expected it once (line 1 "
        "has it). Join the two sections",
    ),
    "virtual=7\n\treal=10.77.0.1 gate\n": (
        "warning ldirectord.cf:1: checktype=negotiate without a service checks nothing: every real server "
        "counts as up; expected service=http or the like, or checktype=connect",
    ),
    "virtual=7\n\treal=10.77.0.1 gate\n\tchecktype=connect\n": (
        "error ldirectord.cf:2: no port to connect to; expected checkport=, or a port behind the real server",
    ),
    "virtual=7\n\treal=10.77.0.1 gate\n\tservice=http\n\tops=yes\n": (
        "warning ldirectord.cf:4: ops with a firewall mark; expected protocol=udp. ldirectord leaves it "
        "out, hafsm does it",
    ),
    "virtual=7\n\tprotocol=tcp\n": (
        "error ldirectord.cf:1: protocol=tcp with firewall mark 7; expected protocol=fwm for a firewall mark",
    ),
    "fallback=127.0.0.1\nvirtual=7\n\treal=10.77.0.1 gate\n\tservice=http\n": (
        "warning ldirectord.cf:2: the global fallback serves firewall mark 7 too; expected fallback= in "
        "the section. ldirectord makes a useless entry of it",
    ),
    "virtual=7\n\treal=10.77.0.1 gate\n\tservice=simpletcp\n": (
        "error ldirectord.cf:2: no port to connect to; expected checkport=, or a port behind the real server",
    ),
    "virtual=192.0.2.1:8080\n\treal=10.77.0.1:8080 gate\n": (
        "warning ldirectord.cf:1: checktype=negotiate without a service checks nothing: every real server "
        "counts as up; expected service=http or the like, or checktype=connect",
    ),
    "virtual=192.0.2.1:80\n\treal=10.77.0.1:80 gate\n\n\tservice=http\n": (
        "warning ldirectord.cf:3: an empty line in a virtual section; expected none. ldirectord ends the section here",
    ),
    "virtual=192.0.2.1:80\n   real=10.77.0.1:80 gate\n": (
        "warning ldirectord.cf:1: a virtual service without a real server; expected a real= line in its section",
        'error ldirectord.cf:2: "real" is indented by 3; expected a tab or at least 4 blanks in a virtual section',
    ),
    "\treal=10.77.0.1:80 gate\n": (
        'error ldirectord.cf:1: "real" is indented outside a virtual section; expected a global directive '
        "in column 0, or a virtual= line above",
    ),
    "quiescent=yes\n\tquiescent=no\n": (
        'error ldirectord.cf:2: "quiescent" is indented outside a virtual section; expected a global '
        "directive in column 0, or a virtual= line above",
    ),
    "checktimeout=3\r\nvirtual=192.0.2.1:80\r\n\treal=10.77.0.1:80 gate\r\n": (
        "warning ldirectord.cf: lines end in CR LF; expected lines that end in LF. ldirectord refuses them "
        "in yes/no values",
    ),
    'virtual=192.0.2.1:80\n\treal=10.77.0.1:80 gate\n\treceive="#x"\n': (
        "warning ldirectord.cf:3: # inside quotes begins a comment; expected text without #. ldirectord "
        "cuts the line there too",
        'error ldirectord.cf:3: receive="; expected text in double quotes, not empty, such as "Test Page"',
    ),
    "fallback=127.0.0.1:80 # why\nvirtual=192.0.2.1:80 # it\n\treal=10.77.0.1:80 gate # web\n": (
        "warning ldirectord.cf:1: a comment behind a global directive; expected it on a line of its own. "
        "ldirectord takes it for part of the value",
    ),
    "virtual=192.0.2.1:80\n\tops=yes\n\tprotocol=sctp\n\treal=10.77.0.1:80 gate\n\tchecktype=connect\n": (
        "warning ldirectord.cf:2: ops with protocol=sctp; expected protocol=udp. It has no effect",
        "warning ldirectord.cf:3: protocol: sctp is hafsm's own; expected tcp, udp or fwm. ldirectord refuses it",
    ),
    "virtual=192.0.2.1:80\n\treal=10.77.0.1:80 gate\n\tcomment=caf\udce9\n": (
        "warning ldirectord.cf:3: comment: bytes that are not UTF-8; expected UTF-8 text. They are read as Latin-1",
    ),
}


def remarks(directory: Path, text: str) -> tuple[str, ...]:
    (directory / "ldirectord.cf").write_bytes(text.encode("utf-8", "surrogateescape"))
    read, findings = load_ldirectord(Path("ldirectord.cf"), directory=directory)
    assert (read is None) is any(finding.is_error for finding in findings)
    assert not [finding for finding in findings if "Hush" in str(finding)]
    return tuple(f"{finding.level} {finding}".replace(f"{directory}/", "") for finding in findings)


@pytest.mark.parametrize(("text", "expected"), GLOBAL_LINES.items())
def test_global_lines(tmp_path: Path, text: str, expected: tuple[str, ...]) -> None:
    """In line 1, a sound section below."""
    assert remarks(tmp_path, f"{text}\n{SECTION}") == expected


@pytest.mark.parametrize(("text", "expected"), SECTION_LINES.items())
def test_lines_of_a_section(tmp_path: Path, text: str, expected: tuple[str, ...]) -> None:
    """In line 3, below a sound `virtual` and `real`."""
    assert remarks(tmp_path, f"{SECTION}\t{text}\n") == expected


@pytest.mark.parametrize(("text", "expected"), WHOLE_FILES.items())
def test_whole_files(tmp_path: Path, text: str, expected: tuple[str, ...]) -> None:
    assert remarks(tmp_path, text) == expected


@pytest.mark.parametrize("key", DIRECTIVES)
def test_every_directive_has_remarks_under_test(key: str) -> None:
    texts = [*GLOBAL_LINES, *SECTION_LINES]
    assert any(f"{key}=" in text for text in texts)
    scopes = "".join(("G" if f"\n{key}=" in f"\n{text}" else "") for text in GLOBAL_LINES)
    assert ("G" not in DIRECTIVES[key].where) or scopes


def test_files_of_execute(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "a.cf").write_text(
        'autoreload=yes\nmaintenancedir=/srv/a\ncallback="/bin/a"\nexecute=ldirectord.cf\nexecute=b.cf\n' + SECTION
    )
    (tmp_path / "conf" / "b.cf").write_text("quiescent=maybe\n")
    assert remarks(tmp_path, f"execute=a.cf\n{SECTION}") == (
        "warning a.cf:1: autoreload differs from that of ldirectord.cf, which reads this file by execute; expected the "
        "same in both. The other one counts for all files",
        "error a.cf:2: maintenancedir differs from that of ldirectord.cf, which reads this file by execute; expected "
        "the same in both. The other one counts for all files",
        "warning a.cf:3: callback differs from that of ldirectord.cf, which reads this file by execute; expected the "
        "same in both. The other one counts for all files",
        "error a.cf:4: execute=ldirectord.cf is read already; expected each file once. Remove the line",
        "error a.cf:6: virtual service tcp:192.0.2.1:80 is here again; expected it once (ldirectord.cf line 2 has it). "
        "Join the two sections",
        "error conf/b.cf:1: quiescent=maybe; expected yes or no, in lower case",
    )


def test_too_many_files_of_execute(tmp_path: Path) -> None:
    for number in range(70):
        (tmp_path / f"{number}.cf").write_text(f"execute={number + 1}.cf\n")
    assert remarks(tmp_path, "execute=0.cf\n") == ("error 62.cf:1: more than 64 files; expected fewer execute lines",)


def test_too_many_real_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ldirectord_scope, "REALS_LIMIT", 300)
    assert remarks(
        tmp_path, SECTION + "\treal=10.78.0.1->10.78.1.0:80 gate\n\treal=10.79.0.1->10.79.0.99:80 gate\n"
    ) == ("error ldirectord.cf:4: more than 300 real servers; expected fewer. Check the ranges",)


def test_remarks_are_limited(tmp_path: Path) -> None:
    found = remarks(tmp_path, "".join(f"x{number}=\n" for number in range(FINDINGS_LIMIT + 50)))
    assert len(found) == FINDINGS_LIMIT + 1
    assert found[-1] == "error ldirectord.cf:1001: more than 1000 errors; expected fewer. The others are not shown"
    found = remarks(tmp_path, SECTION + '\tload="x"\n' * (FINDINGS_LIMIT + 50))
    assert len(found) == FINDINGS_LIMIT + 1
    assert found[-1].startswith("warning ldirectord.cf:503: more than 1000 warnings; expected fewer.")
