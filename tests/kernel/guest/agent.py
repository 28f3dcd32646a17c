"""What a node does on behalf of the test: runs inside a laboratory kernel, on its serial line. Standard library
only.

One JSON object a line in both directions; bytes travel as base64, files through the folder /run/transfer. A
request is `{"id": n, "op": name, ...}`; its answer carries the same id and either the fields named below or
`error`. On start the agent says `{"hello": boot_id}` after an empty line, so that a kernel that was reset in
the middle of an answer cannot confuse the reader.

    run     argv, timeout           → rc (None: timed out, and its process group was killed), stdout, stderr
    start   argv, log, env?         → pid; output appended to log
    poll    pid                     → rc, None while it runs
    signal  pid, signal             → {}; to its process group
    stop    (nothing)               → pids that were killed: every group started here that still runs
    copy    source, path, mode? → {}; folders made, replaced atomically, synced
    sync    (nothing)               → {}
"""

# Importing pathlib takes a tenth of a second in a node.
# ruff: noqa: PTH103, PTH105, PTH120, PTH123

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import termios
import tty


class Agent:
    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer
        self.children = {}

    def serve(self):
        with open("/proc/sys/kernel/random/boot_id") as f:
            self.writer.write(b"\n")
            self.answer({"hello": f.read().strip()})
        for raw in self.reader:
            if raw.isspace():
                continue  # the other side asks us to look at the line again
            request = json.loads(raw)
            try:
                fields = getattr(self, "op_" + request["op"])(request)
            except Exception as problem:  # the test that asked is told, whatever it is
                fields = {"error": f"{type(problem).__name__}: {problem}"}
            self.answer({"id": request["id"], **fields})

    def answer(self, value):
        self.writer.write(json.dumps(value).encode() + b"\n")
        self.writer.flush()

    def op_run(self, request):
        child = subprocess.Popen(
            request["argv"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        rc = None
        try:
            out, err = child.communicate(timeout=request["timeout"])
            rc = child.returncode
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            out, err = child.communicate()
        return {"rc": rc, "stdout": base64.b64encode(out).decode(), "stderr": base64.b64encode(err).decode()}

    def op_start(self, request):
        with open(request["log"], "ab") as log:
            child = subprocess.Popen(
                request["argv"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **request.get("env", {})},
            )
        self.children[child.pid] = child
        return {"pid": child.pid}

    def op_poll(self, request):
        return {"rc": self.children[request["pid"]].poll()}

    def op_signal(self, request):
        if self.children[request["pid"]].poll() is None:
            os.killpg(request["pid"], request["signal"])
        return {}

    def op_stop(self, request):
        running = [pid for pid, child in self.children.items() if child.poll() is None]
        for pid in running:
            os.killpg(pid, signal.SIGKILL)
            self.children[pid].wait()
        return {"pids": running}

    def op_copy(self, request):
        path = request["path"]
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(request["source"], "rb") as source, open(path + ".new", "wb") as target:
            shutil.copyfileobj(source, target)
            os.fchmod(target.fileno(), request.get("mode", 0o600))
            target.flush()
            os.fsync(target.fileno())
        os.replace(path + ".new", path)
        folder = os.open(os.path.dirname(path), os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        return {}

    def op_sync(self, request):
        os.sync()
        return {}


def main():
    fd = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
    tty.setraw(fd, termios.TCSANOW)
    os.environ["HOME"] = "/root"
    with open(fd, "rb", closefd=False) as reader, open(fd, "wb", closefd=False) as writer:
        Agent(reader, writer).serve()


if __name__ == "__main__":
    main()
