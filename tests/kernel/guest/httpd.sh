#!/bin/sh
# The resource script `httpd` of a director: its own web server, which is also the fallback of the virtual service.
# start, stop and status as the Linux Standard Base says; heartbeat looks for the words running and stopped.
. /etc/lab.conf # lab_python, lab_guest
pidfile=/run/httpd.pid

alive() {
    [ -r "$pidfile" ] && read -r pid <"$pidfile" && kill -0 "$pid" 2>/dev/null
}

case "$1" in
start)
    alive || "$lab_python" -I -S "$lab_guest/httpd.py" 80 "director $(cat /proc/sys/kernel/hostname)" "$pidfile"
    ;;
stop)
    if alive; then
        kill "$pid" && while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
    fi
    rm -f "$pidfile"
    ;;
status)
    if alive; then
        echo running
    else
        echo stopped
        exit 3
    fi
    ;;
*)
    echo "usage: $0 start|stop|status" >&2
    exit 2
    ;;
esac
