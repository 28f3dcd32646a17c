"""heartbeat 3 messages: bytes to values and back. No socket, no clock, no opinion.

Read in this order: `framing` (the two ways a message is written), `auth` (who may be believed), `message`
(build, encode, decode, and what the daemon needs of a message), `window` (replays), `stream` (serial lines).

Rules of this package (law L9): the size is bounded first, then the bytes are authenticated, and only authentic
bytes are taken apart. All work is linear in the size of the input. The only exception that input can cause is
`PeerError`, with a reason from `framing.Reason`.
"""
