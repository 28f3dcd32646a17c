"""The command `hafsm`. Each subcommand is imported when it is called, so that none pays for another's libraries."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import click

from hafsm import __version__

_COMMANDS = {
    "run": ("hafsm.cli.run", "run", "Run the director daemon in the foreground."),
    "check-config": ("hafsm.cli.check_config", "check_config", "Show how the configuration was understood."),
    "status": ("hafsm.cli.status", "status", "Show nodes, VIPs, virtual services and the last decisions."),
    "ipvs": ("hafsm.cli.ipvs", "ipvs", "Show the kernel's IPVS table, with health and why beside each entry."),
    "real": ("hafsm.cli.real", "real", "Drain, quiesce, enable or weight a real server."),
    "standby": ("hafsm.cli.standby", "standby", "Give resource groups to the other director."),
    "takeover": ("hafsm.cli.takeover", "takeover", "Get resource groups from the other director."),
    "cl-status": ("hafsm.cli.cl_status", "cl_status", "Answer as heartbeat's cl_status does."),
    "events": ("hafsm.cli.events", "events", "List the journal's events, or follow them."),
    "export": ("hafsm.cli.export", "export", "Write the journal into one incident file."),
    "journal": ("hafsm.cli.journal", "journal", "Verify, describe, prune and export the journal."),
    "replay": ("hafsm.cli.replay", "replay", "Fold an incident file again and compare every decision."),
    "why": ("hafsm.cli.why", "why", "Say why a VIP, a real server or a director changed."),
    "simulate": ("hafsm.cli.simulate", "simulate", "Run simulated clusters with faults and judge every event."),
    "report": ("hafsm.cli.report", "report", "Write an incident into one HTML file for a postmortem."),
    "demo": ("hafsm.cli.demo", "demo", "Watch a pair of directors fail over on this machine; no root needed."),
}

_DROP_INS = {
    "cl_status": ("hafsm.cli.cl_status", "cl_status"),
    "hb_standby": ("hafsm.cli.standby", "hb_standby"),
    "hb_takeover": ("hafsm.cli.takeover", "hb_takeover"),
}
"""heartbeat's commands: subcommands, and what the program is when a symlink of that name points to it."""


class _Lazy(click.Group):
    def main(self, *args: Any, **extra: Any) -> Any:
        """Without arguments of a caller, the name by which the program was called may choose the subcommand."""
        called = Path(sys.argv[0]).name
        if not args and not extra and called in _DROP_INS:
            return super().main([called, *sys.argv[1:]], prog_name="hafsm")
        return super().main(*args, **extra)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _DROP_INS:
            module, attribute = _DROP_INS[cmd_name]
        elif cmd_name in _COMMANDS:
            module, attribute, _ = _COMMANDS[cmd_name]
        else:
            return None
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])
        with formatter.section("heartbeat's commands, also by a symlink of that name"):
            formatter.write_text(", ".join(_DROP_INS))


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hafsm")
def main() -> None:
    """Two Linux directors, shared virtual IPs, kernel IPVS, and a journal that can say why."""


if __name__ == "__main__":
    main()
