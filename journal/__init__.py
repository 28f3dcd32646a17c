"""Records on disk. The journal keeps what its caller hands over, in order, and never interprets it.

A journal is a folder of segments: SQLite files that each begin with a run and a snapshot, so each can be replayed
alone. A hash chain runs through all rows and from file to file.

- `records` what is kept; `errors` what can go wrong
- `writer.Writer` the queue and its thread; `store` its files; `batch` records to rows; `pack` the packer's process
- `reader.Journal` one file; `folder` all of them; `export.export` many into one; `survey` what they hold, and pruning
- `walk` reading in the order of writing; `chain` the hash chain; `tables` their columns, `schema` making them
- `database` opening files of either form: `header` what tells them from others, `packed` those in gzip

Rules: never imports hafsm (an audit log must be reviewable alone); no UPDATE, no DELETE; the loop that appends never
waits for a disk; a reader never writes and never holds a read transaction for longer than a page.
"""
