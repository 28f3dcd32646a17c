#!/bin/bash
# Starts the kernel, at power-on and again at each reset: a user-mode kernel restarts itself by executing its own argv[0], which
# is this file. Descriptors of its former life are closed, or the tap device would still be busy; $lab_line stays open.
for path in /proc/self/fd/*; do
    fd=${path##*/}
    if ((fd > 2 && fd != lab_line && fd != 255)); then
        eval "exec $fd>&-"
    fi
done
exec -a "$0" linux.uml "$@"
