"""hafsm: an event-sourced Linux-HA director whose every decision can be replayed."""

__version__ = "0.1.0"
