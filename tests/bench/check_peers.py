"""keepalived and ldirectord for the benchmark of checks: their configuration, and how they run without IPVS.

On a kernel without IPVS keepalived gets a library that answers its IPVS calls, ldirectord an ipvsadm that does nothing.
Both then only check, which is what is measured.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

PLACES = os.pathsep.join(("/usr/sbin", "/usr/bin", "/sbin", "/bin"))
_NO_IPVS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
#include <sys/socket.h>
#include <netinet/in.h>
/* IP_VS_BASE_CTL and the options above it, from linux/ip_vs.h */
#define IPVS(level, name) ((level) == IPPROTO_IP && (name) >= 1152 && (name) < 1280)
int getsockopt(int fd, int level, int name, void *value, socklen_t *length)
{
    if (IPVS(level, name)) {
        memset(value, 0, *length);
        if (*length >= 4)
            *(unsigned *)value = 0x010201;
        return 0;
    }
    return ((int (*)(int, int, int, void *, socklen_t *))dlsym(RTLD_NEXT, "getsockopt"))(
        fd, level, name, value, length);
}
int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
    if (IPVS(level, name))
        return 0;
    return ((int (*)(int, int, int, const void *, socklen_t))dlsym(RTLD_NEXT, "setsockopt"))(
        fd, level, name, value, length);
}
"""


class Skipped(Exception):
    """The peer cannot be measured here, and why."""


def start(name: str, folder: Path, targets: Sequence[tuple[str, int]]) -> subprocess.Popen[bytes]:
    """Start a peer that checks the targets every second with a timeout of three. Raises Skipped."""
    program = shutil.which(name, path=PLACES)
    if program is None:
        raise Skipped(f"{name} is not installed")
    environment = dict(os.environ)
    if name == "keepalived":
        command = _keepalived(program, folder, targets)
        if not _has_ipvs():
            environment["LD_PRELOAD"] = str(_no_ipvs(folder))
    else:
        command = _ldirectord(program, folder, targets)
        if not _has_ipvs():
            _stand_in_for_ipvsadm()
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _has_ipvs() -> bool:
    return Path("/proc/net/ip_vs").exists()


def _no_ipvs(folder: Path) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        raise Skipped("keepalived: this kernel has no IPVS, and there is no C compiler for a stand-in")
    source, library = folder / "no_ipvs.c", folder / "no_ipvs.so"
    source.write_text(_NO_IPVS)
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"], check=True)
    return library


def _stand_in_for_ipvsadm() -> None:
    """In this process's own mount namespace."""
    found = [place for place in ("/sbin/ipvsadm", "/usr/sbin/ipvsadm") if Path(place).exists()]
    if not found:
        raise Skipped("ldirectord: ipvsadm is not installed")
    subprocess.run(["mount", "--bind", "/bin/true", found[0]], check=True)


def _keepalived(program: str, folder: Path, targets: Sequence[tuple[str, int]]) -> list[str]:
    """It reads the status and searches the body, as the others do."""
    reals = "".join(
        f"  real_server {address} {port} {{\n    weight 1\n    HTTP_GET {{\n      url {{\n        path /\n"
        f'        status_code 200\n        regex "Test Page"\n      }}\n      connect_timeout 3\n'
        f"      delay_loop 1\n    }}\n  }}\n"
        for address, port in targets
    )
    (folder / "keepalived.conf").write_text(
        f"virtual_server 192.0.2.1 80 {{\n  delay_loop 1\n  lb_algo rr\n  lb_kind NAT\n  protocol TCP\n{reals}}}\n"
    )
    return [program, "-n", "-C", "-f", "keepalived.conf", "-p", f"{folder}/pid", "-c", f"{folder}/checkers.pid"]


def _ldirectord(program: str, folder: Path, targets: Sequence[tuple[str, int]]) -> list[str]:
    reals = "".join(f"\treal={address}:{port} masq\n" for address, port in targets)
    path = folder / "ldirectord.cf"
    path.write_text(
        f'checktimeout=3\ncheckinterval=1\nlogfile="{folder}/log"\nsupervised=yes\nvirtual=192.0.2.1:80\n{reals}'
        '\tservice=http\n\trequest="/"\n\treceive="Test Page"\n\tscheduler=rr\n\tprotocol=tcp\n'
    )
    return [program, str(path), "start"]
