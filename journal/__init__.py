"""Records on disk. The journal keeps what its caller hands over, in order, and never interprets it.

A journal is a folder of segments: SQLite files that each begin with a run and a snapshot, so each can be replayed
alone. A hash chain runs through all rows and from file to file.

- `records` what is kept; `errors` what can go wrong
- `writer.Writer` the queue and its thread; `store` its files; `batch` records to rows
- `reader.Journal` one file; `folder` all of them; `export.export` many into one
- `walk` reading in the order of writing; `chain` the hash chain; `schema` the tables; `database` opening files

Rules: never imports hafsm (an audit log must be reviewable alone); no UPDATE, no DELETE; the loop that appends never
waits for a disk; a reader never writes and never holds a read transaction for longer than a page.
"""
