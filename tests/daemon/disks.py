"""A small real disk whose faults are those of real disks: full, read-only after an error, frozen. Needs root."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from pathlib import Path

import pytest

SIZE_BYTES = 24 * 2**20


class Disk:
    """An ext4 in a file, mounted through a loop device."""

    def __init__(self, folder: Path) -> None:
        self.image = folder / "disk.img"
        self.mount = folder / "disk"
        self.mount.mkdir()
        with self.image.open("wb") as file:
            file.truncate(SIZE_BYTES)
        run("mkfs.ext4", "-q", "-O", "^has_journal", self.image)
        self.attach()

    @classmethod
    def or_skip(cls, folder: Path) -> Disk:
        """A disk, or a skipped test in one plain line."""
        if os.geteuid() != 0:
            pytest.skip("a disk that fails on purpose needs root")
        try:
            return cls(folder)
        except (OSError, subprocess.CalledProcessError) as error:
            detail = getattr(error, "stderr", "") or str(error)
            pytest.skip(f"no ext4 can be mounted here: {detail.strip().splitlines()[-1]}")

    def attach(self) -> None:
        run("mount", "-o", "loop,errors=remount-ro", self.image, self.mount)

    def fill(self) -> None:
        free = os.statvfs(self.mount)
        with (self.mount / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(free.f_frsize))

    def empty(self) -> None:
        (self.mount / "ballast").unlink()

    def break_(self) -> None:
        """What a controller's error does: the kernel makes it read-only under everybody's open files."""
        device = run("findmnt", "-no", "SOURCE", self.mount).strip()
        Path(f"/sys/fs/ext4/{Path(device).name}/trigger_fs_error").write_text("a test\n")
        try:
            (self.mount / "probe").touch()
        except OSError as error:
            assert error.errno == errno.EROFS, error
        else:
            raise AssertionError("the disk can still be written")

    def mend(self) -> None:
        """A person mounts it again; whoever has files open there keeps the broken one."""
        run("umount", "--lazy", self.mount)
        copy = self.image.with_suffix(".copy")
        copy.write_bytes(self.image.read_bytes())
        copy.replace(self.image)
        subprocess.run(["e2fsck", "-fy", self.image], capture_output=True, check=False)
        self.attach()

    def freeze(self) -> None:
        run("fsfreeze", "--freeze", self.mount)

    def thaw(self) -> None:
        subprocess.run(["fsfreeze", "--unfreeze", self.mount], capture_output=True, check=False)

    def close(self) -> None:
        self.thaw()
        subprocess.run(["umount", "--lazy", self.mount], capture_output=True, check=False)


def run(*words: object) -> str:
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True).stdout
